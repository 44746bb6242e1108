"""Images that nobody took, in the shape of a real data set: a source for configs, 'fake_images:mnist'."""

import numpy as np

from kdjax.dataset import Dataset, Split

SIZES = {'train': 200, 'validation': 20, 'test': 50}


def mnist():
    """Bytes (N, 28, 28, 1) of ten classes; a class is a bright row among noise."""
    random = np.random.default_rng(0)
    splits = {}
    for name, size in SIZES.items():
        labels = np.arange(size, dtype=np.int32) % 10
        images = random.integers(0, 100, (size, 28, 28, 1), np.uint8)
        images[np.arange(size), 2 * labels + 4] = 255
        splits[name] = Split(images, labels)
    return Dataset(splits, tuple('0123456789'))
