"""What networks can read: numbers of one kind and shape in all splits, all finite; other integers made right."""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from kdjax.data.lazy import Lazy
from kdjax.dataset import Dataset, Split, is_column, leaves
from kdjax.errors import UsageError
from kdjax.types import Column, Tree

READ = ('inputs', 'teacher_inputs')  # what columns begin with that networks read
BLOCK = 2**24  # numbers that are looked at together
WORD = np.iinfo(np.int32)
ADVICE = (
    'give images as uint8 (0 to 255), uint16 (0 to 65535) or float32, features as float32, and tokens as int32, '
    "beside 'vocabulary'"
)


def readable(dataset: Dataset) -> Dataset:
    """`dataset` with inputs that networks can read: bytes, tokens or floats.

    Integers of images, (N, H, W[, C]), that are not uint8 become uint8 where all are in 0 to 255; those of uint16
    become float32 in [0, 1]. Booleans become 0 and 1, tokens int32. What is read when it is asked for is
    looked at then.

    Raises:
      UsageError: inputs that are of another shape or kind in another split, no numbers, other integers, or not finite.
    """
    for column in dataset.splits['train'].columns():
        parts = {name: split.column(column) for name, split in dataset.splits.items() if column in split.columns()}
        for name in parts:
            _check_shapes(column, name, parts, column in dataset.padded)
        if column.startswith(READ):
            made = _numbers(column, parts, 'vocabulary' in dataset.facts)
            splits = {name: _with(dataset.splits[name], column, values) for name, values in made.items()}
            dataset = dataset._replace(splits={**dataset.splits, **splits})
    return dataset


def _with(split: Split, column: str, values: Tree) -> Split:
    """A split with another column."""
    return split._replace(inputs=values) if column == 'inputs' else split._replace(more={**split.more, column: values})


def _check_shapes(column: str, name: str, parts: Mapping[str, Tree], padded: bool) -> None:
    """Examples of all splits must have one shape; a padded axis is as long as its longest example."""
    first = 2 if padded else 1
    (own, wanted) = (
        {path: values.shape[first:] for path, values in leaves({column: parts[split]})} for split in (name, 'train')
    )
    for path in sorted({*own, *wanted}):
        if own.get(path) != wanted.get(path):
            raise UsageError(f"{path} of {name!r} are {_said(own.get(path))}, of 'train' {_said(wanted.get(path))}")


def _said(shape: tuple[int, ...] | None) -> str:
    if shape is None:
        return 'not there'
    return 'x'.join(map(str, shape)) or 'single numbers'


def _numbers(column: str, parts: Mapping[str, Tree], tokens: bool) -> dict[str, Tree]:
    """A column of every split as numbers that networks read, or an error that says which are not."""
    for name, part in parts.items():
        for path, values in leaves({column: part}):
            if np.dtype(values.dtype).kind not in 'biuf':
                raise UsageError(f'{path} of split {name!r} are {values.dtype}, no numbers; {ADVICE}')
    if all(is_column(part) for part in parts.values()):
        decode = _decode(column, parts, tokens)
        parts = {name: part if decode is None else _made(part, decode) for name, part in parts.items()}
    return {name: _finite(part, column, name) for name, part in parts.items()}


def _decode(column: str, parts: Mapping[str, Column], tokens: bool) -> Callable[[Any], Any] | None:
    """What makes numbers of the column readable; None where they are."""
    types = {name: np.dtype(part.dtype) for name, part in parts.items()}
    kinds = {'float' if kind.kind == 'f' else str(kind) for kind in types.values()}
    if kinds == {'uint8'} and not tokens:
        return None
    if kinds == {'float'}:
        single = all(kind in (np.float32, np.float64) for kind in types.values())
        return None if single else functools.partial(_cast, dtype=np.float32)
    if 'float' in kinds:
        said = ', '.join(f'{kind} in {name!r}' for name, kind in types.items())
        raise UsageError(f'{column} are {said}: bytes and floats are not scaled alike; give all splits one dtype')
    if kinds == {'bool'}:
        return functools.partial(_cast, dtype=np.float32)
    if any(isinstance(part, Lazy) for part in parts.values()):
        _check_lazy(column, kinds, tokens)
        return None
    return _of_integers(column, parts, kinds, tokens)


