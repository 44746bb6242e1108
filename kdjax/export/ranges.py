"""The ranges that a student learned in rounded training, for the tensors of a file that is made of it.

A file has names of its own for its tensors. What belongs together is known by the weights: a product of the file and
one of the network are the same where their weights are, in whatever order they lie.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from kdjax.export.program import Calibration

CLOSE = 1e-4  # of the largest weight


def by_tensor(calibration: Calibration, products: Sequence[tuple[str, np.ndarray]]) -> dict[str, tuple[float, float]]:
    """{tensor that is multiplied: (smallest, largest)} of those products whose weights are known."""
    del calibration, products
    return {}


def learned() -> Mapping[str, tuple[float, float]]:
    return {}
