"""A bag of embeddings: what a sentence's words say, whatever their order."""

import jax.numpy as jnp
from flax import linen as nn

from kdjax.nets.base import compute_dtype, from_linen, tap
from kdjax.nets.layers import Dropout
from kdjax.nets.sequences import Embedding, at_least, mask_of, pooled
from kdjax.types import Array, Net


class _Bag(nn.Module):
    classes: int
    vocabulary: int
    width: int
    hidden: int
    dropout: float
    axis: str | None
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool) -> Array:
        mask, drop = mask_of(inputs), Dropout(self.dropout, self.axis)
        x = tap(self, 'embedding', Embedding(self.vocabulary, self.width, self.dtype, name='words')(inputs), mask)
        x = jnp.concatenate([pooled(x, mask, how) for how in ('mean', 'max')], axis=-1)
        x = drop(tap(self, 'pooled', x), train)
        x = nn.relu(nn.Dense(self.hidden, dtype=self.dtype, name='hidden')(x))
        return nn.Dense(self.classes, dtype=self.dtype, name='head')(drop(tap(self, 'penult', x), train))


def bag(
    *,
    classes: int,
    vocabulary: int,
    width: int = 24,
    hidden: int = 32,
    dropout: float = 0.3,
    precision: str = 'float32',
    axis: str | None = None,
) -> Net:
    """Mean and maximum of the word vectors, and an MLP on them; inputs (B, N) ids, 0 for padding.

    Many of them train as one program: there is nothing in it but gathers and matrix products.

    Taps: 'embedding' (B, N, width), 'pooled' (B, 2 width) and 'penult' (B, hidden).

    Args:
      classes: number of logits.
      vocabulary: ids that have a vector; words beyond share that of id 1.
      width: of word vectors.
      hidden: units between them and the logits.
      dropout: probability of dropping a number of either, in training.
      precision: dtype of activations, 'float32' or 'bfloat16'.
      axis: name of the device axis that a batch is split over, None where it is whole: which units are dropped.

    Raises:
      UsageError: a number below 1.
    """
    at_least('bag', vocabulary=vocabulary, width=width, hidden=hidden)
    module = _Bag(classes, vocabulary, width, hidden, dropout, axis, compute_dtype(precision))
    return from_linen(module, ('embedding', 'pooled', 'penult'))
