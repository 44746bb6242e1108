"""Many small data sets at once: an example is the i-th example of each of them, with what its teacher is shown beside.

A data set drawn anew is a row of the axis N: inputs (examples, N, D), labels (examples, N), and in the column
'teacher_inputs' (examples, N, P) the privileged inputs. Networks (`apart.networks`) have weights of their own for each.
"""

from collections.abc import Callable

import numpy as np

from kdjax.data import originals
from kdjax.dataset import Dataset, Split
from kdjax.errors import unknown

DIMENSIONS, FEW = 50, 3  # of a point, and how many of them a label is of, where it is of few
SIZES = {'train': 200, 'validation': 200, 'test': 1000}
CLASSES = ('no', 'yes')
SIDE, SHRUNK = 28, 7  # pixels

Drawn = tuple[np.ndarray, np.ndarray, np.ndarray]  # privileged inputs (n, P), inputs (n, D), labels (n,)
Random = np.random.Generator


def clean_labels(random: Random, normal: np.ndarray, n: int) -> Drawn:
    """The teacher sees on which side of a hyperplane a point is and how far; labels have noise."""
    points = random.normal(size=(n, normal.size))
    distance = points @ normal
    return distance[:, None], points, distance + random.normal(size=n) > 0


def clean_features(random: Random, normal: np.ndarray, n: int) -> Drawn:
    """The teacher sees points without the noise that the student sees them with."""
    points = random.normal(size=(n, normal.size))
    return points, points + random.normal(size=points.shape), points @ normal > 0


def relevant_features(random: Random, normal: np.ndarray, n: int) -> Drawn:
    """The teacher sees the dimensions alone that the label is of."""
    points = random.normal(size=(n, normal.size))
    seen = points[:, :FEW]
    return seen, points, seen @ normal[:FEW] > 0


def own_features(random: Random, normal: np.ndarray, n: int) -> Drawn:
    """The same with other dimensions for every point, each with the weight that it has in the normal."""
    points = random.normal(size=(n, normal.size))
    which = np.argsort(random.random(points.shape), axis=1)[:, :FEW]
    seen = np.take_along_axis(points, which, axis=1)
    return seen, points, np.sum(seen * normal[which], axis=1) > 0


def own_features_code(random: Random, normal: np.ndarray, n: int) -> Drawn:
    """What the authors' code has for it: dimensions drawn once for all points of a split, so that those of the test
    split are others; their weights are the first of the normal, and half of the labels are 1."""
    points = random.normal(size=(n, normal.size))
    seen = points[:, random.permutation(normal.size)[:FEW]]
    sums = seen @ normal[:FEW]
    return seen, points, sums > np.median(sums)


def largest_features(random: Random, normal: np.ndarray, n: int) -> Drawn:
    """What a line of that code has that is commented out: of every point its largest numbers, from the largest on."""
    points = random.normal(size=(n, normal.size))
    seen = -np.sort(-points, axis=1)[:, :FEW]
    sums = seen @ normal[:FEW]
    return seen, points, sums > np.median(sums)


SETTINGS: dict[str, Callable[[Random, np.ndarray, int], Drawn]] = {
    'clean labels': clean_labels,
    'clean features': clean_features,
    'relevant features': relevant_features,
    'features of each point': own_features,
    'features of each point, code': own_features_code,
    'features of each point, largest': largest_features,
}


def synthetic(*, setting: str, draws: int = 100, seed: int = 0) -> Dataset:
    """Two classes of points; of each draw the normal, 200 points to learn from and 1,000 to test are its own.

    All inputs are standardised by their training examples.

    Args:
      setting: of SETTINGS.
      draws: N.
      seed: of all of them.

    Raises:
      UsageError: an unknown setting.

    Reference: Lopez-Paz, Bottou, Scholkopf, Vapnik, Unifying Distillation and Privileged Information, ICLR 2016, sec.
    5, experiments 1 to 4.
    """
    if setting not in SETTINGS:
        raise unknown('setting', setting, SETTINGS)
    whole = [_draw(np.random.default_rng((seed, draw)), SETTINGS[setting]) for draw in range(draws)]
    return Dataset({name: _stacked([one[name] for one in whole]) for name in SIZES}, CLASSES)


def digits(*, examples: int, draws: int = 10, seed: int = 0, folder: str = '') -> Dataset:
    """Digits of MNIST, which the teacher sees with 28x28 pixels and the student with 7x7.

    Each draw has its own training examples; test images are the same for all.

    Args:
      examples: of each draw.
      draws: N.
      seed: of all of them.
      folder: see `originals.mnist`.
    """
    whole = originals.mnist(folder=folder, validation=1000)
    random, splits = np.random.default_rng(seed), {}
    for name, split in whole.splits.items():
        size = split.size if name == 'test' else examples
        ids = [np.arange(size) if name == 'test' else random.permutation(split.size)[:size] for _ in range(draws)]
        splits[name] = _of_images(split, np.stack(ids, axis=1))
    return Dataset(splits, whole.classes)


def _draw(random: Random, setting: Callable[[Random, np.ndarray, int], Drawn]) -> dict[str, Drawn]:
    """All splits of one data set, standardised."""
    normal = random.normal(size=DIMENSIONS)
    drawn = {name: setting(random, normal, size) for name, size in SIZES.items()}
    scales = [(inputs.mean(axis=0), inputs.std(axis=0)) for inputs in drawn['train'][:2]]
    return {
        name: (*((inputs - mean) / sd for inputs, (mean, sd) in zip(found[:2], scales, strict=True)), found[2])
        for name, found in drawn.items()
    }  # fmt: skip


def _stacked(drawn: list[Drawn]) -> Split:
    privileged, inputs, labels = (np.stack(parts, axis=1) for parts in zip(*drawn, strict=True))
    return Split(inputs.astype(np.float32), labels.astype(np.int32), {'teacher_inputs': privileged.astype(np.float32)})


def _of_images(split: Split, ids: np.ndarray) -> Split:
    """The images at `ids` (examples, N)."""
    images = np.asarray(split.inputs).reshape(-1, SIDE, SIDE)
    down = shrinking()
    small = np.einsum('ai,nij,bj->nab', down, images.astype(np.float32) / 255, down).reshape(len(images), -1)
    large = images.reshape(len(images), -1)
    return Split(small[ids], split.column('labels')[ids], {'teacher_inputs': large[ids]})


def shrinking() -> np.ndarray:
    """Rows that each sum to 1 and make a pixel of a line of SIDE, by a triangle twice as wide as a pixel. (7, 28)

    It is what the image library behind the authors' code calls bilinear.
    """
    scale = SIDE // SHRUNK
    centres, pixels = scale * (np.arange(SHRUNK) + 0.5), np.arange(SIDE) + 0.5
    weights = np.maximum(0, 1 - np.abs(pixels - centres[:, None]) / scale)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
