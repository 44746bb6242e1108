"""From rows to runs, from runs to cells, from cells to structures: what a sweep means, before anything trains.

A run is a chain of fits; each of its fits is a cell, addressed by the hash of what it reads. Rows that agree on all
that a fit reads share its cell: a baseline that knows no temperature is trained once for all temperatures. Cells that
differ in knobs, seed and transfer set alone have one structure, and train as grids of one compiled program.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from kdjax import trees
from kdjax.dataset import Dataset
from kdjax.errors import Problems, UsageError, shown, unknown
from kdjax.study.config import check
from kdjax.study.config.check import KNOBS
from kdjax.study.recipe import changes, dry_run, evaluation, plan
from kdjax.study.recipe.context import Datasets
from kdjax.study.recipe.inputs import (
    CachedTeacher,
    Examined,
    GivenTeacher,
    ImportedTeacher,
    TrainedStudents,
    TrainedTeacher,
    plain,
)
from kdjax.study.recipe.recipe import Execution, Fit, GridCell, Recipe
from kdjax.study.recipe.resolve import knob_fields, resolve, term_class
from kdjax.study.sweep import rows


class FitTask(NamedTuple):
    """One fit of one run."""

    key: str
    structure: str  # cells of one structure differ in what flows through their program, not in the program
    inputs: TrainedStudents  # of its arm; the fit is the last of its chain
    execution: Execution
    drawn: GridCell  # its transfer set, seed and knobs
    before: str | None  # key of the cell that it starts from
    way: tuple[str, ...]  # keys of all cells before it, from the first of its run on
    needs: tuple[plan.Stage, ...]  # networks that teach and their caches, each after what it needs
    sized: bool = False  # whether some fit of the sweep makes its student smaller, so that the size of each is measured

    @property
    def fit(self) -> Fit:
        """The fit itself."""
        return self.inputs.fit


class Run(NamedTuple):
    """One row with one seed."""

    point: Mapping[str, Any]  # axis -> value as tables show it, without the seed
    method: str
    seed: int
    transfer_size: int
    cells: tuple[FitTask, ...]  # by fit; the last is the result
    teacher: plan.Stage  # of its row's config, trained or not


class Sweep(NamedTuple):
    """All runs, and what they need."""

    config: ConfigDict
    runs: tuple[Run, ...]
    cells: Mapping[str, FitTask]  # by key, each after the one that it starts from
    stages: Mapping[str, plan.Stage]  # by key, each after what it needs
    judges: Mapping[str, str]  # cell -> the stage whose teacher its answers are held against, by keys
    axes: tuple[str, ...]  # names of the axes, without the seed

    def structures(self) -> dict[str, list[FitTask]]:
        """The cells of every structure, in the order in which they can be trained."""
        grouped: dict[str, list[FitTask]] = {}
        for cell in sorted(self.cells.values(), key=lambda cell: len(cell.inputs.chain)):  # stable
            grouped.setdefault(cell.structure, []).append(cell)
        return grouped


class _Link(NamedTuple):
    """One fit of an arm: what all its seeds have in common."""

    inputs: TrainedStudents
    reads: Mapping[str, Any]  # of one cell: what the stage reads, less what is said of all its cells
    root: plan.Stage  # the teacher of the config
    program: Mapping[str, Any]  # the part of `reads` that decides the compiled program
    needs: tuple[plan.Stage, ...]
    teacher: tuple[str, ...]  # keys of the stages that it reads itself


def expand(config: ConfigDict, listed: Iterable[rows.Row], datasets: Datasets | None = None) -> Sweep:
    """All runs of a sweep, each checked as far as its config alone can show.

    Args:
      config: the base that rows change; its `seeds` are the seeds of rows that name none.
      listed: the rows; each is given the candidates of `config.search` that its method reads, as axes of its own.
      datasets: know what the data are; a user's own are loaded again if left out.

    Raises:
      UsageError: no rows, or all that is wrong with them, each with the first row where it was met.
    """
    arms: dict[str, list[rows.Row]] = {}
    for row in itertools.chain.from_iterable(_searched(config, each) for each in listed):
        arms.setdefault(trees.digest(_arm_changes(row)), []).append(row)
    if not arms:
        raise UsageError('the sweep has no rows')
    recipes = _recipes(config, [arm[0] for arm in arms.values()], datasets or Datasets())
    taps = _taps(recipes)
    runs = [
        run
        for arm, recipe in zip(arms.values(), recipes, strict=True)
        for run in _runs(recipe, arm, _links(recipe, taps))
    ]  # fmt: skip
    if any(changes.reached(cell.inputs) for run in runs for cell in run.cells[-1:]):
        runs = [run._replace(cells=tuple(cell._replace(sized=True) for cell in run.cells)) for run in runs]
    cells, teacher = {}, {}
    for run in runs:
        for cell in run.cells:
            if cell.key not in cells:
                cells[cell.key], teacher[cell.key] = cell, run.teacher.key
    needed = {stage.key: stage for cell in cells.values() for stage in cell.needs}
    examined = {key: _examination(stage) for key, stage in needed.items() if stage.name == 'teacher'}
    judges = {key: examined[taught].key for key, taught in teacher.items() if taught in examined}
    stages_ = {**needed, **{stage.key: stage for stage in examined.values()}}
    axes = dict.fromkeys(axis for run in runs for axis in run.point)
    return Sweep(config, tuple(_distinct(runs)), cells, stages_, judges, tuple(axes))


def _examination(teacher: plan.Stage) -> plan.Stage:
    """The stage that looks at a teacher as students are looked at."""
    inputs = Examined(teacher=teacher.key, inputs=teacher.inputs)
    key = trees.digest(['examine', inputs.reads(), plan.VERSION])
    return plan.Stage('examine', inputs, ('teacher',), evaluation.examine, key)


def check_shapes(sweep: Sweep, datasets: Datasets) -> dict[str, dry_run.Traced]:
    """Traces one cell of every structure, and every network that teaches; returns costs by structure.

    Args:
      sweep: what to trace.
      datasets: the data sets.

    Raises:
      UsageError: the first error met, naming the run.
    """
    costs: dict[str, dry_run.Traced] = {}
    for structure, cells in sweep.structures().items():
        cell, inputs = cells[0], cells[0].inputs
        dataset: Dataset = datasets(inputs.data)
        earlier = costs[sweep.cells[cell.before].structure].terms if cell.before else None
        try:
            costs[structure] = plan.traced(
                inputs, dataset, earlier, [each.drawn for each in cells], cell.execution.runner
            )
        except UsageError as error:
            raise UsageError(f'{_called(sweep, cell)}, fit {cell.fit.name!r}: {error}') from error
    for stage in sweep.stages.values():
        inputs = stage.inputs
        if isinstance(inputs, ImportedTeacher):
            dry_run.check_weights(inputs, datasets(inputs.data))
        if isinstance(inputs, GivenTeacher):
            dry_run.check_outputs(inputs, datasets(inputs.data))
        if isinstance(inputs, TrainedTeacher):
            runner = next(iter(sweep.cells.values())).execution.runner
            costs[stage.key] = plan.traced(inputs, datasets(inputs.data), None, plan.cells_of(inputs), runner)
    return costs


def _called(sweep: Sweep, cell: FitTask) -> str:
    point = next(run.point for run in sweep.runs if any(other.key == cell.key for other in run.cells))
    return named(point)


def named(point: Mapping[str, Any]) -> str:
    """What an error or a list calls a run."""
    return ', '.join(f'{axis} {value}' for axis, value in point.items()) or 'the one row'


def _searched(config: ConfigDict, row: rows.Row) -> list[rows.Row]:
    """A row for each of the candidates that its method reads and it does not give."""
    if not config.search and 'search' not in row.changes:
        return [row]
    try:
        new = rows.applied(config, row.changes)
        check.check_fields(new)
        candidates = searched(new, _method(new, row))
    except UsageError:
        return [row]  # it is met again, and named, with all others
    return rows.product([row], *(rows.axis(field, *values, name=field) for field, values in candidates.items()))


def searched(config: ConfigDict, method: str) -> dict[str, tuple[float, ...]]:
    """The candidates of `config.search` that the fits of a method read, by field."""
    fits = [fit for fit in config.methods[method] if fit in config.fits]
    terms = [term for fit in fits for term in config.fits[fit].weights]
    parts = tuple([*(f'fits.{fit}.' for fit in fits), *(f'terms.{term}.' for term in terms)])
    return {field: values for field, values in config.search.candidates(config).items() if field.startswith(parts)}


def _arm_changes(row: rows.Row) -> dict[str, Any]:
    """What distinguishes arms: everything but the seed."""
    changed = {field: value for field, value in row.changes.items() if field != 'seed'}
    return {'changes': plain(changed), 'point': {k: v for k, v in row.point.items() if k != 'seed'}}


def _recipes(config: ConfigDict, arms: Sequence[rows.Row], datasets: Datasets) -> list[Recipe]:
    """The recipes of arms; what is wrong is said once, with the first row where it was met."""
    problems: dict[str, rows.Row] = {}
    recipes = []
    for row in arms:
        try:
            recipes.append(_recipe(config, row, datasets))
        except UsageError as error:
            for line in str(error).splitlines():
                problems.setdefault(line, row)
    told = Problems()
    for line, row in problems.items():
        told.add(f'{named(row.point)}: {line}')
    told.report()
    return recipes


def _recipe(config: ConfigDict, row: rows.Row, datasets: Datasets) -> Recipe:
    """The recipe of a row: its changes, its method and, to be compared with, the baseline.

    Raises:
      UsageError: a row that names no method or an unknown one, or all that is wrong with its config.
    """
    new = rows.applied(config, row.changes)
    check.check_fields(new)
    method = _method(new, row)
    if len(new.data.transfer_sizes) > 1:
        raise UsageError("data.transfer_sizes has several values; use rows.axis('data.transfer_sizes', ...)")
    with new.unlocked(), new.ignore_type():
        new.methods = ConfigDict({name: new.methods[name] for name in {method, new.baseline} & set(new.methods)})
        new.accept.method = method
    return resolve(new, datasets)


def _method(config: ConfigDict, row: rows.Row) -> str:
    """The method that a row trains: the one it names, or the only one that there is."""
    method = row.changes.get('method', next(iter(config.methods)) if len(config.methods) == 1 else None)
    if method is None:
        raise UsageError(f"the row names no method; give the sweep an axis 'method' of {list(config.methods)}")
    if not isinstance(method, str) or method not in config.methods:
        raise unknown('method', method, config.methods, ' of a row')
    return method


def _taps(recipes: Sequence[Recipe]) -> dict[str, tuple[str, ...]]:
    """What the cache of each network that teaches must keep for all runs together, by that network's key."""
    taps: dict[str, dict[str, None]] = {}
    for recipe in recipes:
        stages = plan.stages_of(recipe)
        for name in recipe.teachers:
            taps.setdefault(stages[name].key, {}).update(dict.fromkeys(recipe.teacher_taps(name)))
    return {key: tuple(sorted(names)) for key, names in taps.items()}


