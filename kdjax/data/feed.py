"""Feeding: which examples a step sees, as a pure function of (seed, step), and the batches made of them.

Nothing is iterated, so nothing has a position to save: a resumed run asks for the steps that it still needs.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.data.augment import Augment, views
from kdjax.data.mix import Mix, blended
from kdjax.data.preprocess import Preprocess, unit
from kdjax.errors import UsageError
from kdjax.jit_cache import bound, compiled
from kdjax.types import Array, Batch, Column

Feed = Callable[..., Batch]  # (start, stop) -> batches of the steps start ... stop - 1; see `feed` for `part`


class Stream(NamedTuple):
    """An endless shuffled sequence of the examples of a pool, each exactly once an epoch."""

    pool: np.ndarray  # (n,) example ids
    seed: int


def shuffled(stream: Stream, epoch: int) -> np.ndarray:
    """The ids of the pool in the order of an epoch."""
    return np.random.default_rng((stream.seed, epoch)).permutation(stream.pool)


def order(
    stream: Stream, start: int, stop: int, batch_size: int, shuffled: Callable[[Stream, int], np.ndarray] = shuffled
) -> tuple[np.ndarray, np.ndarray]:
    """Example ids and epochs of the steps start ... stop - 1, each (stop - start, batch_size).

    Batches run on over the border of an epoch, so that every example is used however the sizes divide. `shuffled` may
    remember what it says of an epoch, where pools are large.
    """
    size = len(stream.pool)
    positions = np.arange(start * batch_size, stop * batch_size)
    epochs = positions // size
    ids = np.empty_like(positions)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        ids[here] = shuffled(stream, int(epoch))[positions[here] % size]
    shape = (stop - start, batch_size)
    return ids.reshape(shape).astype(np.int32), epochs.reshape(shape).astype(np.int32)


def drawn(
    streams: Sequence[Stream],
    start: int,
    stop: int,
    batch_size: int,
    shuffled: Callable[[Stream, int], np.ndarray] = shuffled,
) -> tuple[np.ndarray, np.ndarray]:
    """Ids and epochs of a grid as of `order`: (steps, B) where all cells share one stream, else (steps, C, B)."""
    # Cells that share a stream share the work of ordering it.
    distinct = {(id(stream.pool), stream.seed): stream for stream in streams}
    ordered = {key: order(stream, start, stop, batch_size, shuffled) for key, stream in distinct.items()}
    keys = [(id(stream.pool), stream.seed) for stream in streams]
    ids, epochs = (np.stack([ordered[key][which] for key in keys], axis=1) for which in (0, 1))
    return (ids, epochs) if len(streams) > 1 else (ids[:, 0], epochs[:, 0])


def feed(
    streams: Sequence[Stream],
    batch_size: int,
    columns: Mapping[str, Column],
    augment: Augment,
    seed: int,
    view_count: int,
    tables: Mapping[str, np.ndarray] | None = None,
    *,
    preprocess: Preprocess = unit(),
    mix: Mix | None = None,
    consistent: bool = True,
) -> Feed:
    """Batches for a grid: leaves (steps, B, ...) where all cells share one stream, else (steps, C, B, ...).

    With `part=slice(...)` only that part of every batch: each process of a job makes its own, and the order, a pure
    function, is the same for all.

    Args:
      streams: one for all cells, or one per cell.
      batch_size: examples per step of a cell.
      columns: what an example has, by name, indexed by id: (N, ...); 'inputs' is augmented.
      augment: the augmentation.
      seed: of its draws.
      view_count: views per example; an example's view in epoch e is e modulo this.
      tables: what an example's view has, by name, (N, view_count, ...): a teacher's cached outputs.
      preprocess: from 'inputs' as stored to what networks see.
      mix: of the examples of a batch with each other (`mix.blended`).
      consistent: whether the teacher sees the pixels of the student; if not, it sees the next of the example's views:
        'teacher_inputs', or what a table says of that one.

    Raises:
      UsageError: an empty pool, a batch or a number of views below 1, a table with other views, one view that is to
        differ from itself, or a table of examples that are mixed.
    """
    tables = dict(tables or {})
    check(streams, batch_size, view_count, tables, mix, consistent)
    # Whole: a column may be one that is read when it is asked for.
    columns, tables = jax.device_put(({name: column[:] for name, column in columns.items()}, tables))
    look = bound(shown, augment=augment, seed=seed, preprocess=preprocess, mix=mix)
    assemble = compiled(bound(_assemble, look=look))

    def batches(start: int, stop: int, part: slice = slice(None)) -> Batch:
        ids, epochs = drawn(streams, start, stop, batch_size)
        if mix is None:
            ids, epochs = ids[..., part], epochs[..., part]
        other = None if consistent else (epochs + 1) % view_count
        numbers = jax.device_put((ids, epochs % view_count, other, np.arange(start, stop, dtype=np.uint32)))
        batch = assemble(columns, tables, *numbers)
        if mix is None:
            return batch
        # Partners may lie anywhere in a batch, so one that is mixed is made whole and then cut.
        return jax.tree.map(lambda leaf: leaf[(*[slice(None)] * (ids.ndim - 1), part)], batch)

    return batches


def check(
    streams: Sequence[Stream],
    batch_size: int,
    view_count: int,
    tables: Mapping[str, np.ndarray],
    mix: Mix | None,
    consistent: bool,
) -> None:
    """Raises UsageError where no batches can be made of the arguments of `feed`."""
    if batch_size < 1 or view_count < 1:
        raise UsageError(f'batch_size and views must be >= 1, got {batch_size} and {view_count}')
    if not all(len(stream.pool) for stream in streams):
        raise UsageError('a stream has no examples; give every transfer set at least one')
    for name, table in tables.items():
        if table.shape[1] != view_count:
            raise UsageError(f'table {name!r} has {table.shape[1]} views per example, the feed {view_count}')
    if not consistent and view_count < 2:
        raise UsageError('for a teacher that sees another view than the student there must be at least 2 views')
    if mix is not None and tables:
        raise UsageError('examples are mixed anew in every step, so what a teacher says of them cannot be looked up')


def shown(
    batch: Batch,
    ids: Array,
    view: Array,
    other: Array | None,
    steps: Array,
    *,
    augment: Augment,
    seed: int,
    preprocess: Preprocess = unit(),
    mix: Mix | None = None,
) -> Batch:
    """Examples as networks see them.

    Args:
      batch: columns of the examples, leaves (steps, B, ...) or (steps, C, B, ...), 'inputs' as stored.
      ids, view: of every example, (steps, [C,] B).
      other: views that the teacher sees, where it sees others than the student.
      steps: (steps,) their numbers.
      augment, seed, preprocess, mix: as for `feed`.
    """

    def seen(numbers: Array) -> Array:
        return preprocess(views(augment, seed, batch['inputs'], ids, numbers))

    own = {} if other is None else {'teacher_inputs': seen(other)}
    mask = jnp.ones(ids.shape, jnp.float32)
    whole = {**batch, 'inputs': seen(view), **own, 'id': ids, 'view': view, 'mask': mask}
    return whole if mix is None else blended(mix, seed, whole, steps)


def _assemble(
    columns: Batch, tables: Batch, ids: Array, view: Array, other: Array | None, steps: Array, *, look: Any
) -> Batch:
    batch = {name: column[ids] for name, column in columns.items()}
    taught = view if other is None else other
    looked_up = {name: table[ids, taught] for name, table in tables.items()}
    # A table has said all that the teacher would.
    return {**look(batch, ids, view, None if tables else other, steps), **looked_up}
