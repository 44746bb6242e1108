"""scikit-learn's handwritten digits: 1,797 real 8x8 images of the digits 0 to 9, part of the library itself.

Source: Alpaydin, Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998 (test part).
"""

import importlib.util
from pathlib import Path

import numpy as np

from kdjax.data.base import SPLIT_SEED, Dataset, Split, stratified
from kdjax.names import UsageError

SIZES = (1000, 297, 500)  # train, validation, test


def digits() -> Dataset:
    """Images (N, 8, 8) in [0, 1], in a fixed stratified split.

    Raises:
      UsageError: scikit-learn is not installed, or keeps its digits elsewhere.
    """
    raw = np.loadtxt(_file(), delimiter=',', dtype=np.float32)  # 64 pixels from 0 to 16 and the label
    images, labels = raw[:, :-1].reshape(-1, 8, 8) / 16, raw[:, -1].astype(np.int32)
    parts = stratified(labels, SIZES, SPLIT_SEED)
    train, validation, test = (Split(images[part], labels[part]) for part in parts)
    return Dataset({'train': train, 'validation': validation, 'test': test}, tuple('0123456789'))


def _file() -> Path:
    """Where scikit-learn keeps them. It is looked up, not imported, which would take longer than JAX."""
    found = importlib.util.find_spec('sklearn')
    path = Path(found.origin if found and found.origin else '.').parent / 'datasets' / 'data' / 'digits.csv.gz'
    if not path.exists():
        raise UsageError(f'the digits of scikit-learn are not at {path}; is it installed? pip install scikit-learn')
    return path
