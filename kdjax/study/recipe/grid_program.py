"""The program of a grid: who teaches, what is shown, where it begins, and how its steps are compiled."""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from kdjax import trees
from kdjax.data.feed import Feed
from kdjax.data.order import Stream
from kdjax.data.stream import training_feed
from kdjax.errors import UsageError
from kdjax.jit_cache import bound, compiled, once, shared
from kdjax.study.recipe import build, changed, changes, feeding, pretrained
from kdjax.study.recipe.context import Context
from kdjax.study.recipe.inputs import TrainedStudents, TrainedTeacher
from kdjax.study.recipe.recipe import GridCell, Views
from kdjax.study.recipe.teaching import TeacherSource
from kdjax.train import anatomy, grid, layout, parallel, storage, teachers, timing
from kdjax.train.grid import Step
from kdjax.train.inherit import carried, inherited
from kdjax.train.pace import fitting
from kdjax.train.step import init_state, init_student
from kdjax.train.texts import Replay
from kdjax.types import Batch, Net, State, Tree

Trained = TrainedTeacher | TrainedStudents


class WarmStart(NamedTuple):
    """Where a fit starts: the students, and what the terms of the fit before had learned."""

    student: Tree
    terms: Tree
    dense: Tree = None  # the students with all weights that are gone, where these teach


class TrainingData(NamedTuple):
    """What a grid is shown: views of the examples of its streams."""

    views: Views
    streams: Sequence[Stream]
    label_noise: float = 0.0  # share of the labels that are wrong on purpose


def students_data(context: Context, inputs: TrainedStudents, cells: Sequence[GridCell]) -> TrainingData:
    """What the cells of a grid of students are shown."""
    split = context.datasets(inputs.data).splits['train']
    task = context.task(inputs)
    streams = feeding.streams(task, split, cells, inputs.seed, inputs.classes, inputs.draw, inputs.fit, inputs.order)
    return TrainingData(inputs.presented, streams, inputs.label_noise)


class GridProgram(NamedTuple):
    """A grid before its first step."""

    state: State
    teacher: Tree  # its variables
    batches: Feed
    knobs: Any
    compiled: Callable[[str], Step]  # layout -> compiled steps, many in a row
    gradient_stats: Callable[[str], Step]  # layout -> a compiled look at the gradients of terms
    unreached: Callable[[], list[str]]  # the terms by which the first cell can learn nothing, in the first steps
    student_of: Callable[[State], Tree]  # the variables of the students, as they are used
    observed: Callable[[State, Any], State] | None  # the state after a validation, where it depends on that
    split: Callable[[str, float], dict[str, float]]  # layout, seconds of a step -> ms of its parts, for one network

    def arguments(self, steps: int) -> tuple[Any, ...]:
        """New arguments of one dispatch of so many steps, from the first on."""
        return layout.copied(self.state), self.teacher, self.batches(0, self.batches.reach(0, steps)), self.knobs


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
    parts = _parts(context, inputs, context.changed_net(inputs), source)
    teacher, writes = parts['teacher'], parts['writes']
    tx = build.optimiser(changes.optimiser(inputs), fit.steps, fit.spec.trains)
    labels = context.task(inputs).corrupt(dataset, data.label_noise, inputs.seed)
    streams = data.streams[:1] if len({id(stream) for stream in data.streams}) == 1 else data.streams
    batches = training_feed(context.execution.stream)(
        streams, fit.batch_size,
        {**feeding.columns(train, inputs.column, labels, feeding.teacher_columns(inputs)), **source.columns},
        build.augment(data.views.augment), inputs.seed, data.views.views, source.tables,
        **build.presentation(inputs, beside=teachers.ALIGNED in source.columns),
        buckets=feeding.buckets(inputs.buckets, train, streams, fit.batch_size, inputs.seed),
        padded={**feeding.padded(dataset, inputs), **source.padded},
    )  # fmt: skip
    own_batches = len(streams) > 1
    knobs = jax.device_put(build.knobs(fit, cells, inputs.seed))
    plain = build.trained_net(context.incoming_net(inputs), fit)
    begun = _onward(start, plain, inputs, cells, context) if start else WarmStart(
        _begun(plain, inputs, cells, context), {})  # fmt: skip
    if fit.own_start or fit.own_dense:
        knobs[teachers.START] = jax.device_put(begun.dense if fit.own_dense else begun.student)
    making = (functools.partial(context.net, inputs=inputs), inputs.network)
    example = build.alone(context.example(inputs))
    slopes = _slopes(context.alone(), inputs, source, batches, knobs, begun, own_batches)
    begun = begun._replace(student=changed.applied(inputs, cells, begun.student, making, example, slopes), dense=None)
    begin = compiled(bound(_begin, init=bound(init_state, **parts, tx=tx), own_batches=own_batches))
    step = bound(build.step_of(fit), **parts, tx=tx, axis=context.axis)
    stats = bound(build.gradient_stats_of(fit), **parts, axis=context.axis)

    def fresh() -> State:
        return begin(knobs, None if fit.own_average else source.variables, batches(0, 1), begun)

    def split(chosen: str, seconds: float) -> dict[str, float]:
        timed_parts = timing.parts(writes, teacher if fit.asks else None, build.source_of(fit))
        timed = {name: _program(bound(part, axis=context.axis), runner, len(cells), own_batches, chosen, many=False)
                 for name, part in timed_parts.items()}  # fmt: skip
        first = trees.take(batches(0, 1), 0)
        return timing.split(timed, lambda: (fresh(), source.variables, first, knobs), fit.steps, seconds, len(cells))

    state = fresh()
    reach = compiled(bound(_reach, reach=bound(build.reach_of(fit), **parts), own_batches=own_batches))
    return GridProgram(
        state,
        source.variables,
        batches,
        knobs,
        functools.partial(_program, step, runner, len(cells), own_batches),
        functools.partial(_program, stats, runner, len(cells), own_batches, many=False),
        lambda: anatomy.unreached(
            jax.device_get(reach(state, source.variables, batches(step, step + 1), knobs))
            for step in range(min(anatomy.LOOKS, fit.steps))
        ),
        changed.student_of(context, inputs, batches, own_batches),
        compiled(writes.observed) if isinstance(writes, Replay) else None,
        split,
    )


