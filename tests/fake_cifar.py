"""Noise in the shape of CIFAR, for tests of what is meant for CIFAR."""

import numpy as np

from kdjax.dataset import Dataset, Split

COUNT = {'train': 8, 'validation': 4, 'test': 4}


def images():
    """Bytes (N, 32, 32, 3) of four classes."""
    random = np.random.default_rng(0)
    splits = {
        name: Split(random.integers(0, 256, (count, 32, 32, 3), np.uint8), (np.arange(count) % 4).astype(np.int32))
        for name, count in COUNT.items()
    }
    return Dataset(splits, ('a', 'b', 'c', 'd'))
