"""One fit of a grid of networks, from what its stage reads to what `train.loop.fit` needs."""

import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from kdjax import trees
from kdjax.data import noise
from kdjax.data.feed import Feed, Stream
from kdjax.data.stream import training_feed
from kdjax.jit_cache import bound, compiled, once, shared
from kdjax.nets import team
from kdjax.study.recipe import build
from kdjax.study.recipe.check import cache_name
from kdjax.study.recipe.context import Context
from kdjax.study.recipe.inputs import CachedTeacher, TrainedStudents, TrainedTeacher, plain, teacher_of
from kdjax.study.recipe.recipe import GridCell, Views
from kdjax.train import cache, distributed, grid, layout, loop, parallel, teachers
from kdjax.train import ledger as ledgers
from kdjax.train.checkpoint import Checkpoints, save_variables
from kdjax.train.grid import Step
from kdjax.train.ledger import Ledger, NullLogger
from kdjax.train.profile import profiled
from kdjax.train.step import init_state, init_student
from kdjax.types import Batch, Net, State, Teacher, Tree

Trained = TrainedTeacher | TrainedStudents


class TeacherSource(NamedTuple):
    """Who teaches a fit: the function, its variables and tables of its outputs."""

    teacher: Teacher
    variables: Tree
    tables: Mapping[str, np.ndarray]


NOBODY = TeacherSource(teachers.none(), {}, {})


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
    """What a grid is shown: views of the examples of its streams."""

    views: Views
    streams: Sequence[Stream]
    label_noise: float = 0.0  # share of the labels that are wrong on purpose


def students_data(context: Context, inputs: TrainedStudents, cells: Sequence[GridCell]) -> TrainingData:
    """What the cells of a grid of students are shown."""
    labels = context.datasets(inputs.data).splits['train'].labels
    streams = build.streams(labels, cells, inputs.seed, inputs.classes)
    return TrainingData(inputs.presented, streams, inputs.label_noise)


def fit_students(
    context: Context,
    folder: Path,
    key: str,
    inputs: TrainedStudents,
    cells: Sequence[GridCell],
    start: WarmStart | None,
    options: GridOptions = GridOptions(),
) -> loop.Fitted:
    """Trains a grid of students, and saves them and what their terms learned."""
    data, source = students_data(context, inputs, cells), teacher_source(context, inputs)
    fitted = fit(context, folder, key, inputs, cells, data, source, start, options, inputs.gradient_every)
    save_variables(folder / 'variables', fitted.variables)
    save_variables(folder / 'best', fitted.best)
    if jax.tree.leaves(fitted.terms):  # apart, so that the student stays alone
        save_variables(folder / 'terms', fitted.terms)
    return fitted


def fit(
    context: Context,
    folder: Path,
    key: str,
    inputs: Trained,
    cells: Sequence[GridCell],
    data: TrainingData,
    source: TeacherSource,
    start: WarmStart | None = None,
    options: GridOptions = GridOptions(),
    gradient_every: int = 0,
) -> loop.Fitted:
    """Trains a grid of networks of one kind; a single network is a grid of one.

    Args:
      context: screen, data sets, what earlier stages left, how it is executed.
      folder: where checkpoints and the ledger go; `key` names the run that they belong to.
      inputs: the fit, its network, and what both depend on.
      cells: of the grid.
      data: what the networks are shown.
      source: who teaches.
      start: where they start; new networks if left out.
      options: what differs in a sweep.
      gradient_every: steps between looks at the gradients of terms; 0 for never.
    """
    run, spec = context.execution, inputs.fit.spec
    program, first = grid_program(context, inputs, cells, data, source, start), min(run.chunk, spec.steps)
    chosen = _layout(
        context, folder, options.structure or key, program.compiled, lambda: program.arguments(first), len(cells),
        spec.steps // run.chunk,
    )  # fmt: skip
    steps = options.rung.until if options.rung else spec.steps
    state, best = _resumed(program.state, options.rung, spec.peers) if options.rung else (program.state, None)
    devices, step = _devices(run.runner, len(cells)), program.compiled(chosen)
    if run.profile:
        step = profiled(step, folder / 'profile', run.profile)
    context.screen.stage(options.called or folder.name.partition('-')[0], steps)
    tracked = {'tensorboard': run.tensorboard, 'wandb': run.wandb}
    with Ledger(folder, **tracked) if distributed.first() else NullLogger(folder) as ledger:
        return loop.fit(
            step,
            distributed.of_first(state),
            parallel.everywhere(source.variables, devices),
            program.knobs,
            functools.partial(program.batches, part=parallel.own_part(devices, spec.batch_size)),
            context.evaluator(context.net(inputs.network, inputs), inputs, 'validation'),
            steps=steps,
            chunk=run.chunk,
            validate_every=inputs.validate_every,
            save_every=run.save_every,
            folder=folder / 'checkpoints',
            identity=key,
            ledger=ledger,
            progress=context.screen.step,
            stop=context.stop,
            kept=_select_student(spec.peers),
            tolerant=options.tolerant,
            best=best,
            anatomy=program.gradient_stats(chosen) if gradient_every else None,
            anatomy_every=gradient_every,
        )


