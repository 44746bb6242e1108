"""Fits without training: shapes only. Meets what cannot work, and counts what a step costs."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kdjax import trees
from kdjax.cost import counted
from kdjax.data.feed import TEACHER_INPUTS, shown
from kdjax.dataset import Dataset, is_column
from kdjax.jit_cache import bound, shared
from kdjax.nets import torch_weights
from kdjax.study.recipe import build
from kdjax.study.recipe.inputs import CachedTeacher, Inputs, TrainedStudents, TrainedTeacher, teacher_of
from kdjax.study.recipe.inputs import Teacher as TeachingNetwork
from kdjax.study.recipe.recipe import GridCell, NetSpec
from kdjax.tasks.base import Task
from kdjax.train import cache, teachers
from kdjax.train.inherit import inherited
from kdjax.train.step import init_state, init_student
from kdjax.types import Array, Batch, Net, State, Teacher, Tree

Trained = TrainedTeacher | TrainedStudents


class Traced(NamedTuple):
    """What one cell of a fit costs."""

    flops: float  # of a step, as counted on the unoptimised program
    bytes: int  # of everything that a step changes: parameters, optimiser state, memory
    moved: float  # bytes that the unoptimised program of a step reads and writes: more than it ever holds at once
    terms: Tree  # shapes of what terms learn, by name


def trace(inputs: Trained, dataset: Dataset, earlier: Tree | None = None) -> Traced:
    """Traces one cell of a fit on one device, after a fit whose terms learned `earlier` (shapes).

    Raises:
      UsageError: whatever `objective`, networks and terms object to: a missing tap, shapes that do not fit, ...
    """
    fit = inputs.fit
    net = build.trained_net(_net(inputs.network, inputs, dataset, inputs.precision), fit)
    if isinstance(inputs, TrainedStudents) and inputs.parent is not None:
        _check_start(inputs, inputs.parent, dataset)
    if isinstance(inputs, TrainedTeacher) and inputs.pretrained:
        one = _net(inputs.network, inputs, dataset, inputs.precision)
        torch_weights.start(inputs.path, _variables(one, inputs, dataset), one.names)
    teacher, teacher_vars, batch = _teacher(inputs, dataset, _batch(inputs, dataset), net)
    knobs = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype),
                         build.knobs(fit, [GridCell(1, 0, {})], 0))  # fmt: skip
    parts: dict[str, Any] = {
        'net': net,
        'teacher': teacher,
        'objective': fit.objective,
        'tx': build.optimiser(fit.spec.optim, fit.steps),
    }
    given, structure = jax.tree.flatten((knobs, teacher_vars, batch, earlier))
    return _traced(bound(init_state, **parts), bound(build.step_of(fit), **parts), net, tuple(given), structure)


@shared  # fits that differ in numbers alone cost the same
def _traced(
    init: Callable[..., State],
    step: Callable[..., Any],
    net: Net,
    given: tuple[jax.ShapeDtypeStruct, ...],
    structure: Any,
) -> Traced:
    knobs, teacher_vars, batch, earlier = jax.tree.unflatten(structure, given)
    student = jax.eval_shape(functools.partial(init_student, net=net), knobs['seed'], batch['inputs'])
    state = jax.eval_shape(init, knobs, teacher_vars, batch, student, earlier)
    analysis = counted(jax.jit(step), state, teacher_vars, batch, knobs)
    return Traced(float(analysis.get('flops', 0.0)), trees.nbytes(state),
                  float(analysis.get('bytes accessed', 0.0)), state.params['terms'])  # fmt: skip


def example(inputs: Inputs, dataset: Dataset) -> Tree:
    """Shape and dtype of an example as networks see it."""
    stored = dataset.splits['train'].column(inputs.column)
    return jax.eval_shape(build.preprocess(inputs.data), _shapes(stored, ()))


def _check_start(inputs: TrainedStudents, parent: TeachingNetwork, dataset: Dataset) -> None:
    """Raises UsageError where students cannot take over what they are to start from."""
    student, teacher = (
        _variables(_net(spec, side, dataset, side.precision), side, dataset)
        for spec, side in ((inputs.student, inputs), (parent.network, parent))
    )
    inherited(student, teacher, inputs.start)


def _variables(net: Net, inputs: Inputs, dataset: Dataset) -> Tree:
    """Shapes of the variables of a network."""
    read = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype), example(inputs, dataset))
    return jax.eval_shape(net.init, jax.random.key(0), read)


def _net(spec: NetSpec, inputs: Inputs, dataset: Dataset, precision: str) -> Net:
    return build.net(spec, build.told(spec, build.task(inputs.task), dataset, inputs.column), precision, None)


def _shapes(columns: Tree, lead: tuple[int, ...]) -> Tree:
    """Examples of the columns, with leading axes."""
    return jax.tree.map(
        lambda column: jax.ShapeDtypeStruct((*lead, *column.shape[1:]), column.dtype), columns, is_leaf=is_column
    )


def _batch(inputs: Trained, dataset: Dataset) -> dict[str, Any]:
    """One batch, as `feed` makes it of the examples."""
    train, views = dataset.splits['train'], inputs.presented
    whole = jax.ShapeDtypeStruct((1, inputs.fit.batch_size), jnp.int32)
    columns = build.columns(train, inputs.column, train.labels, build.teacher_columns(inputs))
    columns |= _answers(inputs, dataset)
    presentation = build.presentation(inputs)
    other = None if presentation.pop('consistent') else whole
    look = functools.partial(shown, augment=build.augment(views.augment), seed=0, **presentation)
    steps = jax.ShapeDtypeStruct((1,), jnp.uint32)
    batches = jax.eval_shape(look, _shapes(columns, whole.shape), whole, whole, other, steps)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), dict(batches))


def _answers(inputs: Trained, dataset: Dataset) -> dict[str, Any]:
    """Shapes of the columns that a cached teacher's answers to what examples share become."""
    questions = build.task(inputs.task).questions(dataset)
    if not questions or not isinstance(inputs.source, CachedTeacher):
        return {}
    who = inputs.source.teacher
    net, task = _net(who.network, who, dataset, who.precision), build.task(inputs.task)
    variables, found = _variables(net, who, dataset), {}
    for name, question in questions.items():
        batch = {**_shapes(question.split.columns(), (1,)), 'mask': jax.ShapeDtypeStruct((1,), jnp.float32)}
        answer = jax.eval_shape(functools.partial(_answer, net, task), variables, batch)
        found[teachers.PREFIX + name] = jax.ShapeDtypeStruct((len(question.rows), *answer.shape[1:]), answer.dtype)
    return found


