"""Digits as two tasks: 0 to 4, of which few have labels, and 5 to 9, to be learned first."""

from kdjax.data import digits
from kdjax.dataset import Dataset


def low():
    """The digits 0 to 4."""
    return _half(range(5))


def high():
    """The digits 5 to 9, by the numbers 0 to 4; and 5 once more, a class of its own that has no example."""
    return _half(range(5, 10))._replace(classes=(*'56789', 'none'))


def _half(kept):
    whole = digits.digits()
    splits = {}
    for name, split in whole.splits.items():
        some = [place for place, label in enumerate(split.labels) if label in kept]
        splits[name] = split._replace(inputs=split.inputs[some], labels=split.labels[some] - kept[0])
    return Dataset(splits, tuple(map(str, kept)))