def _links(recipe: Recipe, taps: Mapping[str, tuple[str, ...]]) -> list[_Link]:
    """The chain of an arm."""
    stages, links = plan.stages_of(recipe, taps), []
    chains = recipe.chains(recipe.config.accept.method)
    names = {plan.stage_name(chain) for chain in chains}
    for chain in chains:
        stage = stages[plan.stage_name(chain)]
        source = tuple(need for need in stage.needs if need not in names)
        reads = {name: value for name, value in stage.reads.items() if name not in ('chain', 'seeds', 'transfer_sizes')}
        links.append(
            _Link(stage.inputs, reads, stages['teacher'], _program(reads),
                  _needed(stages, (*source, *_whole_teacher(stage.inputs))), tuple(stages[need].key for need in source))
        )  # fmt: skip
    return links


def _whole_teacher(inputs: TrainedStudents) -> tuple[str, ...]:
    """The network whose folds say what a fit reads: it is loaded with them, and students are held against it."""
    source = inputs.source
    return (source.name,) if isinstance(source, CachedTeacher) and source.folded is not None else ()


def _needed(stages: Mapping[str, plan.Stage], wanted: Sequence[str]) -> tuple[plan.Stage, ...]:
    """The stages called `wanted` and all that they need, in order."""
    reached = set(wanted)
    for stage in reversed(list(stages.values())):
        if stage.name in reached:
            reached.update(stage.needs)
    return tuple(stage for stage in stages.values() if stage.name in reached)


