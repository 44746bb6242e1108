"""scikit-learn's handwritten digits: 1,797 real 8x8 images of the digits 0 to 9, part of the library itself.

Source: Alpaydin, Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998 (test part).
"""

import numpy as np

from kdjax.data.base import SPLIT_SEED, Dataset, Split, stratified

SIZES = (1000, 297, 500)  # train, validation, test


def digits() -> Dataset:
    """Images (N, 8, 8) in [0, 1], in a fixed stratified split."""
    from sklearn.datasets import load_digits  # half a second of import that a finished run does not need

    raw = load_digits()
    images, labels = (raw.images / 16).astype(np.float32), raw.target.astype(np.int32)
    parts = stratified(labels, SIZES, SPLIT_SEED)
    train, validation, test = (Split(images[part], labels[part]) for part in parts)
    return Dataset(
        {'train': train, 'validation': validation, 'test': test}, tuple(str(name) for name in raw.target_names)
    )