def _answer(net: Net, task: Task, variables: Tree, batch: Batch) -> Array:
    batch = task.prepare(batch)
    return task.answer(net.apply(variables, batch['inputs'], train=False, key=None)[0], batch)


def _teacher(
    inputs: Trained, dataset: Dataset, batch: dict[str, Any], student: Net
) -> tuple[Teacher, Tree, dict[str, Any]]:
    """The teacher of a fit, shapes of its variables, and the batch with what a cache would bring."""
    if inputs.fit.own_average:
        net = student
    elif inputs.source is None:
        return teachers.none(), {}, batch
    else:
        who = teacher_of(inputs.source)
        one = _net(who.network, who, dataset, inputs.teaching or who.precision)
        net = build.probed(build.ensemble((one,) * who.members) if who.members > 1 else one, inputs.fit.taps())
    online = teachers.frozen(net)
    seed = jax.ShapeDtypeStruct((), jnp.uint32)
    if not isinstance(inputs.source, CachedTeacher) or build.task(inputs.task).questions(dataset):
        read = batch.get(TEACHER_INPUTS, batch['inputs'])
        return online, jax.eval_shape(functools.partial(init_student, net=net), seed, read), batch
    read = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((inputs.fit.batch_size, *leaf.shape), leaf.dtype), example(who, dataset)
    )
    variables = jax.eval_shape(functools.partial(init_student, net=net), seed, read)
    outputs = jax.eval_shape(online, variables, {'inputs': read})
    tables = jax.eval_shape(
        functools.partial(
            cache.tables, taps=tuple(outputs.features), keep=inputs.source.keep or int(inputs.source.sparse)
        ),
        outputs,
    )
    return teachers.cached(), variables, {**batch, **tables}
