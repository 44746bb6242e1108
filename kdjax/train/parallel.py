"""Runners: how a step is laid over devices. All give the same parameters up to rounding.

| runner    | wraps                  | splits over devices                            |
|-----------|------------------------|------------------------------------------------|
| single    | jit                    | nothing                                        |
| pmap      | pmap                   | examples                                       |
| sharded   | jit with NamedSharding | examples                                       |
| fsdp      | jit with NamedSharding | examples; parameters, their optimiser, teacher |
| shard_map | jit of shard_map       | examples                                       |
| cells     | jit of shard_map       | cells                                          |

'auto' is one of these, by `chosen`; never 'fsdp', which trades time for memory. 'sharded' and 'fsdp' also run over
several processes: each holds its own examples of a batch, and everything else whole, or its parts.

Reference of 'fsdp': Rajbhandari et al., ZeRO: Memory Optimizations Toward Training Trillion Parameter Models, SC 2020,
stage 3: every device keeps a part of each array, and gets the rest when it is needed.
"""

import functools
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from kdjax.errors import UsageError, unknown
from kdjax.train.grid import Step
from kdjax.types import Batch, State, Tree

AXIS = 'data'
AUTO = 'auto'
CUT = 'fsdp'  # the runner that cuts arrays up
SPANNING = ('sharded', CUT)  # runners that several processes share; the first is 'auto'
BY_EXAMPLES = ('pmap', 'sharded', CUT, 'shard_map')  # runners that split a batch
WHOLE = 1024  # numbers up to which an array is not cut: to gather it costs more than it takes
Devices = Sequence[jax.Device]


def axis_of(runner: str) -> str | None:
    """Name of the device axis that a step (and synchronised batch statistics) must reduce over under `runner`."""
    if runner not in (AUTO, *RUNNERS):
        raise unknown('runner', runner, (AUTO, *RUNNERS))
    return AXIS if runner in ('pmap', 'shard_map') else None


def chosen(runner: str, devices: Devices, cells: int, batch: int) -> str:
    """What 'auto' is for a grid of so many cells whose batches have `batch` examples; another runner is as it is.

    The one that uses most devices: a grid is split by cells, a single network by the examples of its batch, each device
    having one micro-batch at least. Devices that a processor pretends to have share its cores: one of them is as fast.

    Args:
      batch: examples of a micro-batch.
    """
    if runner != AUTO:
        return runner
    if spans(devices):
        return SPANNING[0]
    if len(devices) == 1 or devices[0].platform == 'cpu':
        return 'single'
    by_cells, by_examples = math.gcd(cells, len(devices)), 1 if batch % len(devices) else len(devices)
    if max(by_cells, by_examples) == 1:
        return 'single'
    return 'cells' if by_cells >= by_examples else 'pmap'


def wrap(
    step: Step,
    runner: str,
    devices: Devices,
    *,
    batch_axis: int = 0,
    cell_axis: int | None = None,
) -> Step:
    """Compiles `step` for `devices`.

    Args:
      step: (state, teacher_vars, batch, knobs) -> (state, logs), built with `axis_of(runner)`; states with a leading
        cell axis where the runner is 'cells'.
      runner: key of RUNNERS.
      devices: the devices to use; 'single' uses the first.
      batch_axis: which axis of a batch's leaves counts examples (1 or 2 under scan or with a batch per cell).
      cell_axis: which axis of a batch's leaves counts cells; None where cells share batches. For 'cells'.

    Raises:
      UsageError: unknown runner, sizes that do not divide, or host devices that would deadlock.
    """
    if runner not in RUNNERS:
        raise unknown('runner', runner, RUNNERS)
    check_processes(runner, devices)
    check_host_devices(devices, os.environ)
    if runner == 'cells':
        return _cells(step, devices, batch_axis, cell_axis)
    return RUNNERS[runner](step, devices, batch_axis)


def check_processes(runner: str, devices: Devices) -> None:
    """Raises UsageError where several processes cannot share a runner."""
    if spans(devices) and runner not in SPANNING:
        shared = ' or '.join(map(repr, SPANNING))
        raise UsageError(f'runner {runner!r} stays within one process, and this job has several; use {shared}')


def check_batches(runner: str, devices: Devices, sizes: Sequence[int]) -> None:
    """Raises UsageError where a runner splits batches over devices and some of these sizes do not divide."""
    for size in sizes if runner in BY_EXAMPLES else ():
        if size % len(devices):
            raise UsageError(
                f'a batch of {size} does not divide over {len(devices)} devices; use a multiple of {len(devices)}'
            )


def check_host_devices(devices: Devices, environment: Any) -> None:
    """Raises UsageError where several host devices share too small a thread pool: their all-reduce would never meet."""
    local = len(_own(devices))
    if local < 2 or devices[0].platform != 'cpu':
        return
    threads = int(environment.get('NPROC', 0))
    if threads < 2 * local:
        raise UsageError(
            f'{local} host devices need the environment variable NPROC >= {2 * local} before start, '
            f'got {threads or "none"}: with fewer threads their collectives deadlock'
        )


