"""What is learned first and what then: pairs of real data, and the networks that meet them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from kdjax.data import audio, fsdd, originals
from kdjax.dataset import SPLIT_SEED, SPLITS, Dataset, Split, stratified

SOURCES = {'mnist': originals.mnist, 'fashion_mnist': originals.fashion_mnist, 'cifar100': originals.cifar100}
NUMBERS = {'train': range(25, 50), 'validation': range(20, 25), 'test': range(20)}  # of recordings of a digit


class Pair(NamedTuple):
    """One data set and then another, and a small and a large network for both."""

    source: str  # a function of this module, which makes both
    first: Mapping[str, Any]  # its arguments for the first data set
    then: Mapping[str, Any]  # and for the second
    classes: int  # of the second
    small: Mapping[str, Any]  # the student: 'net' and its 'args'
    large: Mapping[str, Any]  # likewise of the one that teaches
    layer: str  # the last hidden one of both
    sizes: tuple[int, ...]  # labels of each class
    few: int  # labels of each class that a teacher of few has seen
    new: tuple[str, ...]  # modules that begin anew on the second; () where both have the same classes
    preprocess: Mapping[str, Any]


def images(
    *,
    data: str,
    classes: tuple[int, ...] = (),
    train: int = 0,
    test: int = 0,
    draw: int = SPLIT_SEED,
    folder: str = '',
) -> Dataset:
    """Images (N, 14, 14) or (N, 16, 16, 3) uint8, the mean of each 2 x 2 pixels, of the published files.

    Args:
      data: 'mnist', 'fashion_mnist' or 'cifar100'.
      classes: the ones that are kept, which get the numbers 0, 1, ... in this order; () for all.
      train: training examples that there are, as many of each class; 0 for all.
      test: likewise of the test split.
      draw: seed of which ones there are, where it is not all.
      folder: of the files, see `originals.mnist`.
    """
    whole = SOURCES[data](folder=folder, validation=2000)
    kept = classes or tuple(range(len(whole.classes)))
    splits = {name: _halved(split, kept, len(whole.classes)) for name, split in whole.splits.items()}
    return Dataset(_few(splits, train, test, draw), tuple(whole.classes[one] for one in kept))


def digits(
    *, speakers: tuple[int, ...], train: int = 0, test: int = 0, draw: int = SPLIT_SEED, folder: str = ''
) -> Dataset:
    """Spoken digits of some of the six speakers, a second of each as `fsdd.keywords` has them.

    Of every speaker and digit 25 recordings are the training split, 5 validation and 20 the test split.

    Args:
      speakers: 0 to 5.
      train, test, draw, folder: as of `images`.
    """
    found = fsdd.recordings(folder)
    clips = audio.clips(found.samples, fsdd.RATE)
    splits = {}
    for name in SPLITS:
        part = np.flatnonzero(np.isin(found.speakers, speakers) & np.isin(found.numbers, NUMBERS[name]))
        inputs = {column: values[part] for column, values in clips.items()}
        splits[name] = Split(inputs, found.digits[part])
    return Dataset(_few(splits, train, test, draw), fsdd.CLASSES, {'rate': fsdd.RATE})


def _halved(split: Split, classes: tuple[int, ...], count: int) -> Split:
    place = np.full(count, -1, np.int32)
    place[list(classes)] = np.arange(len(classes))
    labels = place[split.column('labels')]
    pixels = np.asarray(split.inputs)[labels >= 0]
    side = pixels.shape[1] // 2
    means = pixels.reshape(-1, side, 2, side, 2, pixels.shape[3]).mean(axis=(2, 4))
    one_colour = means.shape[3] == 1
    return Split((means[..., 0] if one_colour else means).round().astype(np.uint8), labels[labels >= 0])


def _few(splits: Mapping[str, Split], train: int, test: int, draw: int) -> dict[str, Split]:
    return {**splits, 'train': _drawn(splits['train'], train, draw), 'test': _drawn(splits['test'], test, draw)}


def _drawn(split: Split, count: int, draw: int) -> Split:
    if not count:
        return split
    (chosen,) = stratified(split.column('labels'), (count,), draw)
    return Split(jax.tree.map(lambda column: column[chosen], split.inputs), split.column('labels')[chosen])
