"""From rows to runs, from runs to cells, from cells to structures: what a sweep means, before anything trains.

A run is a chain of fits; each of its fits is a cell, addressed by the hash of what it reads. Rows that agree on all
that a fit reads share its cell: a baseline that knows no temperature is trained once for all temperatures. Cells that
differ in knobs, seed and transfer set alone have one structure, and train as grids of one compiled program.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from kdjax import trees
from kdjax.data.base import Dataset
from kdjax.errors import UsageError, unknown
from kdjax.study.recipe import build, dry_run, evaluation, plan, stages
from kdjax.study.recipe.context import plain_config, stage_name
from kdjax.study.sweep import rows


class FitTask(NamedTuple):
    """One fit of one run."""

    key: str
    structure: str  # cells of one structure differ in what flows through their program, not in the program
    config: ConfigDict  # of its row
    chain: tuple[str, ...]  # the fits up to this one
    drawn: build.GridCell  # its transfer set, seed and knobs
    before: str | None  # key of the cell that it starts from
    needs: tuple[plan.Stage, ...]  # networks that teach and their caches, each after what it needs

    @property
    def fit(self) -> ConfigDict:
        """The fit's own part of the config."""
        return self.config.fits[self.chain[-1]]


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
        found: dict[str, list[FitTask]] = {}
        for cell in sorted(self.cells.values(), key=lambda cell: len(cell.chain)):  # stable
            found.setdefault(cell.structure, []).append(cell)
        return found


class _Link(NamedTuple):
    """One fit of an arm: what all its seeds have in common."""

    chain: tuple[str, ...]
    reads: Mapping[str, Any]
    root: plan.Stage  # the teacher of the config
    program: Mapping[str, Any]  # the part of `reads` that decides the compiled program
    knobs: Mapping[str, float]
    needs: tuple[plan.Stage, ...]
    teacher: tuple[str, ...]  # keys of the stages that it reads itself


def expand(config: ConfigDict, listed: Iterable[rows.Row]) -> Sweep:
    """All runs of a sweep, each checked as far as its config alone can show.

    Args:
      config: the base that rows change; its `seeds` are the seeds of rows that name none.
      listed: the rows.

    Raises:
      UsageError: no rows, or the first error met in a row, which it names.
    """
    arms: dict[str, list[rows.Row]] = {}
    for row in listed:
        arms.setdefault(trees.digest(_arm_changes(row)), []).append(row)
    if not arms:
        raise UsageError('the sweep has no rows')
    configs = [_arm_config(config, arm[0]) for arm in arms.values()]
    taps = _taps(configs)
    runs = [
        run for arm, own in zip(arms.values(), configs, strict=True)
        for run in _runs(own, arm, _links(own, own.accept.method, taps))
    ]  # fmt: skip
    cells, teacher = {}, {}
    for run in runs:
        for cell in run.cells:
            if cell.key not in cells:
                cells[cell.key], teacher[cell.key] = cell, run.teacher.key
    needed = {stage.key: stage for cell in cells.values() for stage in cell.needs}
    examined = {key: _examination(stage) for key, stage in needed.items() if stage.name == 'teacher'}
    judges = {key: examined[own].key for key, own in teacher.items() if own in examined}
    stages_ = {**needed, **{stage.key: stage for stage in examined.values()}}
    axes = dict.fromkeys(axis for run in runs for axis in run.point)
    return Sweep(config, tuple(_distinct(runs)), cells, stages_, judges, tuple(axes))


def _examination(teacher: plan.Stage) -> plan.Stage:
    """The stage that looks at a teacher as students are looked at."""
    reads = {'teacher': teacher.key}
    return plan.Stage(
        'examine', reads, ('teacher',), evaluation.examine, trees.digest(['examine', reads, plan.VERSION])
    )


def check_shapes(sweep: Sweep, datasets: Any) -> dict[str, dry_run.Traced]:
    """Traces one cell of every structure, and every network that teaches; returns costs by structure.

    Args:
      sweep: what to trace.
      datasets: config -> its data set.

    Raises:
      UsageError: the first error met, naming the run.
    """
    found: dict[str, dry_run.Traced] = {}
    for structure, cells in sweep.structures().items():
        cell = cells[0]
        dataset: Dataset = datasets(cell.config)
        earlier = found[sweep.cells[cell.before].structure].terms if cell.before else None
        try:
            build.streams(cell.config, dataset.splits['train'].labels, [each.drawn for each in cells])
            plan.check_examples(cell.config, cell.fit, dataset)
            found[structure] = dry_run.fit(cell.config, dataset, cell.config.student, cell.fit, earlier)
        except UsageError as error:
            raise UsageError(f'{_called(sweep, cell)}, fit {cell.chain[-1]!r}: {error}') from error
    for stage, own in _trained(sweep):
        spec = build.teachers(own)[stage.name]
        found[stage.key] = dry_run.fit(own, datasets(own), spec, spec.fit)
    return found


def _trained(sweep: Sweep) -> list[tuple[plan.Stage, ConfigDict]]:
    """Stages that train a network that teaches, with a config that they are of."""
    found = {
        stage.key: (stage, cell.config)
        for cell in sweep.cells.values() for stage in cell.needs if stage.run is stages.make_teacher
    }  # fmt: skip
    return list(found.values())


def _called(sweep: Sweep, cell: FitTask) -> str:
    point = next(run.point for run in sweep.runs if any(other.key == cell.key for other in run.cells))
    return named(point)


