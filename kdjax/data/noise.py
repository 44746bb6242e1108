"""Wrong labels, on purpose: which example gets which wrong label is a pure function of (seed, example id)."""

import numpy as np

from kdjax.errors import UsageError


def symmetric(labels: np.ndarray, share: float, classes: int, seed: int) -> np.ndarray:
    """Each label with probability `share` replaced by one of the other classes, all equally likely.

    Args:
      labels: (N,) integers; an example's id is its position.
      share: expected share of wrong labels, in [0, 1]. A larger share changes all that a smaller one changes.
      classes: how many there are, at least 2.
      seed: of the draws.

    Returns:
      (N,) labels of the same dtype.

    Raises:
      UsageError: `share` is not in [0, 1], or there is no other class.

    Reference: Patrini et al., Making Deep Neural Networks Robust to Label Noise, CVPR 2017, sec. 5 (symmetric noise).
    """
    if not 0 <= share <= 1 or classes < 2:
        raise UsageError(f'label noise needs a share in [0, 1] and 2 classes, got {share} and {classes}')
    # Row i of this table does not depend on how many rows are drawn.
    wrong, which = np.random.default_rng(seed).random((len(labels), 2)).T
    others = (labels + 1 + (which * (classes - 1)).astype(labels.dtype)) % classes
    return np.where(wrong < share, others, labels).astype(labels.dtype)
