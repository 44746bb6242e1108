"""Fits without training: shapes only. Meets what cannot work, and counts what a step costs."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from kdjax import trees
from kdjax.cost import counted
from kdjax.data.base import Dataset
from kdjax.data.feed import shown
from kdjax.jit_cache import bound, shared
from kdjax.study.recipe import build
from kdjax.train import teachers
from kdjax.train.step import init_state, init_student
from kdjax.types import Net, State, Teacher, Tree


class Traced(NamedTuple):
    """What one cell of a fit costs."""

    flops: float  # of a step, as counted on the unoptimised program
    bytes: int  # of everything that a step changes: parameters, optimiser state, memory
    moved: float  # bytes that the unoptimised program of a step reads and writes: more than it ever holds at once
    terms: Tree  # shapes of what terms learn, by name


def fit(
    config: ConfigDict, dataset: Dataset, network: ConfigDict, fit_: ConfigDict, earlier: Tree | None = None
) -> Traced:
    """Traces one cell of a fit on one device, after a fit whose terms learned `earlier` (shapes).

    Raises:
      UsageError: whatever `objective`, networks and terms object to: a missing tap, shapes that do not fit, ...
    """
    run = config.run.copy_and_resolve_references()
    with run.unlocked():
        run.runner = 'single'
    objective = build.objective(config, fit_)
    net = build.trained_net(build.net(network, len(dataset.classes), run), fit_, objective)
    batch = _batch(config, dataset, fit_, network)
    teacher, teacher_vars, batch = _teacher(config, dataset, fit_, batch, net, network is config.student)
    knobs = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype),
                         build.knobs(config, fit_, build.cells(config, fit_)[:1], 0))  # fmt: skip
    parts: dict[str, Any] = {
        'net': net,
        'teacher': teacher,
        'objective': objective,
        'tx': build.optimiser(fit_),
    }
    given, structure = jax.tree.flatten((knobs, teacher_vars, batch, earlier))
    return _traced(bound(init_state, **parts), bound(build.step_of(fit_), **parts), net, tuple(given), structure)


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


def example(config: ConfigDict, dataset: Dataset) -> jax.ShapeDtypeStruct:
    """Shape and dtype of an example as networks see it."""
    stored = dataset.splits['train'].inputs
    return jax.eval_shape(build.preprocess(config), jax.ShapeDtypeStruct(stored.shape[1:], stored.dtype))


def _batch(config: ConfigDict, dataset: Dataset, fit_: ConfigDict, network: ConfigDict) -> dict[str, Any]:
    """One batch, as `feed` makes it of the examples."""
    stored, student = dataset.splits['train'].inputs, network is config.student
    whole = jax.ShapeDtypeStruct((1, fit_.batch_size), jnp.int32)
    inputs = jax.ShapeDtypeStruct((*whole.shape, *stored.shape[1:]), stored.dtype)
    presented = build.presented(config, fit_, student)
    other = None if presented.pop('consistent', True) else whole
    augment = build.augment(config.data.augment if student else network.augment)
    look = functools.partial(shown, augment=augment, seed=0, **presented)
    steps = jax.ShapeDtypeStruct((1,), jnp.uint32)
    batches = jax.eval_shape(look, {'inputs': inputs, 'labels': whole}, whole, whole, other, steps)
    return {name: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype) for name, leaf in batches.items()}


def _teacher(
    config: ConfigDict, dataset: Dataset, fit_: ConfigDict, batch: dict[str, Any], student: Net, cached: bool
) -> tuple[Teacher, Tree, dict[str, Any]]:
    """The teacher of a fit, shapes of its variables, and the batch with what a cache would bring."""
    if not build.needs_teacher(config, fit_):
        return teachers.none(), {}, batch
    if fit_.teacher == build.AVERAGE:
        net = student
    else:
        spec = build.teachers(config)[fit_.teacher]
        taps = tuple(tap for _, term in build.objective(config, fit_).terms for tap in term.taps().teacher)
        net = build.probed(build.teaching_net(config, spec, len(dataset.classes), spec.precision), taps)
    online = teachers.frozen(net)
    seed = jax.ShapeDtypeStruct((), jnp.uint32)
    variables = jax.eval_shape(functools.partial(init_student, net=net), seed, batch['inputs'])
    if not cached or fit_.teacher == build.AVERAGE or spec.mode == 'online':
        return online, variables, batch
    outputs = jax.eval_shape(online, variables, batch)
    tables = {teachers.PREFIX + tap: leaf for tap, leaf in outputs.features.items()}
    return teachers.cached(), variables, {**batch, teachers.PREFIX + 'logits': outputs.logits, **tables}
