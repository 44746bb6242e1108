"""What a data set is: splits of columns, in memory or where they lie; and how parts of it are drawn."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kdjax import trees
from kdjax.errors import UsageError, unknown
from kdjax.types import Array, Column, Tree

SPLITS = ('train', 'validation', 'test')
SPLIT_SEED = 0  # of the project: a data set is cut one and the same way in every run
UNLABELLED = -1  # the label of an example, or of a token, that has none
GROUPS = 'groups'  # the column, (N,), of who an example is of: a speaker, a user, a patient


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Shared:
    """A column of which many examples have the same row: that of an example is `table[rows[example]]`.

    Such is what is known of a user, in a data set whose examples are what users did. A batch made of it has the numbers
    of its rows beside the whole table, of which `picked` looks up no more than is read.

    Attributes:
      rows: (N,) integers, the row of every example.
      table: (R, ...).
    """

    rows: Any
    table: Any

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.rows.shape, *self.table.shape[1:])

    @property
    def dtype(self) -> Any:
        return self.table.dtype

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Any, /) -> Any:
        return self.table[self.rows[key]]

    def of(self, ids: Any) -> 'Shared':
        """The examples `ids`, nothing of which is looked up yet."""
        return Shared(self.rows[ids], self.table)


def picked(column: Any, index_BM: Array) -> Array:
    """The numbers at `index` of each row of a column of a batch, an array (B, W) or `Shared`. (B, M)"""
    if isinstance(column, Shared):
        return column.table[column.rows[:, None], index_BM]
    return jnp.take_along_axis(column, index_BM, axis=1)


def in_memory(column: Column) -> Any:
    """All of a column, as it is put on a device; where examples share rows, each of those once."""
    return column if isinstance(column, Shared) else column[:]


def batch_axes(batch: Tree) -> Tree:
    """The leading axis of every column of a batch, as `jax.vmap` is told it: a table that examples share has none."""
    return jax.tree.map(lambda column: Shared(0, None) if isinstance(column, Shared) else 0, batch, is_leaf=is_column)


class Split(NamedTuple):
    """Examples of one split; an example's id is its position."""

    # A column, or a tree of them ({'source': ..., 'target': ...}): (N, ...) as stored, float32, or uint8 for images of
    # a byte per channel, or int32 for tokens. An array, which may be one that numpy maps from a file, or `lazy.Lazy`;
    # what does not fit in memory is fed with `data.stream=True`.
    inputs: Tree
    labels: np.ndarray | None = None  # (N, ...), UNLABELLED where there is none; or no labels at all
    # What else an example has, by name, (N, ...): 'length' of its tokens, 'boxes', 'groups' (speaker, user),
    # 'teacher_inputs' where a network that teaches reads something else.
    more: Mapping[str, Tree] = {}

    def columns(self) -> dict[str, Tree]:
        """All columns by name."""
        labels = {} if self.labels is None else {'labels': self.labels}
        return {'inputs': self.inputs, **labels, **self.more}

    def column(self, name: str) -> Tree:
        """One of them.

        Raises:
          UsageError: there is no such column.
        """
        columns = self.columns()
        if name not in columns:
            raise unknown('column', name, columns, ' of the data')
        return columns[name]

    @property
    def size(self) -> int:
        """How many examples there are."""
        return len(next(iter(leaves({'inputs': self.inputs})))[1])


class Dataset(NamedTuple):
    """Splits, and what is known of them."""

    splits: Mapping[str, Split]
    classes: tuple[str, ...] = ()  # their names
    # What networks may be told beside the number of classes, by the name of their argument: 'vocabulary', how many
    # tokens there are; 'words', their strings; ...
    facts: Mapping[str, Any] = {}
    # Columns whose second axis is padded to the longest example; the column 'length' has how much of it is real.
    padded: tuple[str, ...] = ()

    def checksum(self) -> str:
        """Hash of every bit of every split."""
        return trees.fingerprint({name: _hashed(split) for name, split in self.splits.items()})


def _hashed(split: Split) -> Any:
    """A split as it is hashed. One of inputs and labels alone keeps the hash that it had before there could be more."""
    return split if split.more or split.labels is None else _Pair(split.inputs, split.labels)


class _Pair(NamedTuple):
    inputs: Any
    labels: Any


_Pair.__name__ = 'Split'  # the hash has it


def stratified(labels: np.ndarray, sizes: tuple[int, ...], seed: int) -> list[np.ndarray]:
    """Disjoint sorted index sets of the given sizes, each with the classes in the proportions of `labels`.

    Args:
      labels: (N,) integers.
      sizes: how many examples in each set; together at most N.
      seed: of the draw.

    Raises:
      UsageError: a size below 1, or more examples asked for than there are.
    """
    if min(sizes) < 1 or sum(sizes) > len(labels):
        raise UsageError(f'cannot draw sets of {sizes} from {len(labels)} examples')
    if sizes == (len(labels),):
        return [np.arange(len(labels))]  # all of them: with a million nothing is to be dealt out
    dealt = _dealt(labels, np.random.default_rng(seed))
    borders = np.cumsum((0, *sizes))
    # Consecutive parts nest: of two draws with one seed, the larger holds the smaller.
    return [np.sort(dealt[start:stop]) for start, stop in itertools.pairwise(borders)]