class GridProgram(NamedTuple):
    """A grid before its first step."""

    state: State
    teacher: Tree  # its variables
    batches: Feed
    knobs: Any
    compiled: Callable[[str], Step]  # layout -> compiled steps, many in a row
    gradient_stats: Callable[[str], Step]  # layout -> a compiled look at the gradients of terms

    def arguments(self, steps: int) -> tuple[Any, ...]:
        """New arguments of one dispatch of so many steps, from the first on."""
        return layout.copied(self.state), self.teacher, self.batches(0, steps), self.knobs


def grid_program(
    context: Context,
    inputs: Trained,
    cells: Sequence[GridCell],
    data: TrainingData,
    source: TeacherSource,
    start: WarmStart | None = None,
) -> GridProgram:
    """What trains a grid, and where it begins; arguments are those of `fit`."""
    fit, dataset = inputs.fit, context.datasets(inputs.data)
    train, runner = dataset.splits['train'], context.execution.runner
    net = build.trained_net(context.net(inputs.network, inputs), fit)
    # The student's own average cannot be computed before there is a state.
    teacher = teachers.frozen(net) if fit.own_average else source.teacher
    parts: dict[str, Any] = {'net': net, 'teacher': teacher, 'objective': fit.objective}
    tx = build.optimiser(fit.spec.optim, fit.steps)
    labels = noise.symmetric(train.labels, data.label_noise, len(dataset.classes), inputs.seed)
    streams = data.streams[:1] if len({id(stream) for stream in data.streams}) == 1 else data.streams
    batches = training_feed(context.execution.stream)(
        streams, fit.batch_size, {'inputs': train.inputs, 'labels': labels}, build.augment(data.views.augment),
        inputs.seed, data.views.views, source.tables, **build.presentation(data.views, inputs.data),
    )  # fmt: skip
    own_batches = len(streams) > 1
    knobs = jax.device_put(build.knobs(fit, cells, inputs.seed))
    begun = start or WarmStart(
        _new_students(net, inputs.seed, [cell.seed for cell in cells], context.example(inputs.data)[None]), {}
    )
    begin = compiled(bound(_begin, init=bound(init_state, **parts, tx=tx), own_batches=own_batches))
    step = bound(build.step_of(fit), **parts, tx=tx, axis=context.axis)
    stats = bound(build.gradient_stats_of(fit), **parts, axis=context.axis)
    return GridProgram(
        begin(knobs, None if fit.own_average else source.variables, batches(0, 1), begun),
        source.variables,
        batches,
        knobs,
        functools.partial(_program, step, runner, len(cells), own_batches),
        functools.partial(_program, stats, runner, len(cells), own_batches, many=False),
    )


def _begin(
    knobs: Any, variables: Tree, batches: Batch, begun: WarmStart, *, init: Callable[..., State], own_batches: bool
) -> State:
    """The state of every cell before the first step; without `variables` of a teacher each is its own.

    `batches` are those of the first step, with an axis of steps of length 1.
    """

    def one(k: Any, batch: Batch, own: WarmStart) -> State:
        return init(k, own.student if variables is None else variables, batch, own.student, own.terms)

    return jax.vmap(one, in_axes=(0, 0 if own_batches else None, 0))(knobs, trees.take(batches, 0), begun)


