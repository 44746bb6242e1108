"""What a data set is: splits of examples, in memory or where they lie."""

import itertools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from kdjax import trees
from kdjax.data.lazy import subset
from kdjax.errors import UsageError, unknown
from kdjax.types import Column

SPLITS = ('train', 'validation', 'test')
SPLIT_SEED = 0  # of the project: a data set is cut one and the same way in every run


class Split(NamedTuple):
    """Examples of one split; an example's id is its position."""

    # (N, ...) as stored: float32, or uint8 for images of a byte per channel. An array, which may be one that numpy maps
    # from a file, or `lazy.Lazy`; what does not fit in memory is fed with `data.stream=True`.
    inputs: Column
    labels: np.ndarray  # (N,) int32


class Dataset(NamedTuple):
    """Splits and the names of the classes."""

    splits: Mapping[str, Split]
    classes: tuple[str, ...]

    def checksum(self) -> str:
        """Hash of every bit of every split."""
        return trees.fingerprint(dict(self.splits))


def checked(dataset: Dataset) -> Dataset:
    """`dataset`, or a UsageError where a split is missing or empty, or a label is not a class."""
    for name in SPLITS:
        if name not in dataset.splits:
            raise unknown('split', name, dataset.splits)
        inputs, labels = dataset.splits[name]
        if not len(labels):
            raise UsageError(f'split {name!r} is empty')
        if len(inputs) != len(labels):
            raise UsageError(f'split {name!r} has {len(inputs)} inputs and {len(labels)} labels')
        if labels.min() < 0 or labels.max() >= len(dataset.classes):
            raise UsageError(
                f'split {name!r} has labels {labels.min()} to {labels.max()}; there are {len(dataset.classes)} classes'
            )
    return dataset


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
    random = np.random.default_rng(seed)
    shuffled = random.permutation(len(labels))
    # Position within its class, as a fraction: sorting by it deals the classes out evenly.
    rank = np.empty(len(labels))
    for label in np.unique(labels):
        members = shuffled[labels[shuffled] == label]
        rank[members] = (np.arange(len(members)) + random.random()) / len(members)
    dealt = shuffled[np.argsort(rank[shuffled], kind='stable')]
    borders = np.cumsum((0, *sizes))
    # Consecutive parts nest: of two draws with one seed, the larger holds the smaller.
    return [np.sort(dealt[start:stop]) for start, stop in itertools.pairwise(borders)]


def divided(train: Split, test: Split, classes: tuple[str, ...], validation: int | str) -> Dataset:
    """A data set that comes without a validation split.

    Args:
      train, test: as published.
      classes: their names.
      validation: how many training examples are held out, a fixed stratified draw. Or 'test': the test split serves as
        validation too and nothing is held out, as in the usual tables of CIFAR-100; whatever validation then chooses
        (a temperature, a learning rate, the best step) is chosen on the test split.

    Raises:
      UsageError: another word, or a number that leaves no example on either side.
    """
    if validation == 'test':
        return Dataset({'train': train, 'validation': test, 'test': test}, classes)
    if isinstance(validation, bool) or not isinstance(validation, int) or not 0 < validation < len(train.labels):
        raise UsageError(
            f"validation must be 'test' or a number of training examples in 1 to {len(train.labels) - 1}, "
            f'got {validation!r}'
        )
    kept, held = stratified(train.labels, (len(train.labels) - validation, validation), SPLIT_SEED)
    parts = (Split(subset(train.inputs, part), train.labels[part]) for part in (kept, held))
    return Dataset(dict(zip(SPLITS, (*parts, test), strict=True)), classes)
