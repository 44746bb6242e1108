"""TextCNN: the strongest answer to each of some filters of a few words."""

from collections.abc import Sequence

import jax.numpy as jnp
from flax import linen as nn

from kdjax.errors import UsageError
from kdjax.nets.base import compute_dtype, from_linen, tap
from kdjax.nets.layers import Dropout
from kdjax.nets.sequences import Embedding, at_least, mask_of, pooled, windows
from kdjax.types import Array, Net


class _TextCNN(nn.Module):
    classes: int
    vocabulary: int
    width: int
    sizes: tuple[int, ...]
    filters: int
    dropout: float
    axis: str | None
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool) -> Array:
        mask = mask_of(inputs)
        x = tap(self, 'embedding', Embedding(self.vocabulary, self.width, self.dtype, name='words')(inputs), mask)
        x = tap(self, 'penult', jnp.concatenate([self._strongest(x, mask, size) for size in self.sizes], axis=-1))
        x = Dropout(self.dropout, self.axis)(x, train)
        return nn.Dense(self.classes, dtype=self.dtype, name='head')(x)

    def _strongest(self, x: Array, mask: Array, size: int) -> Array:
        """The strongest answers to filters of `size` words, at all places that have a real one. (B, filters)"""
        behind = [(0, 0), (0, size - 1)]
        seen = windows(jnp.pad(x, [*behind, (0, 0)]), size - 1, 0)
        real = jnp.max(windows(jnp.pad(mask, behind)[..., None], size - 1, 0), axis=-1)
        return nn.relu(pooled(nn.Dense(self.filters, dtype=self.dtype, name=f'filters{size}')(seen), real, 'max'))


def textcnn(
    *,
    classes: int,
    vocabulary: int,
    width: int = 24,
    sizes: Sequence[int] = (3, 4, 5),
    filters: int = 16,
    dropout: float = 0.5,
    precision: str = 'float32',
    axis: str | None = None,
) -> Net:
    """Filters over a few words each, their maxima over time, and a linear layer; inputs (B, N) ids, 0 for padding.

    Filters also see the places where they stick out at either end, as in the author's code, and nothing further: a
    sentence may be shorter than they are. Convolutions are matrix products, so that many networks train as one program.

    Taps: 'embedding' (B, N, width) and 'penult' (B, filters of all sizes).

    Args:
      classes: number of logits.
      vocabulary: ids that have a vector; words beyond share that of id 1.
      width: of word vectors; 300 in the paper.
      sizes: words that filters see.
      filters: of each size; 100 in the paper.
      dropout: probability of dropping a maximum in training.
      precision: dtype of activations, 'float32' or 'bfloat16'.
      axis: name of the device axis that a batch is split over, None where it is whole: which units are dropped.

    Raises:
      UsageError: a number below 1, or a size twice.

    Reference: Kim, Convolutional Neural Networks for Sentence Classification, EMNLP 2014.
    """
    sizes = tuple(sizes)
    at_least('textcnn', vocabulary=vocabulary, width=width, filters=filters, sizes=min(sizes, default=0))
    if len(set(sizes)) < len(sizes):
        raise UsageError(f'sizes of a textcnn must differ, got {sizes}')
    module = _TextCNN(classes, vocabulary, width, sizes, filters, dropout, axis, compute_dtype(precision))
    return from_linen(module, ('embedding', 'penult'))
