"""The data: arrays, and which of the examples are for what."""

import numpy as np
from sklearn.datasets import load_digits

from kdjax.data.base import completed
from kdjax.dataset import Dataset, Split


def data() -> Dataset:
    """Handwritten digits: 1,797 grey images of 8 x 8 pixels in 10 classes; a quarter for tests, 15 % for validation."""
    # Change here: arrays of your own. Inputs (N, ...) are bytes or float32, labels (N,) the numbers of the classes.
    digits = load_digits()
    inputs = np.round(digits.images[..., None] * 255 / 16).astype(np.uint8)  # (N, 8, 8, 1)
    labels = digits.target.astype(np.int32)
    classes = tuple(map(str, digits.target_names))
    return Dataset(completed({'train': Split(inputs, labels)}, test=0.25, validation=0.15), classes)
