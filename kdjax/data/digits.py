"""scikit-learn's handwritten digits: 1,797 real 8x8 images of the digits 0 to 9, part of the library itself.

Source: Alpaydin, Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998 (test part).
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from kdjax.dataset import SPLIT_SEED, Dataset, Split, stratified

SIZES = (1000, 297, 500)  # train, validation, test


def digits() -> Dataset:
    """Images (N, 8, 8) in [0, 1], in a fixed stratified split."""
    # The file that `load_digits` reads, which takes a second and more to be imported.
    package = find_spec('sklearn')
    assert package is not None
    assert package.origin is not None
    table = np.loadtxt(Path(package.origin).parent / 'datasets' / 'data' / 'digits.csv.gz', delimiter=',')
    images, labels = (table[:, :-1].reshape(-1, 8, 8) / 16).astype(np.float32), table[:, -1].astype(np.int32)
    parts = stratified(labels, SIZES, SPLIT_SEED)
    train, validation, test = (Split(images[part], labels[part]) for part in parts)
    return Dataset({'train': train, 'validation': validation, 'test': test}, tuple(map(str, range(10))))
