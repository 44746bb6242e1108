"""A linear classifier on n-grams: a weight per n-gram and class."""

import jax.numpy as jnp
from flax import linen as nn

from kdjax.errors import unknown
from kdjax.nets.base import compute_dtype, from_linen
from kdjax.nets.sequences import at_least, mask_of, only_real
from kdjax.types import Array, Net

SCALES = {'sum': 0.0, 'sqrt': 0.5, 'mean': 1.0}  # the power of the number of n-grams that their sum is divided by


class _NGrams(nn.Module):
    classes: int
    grams: int
    power: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool) -> Array:
        del train
        mask = mask_of(jnp.where(inputs < self.grams, inputs, 0))
        table = self.param('table', nn.initializers.zeros, (self.grams, self.classes))
        rows = only_real(jnp.take(table, inputs, axis=0, mode='clip').astype(self.dtype), mask)
        count = jnp.maximum(jnp.sum(mask, axis=1, keepdims=True), 1)
        bias = self.param('bias', nn.initializers.zeros, (self.classes,))
        return jnp.sum(rows, axis=1) / (count**self.power).astype(self.dtype) + bias.astype(self.dtype)


def linear(*, classes: int, grams: int, scale: str = 'sum', precision: str = 'float32', axis: str | None = None) -> Net:
    """The sum of the weights of a sentence's n-grams, and a bias; inputs (B, M) ids of n-grams, 0 for padding.

    It has no taps. All weights start at 0, so that without a seed in the data all seeds are one; n-grams that were not
    seen in training, with ids from `grams` on, count as none.

    Args:
      classes: number of logits.
      grams: ids that have weights.
      scale: what the sum is divided by: 'sum', by 1; 'sqrt', by the square root of the number of n-grams, as rows of
        Euclidean length 1 have it; 'mean', by that number.
      precision: dtype of activations, 'float32' or 'bfloat16'.
      axis: name of the data axis; unused, there are no batch statistics.

    Raises:
      UsageError: `grams` below 1, or a scale that is none of these.

    Reference: Wang, Manning, Baselines and Bigrams: Simple, Good Sentiment and Topic Classification, ACL 2012.
    """
    del axis
    at_least('linear model of n-grams', grams=grams)
    if scale not in SCALES:
        raise unknown('scale', scale, SCALES, ' of n-grams')
    return from_linen(_NGrams(classes, grams, SCALES[scale], compute_dtype(precision)))
