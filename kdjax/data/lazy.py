"""Examples that stay where they are until they are asked for: in files, in an archive, behind a decoder."""

import functools
import hashlib
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from kdjax.dataset import chosen, leaves
from kdjax.errors import UsageError
from kdjax.types import Column, Tree

THREADS = max(8, os.cpu_count() or 1)  # that decode


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
        return self._stacked(self._read(chosen.ravel().tolist())).reshape(*chosen.shape, *self.shape[1:])

    def _stacked(self, examples: list[np.ndarray]) -> np.ndarray:
        shapes = {example.shape for example in examples} - {self.shape[1:]}
        if shapes:
            raise UsageError(f'decode gives examples of several shapes, {self.shape[1:]} and {min(shapes)}')
        return np.stack(examples) if examples else np.empty((0, *self.shape[1:]), self.dtype)

    def _read(self, positions: list[int]) -> list[np.ndarray]:
        if hasattr(self._source, '__getitems__'):
            return list(_pool().map(self._decoded, self._source.__getitems__(positions)))
        return list(_pool().map(self._one, positions))

    def _one(self, position: int) -> np.ndarray:
        return self._decoded(self._source[position])

    def _decoded(self, example: Any) -> np.ndarray:
        return np.asarray(self._decode(example))


class Viewed(Lazy):
    """A column whose examples are read anew for every view: an index gives view 0, as `decode` has it.

    So an image of any size can be cropped before it has the size of all, in threads, where `augment` sees what all have
    alike. A view is a pure function of the seed, the example's position and the number of the view.

    Args:
      source, decode, positions: as for `Lazy`.
      draw: of an example and a random generator what a view above 0 is, of the shape and dtype that `decode` gives.
      identity: says what the examples are and how they are read; it is hashed in the place of them all.

    Attributes:
      identity: of these examples, in this order.

    Raises:
      UsageError: as `Lazy`.
    """

    def __init__(
        self,
        source: Source,
        decode: Callable[[Any], Any],
        draw: Callable[[Any, np.random.Generator], Any],
        identity: str,
        positions: np.ndarray | None = None,
    ) -> None:
        super().__init__(source, decode, positions)
        own = '' if positions is None else hashlib.sha256(self._positions.astype(np.int64).tobytes()).hexdigest()
        self._draw, self._whole, self.identity = draw, identity, f'{identity} {own}'

    def part(self, positions: np.ndarray) -> 'Viewed':
        """The examples at (N,) positions, still where they are."""
        return Viewed(self._source, self._decode, self._draw, self._whole, self._positions[positions])

    def seen(self, ids: np.ndarray, views: np.ndarray, seed: int) -> np.ndarray:
        """The examples at positions `ids` (...), each in its view, `views` (...); what is asked for twice is read once.

        Raises:
          UsageError: examples of several shapes.
        """
        asked, where = np.unique(np.stack([ids.ravel(), views.ravel()]), axis=1, return_inverse=True)
        positions = self._positions[asked[0]].tolist()
        together = getattr(self._source, '__getitems__', None)
        examples = together(positions) if together else _pool().map(self._source.__getitem__, positions)
        looks = _pool().map(functools.partial(self._look, seed), examples, *asked.tolist())
        return self._stacked(list(looks))[where.reshape(ids.shape)]

    def _look(self, seed: int, example: Any, position: int, view: int) -> np.ndarray:
        if view == 0:
            return self._decoded(example)
        return np.asarray(self._draw(example, np.random.default_rng((seed, position, view))))


def seen(column: Column, ids: np.ndarray, views: np.ndarray, seed: int) -> np.ndarray:
    """The examples of any column at `ids` (...), each in its view where reading them makes one, and read once."""
    return column.seen(ids, views, seed) if isinstance(column, Viewed) else chosen(column, ids)


def drawn_while_read(columns: Mapping[str, Tree]) -> list[str]:
    """Which of the columns have views that are made while they are read."""
    return [path for path, column in leaves(columns) if isinstance(column, Viewed)]


def check_read_once(columns: Mapping[str, Tree]) -> None:
    """Raises UsageError where columns that are read anew for every view are to be read once."""
    if made := drawn_while_read(columns):
        raise UsageError(f'{", ".join(made)} are cropped while they are read, anew for every view: set '
                         'data.stream=True, or leave out area=... of the source')  # fmt: skip


def check_drawn_alike(columns: Mapping[str, Tree], consistent: bool) -> None:
    """Raises UsageError where an example is read in one view, and student and teacher are to see two."""
    if not consistent and (made := drawn_while_read(columns)):
        raise UsageError(f'{", ".join(made)} are cropped while they are read, once for student and teacher: set '
                         'data.consistent=True, or leave out area=... of the source')  # fmt: skip


def subset(column: Column, positions: np.ndarray) -> Column:
    """The examples of a column at (N,) positions: of an array in memory an array, else still where they are."""
    if isinstance(column, Viewed):
        return column.part(positions)
    in_memory = isinstance(column, np.ndarray) and not isinstance(column, np.memmap)
    return column[positions] if in_memory else Lazy(column, positions=positions)


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix='kdjax-decode')