@shared
def _select_student(peers: int) -> Callable[[Tree], Tree]:
    """Of several peers the first, which is the student."""
    return jax.jit(jax.vmap(team.first_peer)) if peers > 1 else lambda variables: variables


def _resumed(state: State, rung: Rung, peers: int) -> tuple[State, loop.Best | None]:
    """Where the part of the fit before left the cells that go on; `state` has the shapes."""
    if rung.folder is None:
        return state, None

    def widened(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((rung.cells, *leaf.shape[1:]), leaf.dtype)

    like = {
        'state': state,
        'best': jax.eval_shape(lambda s: loop.unscored(_select_student(peers)(loop.student(s)), 1), state),
    }
    with Checkpoints(rung.folder / 'checkpoints', rung.identity) as checkpoints:
        restored = checkpoints.restore(jax.tree.map(widened, like))
    taken = jax.device_put(trees.take(jax.device_get(restored), np.array(rung.kept)))
    return State(*taken['state']), loop.Best(*taken['best'])


@shared
def _program(step: Any, runner: str, cells: int, own_batches: bool, chosen: str, many: bool = True) -> Step:
    """The compiled program of a step of a grid, or of many in a row."""
    runner, inner = (layout.CELLS, 'vmap') if chosen == layout.CELLS else (runner, chosen)
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
    wanted = context.execution.layout
    if wanted != layout.AUTO:
        return wanted if cells > 1 else 'unroll'
    note = folder / 'layout.json'
    if note.exists():
        return json.loads(note.read_text())['layout']
    split = context.execution.runner == 'single' and len(_devices(layout.CELLS, cells)) > 1
    chosen = layout.fastest(
        program, arguments, cells=cells, dispatches=dispatches, key=structure, more=(layout.CELLS,) if split else ()
    )
    ledgers.replace(note, json.dumps({'layout': chosen}))
    return chosen


def _devices(runner: str, cells: int) -> list[jax.Device]:
    """All devices; where cells are split over them, a number of devices that divides the cells (a teacher is one)."""
    devices = parallel.all_devices()
    return devices[: math.gcd(cells, len(devices))] if runner == 'cells' else devices


def _new_students(net: Net, base_seed: int, seeds: Sequence[int], inputs: np.ndarray) -> Tree:
    """Variables of new students, one per seed of the grid. The seeds of a study are few: each is drawn once."""
    draw = once(bound(init_student, net=net))
    drawn = {seed: jax.device_get(draw(np.uint32(base_seed + seed), inputs)) for seed in set(seeds)}
    return jax.device_put(jax.tree.map(lambda *leaves: np.stack(leaves), *(drawn[seed] for seed in seeds)))


def teacher_source(context: Context, inputs: Trained) -> TeacherSource:
    """Who teaches a fit: nobody, the student's own average, or a network, whose outputs may be cached."""
    if inputs.source is None:
        return NOBODY
    variables = context.teacher_variables(teacher_of(inputs.source))
    if isinstance(inputs.source, CachedTeacher):
        folder = context.done[cache_name(inputs.source.name)].folder
        tables = cache.load(folder / 'tables', address(context, inputs.source, variables))
        return TeacherSource(teachers.cached(), variables, tables)
    return TeacherSource(asked_teacher(context, inputs), variables, {})


def asked_teacher(context: Context, inputs: Trained) -> Teacher:
    """The network that teaches a fit, with what its terms read, in the precision that it teaches in."""
    assert inputs.source is not None
    who = teacher_of(inputs.source)
    return teachers.frozen(build.probed(context.teacher_net(who, inputs.teaching), inputs.fit.taps()))


def address(context: Context, inputs: CachedTeacher, variables: Tree) -> cache.Address:
    """What the tables of a cache depend on."""
    teacher = inputs.teacher
    how = [plain(teacher.network.args), teacher.members, inputs.precision or teacher.precision]
    return cache.Address(
        trees.digest([*how, trees.fingerprint(variables)]),
        context.datasets.checksum(teacher.data),
        json.dumps(plain(teacher.data.preprocess), sort_keys=True),
        json.dumps(plain(inputs.augment), sort_keys=True),
        teacher.seed,
        inputs.views,
    )