def _parts(context: Context, inputs: Trained, net: Net, source: TeacherSource) -> dict[str, Any]:
    """The structure of the step that trains a network, but for its optimiser."""
    fit = inputs.fit
    net, teacher = build.trained_net(net, fit), source.teacher
    teaching = context.teaching_net(inputs, net)
    if teaching is not None and (fit.own_average or fit.own_start or fit.own_dense):
        teacher = teachers.frozen(net if fit.own_average else build.probed(teaching, fit.taps()))
    writes = changes.writer(inputs, context.datasets(inputs.data), net, teaching)
    return {'net': net, 'teacher': teacher, 'objective': fit.objective, 'writes': writes}


def _slopes(
    context: Context, inputs: Trained, source: TeacherSource, batches: Feed, knobs: Any, begun: WarmStart,
    own_batches: bool,
) -> Iterator[Tree]:  # fmt: skip
    """Gradients of the objective by the students as they come in, of the first batches of the fit, one after the other.

    One cell after the other, whatever the layout of the fit: leaves (C, ...).
    """
    parts = _parts(context, inputs, context.incoming_net(inputs), source)
    init = bound(init_state, **parts, tx=build.optimiser({'momentum': 0.0}, 1))
    begin = compiled(bound(_begin, init=init, own_batches=own_batches))
    step = compiled(_one_by_one(bound(build.slopes_of(inputs.fit), **parts), own_batches))
    own = None if inputs.fit.own_average else source.variables
    state = begin(knobs, own, batches(0, 1), begun._replace(dense=None))
    for place in range(changes.scored_on(inputs)):
        state, found = step(state, source.variables, trees.take(batches(place, place + 1), 0), knobs)
        yield found


@shared
def _one_by_one(step: Step, own_batches: bool) -> Step:
    return grid.gridded(step, 'map', own_batches)


def _reach(
    state: State, variables: Tree, batches: Batch, knobs: Any, *, reach: Callable[..., Tree], own_batches: bool
) -> Tree:
    """What terms of the first cell reach on the batches of one step."""
    batch = trees.take(batches, 0)
    return reach(trees.take(state, 0), variables, trees.take(batch, 0) if own_batches else batch, trees.take(knobs, 0))


