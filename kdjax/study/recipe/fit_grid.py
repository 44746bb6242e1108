"""One fit of a grid of networks, from a config to what `train.loop.fit` needs."""

import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from kdjax import trees
from kdjax.data import noise
from kdjax.data.feed import Feed, Stream
from kdjax.data.stream import training_feed
from kdjax.jit_cache import bound, compiled, once, shared
from kdjax.nets import team
from kdjax.study.recipe import build
from kdjax.study.recipe.context import Context, cache_stage, plain_config, teacher_variables
from kdjax.train import cache, distributed, grid, layout, loop, parallel, teachers
from kdjax.train import ledger as ledgers
from kdjax.train.checkpoint import Checkpoints, save_variables
from kdjax.train.grid import Step
from kdjax.train.ledger import Ledger, NullLogger
from kdjax.train.profile import profiled
from kdjax.train.step import init_state, init_student
from kdjax.types import Batch, Net, State, Teacher, Tree


class TeacherSource(NamedTuple):
    """Who teaches a fit: the function, its variables and tables of its outputs."""

    teacher: Teacher
    variables: Tree
    tables: Mapping[str, np.ndarray]


class WarmStart(NamedTuple):
    """Where a fit starts: the students, and what the terms of the fit before had learned."""

    student: Tree
    terms: Tree


class Rung(NamedTuple):
    """Part of a fit: up to a step, from where an earlier part of the same fit left some of its cells."""

    until: int  # step
    folder: Path | None  # of the part before; None for the first
    identity: str  # of the part before
    cells: int  # that the part before had
    kept: tuple[int, ...]  # positions of those that go on


class GridOptions(NamedTuple):
    """How a sweep wants a grid trained."""

    called: str = ''  # by the screen; the name of its stage if left out
    structure: str = ''  # name of the compiled program, for a layout to be remembered by; the run's key if left out
    tolerant: bool = False  # whether cells that all diverged are a result, not an error
    rung: Rung | None = None  # the whole fit, if left out


class TrainingData(NamedTuple):
    """What a grid is shown: augmented views of the examples of its streams."""

    augment: ConfigDict
    views: int
    streams: Sequence[Stream]
    label_noise: float = 0.0  # share of the labels that are wrong on purpose


def fit_students(
    context: Context,
    folder: Path,
    key: str,
    name: str,
    cells: Sequence[build.GridCell],
    start: WarmStart | None,
    manner: GridOptions = GridOptions(),
) -> loop.Fitted:
    """Trains the cells of the fit called `name`, and saves the students and what their terms learned."""
    config = context.config
    own = config.fits[name]
    streams = build.streams(config, context.dataset.splits['train'].labels, cells)
    seen = TrainingData(config.data.augment, config.data.views, streams, config.data.label_noise)
    taught = teaching(context, own, build.teachers(config).get(own.teacher, config.teacher).mode)
    fitted = fit(context, folder, key, config.student, own, cells, seen, taught, start, manner,
                 config.run.anatomy_every)  # fmt: skip
    save_variables(folder / 'variables', fitted.variables)
    save_variables(folder / 'best', fitted.best)
    if jax.tree.leaves(fitted.terms):  # apart, so that the student stays alone
        save_variables(folder / 'terms', fitted.terms)
    return fitted


def fit(
    context: Context,
    folder: Path,
    key: str,
    network: ConfigDict,
    own: ConfigDict,
    cells: Sequence[build.GridCell],
    seen: TrainingData,
    taught: TeacherSource,
    start: WarmStart | None = None,
    manner: GridOptions = GridOptions(),
    anatomy_every: int = 0,
) -> loop.Fitted:
    """Trains a grid of networks of one kind; a single network is a grid of one.

    Args:
      context: config, data, screen, what earlier stages left.
      folder: where checkpoints and the ledger go; `key` names the run that they belong to.
      network: spec of the networks.
      own: the fit.
      cells: of the grid.
      seen: what the networks are shown.
      taught: who teaches.
      start: where they start; new networks if left out.
      manner: what differs in a sweep.
      anatomy_every: steps between looks at the gradients of terms; 0 for never.
    """
    run, grown = context.config.run, prepared(context, network, own, cells, seen, taught, start)
    chosen = _layout(
        context, folder, manner.structure or key, grown.program, lambda: grown.arguments(min(run.chunk, own.steps)),
        len(cells), own.steps // run.chunk,
    )  # fmt: skip
    steps = manner.rung.until if manner.rung else own.steps
    state, best = _resumed(grown.state, manner.rung, own.peers) if manner.rung else (grown.state, None)
    devices, program = _devices(run.runner, len(cells)), grown.program(chosen)
    if run.profile:
        program = profiled(program, folder / 'profile', run.profile)
    context.screen.stage(manner.called or folder.name.partition('-')[0], steps)
    logger = Ledger(folder, **context.config.track) if distributed.first() else NullLogger(folder)
    with logger as ledger:
        return loop.fit(
            program,
            distributed.of_first(state),
            parallel.everywhere(taught.variables, devices),
            grown.knobs,
            functools.partial(grown.batches, part=parallel.own_part(devices, own.batch_size)),
            context.evaluator(context.net(network), 'validation'),
            steps=steps,
            chunk=run.chunk,
            validate_every=run.validate_every,
            save_every=run.save_every,
            folder=folder / 'checkpoints',
            identity=key,
            ledger=ledger,
            progress=context.screen.step,
            stop=context.stop,
            kept=_kept(own.peers),
            tolerant=manner.tolerant,
            best=best,
            anatomy=grown.look(chosen) if anatomy_every else None,
            anatomy_every=anatomy_every,
        )


