"""Images at half the resolution, of which few have a label."""

import numpy as np

from experiments.transfer import pairs
from kdjax.dataset import UNLABELLED, Dataset, stratified


def images(*, data: str, labelled: int = 5000, draw: int = 0, folder: str = '') -> Dataset:
    """`pairs.images`, where all training examples but some have lost their label.

    Args:
      data, folder: as of `pairs.images`.
      labelled: how many have it, as many of each class.
      draw: seed of which ones.
    """
    whole = pairs.images(data=data, folder=folder)
    train = whole.splits['train']
    labels = train.column('labels')
    (kept,) = stratified(labels, (labelled,), draw)
    few = np.full_like(labels, UNLABELLED)
    few[kept] = labels[kept]
    return whole._replace(splits={**whole.splits, 'train': train._replace(labels=few)})