def _begun(net: Net, inputs: Trained, cells: Sequence[GridCell], context: Context) -> Tree:
    """New networks of every cell, with the weights of a file, or the modules, that they take over."""
    new = _new_students(net, inputs.seed, [cell.seed for cell in cells], build.alone(context.example(inputs)))
    if inputs.pretrained:
        names = context.net(inputs.network, inputs).names
        started = [pretrained.start(inputs.path, trees.take(new, cell), names) for cell in range(len(cells))]
        return jax.device_put(jax.tree.map(lambda *leaves: np.stack(leaves), *started))
    if inputs.parent is None:
        return new
    if inputs.fit.spec.peers > 1:
        raise UsageError('student.start and student.pretrained are of one student, and this fit has several peers')
    other = context.teacher_variables(inputs.parent)
    if isinstance(inputs, TrainedStudents) and inputs.start:
        return inherited(new, other, inputs.start, cells=True)
    return carried(new, other, inputs.new, cells=True)


def _onward(start: WarmStart, net: Net, inputs: Trained, cells: Sequence[GridCell], context: Context) -> WarmStart:
    """Where the cells of a later fit start: as they were left, after a fit upstream with modules that begin anew."""
    if (
        not (isinstance(inputs, TrainedStudents) and inputs.before and inputs.before.fit.upstream)
        or inputs.fit.upstream
    ):
        return start
    new = _new_students(net, inputs.seed, [cell.seed for cell in cells], build.alone(context.example(inputs)))
    return WarmStart(carried(new, jax.device_put(start.student), inputs.new), {})


def _begin(
    knobs: Any, variables: Tree, batches: Batch, begun: WarmStart, *, init: Callable[..., State], own_batches: bool
) -> State:
    """The state of every cell before the first step; without `variables` of a teacher each is its own.

    `batches` are those of the first step, with an axis of steps of length 1.
    """

    def one(k: Any, batch: Batch, start: WarmStart) -> State:
        own = k.get(teachers.START, start.student if variables is None else variables)
        return init(k, own, batch, start.student, start.terms)

    return jax.vmap(one, in_axes=(0, 0 if own_batches else None, 0))(knobs, trees.take(batches, 0), begun)


@shared
def _program(step: Any, runner: str, cells: int, own_batches: bool, chosen: str, many: bool = True) -> Step:
    """The compiled program of a step of a grid, or of many in a row."""
    runner, inner = (layout.CELLS, 'vmap') if chosen == layout.CELLS else (runner, chosen)
    return parallel.wrap(
        grid.gridded(step, inner, own_batches, many=many),
        runner,
        devices_of(runner, cells),
        batch_axis=int(own_batches) + many,
        cell_axis=int(many) if own_batches else None,
    )


def choose_layout(
    context: Context,
    folder: Path,
    structure: str,
    program: Callable[[str], Step],
    arguments: Callable[[int], tuple[Any, ...]],
    cells: int,
    steps: int,
) -> tuple[str, int]:
    """The layout of a grid, and the steps of its first dispatch, at most.

    A measured layout is noted in the folder, so that a resumed grid goes on in the same.
    """
    run = context.execution
    chunk = max(1, min(run.chunk, steps))
    if run.layout != layout.AUTO:
        return run.layout if cells > 1 else 'unroll', chunk
    note = folder / 'layout.json'
    if note.exists():
        chosen = storage.read_json(note, layout=str)['layout']
    else:
        split = run.runner == 'single' and len(devices_of(layout.CELLS, cells)) > 1
        chosen = layout.fastest(
            program, arguments, cells=cells, steps=steps, chunk=chunk, key=structure,
            more=(layout.CELLS,) if split else (), told=lambda name: context.screen.before(f'layout {name} is timed'),
        )  # fmt: skip
        storage.write_json(note, {'layout': chosen})
    times = layout.known(structure, cells, steps, chunk)
    return chosen, chunk if times is None else fitting(times.step, chunk)


def devices_of(runner: str, cells: int) -> list[jax.Device]:
    """All devices; where cells are split over them, a number of devices that divides the cells (a teacher is one)."""
    devices = parallel.all_devices()
    return devices[: math.gcd(cells, len(devices))] if runner == 'cells' else devices


def _new_students(net: Net, base_seed: int, seeds: Sequence[int], inputs: Tree) -> Tree:
    """Variables of new students, one per seed of the grid. The seeds of a study are few: each is drawn once."""
    draw = once(bound(init_student, net=net))
    drawn = {seed: jax.device_get(draw(np.uint32(base_seed + seed), inputs)) for seed in set(seeds)}
    return jax.device_put(jax.tree.map(lambda *leaves: np.stack(leaves), *(drawn[seed] for seed in seeds)))
