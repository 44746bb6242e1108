"""Fits without training: shapes only. Meets what cannot work or does not fit here, and counts what a step costs."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kdjax import trees
from kdjax.cost import check_memory, counted
from kdjax.data.feed import TEACHER_INPUTS, shown
from kdjax.dataset import Dataset, Split, taken
from kdjax.errors import UsageError
from kdjax.jit_cache import bound, shared
from kdjax.study.recipe import build, changes, feeding, pretrained, shapes
from kdjax.study.recipe.inputs import (
    CachedTeacher,
    GivenTeacher,
    ImportedTeacher,
    Inputs,
    OneTeacher,
    TeacherTeam,
    TrainedStudents,
    TrainedTeacher,
    teacher_of,
)
from kdjax.study.recipe.recipe import Fit, GridCell, NetSpec
from kdjax.tasks.base import Question, Task
from kdjax.techniques.averaged import AveragedLosses
from kdjax.train import cache, given, parallel, teachers
from kdjax.train.inherit import carried, inherited
from kdjax.train.step import init_state
from kdjax.types import Batch, Net, State, Teacher, Tree

Trained = TrainedTeacher | TrainedStudents


class Traced(NamedTuple):
    """What one cell of a fit costs."""

    flops: float  # of a step, as counted on the unoptimised program
    moved: float  # bytes that the unoptimised program of a step reads and writes: more than it ever holds at once
    state: Tree  # shapes of everything that a step changes: parameters, optimiser state, memory
    teacher: Tree  # shapes of the variables of a network that teaches in every step
    batch: int  # bytes of the examples of a step, as networks see them

    @property
    def bytes(self) -> int:
        """Of the state."""
        return trees.nbytes(self.state)

    @property
    def terms(self) -> Tree:
        """Shapes of what terms learn, by name."""
        return self.state.params['terms']

    def kept(self, runner: str) -> int:
        """Bytes of the state on each device."""
        return parallel.kept_bytes(self.state, runner, parallel.all_devices())


def trace(inputs: Trained, dataset: Dataset, earlier: Tree | None = None) -> Traced:
    """Traces one cell of a fit on one device, after a fit whose terms learned `earlier` (shapes).

    Args:
      inputs: of the fit.
      dataset: its data.
      earlier: what terms had learned in the fit before.

    Raises:
      UsageError: a batch that there is no memory for, or whatever `objective`, networks and terms object to: a missing
        tap, shapes that do not fit, ...
    """
    fit = inputs.fit
    _check_batch(inputs, dataset)
    _check_chosen(fit, dataset)
    net = build.trained_net(shapes.changed_net(inputs, dataset, inputs.precision), fit)
    if isinstance(inputs, TrainedStudents) and inputs.parent is not None and inputs.start:
        assert not isinstance(inputs.parent, GivenTeacher | TeacherTeam)  # the config is checked for it
        _check_start(inputs, inputs.parent, dataset)
    if inputs.pretrained:
        pretrained.check_vocabulary(inputs.path, dataset)
        one = shapes.net(inputs.network, inputs, dataset, inputs.precision)
        pretrained.start(inputs.path, shapes.variables(one, inputs, dataset), one.names)
    teacher, teacher_vars, batch = _teacher(inputs, dataset, _batch(inputs, dataset), net)
    knobs = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype),
                         build.knobs(fit, [GridCell(1, 0, {})], 0))  # fmt: skip
    if fit.own_start or fit.own_dense:
        knobs = {**knobs, teachers.START: teacher_vars}
    writes = changes.writer(inputs, dataset, net, _teaching(inputs, dataset, net)[0])
    parts: dict[str, Any] = {'net': net, 'teacher': teacher, 'objective': fit.objective, 'writes': writes,
                             'tx': build.optimiser(changes.optimiser(inputs), fit.steps, fit.spec.trains)}  # fmt: skip
    student = shapes.initial(net, inputs.network, batch['inputs'])
    given, structure = jax.tree.flatten((knobs, teacher_vars, batch, student, earlier))
    traced = _traced(bound(init_state, **parts), bound(build.step_of(fit), **parts), tuple(given), structure)
    if changes.scored_on(inputs):
        _check_scored(inputs, dataset, knobs, earlier)
    return traced


def asking(inputs: Trained, dataset: Dataset) -> float:
    """FLOPs of asking the teacher of a fit about a batch."""
    net = build.trained_net(shapes.changed_net(inputs, dataset, inputs.precision), inputs.fit)
    teacher, teacher_vars, batch = _teacher(inputs, dataset, _batch(inputs, dataset), net)
    return float(counted(jax.jit(teacher), teacher_vars, batch).get('flops', 0.0))


def _check_chosen(fit: Fit, dataset: Dataset) -> None:
    """Raises UsageError where an example is to be taught by a member of the teacher that there is not."""
    for name, term in fit.objective.terms:
        if isinstance(term, AveragedLosses) and term.chosen:
            found = np.unique(np.asarray(dataset.splits['train'].column(term.chosen)))
            if wrong := [value for value in found.ravel().tolist() if value not in range(term.members)]:
                raise UsageError(f'term {name!r} is taught by the member that the column {term.chosen!r} says, 0 to '
                                 f'{term.members - 1}, and training examples say {wrong[0]!r}')  # fmt: skip


def _check_scored(inputs: Trained, dataset: Dataset, knobs: Tree, earlier: Tree | None) -> None:
    """Raises UsageError where the terms of a fit do not fit its student as it comes in, whose gradients are asked."""
    before, how = getattr(inputs, 'before', None), inputs.precision
    if before is not None and before.fit.upstream != inputs.fit.upstream:
        before = None
    one = shapes.changed_net(before, dataset, how) if before else shapes.net(inputs.network, inputs, dataset, how)
    net = build.trained_net(one, inputs.fit)
    teacher, teacher_vars, batch = _teacher(inputs, dataset, _batch(inputs, dataset), net)
    parts = {'net': net, 'teacher': teacher, 'objective': inputs.fit.objective}
    init = bound(init_state, **parts, tx=build.optimiser({'momentum': 0.0}, 1))
    new = shapes.initial(net, inputs.network, batch['inputs'])
    try:
        state = jax.eval_shape(init, knobs, teacher_vars, batch, new, earlier)
        jax.eval_shape(bound(build.slopes_of(inputs.fit), **parts), state, teacher_vars, batch, knobs)
    except UsageError as error:
        what = "score 'taylor' asks gradients at the student as it comes in, and"
        raise UsageError(f'{what} {error}; take group_norm') from error


@shared  # fits that differ in numbers alone cost the same
def _traced(
    init: Callable[..., State],
    step: Callable[..., Any],
    given: tuple[jax.ShapeDtypeStruct, ...],
    structure: Any,
) -> Traced:
    knobs, teacher_vars, batch, student, earlier = jax.tree.unflatten(structure, given)
    state = jax.eval_shape(init, knobs, teacher_vars, batch, student, earlier)
    analysis = counted(jax.jit(step), state, teacher_vars, batch, knobs)
    flops, moved = (float(analysis.get(name, 0.0)) for name in ('flops', 'bytes accessed'))
    return Traced(flops, moved, state, teacher_vars, trees.nbytes(batch))


def check_weights(inputs: ImportedTeacher, dataset: Dataset) -> None:
    """Raises UsageError where the weights of a network that teaches are not of that network, or cannot be read."""
    pretrained.check_vocabulary(inputs.path, dataset)
    net = shapes.net(inputs.network, inputs, dataset, inputs.precision)
    pretrained.load(inputs.path, shapes.variables(net, inputs, dataset), net.names)


def check_outputs(inputs: GivenTeacher, dataset: Dataset) -> None:
    """Raises UsageError where a table of answers is not of these data and this task."""
    task = build.task(inputs.task)
    given.check(inputs.path, dataset, build.classes(task, dataset), task.questions(dataset))
    for name in task.questions(dataset):
        task.check_answer(name, given.of_question(inputs.path, name), dataset)


def _check_start(inputs: TrainedStudents, parent: OneTeacher, dataset: Dataset) -> None:
    """Raises UsageError where students cannot take over what they are to start from."""
    student, teacher = (
        shapes.variables(shapes.net(spec, side, dataset, side.precision), side, dataset)
        for spec, side in ((inputs.student, inputs), (parent.network, parent))
    )
    inherited(student, teacher, inputs.start)


def check_start(inputs: Trained, data_of: Callable[[Inputs], Dataset]) -> None:
    """Raises UsageError where a fit cannot go on from the network that it starts as, whole, or after a fit upstream."""
    students = inputs if isinstance(inputs, TrainedStudents) else None
    before = students.before if students and students.before and students.before.fit.upstream else None
    start = before or (None if students and students.start else inputs.parent)
    if start is not None and not isinstance(start, GivenTeacher | TeacherTeam):
        own, left = (shapes.variables(shapes.changed_net(side, data_of(side), side.precision), side, data_of(side))
                     for side in (inputs, start))  # fmt: skip
        jax.eval_shape(functools.partial(carried, new=inputs.new), own, left)


def _check_batch(inputs: Trained, dataset: Dataset) -> None:
    """A batch must be there at once, and so must a cache."""
    each, size = trees.nbytes(shapes.example(inputs, dataset)), inputs.fit.batch_size
    check_memory(f'a batch of {size} examples', each * size, shapes.host_bytes(), 'lower batch_size')


def _check_cache(tables: Tree, source: CachedTeacher, examples: int, batch: int) -> None:
    needed = trees.nbytes(tables) // batch * examples * source.views
    what = f'what {source.name!r} says of {examples} examples in {source.views} views'
    check_memory(what, needed, shapes.host_bytes(),
                 "lower data.views, keep the most probable classes alone (keep=...), or set mode='online'")  # fmt: skip


def _batch(inputs: Trained, dataset: Dataset) -> dict[str, Any]:
    """One batch, as `feed` makes it of the examples."""
    train, views = dataset.splits['train'], inputs.presented
    whole = jax.ShapeDtypeStruct((1, inputs.fit.batch_size), jnp.int32)
    columns = feeding.columns(train, inputs.column, train.labels, feeding.teacher_columns(inputs))
    columns |= {**_answers(inputs, dataset), **pretrained.beside(inputs, dataset, build.dataset)}
    presentation = build.presentation(inputs, beside=teachers.ALIGNED in columns)
    other = None if presentation.pop('consistent') else whole
    look = functools.partial(shown, augment=build.augment(views.augment), seed=0, **presentation)
    steps = jax.ShapeDtypeStruct((1,), jnp.uint32)
    batches = jax.eval_shape(look, shapes.columns(columns, whole.shape), whole, whole, other, steps)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), dict(batches))


def _answers(inputs: Trained, dataset: Dataset) -> dict[str, Any]:
    """Shapes of the columns that a cached teacher's answers to what examples share become."""
    questions, fit = build.task(inputs.task).questions(dataset), inputs.fit
    if not questions or not isinstance(inputs.source, CachedTeacher):
        if build.fitted_task(inputs.task, fit.spec.task).reads_teacher:
            raise UsageError(f"it learns what {fit.teacher!r} wrote, which is looked up: set mode='cached' of a "
                             'network that teaches')  # fmt: skip
        return {}
    who, task = inputs.source.teacher, build.task(inputs.task)
    if pretrained.other_data(inputs):
        theirs = build.dataset(inputs.source.data)
        own = _answers(dataclasses.replace(inputs, data=inputs.source.data), theirs)
        nothing = {name: np.zeros(column.shape, column.dtype) for name, column in own.items()}
        return {name: _shape(task.carried(column, theirs, dataset)) for name, column in nothing.items()}
    if isinstance(who, GivenTeacher):
        answers = given.tables(who.path, dataset, questions, (), 0)
        return {name: _column(inputs, dataset, questions[name.removeprefix(teachers.PREFIX)], table[:1])
                for name, table in answers.items()}  # fmt: skip
    net = shapes.teacher_net(who, dataset, who.precision)
    found = {}
    for name, question in questions.items():
        batch = {**shapes.columns(question.split.columns(), (1,)), 'mask': jax.ShapeDtypeStruct((1,), jnp.float32)}
        variables = shapes.initial(net, who.network, batch['inputs'])
        reply = jax.eval_shape(functools.partial(_reply, net, task), variables, batch)
        nothing = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), reply)
        found[teachers.PREFIX + name] = _column(inputs, dataset, question, nothing)
    return found


