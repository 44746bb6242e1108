"""The stages of the recipe: teacher, cache, fits of students, evaluate. Each turns artifacts into an artifact."""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from kdjax import trees
from kdjax.data.base import Dataset
from kdjax.data.feed import Stream, feed
from kdjax.names import UsageError
from kdjax.nets import team
from kdjax.study import build
from kdjax.tasks.classification import evaluator
from kdjax.train import cache, grid, loop, parallel, probes, teachers
from kdjax.train.checkpoint import load_variables, save_variables
from kdjax.train.ledger import Ledger, plain
from kdjax.train.screen import Screen
from kdjax.train.step import init_state, init_student
from kdjax.types import Net, State, Teacher, Tree

ARTIFACT = 'artifact.json'  # written last: a stage that has one is done
METRICS = ('accuracy', 'nll', 'ece', 'agreement', 'kl')


@dataclasses.dataclass(frozen=True)
class Artifact:
    """What a finished stage left: a folder, and what its artifact.json says."""

    folder: Path
    result: Mapping[str, Any]
    seconds: float


@dataclasses.dataclass
class Context:
    """What every stage may use."""

    config: ConfigDict
    screen: Screen
    stop: loop.StopSignals
    done: dict[str, Artifact] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def dataset(self) -> Dataset:
        """The data set, loaded when first needed: a finished run never needs it."""
        return build.dataset(self.config)

    @functools.cached_property
    def data_checksum(self) -> str:
        """Of the data set."""
        return self.dataset.checksum()

    def net(self, spec: ConfigDict) -> Net:
        """A network for this data set."""
        return build.net(spec, len(self.dataset.classes), self.config.run)

    def teaching_net(self, name: str = 'teacher') -> Net:
        """A network that teaches."""
        return build.teaching_net(self.config, build.teachers(self.config)[name], len(self.dataset.classes))


class Teaching(NamedTuple):
    """Who teaches a fit: the function, its variables and tables of its outputs."""

    teacher: Teacher
    variables: Tree
    tables: Mapping[str, np.ndarray]


class Start(NamedTuple):
    """Where a fit starts: the students, and what the terms of the fit before had learned."""

    student: Tree
    terms: Tree


class Seen(NamedTuple):
    """What a grid is shown: augmented views of the examples of its streams."""

    augment: ConfigDict
    views: int
    streams: Sequence[Stream]


def stage_name(chain: Sequence[str]) -> str:
    """Name of the stage that ends a chain of fits."""
    return '+'.join(chain)


def plain_config(value: Any) -> Any:
    """Part of a config as plain, hashable JSON."""
    if isinstance(value, ConfigDict):
        value = value.to_dict()
    if isinstance(value, Mapping):
        return {str(name): plain_config(inner) for name, inner in value.items()}
    return [plain_config(inner) for inner in value] if isinstance(value, tuple | list) else value


def train_teacher(context: Context, folder: Path, key: str, reads: Mapping[str, Any]) -> dict[str, Any]:
    """Trains a network that teaches on every training example; its members, if several, as a grid over seeds."""
    config, labels = context.config, context.dataset.splits['train'].labels
    spec = build.teachers(config)[reads['name']]
    cells = [build.Cell(len(labels), seed, {}) for seed in range(spec.members)]
    streams = [Stream(np.arange(len(labels)), config.seed + cell.seed) for cell in cells]
    seen = Seen(spec.augment, spec.views, streams)
    # Online: what is cached are the views that students see, not those of `spec`.
    fitted = _fit(context, folder, key, spec, spec.fit, cells, seen, _teaching(context, spec.fit, 'online'))
    if fitted.failures:
        raise UsageError(f'{reads["name"]}: members {sorted(fitted.failures)} diverged; lower their learning rate')
    members = [trees.take(fitted.variables, member) for member in range(spec.members)]
    variables = members[0] if spec.members == 1 else {
        part: [member[part] for member in members] for part in ('params', 'stats')}  # fmt: skip
    save_variables(folder / 'variables', variables)
    last = evaluator(context.teaching_net(reads['name']), *context.dataset.splits['validation'])(
        jax.tree.map(lambda leaf: leaf[None], variables)
    )
    return {
        'validation': {name: number(last[name][0]) for name in METRICS if name in last},
        'params': trees.count(variables['params']),
        'fingerprint': trees.fingerprint(variables),
        'data_checksum': context.data_checksum,
    }


