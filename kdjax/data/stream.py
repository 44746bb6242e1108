"""Feeding from a source that does not fit in memory: read and decoded ahead, in threads (extra 'stream', grain).

The batches are those that `feed.feed` would make of the same examples, a pure function of (seed, step): grain reads,
but where it stands is never saved. A resumed run, on however many processes, asks for the steps that it still needs.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import jax
import numpy as np

from kdjax.data.augment import Augment
from kdjax.data.feed import Feed, Stream, order, shown, shuffled
from kdjax.data.mix import Mix
from kdjax.data.preprocess import Preprocess, unit
from kdjax.errors import UsageError
from kdjax.types import Batch

Decode = Callable[[Any], Mapping[str, Any]]  # an example of a source -> {'inputs': array, 'labels': integer, ...}


class Source(Protocol):
    """Examples by position, as of `tfds.data_source` or a list; `__getitems__` is used where there is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, position: int) -> Any: ...


def streamed(
    source: Source,
    decode: Decode,
    stream: Stream,
    batch_size: int,
    augment: Augment,
    seed: int,
    view_count: int,
    *,
    preprocess: Preprocess = unit(),
    mix: Mix | None = None,
    consistent: bool = True,
    threads: int = 8,
    ahead: int = 16,
) -> Feed:
    """Batches of one stream: leaves (steps, B, ...), or with `part=slice(...)` that part of every batch.

    Args:
      source: the examples; ids are positions in it.
      decode: runs in threads; 'inputs' must have one shape and dtype for all examples.
      stream: which of them, in whose order.
      batch_size, augment, seed, view_count, preprocess, mix, consistent: as for `feed.feed`.
      threads: that read, one batch each.
      ahead: batches that are kept ready.

    Raises:
      UsageError: grain is not installed, a size below 1, no examples or ids that the source does not have, one view
        that is to differ from itself; when fed: examples of several shapes.
    """
    try:
        import grain
    except ImportError as error:
        raise UsageError(f"streams need the extra 'stream': pip install 'kdjax[stream]' ({error})") from error
    _check(source, stream, batch_size, view_count, consistent)
    # A large pool takes longer to shuffle than a batch to read; a batch touches two epochs at most.
    remembered = functools.lru_cache(maxsize=2)(lambda epoch: shuffled(stream, epoch))
    look = jax.jit(functools.partial(shown, augment=augment, seed=seed, preprocess=preprocess, mix=mix))

    def read(step: int, part: slice) -> Batch:
        (ids,), (epochs,) = order(stream, step, step + 1, batch_size, lambda _, epoch: remembered(epoch))
        ids, epochs = ids[part], epochs[part]
        return {**_columns(source, decode, ids), 'id': ids, 'epoch': epochs}

    def reading(step: int, part: slice) -> Iterator[Batch]:
        steps = grain.MapDataset.range(step, np.iinfo(np.int32).max)
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)
        return iter(steps.map(lambda number: read(int(number), part)).to_iter_dataset(options))

    place: tuple[int, slice] | None = None
    ready: Iterator[Batch] = iter(())

    def batches(start: int, stop: int, part: slice = slice(None)) -> Batch:
        nonlocal place, ready
        own = slice(None) if mix is not None else part  # partners may lie anywhere in a batch
        if place != (start, own):  # asked for other steps than it stands before, it begins anew
            ready = reading(start, own)
        read_ahead = [next(ready) for _ in range(start, stop)]
        columns = {name: np.stack([batch[name] for batch in read_ahead]) for name in read_ahead[0]}
        place = (stop, own)
        ids, epochs = columns.pop('id'), columns.pop('epoch')
        other = None if consistent else (epochs + 1) % view_count
        batch = look(columns, ids, epochs % view_count, other, np.arange(start, stop, dtype=np.uint32))
        return batch if mix is None else jax.tree.map(lambda leaf: leaf[:, part], batch)

    return batches


def _columns(source: Any, decode: Decode, ids: np.ndarray) -> dict[str, np.ndarray]:
    """Decoded examples, stacked."""
    wanted = ids.tolist()
    found = source.__getitems__(wanted) if hasattr(source, '__getitems__') else [source[k] for k in wanted]
    examples = [decode(example) for example in found]
    shapes = {np.shape(example['inputs']) for example in examples}
    if len(shapes) > 1:
        raise UsageError(f'decode gives inputs of several shapes, {" and ".join(map(str, sorted(shapes)[:2]))}')
    stacked = {name: np.stack([example[name] for example in examples]) for name in examples[0]}
    return {**stacked, 'labels': stacked['labels'].astype(np.int32)}


def _check(source: Source, stream: Stream, batch_size: int, view_count: int, consistent: bool) -> None:
    if batch_size < 1 or view_count < 1:
        raise UsageError(f'batch_size and views must be >= 1, got {batch_size} and {view_count}')
    if not len(stream.pool) or stream.pool.min() < 0 or stream.pool.max() >= len(source):
        raise UsageError(f'a stream needs ids in 0 to {len(source) - 1}, the examples of its source')
    if not consistent and view_count < 2:
        raise UsageError('for a teacher that sees another view than the student there must be at least 2 views')