def _program(reads: Mapping[str, Any]) -> dict[str, Any]:
    """`reads` without knobs, which flow through the program."""
    terms = {
        name: {field: value for field, value in spec.items() if field not in knob_fields(term_class(spec['kind']))}
        for name, spec in reads['terms'].items()
    }
    fit = {field: value for field, value in reads['fit'].items() if field not in (*KNOBS, 'weights')}
    return {**reads, 'terms': terms, 'fit': {**fit, 'weights': list(reads['fit']['weights'])}}


def _runs(recipe: Recipe, arm: Sequence[rows.Row], links: Sequence[_Link]) -> list[Run]:
    """The runs of an arm, one per seed."""
    (size,), point = recipe.transfer_sizes, {k: v for k, v in arm[0].point.items() if k != 'seed'}
    named_seeds = [row.changes['seed'] for row in arm if 'seed' in row.changes]
    for seed in named_seeds:
        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < check.SEEDS - recipe.seed:
            raise UsageError(
                f'seed of a row must be an integer from 0 to {check.SEEDS - 1} less seed, got {shown(seed)}'
            )
    runs = []
    for seed in dict.fromkeys(named_seeds or range(recipe.seeds)):
        cells: list[FitTask] = []
        for link in links:
            before = cells[-1] if cells else None
            key = trees.digest([link.reads, size, seed, link.teacher, before and before.key, plan.VERSION])
            needs = [stage.key for stage in link.needs]
            structure = trees.digest([link.program, needs, before and before.structure, plan.VERSION])
            drawn = GridCell(size, seed, link.inputs.fit.settings)
            way = tuple(cell.key for cell in cells)
            cells.append(
                FitTask(key, structure, link.inputs, recipe.execution, drawn, before and before.key, way, link.needs)
            )
        runs.append(Run(point, recipe.config.accept.method, seed, size, tuple(cells), links[0].root))
    return runs


def _distinct(runs: Sequence[Run]) -> list[Run]:
    """Runs without those that say the same twice."""
    return list({trees.digest([dict(run.point), run.seed, run.cells[-1].key]): run for run in runs}.values())