def cache_teacher(context: Context, folder: Path, key: str, reads: Mapping[str, Any]) -> dict[str, Any]:
    """Computes a teacher's outputs on every view of every training example."""
    config, variables = context.config, teacher_variables(context, reads['name'])
    context.screen.stage(cache_stage(reads['name']), config.data.views)
    tables = cache.compute(
        teachers.frozen(probes.probed(context.teaching_net(reads['name']), reads['taps'])),
        variables,
        context.dataset.splits['train'].inputs,
        build.augment(config.data.augment),
        config.seed,
        config.data.views,
        tuple(reads['taps']),
        progress=context.screen.step,
    )
    cache.save(folder / 'tables', tables, _address(context, reads['name'], variables))
    return {'bytes': sum(table.nbytes for table in tables.values())}


def train_students(context: Context, folder: Path, key: str, reads: Mapping[str, Any]) -> dict[str, Any]:
    """Trains a grid of students: transfer-set sizes x candidate knobs x seeds."""
    config, chain = context.config, tuple(reads['chain'])
    fit = config.fits[chain[-1]]
    cells = build.cells(config, fit)
    streams = build.streams(config, context.dataset.splits['train'].labels, cells)
    seen = Seen(config.data.augment, config.data.views, streams)
    start = _start(context, chain, cells) if len(chain) > 1 else None
    teaching = _teaching(context, fit, build.teachers(config).get(fit.teacher, config.teacher).mode)
    every = reads.get('anatomy_every', 0)
    fitted = _fit(context, folder, key, config.student, fit, cells, seen, teaching, start, every)
    save_variables(folder / 'variables', fitted.variables)
    save_variables(folder / 'best', fitted.best)
    if jax.tree.leaves(fitted.terms):  # apart, so that the student stays alone
        save_variables(folder / 'terms', fitted.terms)
    accuracy = [None if cell in fitted.failures else number(value)
                for cell, value in enumerate(fitted.history[-1]['accuracy'])]  # fmt: skip
    described = [cell._asdict() for cell in cells]
    return plain({
        'cells': described,
        'validation_accuracy': accuracy,
        'chosen': choose(described, accuracy),
        'history': [{name: line[name] for name in ('step', 'accuracy', 'nll')} for line in fitted.history],
        'anatomy': fitted.anatomy,
        'failures': [{'cell': cell, **failure} for cell, failure in sorted(fitted.failures.items())],
        'params': trees.count(trees.take(fitted.variables['params'], 0)),
    })  # fmt: skip


def choose(cells: Sequence[Mapping[str, Any]], accuracy: Sequence[float | None]) -> dict[str, dict[str, float]]:
    """The candidate with the highest mean validation accuracy, for each transfer-set size; the first of equals.

    A candidate any of whose seeds diverged counts that seed as 0: what sometimes fails is not a good choice.
    """
    return {
        str(size): _best([(cell['candidate'], value or 0.0) for cell, value in zip(cells, accuracy, strict=True)
                          if cell['transfer_size'] == size])
        for size in dict.fromkeys(cell['transfer_size'] for cell in cells)
    }  # fmt: skip


def _best(scored: Sequence[tuple[dict[str, float], float]]) -> dict[str, float]:
    def mean(candidate: dict[str, float]) -> float:
        return float(np.mean([score for other, score in scored if other == candidate]))

    return max((candidate for candidate, _ in scored), key=mean)


def chosen_cells(result: Mapping[str, Any], size: int) -> list[int]:
    """Positions of the cells of the chosen candidate for `size`, by seed."""
    return [
        position
        for position, cell in enumerate(result['cells'])
        if cell['transfer_size'] == size and cell['candidate'] == result['chosen'][str(size)]
    ]