def _column(inputs: Trained, dataset: Dataset, question: Question, reply: Tree) -> jax.ShapeDtypeStruct:
    """Shape of the column that is kept of such replies as this one, to the first example of a question."""
    first = taken(question.split.columns(), np.arange(1))
    split = Split(first.pop('inputs'), first.pop('labels', None), first)
    column = build.task(inputs.task).informed(dataset).keep(reply, split).column
    return jax.ShapeDtypeStruct((len(question.rows), *column.shape[1:]), column.dtype)


def _shape(array: np.ndarray) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype)


def _reply(net: Net, task: Task, variables: Tree, batch: Batch) -> Tree:
    batch = task.prepare(batch)
    return task.reply(net, variables, net.apply(variables, batch['inputs'], train=False, key=None)[0], batch)


def _teacher(
    inputs: Trained, dataset: Dataset, batch: dict[str, Any], student: Net
) -> tuple[Teacher, Tree, dict[str, Any]]:
    """The teacher of a fit, shapes of its variables, and the batch with what a cache would bring."""
    who = teacher_of(inputs.source) if inputs.source is not None else None
    if isinstance(who, GivenTeacher) and inputs.fit.asks:
        return _looked_up(inputs, who, dataset, batch)
    asked, spec = _teaching(inputs, dataset, student)
    if asked is None:
        return teachers.none(), {}, batch
    net = asked if inputs.fit.own_average else build.probed(asked, inputs.fit.taps())
    online = teachers.frozen(net)
    if teachers.ALIGNED in batch:
        return teachers.aligned(online), shapes.initial(net, spec, batch[TEACHER_INPUTS]), batch
    if not isinstance(inputs.source, CachedTeacher) or build.task(inputs.task).questions(dataset):
        return online, shapes.initial(net, spec, batch.get(TEACHER_INPUTS, batch['inputs'])), batch
    theirs, size = shapes.example(teacher_of(inputs.source), dataset), inputs.fit.batch_size
    read = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((size, *leaf.shape), leaf.dtype), theirs)
    found = shapes.initial(net, spec, read)
    outputs = jax.eval_shape(online, found, {'inputs': read})
    tables = jax.eval_shape(
        functools.partial(
            cache.tables, taps=tuple(outputs.features), keep=inputs.source.keep or int(inputs.source.sparse)
        ),
        outputs,
    )
    _check_cache(tables, inputs.source, dataset.splits['train'].size, inputs.fit.batch_size)
    return teachers.cached(), found, {**batch, **tables}


