"""Points of two classes that a hyperplane divides, whose angles to its normal are of a known distribution."""

import numpy as np

from kdjax.dataset import Dataset, Split

SIZES = {'train': 2000, 'validation': 500, 'test': 10_000}


def polynomial(*, dimensions: int = 40, kappa: float = 1.0, seed: int = 0) -> Dataset:
    """Inputs (N, dimensions) of norm sqrt(dimensions): P[angle(w, x) > b] = (1 - 2 b / pi)^kappa, b in [0, pi / 2].

    The angle is that between two lines; a point's label is the side of the hyperplane that it lies on. The larger
    `kappa`, the farther points lie from where classes meet. (Phuong, Lampert, 2019, sec. 4.1, up to the constant.)

    Args:
      dimensions: of a point.
      kappa: > 0; at 1 angles are uniform.
      seed: of normal and points.
    """
    random = np.random.default_rng(seed)
    normal = _unit(random.normal(size=dimensions))
    return Dataset({name: _drawn(random, normal, size, kappa) for name, size in SIZES.items()}, ('below', 'above'))


def _drawn(random: np.random.Generator, normal: np.ndarray, size: int, kappa: float) -> Split:
    angle = np.pi / 2 * (1 - random.random(size) ** (1 / kappa))
    side = random.integers(0, 2, size)
    across = random.normal(size=(size, normal.size))
    across = _unit(across - np.outer(across @ normal, normal))
    along = np.where(side == 1, np.cos(angle), -np.cos(angle))
    points = along[:, None] * normal + np.sin(angle)[:, None] * across
    return Split((np.sqrt(normal.size) * points).astype(np.float32), side.astype(np.int32))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
