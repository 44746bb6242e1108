"""Images of MNIST and Fashion-MNIST, or of some of their classes, at half the resolution; few of them if asked for."""

import numpy as np

from kdjax.data import originals
from kdjax.dataset import SPLIT_SEED, Dataset, Split, stratified

SOURCES = {'mnist': originals.mnist, 'fashion_mnist': originals.fashion_mnist}


def images(
    *,
    data: str,
    classes: tuple[int, ...] = tuple(range(10)),
    train: int = 0,
    test: int = 0,
    draw: int = SPLIT_SEED,
    folder: str = '',
) -> Dataset:
    """Images (N, 14, 14) uint8, the mean of each 2 x 2 pixels, of the published files.

    Args:
      data: 'mnist' or 'fashion_mnist'.
      classes: the ones that are kept, which get the numbers 0, 1, ... in this order.
      train: training examples that there are, as many of each class; 0 for all.
      test: likewise of the test split.
      draw: seed of which ones there are, where it is not all.
      folder: of the files, see `originals.mnist`.
    """
    whole = SOURCES[data](folder=folder, validation=2000)
    most = {'train': train, 'test': test}
    splits = {name: _few(_kept(split, classes), most.get(name, 0), draw) for name, split in whole.splits.items()}
    return Dataset(splits, tuple(whole.classes[one] for one in classes))


def _kept(split: Split, classes: tuple[int, ...]) -> Split:
    place = np.full(10, -1, np.int32)
    place[list(classes)] = np.arange(len(classes))
    labels = place[split.column('labels')]
    pixels = np.asarray(split.inputs)[labels >= 0].reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4))
    return Split(pixels.round().astype(np.uint8), labels[labels >= 0])


def _few(split: Split, count: int, draw: int) -> Split:
    if not count:
        return split
    (chosen,) = stratified(split.column('labels'), (count,), draw)
    return Split(np.asarray(split.inputs)[chosen], split.column('labels')[chosen])