def _fit(
    context: Context,
    folder: Path,
    key: str,
    network: ConfigDict,
    fit: ConfigDict,
    cells: Sequence[build.Cell],
    seen: Seen,
    teaching: Teaching,
    start: Start | None = None,
    anatomy_every: int = 0,
) -> loop.Fitted:
    """Trains a grid of networks of one kind; a single network is a grid of one."""
    config, run = context.config, context.config.run
    train, one = context.dataset.splits['train'], context.net(network)
    objective = build.objective(config, fit)
    net = build.trained_net(one, fit, objective)
    own_average = fit.teacher == build.AVERAGE  # which cannot be computed before there is a state
    teacher = teachers.frozen(net) if own_average else teaching.teacher
    parts: dict[str, Any] = {'net': net, 'teacher': teacher, 'objective': objective}
    tx = build.optimiser(fit)
    columns = {'inputs': train.inputs, 'labels': train.labels}
    augment = build.augment(seen.augment)
    batches = feed(seen.streams, fit.batch_size, columns, augment, config.seed, seen.views, teaching.tables)
    own = len(seen.streams) > 1
    layout = run.layout if len(cells) > 1 else 'unroll'
    axis = parallel.axis_of(run.runner)
    wrap = functools.partial(parallel.wrap, runner=run.runner, devices=_devices(run.runner, len(cells)))
    step = grid.gridded(functools.partial(build.step_of(fit), **parts, tx=tx, axis=axis), layout, own)
    look = grid.gridded(functools.partial(build.look_of(fit), **parts, axis=axis), layout, own)
    program = wrap(grid.scanned(step), batch_axis=2 if own else 1, cell_axis=1 if own else None)
    knobs = build.knobs(config, fit, cells, config.seed)
    first = trees.take(batches(0, 1), 0)
    begun = start or Start(_fresh(net, config.seed, [cell.seed for cell in cells], train.inputs[:1]), {})

    def begin(k: Any, b: Any, begun: Start) -> State:
        variables = begun.student if own_average else teaching.variables
        return init_state(k, variables, b, begun.student, begun.terms, **parts, tx=tx)

    name = folder.name.partition('-')[0]
    context.screen.stage(name, fit.steps)
    with Ledger(folder, wandb=config.track.wandb) as ledger:
        return loop.fit(
            program,
            jax.jit(jax.vmap(begin, in_axes=(0, 0 if own else None, 0)))(knobs, first, begun),
            teaching.variables,
            knobs,
            batches,
            evaluator(one, *context.dataset.splits['validation']),
            steps=fit.steps,
            chunk=run.chunk,
            validate_every=run.validate_every,
            save_every=run.save_every,
            folder=folder / 'checkpoints',
            identity=key,
            ledger=ledger,
            progress=context.screen.step,
            stop=context.stop,
            kept=jax.vmap(team.first_peer) if fit.peers > 1 else lambda variables: variables,
            anatomy=wrap(look, batch_axis=int(own), cell_axis=0 if own else None) if anatomy_every else None,
            anatomy_every=anatomy_every,
        )


def _devices(runner: str, cells: int) -> list[jax.Device]:
    """All devices; where cells are split over them, a number of devices that divides the cells (a teacher is one)."""
    devices = jax.devices()
    return devices[: math.gcd(cells, len(devices))] if runner == 'cells' else devices


def _fresh(net: Net, base_seed: int, seeds: Sequence[int], inputs: np.ndarray) -> Tree:
    """Variables of new students, one per seed of the grid. The seeds of a study are few: each is drawn once."""
    distinct = sorted(set(seeds))
    draw = jax.jit(lambda numbers: jax.lax.map(lambda seed: init_student(seed, jnp.asarray(inputs), net), numbers))
    drawn = draw(jnp.asarray([base_seed + seed for seed in distinct], jnp.uint32))
    return trees.take(drawn, np.array([distinct.index(seed) for seed in seeds]))


def _teaching(context: Context, fit: ConfigDict, mode: str) -> Teaching:
    """Who teaches a fit: nobody, the student's own average, or a network, whose outputs may be cached."""
    if not build.needs_teacher(context.config, fit):
        return Teaching(teachers.none(), {}, {})
    if fit.teacher == build.AVERAGE:
        return Teaching(teachers.none(), {}, {})
    variables = teacher_variables(context, fit.teacher)
    if mode == 'cached':
        folder = context.done[cache_stage(fit.teacher)].folder
        tables = cache.load(folder / 'tables', _address(context, fit.teacher, variables))
        return Teaching(teachers.cached(), variables, tables)
    taps = [tap for _, term in build.objective(context.config, fit).terms for tap in term.taps().teacher]
    return Teaching(teachers.frozen(probes.probed(context.teaching_net(fit.teacher), taps)), variables, {})


def cache_stage(teacher: str) -> str:
    """Name of the stage that computes the outputs of a teacher."""
    return 'cache' if teacher == 'teacher' else f'cache_{teacher}'


def teacher_variables(context: Context, name: str = 'teacher') -> Tree:
    return load_variables(context.done[name].folder / 'variables')


def _address(context: Context, name: str, variables: Tree) -> cache.Address:
    config = context.config
    spec = build.teachers(config)[name]
    return cache.Address(
        trees.digest([plain_config(spec.args), spec.members, config.run.precision, trees.fingerprint(variables)]),
        context.data_checksum,
        str(sorted(config.data.augment.items())),
        config.seed,
        config.data.views,
        'float32',
    )


def _start(context: Context, chain: tuple[str, ...], cells: Sequence[build.Cell]) -> Start:
    """Where the cells of a later fit start: the chosen students of the fit before, of the same size and seed."""
    before = context.done[stage_name(chain[:-1])]
    positions = {
        (size, before.result['cells'][position]['seed']): position
        for size in context.config.data.transfer_sizes
        for position in chosen_cells(before.result, size)
    }
    index = np.array([positions[cell.transfer_size, cell.seed] for cell in cells])

    def chosen(name: str) -> Tree:
        return jax.tree.map(jnp.asarray, trees.take(load_variables(before.folder / name), index))

    return Start(chosen('variables'), chosen('terms') if (before.folder / 'terms').exists() else {})


def number(value: Any) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)