def _check_lazy(column: str, kinds: set[str], tokens: bool) -> None:
    """Integers that are read when they are asked for have a range that is not known."""
    if not tokens and kinds != {'int32'}:
        raise UsageError(f'{column} that are read when they are asked for are {", ".join(sorted(kinds))}; {ADVICE}')


def _of_integers(
    column: str, parts: Mapping[str, Column], kinds: set[str], tokens: bool
) -> Callable[[Any], Any] | None:
    rank = len(next(iter(parts.values())).shape)
    least, most = (int(how([how(np.asarray(part)) for part in parts.values()])) for how in (np.min, np.max))
    if tokens or (rank == 2 and kinds == {'int32'}):
        if not WORD.min <= least <= most <= WORD.max:
            raise UsageError(f'{column} have tokens of {least} to {most}, which are no int32')
        return None if kinds == {'int32'} else functools.partial(_cast, dtype=np.int32)
    if rank > 2 and 0 <= least <= most <= 255:
        return functools.partial(_cast, dtype=np.uint8)
    if rank > 2 and kinds == {'uint16'}:
        return _of_words
    said = f'{" and ".join(sorted(kinds))} of {least} to {most}'
    raise UsageError(f'{column} are {said}, and nothing says what stands for black, white or a token; {ADVICE}')


def _cast(values: Any, dtype: Any) -> np.ndarray:
    return np.asarray(values).astype(dtype)


def _of_words(values: Any) -> np.ndarray:
    """16 bits as [0, 1]."""
    return np.asarray(values).astype(np.float32) / 65535


def _made(column: Column, decode: Callable[[Any], Any]) -> Column:
    """A column decoded: what lies in a file is when it is asked for."""
    stays = isinstance(column, Lazy | np.memmap)
    return Lazy(column, decode) if stays else decode(column)


def _finite(part: Tree, column: str, name: str) -> Tree:
    """The column itself, if none of its numbers in memory is nan or infinite, and if none is of those read later."""
    for path, values in leaves({column: part}):
        if np.dtype(values.dtype).kind == 'f' and not isinstance(values, Lazy):
            found = np.concatenate([*_not_finite(values)])
            if len(found):
                raise UsageError(_not_finite_error(path, name, len(found), int(found[0])))
    return jax.tree.map(lambda values: _met_later(values, column, name), part, is_leaf=is_column)


def _not_finite(column: Column) -> Iterator[np.ndarray]:
    """Positions of the examples that are not finite as float32, in blocks: a column may be larger than memory."""
    rows = max(1, BLOCK // max(1, int(np.prod(column.shape[1:]))))
    for start in range(0, len(column), rows):
        with np.errstate(over='ignore'):
            block = np.asarray(column[start : start + rows]).astype(np.float32)
        yield start + np.flatnonzero(~np.isfinite(block).reshape(len(block), -1).all(axis=1))


def _not_finite_error(path: str, name: str, count: int, first: int) -> str:
    return (
        f'{path} of split {name!r} have {count} {"example" if count == 1 else "examples"} with nan or infinite '
        f'numbers, the first at position {first}: no network can be trained on them; mend them or leave them out'
    )


class _Whole:
    """Examples of floats that are read when they are asked for; one that is not finite is met then, by its position."""

    def __init__(self, column: Column, name: str, split: str) -> None:
        self._column, self._name, self._split = column, name, split

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, position: int, /) -> np.ndarray:
        example = np.asarray(self._column[position])
        if not np.isfinite(example).all():
            raise UsageError(_not_finite_error(self._name, self._split, 1, position))
        return example


def _met_later(values: Column, column: str, name: str) -> Column:
    floats = isinstance(values, Lazy) and np.dtype(values.dtype).kind == 'f'
    return Lazy(_Whole(values, column, name)) if floats else values