def all_devices() -> list[jax.Device]:
    """The devices of all processes, those of each process together."""
    return sorted(jax.devices(), key=lambda device: device.process_index)  # stable


def spans(devices: Devices) -> bool:
    """Whether some of `devices` are those of other processes."""
    return len(_own(devices)) < len(devices)


def own_part(devices: Devices, size: int) -> slice:
    """Which examples of a batch of `size`, split over `devices`, this process holds."""
    local = _own(devices)
    return slice(local[0] * size // len(devices), (local[-1] + 1) * size // len(devices))


def everywhere(tree: Tree, devices: Devices) -> Tree:
    """`tree` whole on every device, where these span processes, of which each gives the same."""
    if not spans(devices):
        return tree
    whole = NamedSharding(_data_mesh(devices), P())
    return jax.tree.map(
        lambda leaf: leaf if _spanning(leaf) else jax.make_array_from_process_local_data(whole, leaf), tree
    )


def placed(tree: Tree, runner: str, devices: Devices) -> Tree:
    """The variables of a teacher where the programs of a runner want them, once and for all steps."""
    if runner == CUT:
        return _put(tree, _in_parts(tree, devices, 0))
    return everywhere(tree, devices)


def _put(tree: Tree, shardings: Tree) -> Tree:
    """A tree that every process has whole, or that lies so already, over the devices of all of them."""

    def put(leaf: Any, sharding: NamedSharding) -> jax.Array:
        if _spanning(leaf) or sharding.is_fully_addressable:
            return jax.device_put(leaf, sharding)
        whole = np.asarray(leaf)
        return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])

    return jax.tree.map(put, tree, shardings)


def kept_bytes(tree: Tree, runner: str, devices: Devices) -> int:
    """Bytes that each device keeps of arrays, or of their shapes, of one cell."""
    parts = len(devices) if runner == CUT else 1

    def size(leaf: Any) -> int:
        whole = math.prod(leaf.shape) * leaf.dtype.itemsize
        return whole if _cut(leaf.shape, parts, 0) is None else whole // parts

    return sum(map(size, jax.tree.leaves(tree)))


def local(tree: Tree) -> Tree:
    """What lies on the devices of all processes as this process's own: what is whole there is not copied, and what is
    cut is gathered on the host, one array after the other. All must ask together."""

    def own(leaf: Any) -> Any:
        if not _spanning(leaf):
            return leaf
        whole = leaf.is_fully_replicated
        return leaf.addressable_data(0) if whole else multihost_utils.process_allgather(leaf, tiled=True)

    return jax.tree.map(own, tree)


def _spanning(leaf: Any) -> bool:
    concrete = isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer)
    return concrete and not leaf.is_fully_addressable


def _own(devices: Devices) -> list[int]:
    """Positions of this process's devices."""
    return [position for position, device in enumerate(devices) if device.process_index == jax.process_index()]


def _single(step: Step, devices: Devices, batch_axis: int) -> Step:
    return jax.jit(step, donate_argnums=0)


def _pmap(step: Step, devices: Devices, batch_axis: int) -> Step:
    mapped = jax.pmap(
        step, axis_name=AXIS, in_axes=(None, None, batch_axis, None), out_axes=None, devices=list(devices)
    )

    def run(state: State, teacher_vars: Tree, batch: Batch, knobs: Any) -> tuple[State, Any]:
        parts = jax.tree.map(lambda leaf: _split(leaf, batch_axis, len(devices)), dict(batch))
        return mapped(state, teacher_vars, parts, knobs)

    return run


def _sharded(step: Step, devices: Devices, batch_axis: int) -> Step:
    mesh = _data_mesh(devices)
    whole, split = NamedSharding(mesh, P()), NamedSharding(mesh, _spec({batch_axis: AXIS}))
    compiled = jax.jit(step, in_shardings=(whole, whole, split, whole), out_shardings=(whole, whole), donate_argnums=0)

    def run(state: State, teacher_vars: Tree, batch: Batch, knobs: Any) -> tuple[State, Any]:
        if spans(devices):
            state, teacher_vars, knobs = everywhere((state, teacher_vars, knobs), devices)
            batch = jax.make_array_from_process_local_data(split, dict(batch))
        _check_split(batch, batch_axis, len(devices), 'batch')
        return compiled(state, teacher_vars, batch, knobs)

    return run


