"""Checks of data sets, and the splits of those that come without some of them."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from kdjax.data.inputs import readable
from kdjax.data.lazy import subset
from kdjax.dataset import (
    GROUPS,
    SPLIT_SEED,
    SPLITS,
    UNLABELLED,
    Dataset,
    Split,
    grouped,
    is_column,
    leaves,
    stratified,
)
from kdjax.errors import UsageError, unknown

SAME = {'validation': 'test', 'test': 'validation'}  # which of them may stand for which
# What splits are called by those who store them.
SPLIT_WORDS = {'train': ('train',), 'validation': ('validation', 'val', 'valid'), 'test': ('test',)}


def checked(dataset: Any) -> Dataset:
    """`dataset` with inputs that networks can read (`inputs.readable`).

    Raises:
      UsageError: it is no data set; a split is missing or empty; columns differ in length, splits in shape; a label is
        no class; inputs are no numbers, or not finite.
    """
    if not isinstance(dataset, Dataset):
        raise UsageError(f'a source of data must return a kdjax.dataset.Dataset, got {type(dataset).__name__}')
    for name in SPLITS:
        if name not in dataset.splits:
            raise unknown('split', name, dataset.splits)
        split = dataset.splits[name]
        _check_columns(name, split)
        _check_labels(name, split.labels, len(dataset.classes))
        _check_padded(name, split, dataset.padded)
    return readable(dataset)


def _check_columns(name: str, split: Split) -> None:
    for path, values in leaves(split.columns()):
        if not is_column(values) or not values.shape:
            raise UsageError(
                f'{path} of split {name!r} must be an array of examples, (N, ...), got {str(values)[:40]!r}'
            )
        if 0 in values.shape[1:]:
            raise UsageError(f'{path} of split {name!r} have no numbers: they are {"x".join(map(str, values.shape))}')
    if not split.size:
        raise UsageError(f'split {name!r} is empty')
    for path, values in leaves(split.columns()):
        if len(values) != split.size:
            raise UsageError(f'split {name!r} has {split.size} inputs and {len(values)} {path}')


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


def divided(train: Split, test: Split, classes: tuple[str, ...], validation: int | float | str) -> Dataset:
    """A data set that comes without a validation split; see `completed`."""
    return Dataset(completed({'train': train, 'test': test}, validation=validation), classes)


def completed(
    splits: Mapping[str, Split], *, test: int | float | str = 0, validation: int | float | str = 0
) -> dict[str, Split]:
    """All three splits, of which those that are not there are drawn from the training examples.

    A draw is a fixed function of the examples and their order, and has the classes in their proportions. Where there is
    a column 'groups' (of speakers, users, ...), no group stands in two of the parts, whose sizes are then as near
    as can be.

    Args:
      splits: 'train', and perhaps others.
      test, validation: how many of the training examples become that split: a number, or a share of them. Or one is
        the name of the other, which serves as both and nothing is held out, as in the usual tables of CIFAR-100 and of
        ImageNet; whatever validation then chooses (a temperature, a learning rate, the best step) is chosen on the
        test split.

    Raises:
      UsageError: another word; a number or a share that leaves no example on either side; a split that is there and is
        also to be drawn; fewer groups than parts; a class of which no example is left for training.
    """
    train, wanted = splits['train'], {'validation': validation, 'test': test}
    for name, value in wanted.items():
        if name in splits and value:
            raise UsageError(f'{name}={value!r} is for data without such a split, and these have one; leave it out')
    both = {name: other for name, other in SAME.items() if wanted[name] == other and name not in splits}
    if len(both) == len(SAME):
        raise UsageError("test='validation' and validation='test' say of each other that it is there; give one a size")
    drawn = [name for name in wanted if name not in splits and name not in both]
    sizes = [_size(name, wanted[name], train.size) for name in drawn]
    if sum(sizes) >= train.size:
        raise UsageError(f'{" and ".join(drawn)} of {sizes} examples leave none of {train.size} for training')
    parts = _drawn(train, (train.size - sum(sizes), *sizes)) if drawn else [train]
    found = {**splits, **dict(zip(('train', *drawn), parts, strict=True))}
    return {name: found[both.get(name, name)] for name in SPLITS}


def _size(name: str, wanted: Any, examples: int) -> int:
    """How many examples a split is to have."""
    number = isinstance(wanted, int | float) and not isinstance(wanted, bool)
    if number and isinstance(wanted, int) and 0 < wanted < examples:
        return wanted
    if number and isinstance(wanted, float) and 0 < wanted < 1:
        return min(max(1, round(wanted * examples)), examples - 1)
    raise UsageError(
        f'{name} must be {SAME[name]!r}, a number of training examples in 1 to {examples - 1} or a share of them below '
        f'1, got {wanted!r}'
    )


def _drawn(train: Split, sizes: tuple[int, ...]) -> list[Split]:
    """Disjoint parts of a split, in proportion to its classes, where each example has one."""
    labels = train.labels
    one = labels is not None and labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer)
    strata = labels if labels is not None and one else np.zeros(train.size, np.int32)
    groups = train.more.get(GROUPS)
    parts = stratified(strata, sizes, SPLIT_SEED) if groups is None else grouped(groups, strata, sizes, SPLIT_SEED)
    if lost := sorted({*np.unique(strata).tolist()} - {*np.unique(strata[parts[0]]).tolist(), UNLABELLED}):
        count = int(np.sum(strata == lost[0]))
        raise UsageError(
            f'of the class {lost[0]}, which has {count} of the {train.size} examples, none is left for training by the '
            'draw of the other splits: give it more examples, or leave it out'
        )
    return [part_of(train, part) for part in parts]


def part_of(split: Split, ids: np.ndarray) -> Split:
    """The examples `ids` of a split: of what lies in files they stay there."""
    inputs, more = jax.tree.map(lambda column: subset(column, ids), (split.inputs, dict(split.more)), is_leaf=is_column)
    return Split(inputs, None if split.labels is None else split.labels[ids], more)
