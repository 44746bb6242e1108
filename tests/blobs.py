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


def detected():
    """Pictures (16, 16), each with a bright rectangle, upright or lying, in its box; a second box is padding."""
    random, splits = np.random.default_rng(2), {}
    for name, size in (('train', 40), ('validation', 16), ('test', 16)):
        kinds = np.arange(size, dtype=np.int32) % 2
        pictures, boxes = random.normal(0, 0.1, (size, 16, 16)).astype(np.float32), np.zeros((size, 2, 4), np.float32)
        for picture, box, kind in zip(pictures, boxes[:, 0], kinds, strict=True):
            (x, y), (width, height) = random.integers(0, 9, 2), ((3, 7), (7, 3))[kind]
            picture[y : y + height, x : x + width] += 1
            box[:] = np.asarray([x, y, x + width, y + height]) / 16
        labels, pixels = np.stack([kinds, np.full(size, -1, np.int32)], axis=1), np.full((size, 2), 16, np.int32)
        splits[name] = Split(pictures[..., None], labels, {'boxes': boxes, 'size': pixels})
    return Dataset(splits, ('upright', 'lying'))
