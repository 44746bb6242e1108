"""Which examples the steps of a grid have, and in which order: a pure function of a seed, shuffled anew each epoch."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from kdjax.data.buckets import Buckets


class Stream(NamedTuple):
    """An endless shuffled sequence of the examples of a pool, each exactly once an epoch."""

    pool: np.ndarray  # (n,) example ids
    seed: int
    labelled: np.ndarray | None = None  # those of the pool whose labels are seen; all if left out


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
    begin, end = start * batch_size, stop * batch_size
    epochs = np.arange(begin, end) // size
    ids = np.empty_like(epochs)
    for epoch in range(begin // size, -(-end // size)):
        first, last = max(epoch * size, begin), min((epoch + 1) * size, end)
        ids[first - begin : last - begin] = shuffled(stream, epoch)[first - epoch * size : last - epoch * size]
    shape = (stop - start, batch_size)
    return ids.reshape(shape).astype(np.int32), epochs.reshape(shape).astype(np.int32)


def remembering(streams: Sequence[Stream], epochs: int, buckets: Buckets | None) -> Callable[[Stream, int], np.ndarray]:
    """`shuffled`, which remembers so many epochs of each pool: a large one takes longer to shuffle than to feed.

    With `buckets` each has pools of its own, and nothing is remembered.
    """
    if buckets is not None:
        return shuffled
    pools = {_address(stream): stream for stream in streams}
    remembered = functools.lru_cache(maxsize=epochs * len(pools))(
        lambda address, epoch: shuffled(pools[address], epoch)
    )
    return lambda stream, epoch: remembered(_address(stream), epoch)


def _address(stream: Stream) -> tuple[int, int]:
    """Equal for streams of one order."""
    return id(stream.pool), stream.seed


def drawn(
    streams: Sequence[Stream],
    start: int,
    stop: int,
    batch_size: int,
    shuffled: Callable[[Stream, int], np.ndarray] = shuffled,
    buckets: Buckets | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Ids and epochs of a grid as of `order`: (steps, B) where all cells share one stream, else (steps, C, B).

    With `buckets` all steps must be of one, and an epoch is one of its bucket.
    """
    if buckets is not None:
        turn = buckets.at(start)
        streams = buckets_of(streams, buckets, turn.bucket)
        start, stop, batch_size = turn.before, turn.before + stop - start, buckets.rows[turn.bucket]
    # Cells that share a stream share the work of ordering it.
    distinct = {_address(stream): stream for stream in streams}
    ordered = {key: order(stream, start, stop, batch_size, shuffled) for key, stream in distinct.items()}
    keys = [_address(stream) for stream in streams]
    ids, epochs = (np.stack([ordered[key][which] for key in keys], axis=1) for which in (0, 1))
    return (ids, epochs) if len(streams) > 1 else (ids[:, 0], epochs[:, 0])


def buckets_of(streams: Sequence[Stream], buckets: Buckets, bucket: int) -> list[Stream]:
    """The examples of streams that are of one bucket, those of one stream as one stream."""
    distinct = {id(stream): stream for stream in streams}
    narrow = {key: stream._replace(pool=stream.pool[buckets.of[stream.pool] == bucket])
              for key, stream in distinct.items()}  # fmt: skip
    return [narrow[id(stream)] for stream in streams]
