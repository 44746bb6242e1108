"""A data set that takes no time: pictures of two classes, each a blurred blob somewhere of its own."""

import numpy as np

from kdjax.dataset import Dataset, Split


def blobs():
    random = np.random.default_rng(0)
    centres = random.normal(size=(2, 4, 4))
    splits = {}
    for name, size in (('train', 100), ('validation', 50), ('test', 50)):
        labels = np.arange(size, dtype=np.int32) % 2
        images = centres[labels] + random.normal(0, 2, (size, 4, 4))
        splits[name] = Split(images.astype(np.float32), labels)
    return Dataset(splits, ('left', 'right'))


def boxed():
    """The same pictures, each with the boxes (2, 4) of two objects; the second has no area, so that it is padding."""
    random, plain = np.random.default_rng(1), blobs()
    splits = {}
    for name, split in plain.splits.items():
        corners = np.sort(random.uniform(size=(split.size, 2, 2, 2)), axis=2).reshape(-1, 2, 4).astype(np.float32)
        corners[:, 1] = 0
        splits[name] = split._replace(more={'boxes': corners})
    return plain._replace(splits=splits)
