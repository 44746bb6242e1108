"""Transformer encoder over words: a class for a sentence, or one for each of its words."""

import jax.numpy as jnp
from flax import linen as nn

from kdjax.errors import UsageError, unknown
from kdjax.nets.base import from_linen, tap
from kdjax.nets.blocks import Encoder, Shape, shape_of, waves
from kdjax.nets.layers import attention_taps
from kdjax.nets.sequences import POOLINGS, Embedding, at_least, mask_of, only_real, pooled
from kdjax.types import Array, Net

TOKEN = 'token'
START = nn.initializers.normal(0.02)


class _States(nn.Module):
    """From ids (B, N) to a state of each token, and their mask; one more at the front with a class token."""

    shape: Shape
    depth: int
    vocabulary: int
    positions: int
    class_token: bool

    @nn.compact
    def __call__(self, ids: Array, train: bool) -> tuple[Array, Array]:
        mask, width, dtype = mask_of(ids), self.shape.width, self.shape.dtype
        start = START if self.positions else nn.initializers.normal(width**-0.5)
        x = Embedding(self.vocabulary, width, dtype, start, name='words')(ids)
        x = x if self.positions else x * width**0.5  # as large as sines and cosines
        if self.class_token:
            token = self.param('class_token', START, (1, 1, width)).astype(dtype)
            x = jnp.concatenate([jnp.broadcast_to(token, (len(ids), 1, width)), x], axis=1)
            mask = jnp.concatenate([jnp.ones((len(ids), 1), mask.dtype), mask], axis=1)
        x = only_real(x + self._positions(x.shape[1]).astype(dtype), mask)
        x = self.shape.dropped(tap(self, 'embedding', x, mask), train)
        return Encoder(self.shape, self.depth, name='encoder')(x, mask, train), mask

    def _positions(self, count: int) -> Array:
        if not self.positions:
            return jnp.asarray(waves(count, self.shape.width))
        if count > self.positions:
            raise UsageError(f'positions of a transformer are {self.positions}, and a sentence has {count} tokens')
        return self.param('positions', START, (self.positions, self.shape.width))[:count]


class _Classifier(nn.Module):
    classes: int
    states: nn.Module
    pooling: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool) -> Array:
        x, mask = self.states(inputs, train)
        x = tap(self, 'penult', pooled(x, mask, 'first' if self.pooling == TOKEN else self.pooling))
        return nn.Dense(self.classes, dtype=self.dtype, name='head')(x)


class _Tagger(nn.Module):
    classes: int
    states: nn.Module
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool) -> Array:
        x, mask = self.states(inputs, train)
        x = tap(self, 'penult', only_real(x, mask), mask)
        return tap(self, 'logits', nn.Dense(self.classes, dtype=self.dtype, name='head')(x), mask)


def encoder(
    *,
    classes: int,
    vocabulary: int,
    width: int = 64,
    depth: int = 2,
    heads: int = 2,
    inner: int = 128,
    positions: int = 0,
    norm: str = 'pre',
    pooling: str = 'mean',
    dropout: float = 0.1,
    attention_dropout: float = 0.0,
    epsilon: float = 1e-5,
    precision: str = 'float32',
    axis: str | None = None,
) -> Net:
    """A sentence's class from a transformer encoder; inputs (B, N) ids, 0 for padding.

    Layers are those of PyTorch's `TransformerEncoderLayer` with exact GELU. Methods that read position 0 (Patient KD)
    want pooling='token', whose class token makes N one more in all taps.

    Taps, all but the last with masks: 'embedding' (B, N, D); of each layer from 1 on, 'query1', 'key1', 'value1'
    (B, N, D) over all heads, 'attention1' (B, heads, N, N), scores before masks and the softmax, 'hidden1' (B, N, D);
    and 'penult' (B, D).

    Args:
      classes: number of logits.
      vocabulary: ids that have a vector; words beyond share that of id 1.
      width: D.
      depth: number of layers.
      heads: of attention; divides the width.
      inner: units of a layer's MLP.
      positions: how many have a learned vector, at least N; 0 for sines and cosines, which have no end.
      norm: 'pre', of what a branch reads, or 'post', of its sum with what it adds.
      pooling: of the states 'mean', 'max' or 'first', or 'token', that of a class token in front of the words.
      dropout: probability of dropping a unit of the embeddings and of what a branch adds, in training.
      attention_dropout: that of dropping a token that is read.
      epsilon: of layer normalisation.
      precision: dtype of activations, 'float32' or 'bfloat16'.
      axis: name of the device axis that a batch is split over, None where it is whole: which units are dropped.

    Raises:
      UsageError: a number below 1, a width that the heads do not divide, an unknown norm or pooling, or (in `init`)
        more tokens than positions.

    Reference: Vaswani et al., Attention Is All You Need, NeurIPS 2017.
    """
    if pooling not in (TOKEN, *POOLINGS):
        raise unknown('pooling', pooling, (TOKEN, *POOLINGS), ' of a transformer')
    shape = shape_of('transformer', width, heads, inner, dropout, attention_dropout, epsilon, norm, precision, axis)
    states = _states(shape, depth, vocabulary, positions, pooling == TOKEN)
    module = _Classifier(classes, states, pooling, shape.dtype)
    return from_linen(module, ('embedding', *attention_taps(depth), 'penult'))


def tagger(
    *,
    classes: int,
    vocabulary: int,
    width: int = 64,
    depth: int = 2,
    heads: int = 2,
    inner: int = 128,
    positions: int = 0,
    norm: str = 'pre',
    dropout: float = 0.1,
    attention_dropout: float = 0.0,
    epsilon: float = 1e-5,
    precision: str = 'float32',
    axis: str | None = None,
) -> Net:
    """A class for every word from a transformer encoder; inputs (B, N) ids, 0 for padding.

    Taps are those of `encoder`, but 'penult' (B, N, D), which has a mask as the logits (B, N, K) have.

    Args:
      classes: number of logits of a word.
      vocabulary, width, depth, heads, inner, positions, norm, dropout, attention_dropout, epsilon, precision, axis: as
        of `encoder`.

    Raises:
      UsageError: as of `encoder`.
    """
    shape = shape_of('transformer', width, heads, inner, dropout, attention_dropout, epsilon, norm, precision, axis)
    module = _Tagger(classes, _states(shape, depth, vocabulary, positions, class_token=False), shape.dtype)
    return from_linen(module, ('embedding', *attention_taps(depth), 'penult'))


def _states(shape: Shape, depth: int, vocabulary: int, positions: int, class_token: bool) -> _States:
    at_least('transformer', depth=depth, vocabulary=vocabulary)
    at_least('transformer', least=0, positions=positions)
    return _States(shape, depth, vocabulary, positions, class_token)
