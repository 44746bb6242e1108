"""Images at half the resolution, of which few have a label."""

import numpy as np

from experiments.transfer import pairs
from kdjax.dataset import SPLIT_SEED, UNLABELLED, Dataset, stratified


def images(*, data: str, labelled: int = 5000, folder: str = '') -> Dataset:
    """`pairs.images`, where training examples but `labelled` of them, as many of each class, have lost their label."""
    whole = pairs.images(data=data, folder=folder)
    train = whole.splits['train']
    labels = train.column('labels')
    (kept,) = stratified(labels, (labelled,), SPLIT_SEED)
    few = np.full_like(labels, UNLABELLED)
    few[kept] = labels[kept]
    return whole._replace(splits={**whole.splits, 'train': train._replace(labels=few)})
