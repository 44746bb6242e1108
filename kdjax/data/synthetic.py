"""Images of noise, made when they are asked for: data for plans, and for the speed of all but reading files."""

import functools

import numpy as np

from kdjax.data.lazy import Lazy, Viewed
from kdjax.dataset import Dataset, Split
from kdjax.errors import UsageError


def images(
    *, size: int = 224, classes: int = 1000, train: int = 1_281_167, test: int = 50_000, lazy: bool = True
) -> Dataset:
    """Images (N, size, size, 3) uint8 of noise, N as in ImageNet (ILSVRC 2012); nothing can be learned from them.

    The test split serves as validation too, as in its tables.

    Args:
      size: pixels of height and width.
      classes: how many, each with as many images as the others.
      train, test: examples of the splits.
      lazy: whether an image is made when a step needs it, for what `data.stream=True` is to feed.

    Raises:
      UsageError: a size or a number below 1, or fewer images than classes.
    """
    if min(size, classes, test) < 1 or train < classes:
        raise UsageError(
            f'size, classes and test must be >= 1 and train >= classes, got {size}, {classes}, {test} and {train}'
        )
    made = {name: _split(place, count, size, classes, lazy) for place, (name, count) in
            enumerate((('train', train), ('test', test)))}  # fmt: skip
    return Dataset({**made, 'validation': made['test']}, tuple(map(str, range(classes))))


def _split(place: int, count: int, size: int, classes: int, lazy: bool) -> Split:
    look = functools.partial(_noise, place, size)
    pixels: Lazy = Viewed(range(count), look, lambda number, _: look(number), f'noise {place} {count} {size}')
    return Split(pixels if lazy else pixels[:], (np.arange(count) % classes).astype(np.int32))


def _noise(place: int, size: int, number: int) -> np.ndarray:
    return np.random.default_rng((place, number)).integers(0, 256, (size, size, 3), np.uint8)