def _fsdp(step: Step, devices: Devices, batch_axis: int) -> Step:
    whole, split = (NamedSharding(_data_mesh(devices), spec) for spec in (P(), _spec({batch_axis: AXIS})))

    @functools.cache
    def program(structure: Any, shapes: tuple[tuple[int, ...], ...]) -> tuple[Any, Any]:
        like = jax.tree.unflatten(structure, [jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes])
        state, teacher_vars = (_in_parts(tree, devices, first) for tree, first in zip(like, (1, 0), strict=True))
        compiled = jax.jit(
            step, in_shardings=(state, teacher_vars, split, whole), out_shardings=(state, whole), donate_argnums=0
        )
        return compiled, state

    def run(state: State, teacher_vars: Tree, batch: Batch, knobs: Any) -> tuple[State, Any]:
        leaves, structure = jax.tree.flatten((state, teacher_vars))
        compiled, parts = program(structure, tuple(leaf.shape for leaf in leaves))
        if spans(devices):
            knobs = everywhere(knobs, devices)
            batch = jax.make_array_from_process_local_data(split, dict(batch))
            teacher_vars = _put(teacher_vars, _in_parts(teacher_vars, devices, 0))
        _check_split(batch, batch_axis, len(devices), 'batch')
        return compiled(_put(state, parts), teacher_vars, batch, knobs)

    return run


def _in_parts(tree: Tree, devices: Devices, first: int) -> Tree:
    """How each array lies over devices: cut along one axis, from `first` on, or whole on all of them."""
    mesh = _data_mesh(devices)

    def sharding(leaf: Any) -> NamedSharding:
        axis = _cut(leaf.shape, len(devices), first)
        return NamedSharding(mesh, P() if axis is None else _spec({axis: AXIS}))

    return jax.tree.map(sharding, tree)


def _cut(shape: Sequence[int], parts: int, first: int) -> int | None:
    """The longest axis that divides, the last of equal ones; None for an array that stays whole."""
    axes = [axis for axis in range(first, len(shape)) if shape[axis] % parts == 0]
    small = math.prod(shape[first:]) <= WHOLE
    return None if small or not axes else max(axes, key=lambda axis: (shape[axis], axis))


def _data_mesh(devices: Devices) -> Mesh:
    return _mesh((AXIS,), (len(devices),), devices)


def _shard_map(step: Step, devices: Devices, batch_axis: int) -> Step:
    mesh = _data_mesh(devices)
    specs = (P(), P(), _spec({batch_axis: AXIS}), P())
    # check_vma=False: the step sums its gradients itself, once; with the check on they would be summed twice.
    mapped = jax.shard_map(step, mesh=mesh, in_specs=specs, out_specs=(P(), P()), check_vma=False)
    compiled = jax.jit(mapped, donate_argnums=0)

    def run(state: State, teacher_vars: Tree, batch: Batch, knobs: Any) -> tuple[State, Any]:
        _check_split(batch, batch_axis, len(devices), 'batch')
        return compiled(state, teacher_vars, batch, knobs)

    return run


def _cells(step: Step, devices: Devices, batch_axis: int, cell_axis: int | None = None) -> Step:
    mesh = _mesh(('cell',), (len(devices),), devices)
    batch_spec = P() if cell_axis is None else _spec({cell_axis: 'cell'})
    # Logs have the axes of a batch up to the examples, cells last.
    logs_spec = _spec({(batch_axis if cell_axis is None else cell_axis): 'cell'})
    mapped = jax.shard_map(
        step,
        mesh=mesh,
        in_specs=(P('cell'), P(), batch_spec, P('cell')),
        out_specs=(P('cell'), logs_spec),
        check_vma=False,
    )
    compiled = jax.jit(mapped, donate_argnums=0)

    def run(state: State, teacher_vars: Tree, batch: Batch, knobs: Any) -> tuple[State, Any]:
        _check_split(knobs, 0, len(devices), 'grid of cells')
        return compiled(state, teacher_vars, batch, knobs)

    return run


RUNNERS: dict[str, Callable[..., Step]] = {
    'single': _single,
    'pmap': _pmap,
    'sharded': _sharded,
    CUT: _fsdp,
    'shard_map': _shard_map,
    'cells': _cells,
}


def _mesh(names: tuple[str, ...], shape: tuple[int, ...], devices: Devices) -> Mesh:
    return Mesh(np.asarray(devices).reshape(shape), names, axis_types=(AxisType.Auto,) * len(names))


def _spec(axes: dict[int, str]) -> P:
    return P(*(axes.get(position) for position in range(max(axes) + 1)))


def _split(leaf: jax.Array, axis: int, parts: int) -> jax.Array:
    _check_split(leaf, axis, parts, 'batch')
    return leaf.reshape(*leaf.shape[:axis], parts, -1, *leaf.shape[axis + 1 :])


def _check_split(tree: Tree, axis: int, parts: int, what: str) -> None:
    size = jax.tree.leaves(tree)[0].shape[axis]
    if size % parts:
        raise UsageError(f'a {what} of {size} does not divide over {parts} devices; use a multiple of {parts}')