class GridProgram(NamedTuple):
    """A grid before its first step."""

    state: State
    teacher: Tree  # its variables
    batches: Feed
    knobs: Any
    program: Callable[[str], Step]  # layout -> compiled steps, many in a row
    look: Callable[[str], Step]  # layout -> a compiled look at the gradients of terms

    def arguments(self, steps: int) -> tuple[Any, ...]:
        """New arguments of one dispatch of so many steps, from the first on."""
        return layout.copied(self.state), self.teacher, self.batches(0, steps), self.knobs


def prepared(
    context: Context,
    network: ConfigDict,
    own: ConfigDict,
    cells: Sequence[build.GridCell],
    seen: TrainingData,
    taught: TeacherSource,
    start: WarmStart | None = None,
) -> GridProgram:
    """What trains a grid, and where it begins; arguments are those of `fit`."""
    config, run = context.config, context.config.run
    train = context.dataset.splits['train']
    objective = build.objective(config, own)
    net = build.trained_net(context.net(network), own, objective)
    own_average = own.teacher == build.AVERAGE  # which cannot be computed before there is a state
    teacher = teachers.frozen(net) if own_average else taught.teacher
    parts: dict[str, Any] = {'net': net, 'teacher': teacher, 'objective': objective}
    tx = build.optimiser(own)
    labels = noise.symmetric(train.labels, seen.label_noise, len(context.dataset.classes), config.seed)
    streams = seen.streams[:1] if len({id(stream) for stream in seen.streams}) == 1 else seen.streams
    batches = training_feed(config.data.stream)(
        streams, own.batch_size, {'inputs': train.inputs, 'labels': labels}, build.augment(seen.augment), config.seed,
        seen.views, taught.tables, **build.presented(config, own, network is config.student),
    )  # fmt: skip
    apart = len(streams) > 1
    knobs = jax.device_put(build.knobs(config, own, cells, config.seed))
    begun = start or WarmStart(_fresh(net, config.seed, [cell.seed for cell in cells], context.example()[None]), {})
    begin = compiled(bound(_begin, init=bound(init_state, **parts, tx=tx), apart=apart))
    axis = parallel.axis_of(run.runner)
    step = bound(build.step_of(own), **parts, tx=tx, axis=axis)
    look = bound(build.look_of(own), **parts, axis=axis)
    return GridProgram(
        begin(knobs, None if own_average else taught.variables, batches(0, 1), begun),
        taught.variables,
        batches,
        knobs,
        functools.partial(_program, step, run.runner, len(cells), apart),
        functools.partial(_program, look, run.runner, len(cells), apart, many=False),
    )


def _begin(
    knobs: Any, variables: Tree, batches: Batch, begun: WarmStart, *, init: Callable[..., State], apart: bool
) -> State:
    """The state of every cell before the first step; without `variables` of a teacher each is its own.

    `batches` are those of the first step, with an axis of steps of length 1.
    """

    def one(k: Any, batch: Batch, own: WarmStart) -> State:
        return init(k, own.student if variables is None else variables, batch, own.student, own.terms)

    return jax.vmap(one, in_axes=(0, 0 if apart else None, 0))(knobs, trees.take(batches, 0), begun)


@shared
def _kept(peers: int) -> Callable[[Tree], Tree]:
    """Of several peers the first, which is the student."""
    return jax.jit(jax.vmap(team.first_peer)) if peers > 1 else lambda variables: variables


