"""Metrics as sums that merge: a mean is a (total, number) pair until someone reads it, never a mean of means."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from kdjax.types import Array

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
