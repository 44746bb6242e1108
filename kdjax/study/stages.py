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
from kdjax.study import build
from kdjax.tasks.classification import evaluator
from kdjax.train import cache, grid, loop, parallel, teachers
from kdjax.train.checkpoint import load_variables, save_variables
from kdjax.train.ledger import Ledger, plain
from kdjax.train.screen import Screen
from kdjax.train.step import init_state, init_student, train_step
from kdjax.types import Net, Teacher, Tree

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
    """Trains the teacher on every training example: a grid of one cell."""
    config, labels = context.config, context.dataset.splits['train'].labels
    cell = build.Cell(len(labels), 0, {})
    streams = [Stream(np.arange(len(labels)), config.seed)]
    seen = Seen(config.teacher.augment, config.teacher.views, streams)
    fitted = _fit(context, folder, key, config.teacher, config.teacher.fit, [cell], seen, (teachers.none(), {}, {}))
    variables = trees.take(fitted.variables, 0)
    save_variables(folder / 'variables', variables)
    last = fitted.history[-1]
    return {
        'validation': {name: number(last[name][0]) for name in METRICS if name in last},
        'params': trees.count(variables['params']),
        'fingerprint': trees.fingerprint(variables),
        'data_checksum': context.data_checksum,
    }


def cache_teacher(context: Context, folder: Path, key: str, reads: Mapping[str, Any]) -> dict[str, Any]:
    """Computes the teacher's outputs on every view of every training example."""
    config, variables = context.config, teacher_variables(context)
    context.screen.stage('cache', config.data.views)
    tables = cache.compute(
        teachers.frozen(context.net(config.teacher)),
        variables,
        context.dataset.splits['train'].inputs,
        build.augment(config.data.augment),
        config.seed,
        config.data.views,
        tuple(reads['taps']),
        progress=context.screen.step,
    )
    cache.save(folder / 'tables', tables, _address(context, variables))
    return {'bytes': sum(table.nbytes for table in tables.values())}


def train_students(context: Context, folder: Path, key: str, reads: Mapping[str, Any]) -> dict[str, Any]:
    """Trains a grid of students: transfer-set sizes x candidate knobs x seeds."""
    config, chain = context.config, tuple(reads['chain'])
    fit = config.fits[chain[-1]]
    cells = build.cells(config, fit)
    streams = build.streams(config, context.dataset.splits['train'].labels, cells)
    seen = Seen(config.data.augment, config.data.views, streams)
    start = _start(context, chain, cells) if len(chain) > 1 else None
    fitted = _fit(context, folder, key, config.student, fit, cells, seen, _teaching(context, fit), start)
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
    teaching: tuple[Teacher, Tree, Mapping[str, np.ndarray]],
    student: Tree = None,
) -> loop.Fitted:
    """Trains a grid of networks of one kind; a single network is a grid of one."""
    config, run = context.config, context.config.run
    train, net = context.dataset.splits['train'], context.net(network)
    teacher, teacher_vars, tables = teaching
    parts: dict[str, Any] = {
        'net': net,
        'teacher': teacher,
        'objective': build.objective(config, fit),
        'tx': build.optimiser(fit),
    }
    columns = {'inputs': train.inputs, 'labels': train.labels}
    batches = feed(seen.streams, fit.batch_size, columns, build.augment(seen.augment), config.seed, seen.views, tables)
    own = len(seen.streams) > 1
    layout = run.layout if len(cells) > 1 else 'unroll'
    step = functools.partial(train_step, **parts, axis=parallel.axis_of(run.runner), accumulate=fit.accumulate)
    program = parallel.wrap(
        grid.scanned(grid.gridded(step, layout, own)),
        run.runner,
        _devices(run.runner, len(cells)),
        batch_axis=2 if own else 1,
        cell_axis=1 if own else None,
    )
    knobs = build.knobs(config, fit, cells, config.seed)
    first = trees.take(batches(0, 1), 0)
    if student is None:
        student = _fresh(net, config.seed, [cell.seed for cell in cells], train.inputs[:1])
    begin = jax.vmap(lambda k, b, s: init_state(k, teacher_vars, b, s, **parts), in_axes=(0, 0 if own else None, 0))
    name = folder.name.partition('-')[0]
    context.screen.stage(name, fit.steps)
    with Ledger(folder, wandb=config.track.wandb) as ledger:
        return loop.fit(
            program,
            jax.jit(begin)(knobs, first, student),
            teacher_vars,
            knobs,
            batches,
            evaluator(net, *context.dataset.splits['validation']),
            steps=fit.steps,
            chunk=run.chunk,
            validate_every=run.validate_every,
            save_every=run.save_every,
            folder=folder / 'checkpoints',
            identity=key,
            ledger=ledger,
            progress=context.screen.step,
            stop=context.stop,
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


def _teaching(context: Context, fit: ConfigDict) -> tuple[Teacher, Tree, Mapping[str, np.ndarray]]:
    """The teacher of a fit, its variables, and tables of its outputs where they are cached."""
    if not build.needs_teacher(context.config, fit):
        return teachers.none(), {}, {}
    variables = teacher_variables(context)
    if context.config.teacher.mode == 'cached':
        return teachers.cached(), {}, cache.load(context.done['cache'].folder / 'tables', _address(context, variables))
    return teachers.frozen(context.net(context.config.teacher)), variables, {}


def teacher_variables(context: Context) -> Tree:
    return load_variables(context.done['teacher'].folder / 'variables')


def _address(context: Context, variables: Tree) -> cache.Address:
    config = context.config
    return cache.Address(
        trees.digest([plain_config(config.teacher.args), config.run.precision, trees.fingerprint(variables)]),
        context.data_checksum,
        str(sorted(config.data.augment.items())),
        config.seed,
        config.data.views,
        'float32',
    )


def _start(context: Context, chain: tuple[str, ...], cells: Sequence[build.Cell]) -> Tree:
    """Where the cells of a later fit start: the chosen students of the fit before, of the same size and seed."""
    before = context.done[stage_name(chain[:-1])]
    positions = {
        (size, before.result['cells'][position]['seed']): position
        for size in context.config.data.transfer_sizes
        for position in chosen_cells(before.result, size)
    }
    index = np.array([positions[cell.transfer_size, cell.seed] for cell in cells])
    return jax.tree.map(jnp.asarray, trees.take(load_variables(before.folder / 'variables'), index))


def number(value: Any) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)
