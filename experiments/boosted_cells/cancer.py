"""Cells of breast tissue as a table of 30 numbers, part of scikit-learn itself: are they malignant?

Source: Wolberg, Mangasarian, Street, Street, Breast Cancer Wisconsin (Diagnostic), UCI Machine Learning Repository,
1995.
"""

import numpy as np
from sklearn.datasets import load_breast_cancer

from kdjax.dataset import SPLIT_SEED, Dataset, Split, stratified

SIZES = (300, 69, 200)  # train, validation, test


def cells() -> Dataset:
    """Tables (N, 30), standardised by the training examples, in a fixed stratified split."""
    found = load_breast_cancer()
    labels = found.target.astype(np.int32)
    parts = stratified(labels, SIZES, SPLIT_SEED)
    mean, sd = found.data[parts[0]].mean(axis=0), found.data[parts[0]].std(axis=0)
    table = ((found.data - mean) / sd).astype(np.float32)
    splits = {name: Split(table[part], labels[part])
              for name, part in zip(('train', 'validation', 'test'), parts, strict=True)}  # fmt: skip
    return Dataset(splits, tuple(map(str, found.target_names)))