def _teaching(inputs: Trained, dataset: Dataset, student: Net) -> tuple[Net | None, NetSpec]:
    """The network that teaches a fit, as it is, and what it is; None where nobody does or a table."""
    fit, spec = inputs.fit, inputs.network
    if fit.own_average:
        return student, spec
    if fit.own_start:
        if not isinstance(inputs, TrainedStudents) or inputs.before is None:
            raise UsageError("teacher 'before' is the student of the fit before, and this is the first of its method")
        return shapes.changed_net(inputs.before, dataset, inputs.precision), spec
    if fit.own_dense:
        changes.check_dense(inputs)
        one = shapes.net(changes.network(spec, inputs), inputs, dataset, inputs.precision)
        return changes.factored_net(one, inputs), spec
    who = teacher_of(inputs.source) if inputs.source is not None else None
    if who is None or isinstance(who, GivenTeacher) or not fit.asks:
        return None, spec
    if (known := build.dataset(who.data) if pretrained.other_data(inputs) else dataset) is not dataset:
        pretrained.check_words(inputs, dataset, known)
    return shapes.teacher_net(who, known, inputs.teaching or who.precision), who.network


def _looked_up(
    inputs: Trained, who: GivenTeacher, dataset: Dataset, batch: dict[str, Any]
) -> tuple[Teacher, Tree, dict[str, Any]]:
    """The same of a teacher that is a table."""
    assert isinstance(inputs.source, CachedTeacher)
    if build.task(inputs.task).questions(dataset):
        return teachers.none(), {}, batch
    tables = given.tables(who.path, dataset, {}, inputs.fit.taps(), inputs.source.keep)
    shapes = {name: jax.ShapeDtypeStruct((inputs.fit.batch_size, *table.shape[1:]), table.dtype)
              for name, table in tables.items()}  # fmt: skip
    _check_cache(shapes, inputs.source, dataset.splits['train'].size, inputs.fit.batch_size)
    return teachers.cached(), {}, {**batch, **shapes}