def _resumed(state: State, rung: Rung, peers: int) -> tuple[State, loop.Best | None]:
    """Where the part of the fit before left the cells that go on; `state` has the shapes."""
    if rung.folder is None:
        return state, None

    def widened(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((rung.cells, *leaf.shape[1:]), leaf.dtype)

    like = {'state': state, 'best': jax.eval_shape(lambda s: loop.unscored(_kept(peers)(loop.student(s)), 1), state)}
    with Checkpoints(rung.folder / 'checkpoints', rung.identity) as checkpoints:
        restored = checkpoints.restore(jax.tree.map(widened, like))
    taken = jax.device_put(trees.take(jax.device_get(restored), np.array(rung.kept)))
    return State(*taken['state']), loop.Best(*taken['best'])


AUTO = 'auto'  # as run.layout: the fastest, by a short measurement
CELLS = 'cells'  # as a layout: cells split over devices, batched on each


def layouts() -> tuple[str, ...]:
    """What run.layout may say."""
    return (*grid.LAYOUTS, CELLS, AUTO)


@shared
def _program(step: Any, runner: str, cells: int, own_batches: bool, chosen: str, many: bool = True) -> Step:
    """The compiled program of a step of a grid, or of many in a row."""
    runner, inner = (CELLS, 'vmap') if chosen == CELLS else (runner, chosen)
    gridded = grid.gridded(step, inner, own_batches)
    return parallel.wrap(
        grid.scanned(gridded) if many else gridded,
        runner,
        _devices(runner, cells),
        batch_axis=int(own_batches) + many,
        cell_axis=int(many) if own_batches else None,
    )


def _layout(
    context: Context,
    folder: Path,
    structure: str,
    program: Callable[[str], Step],
    arguments: Callable[[], tuple[Any, ...]],
    cells: int,
    dispatches: int,
) -> str:
    """The layout of a grid; a measured one is noted in its folder, so that a resumed grid goes on in the same."""
    wanted = context.config.run.layout
    if wanted != AUTO:
        return wanted if cells > 1 else 'unroll'
    note = folder / 'layout.json'
    if note.exists():
        return json.loads(note.read_text())['layout']
    split = context.config.run.runner == 'single' and len(_devices(CELLS, cells)) > 1
    chosen = layout.fastest(
        program, arguments, cells=cells, dispatches=dispatches, key=structure, more=(CELLS,) if split else ()
    )
    ledgers.replace(note, json.dumps({'layout': chosen}))
    return chosen


def _devices(runner: str, cells: int) -> list[jax.Device]:
    """All devices; where cells are split over them, a number of devices that divides the cells (a teacher is one)."""
    devices = parallel.all_devices()
    return devices[: math.gcd(cells, len(devices))] if runner == 'cells' else devices


def _fresh(net: Net, base_seed: int, seeds: Sequence[int], inputs: np.ndarray) -> Tree:
    """Variables of new students, one per seed of the grid. The seeds of a study are few: each is drawn once."""
    draw = once(bound(init_student, net=net))
    drawn = {seed: jax.device_get(draw(np.uint32(base_seed + seed), inputs)) for seed in set(seeds)}
    return jax.device_put(jax.tree.map(lambda *leaves: np.stack(leaves), *(drawn[seed] for seed in seeds)))


def teaching(context: Context, fit: ConfigDict, mode: str) -> TeacherSource:
    """Who teaches a fit: nobody, the student's own average, or a network, whose outputs may be cached."""
    if not build.needs_teacher(context.config, fit):
        return TeacherSource(teachers.none(), {}, {})
    if fit.teacher == build.AVERAGE:
        return TeacherSource(teachers.none(), {}, {})
    variables = teacher_variables(context, fit.teacher)
    if mode == 'cached':
        folder = context.done[cache_stage(fit.teacher)].folder
        tables = cache.load(folder / 'tables', address(context, fit.teacher, variables))
        return TeacherSource(teachers.cached(), variables, tables)
    taps = tuple(tap for _, term in build.objective(context.config, fit).terms for tap in term.taps().teacher)
    return TeacherSource(teachers.frozen(build.probed(context.teaching_net(fit.teacher), taps)), variables, {})


def address(context: Context, name: str, variables: Tree) -> cache.Address:
    config = context.config
    spec = build.teachers(config)[name]
    precision = spec.precision or config.run.precision
    return cache.Address(
        trees.digest([plain_config(spec.args), spec.members, precision, trees.fingerprint(variables)]),
        context.data_checksum,
        json.dumps(plain_config(config.data.preprocess), sort_keys=True),
        json.dumps(plain_config(config.data.augment), sort_keys=True),
        config.seed,
        config.data.views,
    )
