"""Checks of data sets, and the validation split of those that come without one."""

import numpy as np

from kdjax.data.lazy import subset
from kdjax.dataset import SPLIT_SEED, SPLITS, UNLABELLED, Dataset, Split, leaves, stratified
from kdjax.errors import UsageError, unknown


def checked(dataset: Dataset) -> Dataset:
    """`dataset`, or a UsageError: a split is missing or empty, columns differ in length, a label is no class."""
    for name in SPLITS:
        if name not in dataset.splits:
            raise unknown('split', name, dataset.splits)
        split = dataset.splits[name]
        if not split.size:
            raise UsageError(f'split {name!r} is empty')
        for column, values in leaves(split.columns()):
            if len(values) != split.size:
                raise UsageError(f'split {name!r} has {split.size} inputs and {len(values)} {column}')
        _check_labels(name, split.labels, len(dataset.classes))
        _check_padded(name, split, dataset.padded)
    return dataset


def _check_labels(name: str, labels: np.ndarray | None, classes: int) -> None:
    if labels is None or not classes or not np.issubdtype(labels.dtype, np.integer):
        return
    if labels.min() < UNLABELLED or labels.max() >= classes:
        raise UsageError(
            f'split {name!r} has labels {labels.min()} to {labels.max()}; there are {classes} classes, and '
            f'{UNLABELLED} is an example without a label'
        )


def _check_padded(name: str, split: Split, padded: tuple[str, ...]) -> None:
    """Columns that are padded must have an axis for it, and lengths within."""
    for column in padded:
        for path, values in leaves({column: split.column(column)}):
            lengths = np.asarray(split.column('length'))
            if len(values.shape) < 2 or lengths.min() < 0 or lengths.max() > values.shape[1]:
                raise UsageError(
                    f'split {name!r}: {path} is {"x".join(map(str, values.shape))}, which does not hold lengths of '
                    f'{lengths.min()} to {lengths.max()}'
                )


def divided(train: Split, test: Split, classes: tuple[str, ...], validation: int | str) -> Dataset:
    """A data set that comes without a validation split.

    Args:
      train, test: as published, of inputs and labels.
      classes: their names.
      validation: how many training examples are held out, a fixed stratified draw. Or 'test': the test split serves as
        validation too and nothing is held out, as in the usual tables of CIFAR-100; whatever validation then chooses
        (a temperature, a learning rate, the best step) is chosen on the test split.

    Raises:
      UsageError: another word, or a number that leaves no example on either side.
    """
    if validation == 'test':
        return Dataset({'train': train, 'validation': test, 'test': test}, classes)
    if isinstance(validation, bool) or not isinstance(validation, int) or not 0 < validation < train.size:
        raise UsageError(
            f"validation must be 'test' or a number of training examples in 1 to {train.size - 1}, got {validation!r}"
        )
    labels = train.column('labels')
    kept, held = stratified(labels, (train.size - validation, validation), SPLIT_SEED)
    parts = (Split(subset(train.inputs, part), labels[part]) for part in (kept, held))
    return Dataset(dict(zip(SPLITS, (*parts, test), strict=True)), classes)