def _dealt(labels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """An order of the examples any beginning of which has the classes in the proportions of `labels` (N,)."""
    shuffled = random.permutation(len(labels))
    # Position within its class, as a fraction: sorting by it deals the classes out evenly.
    rank = np.empty(len(labels))
    for label in np.unique(labels):
        members = shuffled[labels[shuffled] == label]
        rank[members] = (np.arange(len(members)) + random.random()) / len(members)
    return shuffled[np.argsort(rank[shuffled], kind='stable')]


def group_by_group(groups: np.ndarray, strata: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Sorted ids of all examples of one group after the other, in the order of the seed, until there are `size`.

    The last group may give some of its examples only, in the proportions of its `strata`. Of two draws with one seed
    the larger holds the smaller.

    Args:
      groups: (N,) whom each example is of.
      strata: (N,) what proportions are kept of, such as labels.
      size: how many examples, at most N.
      seed: of the draw.

    Raises:
      UsageError: a size below 1, or more examples asked for than there are.
    """
    if not 1 <= size <= len(groups):
        raise UsageError(f'cannot draw {size} from {len(groups)} examples')
    random, drawn = np.random.default_rng(seed), np.empty(0, np.int64)
    for group in random.permutation(np.unique(groups)):
        if len(drawn) >= size:
            break
        members = np.flatnonzero(groups == group)
        drawn = np.concatenate([drawn, members[_dealt(strata[members], random)]])
    return np.sort(drawn[:size])


def grouped(groups: np.ndarray, strata: np.ndarray, sizes: tuple[int, ...], seed: int) -> list[np.ndarray]:
    """Disjoint sorted index sets that no group is divided by, as near as can be to `sizes` and to the proportions.

    Groups are dealt out from the largest on, those of one size in the order of the seed, each to the set whose
    shortage of its classes it makes up for most.

    Args:
      groups: (N,) whom each example is of.
      strata: (N,) what proportions are kept of, such as labels.
      sizes: how many examples in each set; their sum is N.
      seed: of the draw.

    Raises:
      UsageError: fewer groups than sets, or so large ones that a set would have none.
    """
    names, group = np.unique(groups, return_inverse=True)
    _, stratum = np.unique(strata, return_inverse=True)
    table = np.zeros((len(names), stratum.max() + 1))
    np.add.at(table, (group, stratum), 1)
    sought = np.outer(sizes, table.sum(axis=0) / len(groups))  # of every set, by stratum
    have, owner = np.zeros_like(sought), np.empty(len(names), np.int32)
    shuffled = np.random.default_rng(seed).permutation(len(names))
    for each in shuffled[np.argsort(-table.sum(axis=1)[shuffled], kind='stable')]:
        change = np.sum(table[each] * (2 * (have - sought) + table[each]), axis=1) / np.asarray(sizes)
        owner[each] = np.argmin(change)
        have[owner[each]] += table[each]
    if not have.sum(axis=1).all():
        raise UsageError(f'{len(names)} groups cannot be dealt out to {len(sizes)} sets of {sizes} examples')
    return [np.flatnonzero(owner[group] == place) for place in range(len(sizes))]


def folds(strata: np.ndarray, count: int, seed: int, groups: np.ndarray | None = None) -> np.ndarray:
    """The fold of every example, in [0, count): folds are of equal size, each with the proportions of `strata` (N,).

    With `groups` (N,) no group is in two folds, whose sizes are then as near as can be.

    Raises:
      UsageError: fewer than 2 folds, or fewer examples or groups than folds.
    """
    if not 2 <= count <= len(strata):
        raise UsageError(f'folds must be in 2 to {len(strata)}, the examples, got {count}')
    sizes = tuple(len(part) for part in np.array_split(np.arange(len(strata)), count))
    result = np.empty(len(strata), np.int32)
    parts = stratified(strata, sizes, seed) if groups is None else grouped(groups, strata, sizes, seed)
    for fold, members in enumerate(parts):
        result[members] = fold
    return result


def widths(buckets: tuple[int, ...], longest: int) -> tuple[int, ...]:
    """The lengths that batches are cut to: `buckets` below the longest example, and that of the longest."""
    return (*(width for width in buckets if width < longest), longest)


def bucket_of(lengths: np.ndarray, widths: tuple[int, ...]) -> np.ndarray:
    """Position in `widths` of the narrowest that holds each of `lengths` (N,)."""
    return np.searchsorted(np.asarray(widths), lengths).astype(np.int32)


def chosen(column: Column, ids: np.ndarray) -> np.ndarray:
    """The examples at `ids` (...), each read once, in the order of their positions."""
    unique, where = np.unique(ids, return_inverse=True)
    return np.asarray(column[unique])[where.reshape(ids.shape)]


def leaves(columns: Mapping[str, Tree]) -> Iterator[tuple[str, Column]]:
    """Every column by its path: 'inputs', 'inputs/source'."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(dict(columns), is_leaf=is_column):
        yield '/'.join(str(getattr(part, 'key', part)) for part in path), leaf


def taken(columns: Mapping[str, Tree], ids: Any) -> dict[str, Tree]:
    """The examples `ids` of every column."""
    return jax.tree.map(lambda column: column[ids], dict(columns), is_leaf=is_column)


def is_column(node: Any) -> bool:
    """Whether a node of a tree is a column, rather than several."""
    return hasattr(node, 'shape') and hasattr(node, 'dtype')
