"""Shapes of networks, of what they read, and of examples: known before there is a number."""

import functools
import os
from typing import Any

import jax
import jax.numpy as jnp

from kdjax import errors, trees
from kdjax.cost import check_memory
from kdjax.dataset import Dataset, is_column
from kdjax.errors import UsageError, unknown
from kdjax.jit_cache import shared
from kdjax.study.recipe import build, changes
from kdjax.study.recipe.inputs import (
    Inputs,
    OneTeacher,
    TeacherTeam,
    TeachingNetwork,
    TrainedStudents,
    TrainedTeacher,
)
from kdjax.study.recipe.recipe import NetSpec
from kdjax.train.step import init_student
from kdjax.types import Net, Tree

Trained = TrainedTeacher | TrainedStudents


def example(inputs: Inputs, dataset: Dataset) -> Tree:
    """Shape and dtype of an example as networks see it."""
    stored = dataset.splits['train'].column(inputs.column)
    return jax.eval_shape(build.preprocess(inputs.data), columns(stored, ()))


def variables(net: Net, inputs: Trained | TeachingNetwork, dataset: Dataset) -> Tree:
    """Shapes of the variables of a network."""
    read = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype), example(inputs, dataset))
    return initial(net, inputs.network, read)


def initial(net: Net, spec: NetSpec, read: Tree) -> Tree:
    """Shapes of the variables of a network that reads inputs of such shapes."""
    leaves, structure = jax.tree.flatten(read)
    return _shapes_of(
        net, f'network {errors.shown(spec.net)} of {errors.shown(dict(spec.args))}', tuple(leaves), structure
    )


@shared
def _shapes_of(net: Net, what: str, leaves: tuple[jax.ShapeDtypeStruct, ...], structure: Any) -> Tree:
    seed, read = jax.ShapeDtypeStruct((), jnp.uint32), jax.tree.unflatten(structure, leaves)
    try:
        found = jax.eval_shape(functools.partial(init_student, net=net), seed, read)
    except UsageError:
        raise
    except Exception as error:  # it may be a user's own, and what its arguments mean shows only here
        read_as = ', '.join('x'.join(map(str, leaf.shape)) for leaf in leaves)
        raise UsageError(f'{what} cannot read inputs of {read_as}: {errors.said(error)}') from error
    check_memory(what, trees.nbytes(found), device_bytes(), 'choose a smaller one')
    return found


def net(spec: NetSpec, inputs: Inputs, dataset: Dataset, precision: str) -> Net:
    task = build.task(inputs.task)
    net = build.net(spec, build.told(spec, task, dataset, inputs.column), precision, None)
    for tap in task.taps:
        if tap not in net.taps:
            raise unknown('tap', tap, net.taps, f' of network {spec.net!r}, which {type(task).__name__} looks at')
    return net


def changed_net(inputs: Trained | OneTeacher, dataset: Dataset, precision: str) -> Net:
    return changes.wrapped(net(changes.network(inputs.network, inputs), inputs, dataset, precision), inputs, None)


def teacher_net(inputs: TeachingNetwork, dataset: Dataset, precision: str) -> Net:
    """A network that teaches, an ensemble where it has several members."""
    if isinstance(inputs, TeacherTeam):
        return build.ensemble(tuple(teacher_net(one, dataset, precision) for one in inputs.team))
    one = changed_net(inputs, dataset, precision)
    return build.ensemble((one,) * inputs.members) if inputs.members > 1 else one


def columns(columns: Tree, lead: tuple[int, ...]) -> Tree:
    """Examples of the columns, with leading axes."""
    return jax.tree.map(
        lambda column: jax.ShapeDtypeStruct((*lead, *column.shape[1:]), column.dtype), columns, is_leaf=is_column
    )


def device_bytes() -> int:
    """Bytes that a device may take; of a processor, those of the machine."""
    statistics = jax.local_devices()[0].memory_stats() or {}
    return int(statistics.get('bytes_limit') or host_bytes())


def host_bytes() -> int:
    """Bytes of the machine."""
    return os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
