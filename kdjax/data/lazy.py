"""Examples that stay where they are until they are asked for: in files, in an archive, behind a decoder."""

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from kdjax.errors import UsageError
from kdjax.types import Column

THREADS = 8  # that decode


class Source(Protocol):
    """Examples by position, as of `tfds.data_source`, grain or a list; `__getitems__` is used where there is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, position: int, /) -> Any: ...


class Lazy:
    """A column of a data set that is read, and decoded in threads, whenever it is asked for.

    Args:
      source: the examples.
      decode: of an example its array; all must have one shape and dtype. It runs in threads.
      positions: (N,) which of the examples, in which order; all if left out.

    Raises:
      UsageError: there are no examples; when asked for: examples of several shapes.
    """

    def __init__(
        self, source: Source, decode: Callable[[Any], Any] = np.asarray, positions: np.ndarray | None = None
    ) -> None:
        self._source, self._decode = source, decode
        self._positions = np.arange(len(source)) if positions is None else np.asarray(positions)
        if not len(self._positions):
            raise UsageError('a column that is read when it is asked for has no examples')
        first = self._one(int(self._positions[0]))
        self.shape: tuple[int, ...] = (len(self._positions), *first.shape)
        self.dtype: np.dtype[Any] = first.dtype

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, key: Any, /) -> np.ndarray:
        """The example at an integer, or those of a slice or an array of positions, stacked."""
        chosen = self._positions[key]
        if chosen.ndim == 0:
            return self._one(int(chosen))
        examples = self._read(chosen.ravel().tolist())
        shapes = {example.shape for example in examples} - {self.shape[1:]}
        if shapes:
            raise UsageError(f'decode gives examples of several shapes, {self.shape[1:]} and {min(shapes)}')
        stacked = np.stack(examples) if examples else np.empty((0, *self.shape[1:]), self.dtype)
        return stacked.reshape(*chosen.shape, *self.shape[1:])

    def _read(self, positions: list[int]) -> list[np.ndarray]:
        if hasattr(self._source, '__getitems__'):
            return list(_pool().map(self._decoded, self._source.__getitems__(positions)))
        return list(_pool().map(self._one, positions))

    def _one(self, position: int) -> np.ndarray:
        return self._decoded(self._source[position])

    def _decoded(self, example: Any) -> np.ndarray:
        return np.asarray(self._decode(example))


def subset(column: Column, positions: np.ndarray) -> Column:
    """The examples of a column at (N,) positions: of an array in memory an array, else still where they are."""
    in_memory = isinstance(column, np.ndarray) and not isinstance(column, np.memmap)
    return column[positions] if in_memory else Lazy(column, positions=positions)


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix='kdjax-decode')
