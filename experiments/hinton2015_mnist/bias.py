"""Classes that a student has seen too seldom or too often: a shift of their biases, found without the test set.

Reference: Hinton, Vinyals, Dean, Distilling the Knowledge in a Neural Network, 2015, section 3. Their shift is the one
that serves the test set best; this one makes a class be predicted as often as it is met in the training set.
"""

from collections.abc import Sequence

import numpy as np

from kdjax.errors import UsageError


def matching(logits: np.ndarray, labels: np.ndarray, classes: Sequence[int]) -> float:
    """The shift of the biases of `classes` with which they are predicted as often as they are labels.

    An example is predicted as one of the classes where its margin, the best logit of the others minus their best, is
    below the shift; so the shift lies between two neighbouring margins, and in their middle.

    Args:
      logits: (N, K) on training examples of all classes, whether the student has seen them or not.
      labels: (N,) of these examples.
      classes: whose biases move together.

    Raises:
      UsageError: no example, or every example, is of these classes.
    """
    wanted = int(np.isin(labels, classes).sum())
    if not 0 < wanted < len(labels):
        raise UsageError(f'{wanted} of {len(labels)} examples are of classes {list(classes)}; a shift needs both kinds')
    margins = np.sort(_best(logits, _others(logits, classes)) - _best(logits, classes))
    return float(margins[wanted - 1] / 2 + margins[wanted] / 2)


def shifted(logits: np.ndarray, classes: Sequence[int], shift: float) -> np.ndarray:
    """Logits (N, K) with the biases of `classes` moved."""
    moved = np.array(logits)
    moved[:, list(classes)] += np.asarray(shift, moved.dtype)
    return moved


def _others(logits: np.ndarray, classes: Sequence[int]) -> list[int]:
    return [label for label in range(logits.shape[1]) if label not in classes]


def _best(logits: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    return logits[:, list(classes)].max(axis=1)
