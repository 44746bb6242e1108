"""Feeding from a source that does not fit in memory: read and decoded ahead, in threads (extra 'stream', grain).

The batches are those that `feed.feed` makes of the same examples, a pure function of (seed, step): grain reads, but
where it stands is never saved. A resumed run, on however many processes, asks for the steps that it still needs.
"""

import functools
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from kdjax.data.augment import Augment
from kdjax.data.buckets import Buckets
from kdjax.data.feed import Feed, Prepares, TeacherView, check, cut, feed, labelled, scaled, shown
from kdjax.data.lazy import check_drawn_alike, seen
from kdjax.data.mix import Mix
from kdjax.data.order import Stream, drawn, remembering
from kdjax.data.preprocess import Preprocess, unit
from kdjax.dataset import is_column, leaves
from kdjax.errors import UsageError
from kdjax.jit_cache import bound, compiled
from kdjax.types import Batch, Tree


def training_feed(stream: bool) -> Callable[..., Feed]:
    """What makes the batches of a fit: `feed.feed`, or `streamed` where columns are to stay where they are.

    Raises:
      UsageError: streams are asked for and grain is not installed.
    """
    if not isinstance(stream, bool):
        raise UsageError(f'data.stream must be True or False, got {stream!r}')
    if stream and importlib.util.find_spec('grain') is None:
        raise UsageError("data.stream=True needs the extra 'stream': pip install 'kdjax[stream]'")
    return streamed if stream else feed


def streamed(
    streams: Sequence[Stream],
    batch_size: int,
    columns: Mapping[str, Tree],
    augment: Augment,
    seed: int,
    view_count: int,
    tables: Mapping[str, np.ndarray] | None = None,
    *,
    preprocess: Preprocess = unit(),
    mix: Mix | None = None,
    consistent: bool = True,
    task: Prepares | None = None,
    teacher: TeacherView | None = None,
    buckets: Buckets | None = None,
    padded: Mapping[str, int] | None = None,
    threads: int = 8,
    ahead: int = 16,
) -> Feed:
    """Batches of a grid as of `feed.feed`, of columns and tables that are read batch by batch.

    On the device there are the batches of one call alone, never a column. An example that several cells see in one step
    is read once. What makes its views while it is read (`lazy.Viewed`) is read in the view that the step sees, and then
    augmented as all else.

    Args:
      streams: and all others up to `padded` as for `feed.feed`.
      threads: that read, one batch each.
      ahead: batches that are kept ready.

    Raises:
      UsageError: whatever `feed.feed` objects to but views made while reading, which a teacher that sees another view
        than the student would not see; ids that the columns do not have; when fed: examples of several shapes.
    """
    import grain

    tables, padded = dict(tables or {}), dict(padded or {})
    check(streams, batch_size, view_count, tables, mix, consistent, augment, columns)
    _check_ids(streams, len(next(leaf for _, leaf in leaves(columns))))
    check_drawn_alike(columns, consistent)
    order = remembering(streams, 2, buckets)  # a batch touches two epochs at most
    look = compiled(
        bound(shown, augment=augment, seed=seed, preprocess=preprocess, mix=mix, task=task, teacher=teacher)
    )

    def read(step: int, part: slice) -> dict[str, Any]:
        ids, epochs = drawn(streams, step, step + 1, batch_size, order, buckets)
        width = buckets.widths[buckets.at(step).bucket] if buckets else None
        part = scaled(part, ids.shape[-1] // batch_size)
        ids, epochs = ids[0, ..., part], epochs[0, ..., part]
        taught = (epochs if consistent else epochs + 1) % view_count

        def rows(name: str, column: Any) -> np.ndarray:
            return cut(seen(column, ids, epochs % view_count, seed), padded.get(name, 0), ids.ndim, width)

        return {
            'columns': {name: jax.tree.map(functools.partial(rows, name), column, is_leaf=is_column)
                        for name, column in columns.items()},
            'tables': {name: cut(np.asarray(table[ids, taught]), padded.get(name, 0), ids.ndim, width)
                       for name, table in tables.items()},
            'ids': ids,
            'epochs': epochs,
        }  # fmt: skip

    def reading(step: int, part: slice) -> Iterator[dict[str, Any]]:
        steps = grain.MapDataset.range(step, np.iinfo(np.int32).max)
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)
        return iter(steps.map(lambda number: read(int(number), part)).to_iter_dataset(options))

    place: tuple[int, slice] | None = None
    ready: Iterator[dict[str, Any]] = iter(())

    def batches(start: int, stop: int, part: slice) -> Batch:
        nonlocal place, ready
        own = slice(None) if mix is not None else part  # partners may lie anywhere in a batch
        if place != (start, own):  # asked for other steps than it stands before, it begins anew
            ready = reading(start, own)
        each = [next(ready) for _ in range(start, stop)]
        place = (stop, own)
        found = jax.tree.map(lambda *leaves: np.stack(leaves), *each)
        ids, epochs = found['ids'], found['epochs']
        # A table has said all that the teacher would.
        other = None if consistent or tables else (epochs + 1) % view_count
        steps, seen = np.arange(start, stop, dtype=np.uint32), labelled(streams, ids)
        looked = look(found['columns'], ids, epochs % view_count, other, steps, seen)
        batch = {**looked, **jax.device_put(found['tables'])}
        part = scaled(part, ids.shape[-1] // batch_size)
        return batch if mix is None else jax.tree.map(lambda leaf: leaf[(*[slice(None)] * (ids.ndim - 1), part)], batch)

    return Feed(batches, buckets)


def _check_ids(streams: Sequence[Stream], count: int) -> None:
    if any(stream.pool.min() < 0 or stream.pool.max() >= count for stream in streams):
        raise UsageError(f'a stream needs ids in 0 to {count - 1}, the examples of its columns')