def named(point: Mapping[str, Any]) -> str:
    """What an error or a list calls a run."""
    return ', '.join(f'{axis} {value}' for axis, value in point.items()) or 'the one row'


def _arm_changes(row: rows.Row) -> dict[str, Any]:
    """What distinguishes arms: everything but the seed."""
    changes = {field: value for field, value in row.changes.items() if field != 'seed'}
    return {'changes': plain_config(changes), 'point': {k: v for k, v in row.point.items() if k != 'seed'}}


def _arm_config(config: ConfigDict, row: rows.Row) -> ConfigDict:
    """The config of a row: its changes, its method and, to be compared with, the baseline.

    Raises:
      UsageError: a row that names no method, an unknown one, or a knob with several values.
    """
    try:
        new = rows.applied(config, row.changes)
        method = row.changes.get('method', next(iter(new.methods)) if len(new.methods) == 1 else None)
        if method is None:
            raise UsageError(f"the row names no method; give the sweep an axis 'method' of {list(new.methods)}")
        if method not in new.methods:
            raise unknown('method', method, new.methods, ' of a row')
        with new.unlocked(), new.ignore_type():
            new.methods = ConfigDict({name: new.methods[name] for name in {method, new.baseline} & set(new.methods)})
            new.accept.method = method
        plan.check(new)
        for fit in new.methods[method]:
            for knob in build.candidates(new, new.fits[fit])[0]:
                raise UsageError(f'{knob} of fit {fit!r} has several values; in a sweep they are an axis of rows')
        if len(new.data.transfer_sizes) > 1:
            raise UsageError("data.transfer_sizes has several values; use rows.axis('data.transfer_sizes', ...)")
    except UsageError as error:
        raise UsageError(f'{named(row.point)}: {error}') from error
    return new


def _taps(configs: Sequence[ConfigDict]) -> dict[str, tuple[str, ...]]:
    """What the cache of each network that teaches must keep for all runs together, by that network's key."""
    found: dict[str, dict[str, None]] = {}
    for config in configs:
        stages_ = plan.stages_of(config)
        for name in build.teachers(config):
            found.setdefault(stages_[name].key, {}).update(dict.fromkeys(plan.teacher_taps(config, name)))
    return {key: tuple(sorted(taps)) for key, taps in found.items()}


def _links(config: ConfigDict, method: str, taps: Mapping[str, tuple[str, ...]]) -> list[_Link]:
    """The chain of an arm."""
    found, links = plan.stages_of(config, taps), []
    for chain in plan.chains(config, method):
        stage, fit = found[stage_name(chain)], config.fits[chain[-1]]
        source = tuple(need for need in stage.needs if need not in map(stage_name, plan.chains(config, method)))
        reads = {name: value for name, value in stage.reads.items() if name not in ('chain', 'seeds', 'transfer_sizes')}
        links.append(
            _Link(chain, reads, found['teacher'], _program(config, fit, reads), build.settings(config, fit),
                  _needed(found, source), tuple(found[need].key for need in source))
        )  # fmt: skip
    return links


def _needed(found: Mapping[str, plan.Stage], wanted: Sequence[str]) -> tuple[plan.Stage, ...]:
    """The stages called `wanted` and all that they need, in order."""
    reached = set(wanted)
    for stage in reversed(list(found.values())):
        if stage.name in reached:
            reached.update(stage.needs)
    return tuple(stage for stage in found.values() if stage.name in reached)


def _program(config: ConfigDict, fit: ConfigDict, reads: Mapping[str, Any]) -> dict[str, Any]:
    """`reads` without knobs, which flow through the program."""
    terms = {
        name: {field: value for field, value in spec.items() if field not in build.knob_fields(config.terms[name])}
        for name, spec in reads['terms'].items()
    }
    own = {field: value for field, value in reads['fit'].items() if field not in (*build.RATES, 'weights')}
    return {**reads, 'terms': terms, 'fit': {**own, 'weights': list(fit.weights)}}


def _runs(config: ConfigDict, arm: Sequence[rows.Row], links: Sequence[_Link]) -> list[Run]:
    """The runs of an arm, one per seed."""
    (size,), point = config.data.transfer_sizes, {k: v for k, v in arm[0].point.items() if k != 'seed'}
    named_seeds = [row.changes['seed'] for row in arm if 'seed' in row.changes]
    for seed in named_seeds:
        if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
            raise UsageError(f'seed of a row must be an integer >= 0, got {seed!r}')
    found = []
    for seed in dict.fromkeys(named_seeds or range(config.seeds)):
        cells: list[FitTask] = []
        for link in links:
            before = cells[-1] if cells else None
            key = trees.digest([link.reads, size, seed, link.teacher, before and before.key, plan.VERSION])
            needs = [stage.key for stage in link.needs]
            structure = trees.digest([link.program, needs, before and before.structure, plan.VERSION])
            drawn = build.GridCell(size, seed, link.knobs)
            cells.append(FitTask(key, structure, config, link.chain, drawn, before and before.key, link.needs))
        found.append(Run(point, config.accept.method, seed, size, tuple(cells), links[0].root))
    return found


def _distinct(runs: Sequence[Run]) -> list[Run]:
    """Runs without those that say the same twice."""
    return list({trees.digest([dict(run.point), run.seed, run.cells[-1].key]): run for run in runs}.values())
