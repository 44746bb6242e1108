"""What metrics are called, and metrics as sums that merge: a mean is a (total, number) pair until someone reads it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from kdjax.types import Array


class Metric(NamedTuple):
    """How a metric is called and shown, and which of two of its values is better."""

    name: str
    title: str
    unit: str  # '%' of what is stored as a share in [0, 1], 'nats', 'BLEU', 'ms', ...
    better: str = 'higher'  # or 'lower'
    digits: int = 2
    short: str = ''  # title of a column; the title if left out

    @property
    def head(self) -> str:
        """Title of a column."""
        return self.short or self.title

    @property
    def factor(self) -> int:
        """What turns a stored value into its unit."""
        return 100 if self.unit == '%' else 1

    @property
    def difference(self) -> str:
        """Unit of differences."""
        return 'points' if self.unit == '%' else self.unit

    @property
    def sign(self) -> int:
        """What makes the higher of two values the better one."""
        return 1 if self.better == 'higher' else -1


BINS = 15  # of confidence, for the calibration error; the usual choice since Guo et al. 2017


class Mean(NamedTuple):
    """A mean in the making."""

    total: Array
    number: Array

    def compute(self) -> Array:
        """total / number; nan where nothing was counted, so that an empty split cannot pass for a perfect one."""
        return self.total / self.number


def mean(values: Array, mask: Array) -> Mean:
    """Sum and count of `values` (...) where `mask` (...) is 1."""
    return Mean(jnp.sum(jnp.where(mask > 0, values, 0) * mask), jnp.sum(mask))


class Calibration(NamedTuple):
    """Sums per bin of confidence: of confidence, of correct answers, of examples. Each (BINS,)."""

    confidence: Array
    correct: Array
    number: Array

    def compute(self) -> Array:
        """Expected calibration error, in [0, 1].

        Reference: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, eq. (3).
        """
        return jnp.sum(jnp.abs(self.correct - self.confidence)) / jnp.sum(self.number)


def calibration(probabilities_BK: Array, labels_B: Array, mask_B: Array) -> Calibration:
    """Bins the confidence of the predicted class in BINS equal intervals of [0, 1]."""
    confidence_B = jnp.max(probabilities_BK, axis=-1)
    correct_B = (jnp.argmax(probabilities_BK, axis=-1) == labels_B).astype(confidence_B.dtype)
    bins_B = jnp.clip((confidence_B * BINS).astype(jnp.int32), 0, BINS - 1)
    weights_BN = jax.nn.one_hot(bins_B, BINS, dtype=confidence_B.dtype) * mask_B[:, None]
    confidence_B = jnp.where(mask_B > 0, confidence_B, 0)  # a masked example may hold anything
    return Calibration(confidence_B @ weights_BN, correct_B @ weights_BN, jnp.sum(weights_BN, axis=0))


class RootMean(NamedTuple):
    """The root of a mean in the making."""

    total: Array
    number: Array

    def compute(self) -> Array:
        """sqrt(total / number); nan where nothing was counted."""
        return jnp.sqrt(self.total / self.number)


class Recalls(NamedTuple):
    """Sums per class: of right answers, of labels. Each (K,)."""

    right: Array
    labelled: Array

    def compute(self) -> Array:
        """Balanced accuracy: the mean, over the classes that have examples, of the share of them answered rightly."""
        return _over_present(self.right, self.labelled)


class FScore(NamedTuple):
    """Sums per class: of right answers, of labels, of answers. Each (K,), or () of all classes together."""

    right: Array
    labelled: Array
    answered: Array

    def compute(self) -> Array:
        """F1 = 2 right / (labels + answers), the mean over the classes of which there is either; nan where of none."""
        return _over_present(2 * self.right, self.labelled + self.answered)


def _over_present(above: Array, below: Array) -> Array:
    """The mean of above / below where there is anything below; nan where there is nothing."""
    present = below > 0
    return jnp.sum(jnp.where(present, above / jnp.where(present, below, 1), 0)) / jnp.sum(present.astype(below.dtype))


def f_score(answers: Array, labels: Array, mask: Array) -> FScore:
    """Counts per class, of answers and labels that are 1 or 0 (..., K) where `mask` (..., K) is 1."""
    leading = tuple(range(mask.ndim - 1))
    answers, labels = (jnp.where(mask > 0, x.astype(mask.dtype), 0) * mask for x in (answers, labels))
    return FScore(*(jnp.sum(x, axis=leading) for x in (answers * labels, labels, answers)))
