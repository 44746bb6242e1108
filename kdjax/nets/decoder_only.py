"""Language model: a transformer that says of every token which one follows, and so writes."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from kdjax.nets.base import from_linen, tap
from kdjax.nets.blocks import Shape, shape_of
from kdjax.nets.decoders import Decoder, Words, begun, decoder_taps, extended
from kdjax.nets.sequences import at_least, mask_of
from kdjax.types import Array, Cache, Generator, Net, Tree


class _LanguageModel(nn.Module):
    shape: Shape
    depth: int
    vocabulary: int
    positions: int
    shared: bool
    scanned: bool

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool) -> Array:
        mask, words = mask_of(inputs), Words(self.shape, self.vocabulary, self.positions, name='words')
        x = self.shape.dropped(tap(self, 'embedding', words(inputs), mask), train)
        x = tap(self, 'penult', Decoder(self.shape, self.depth, self.scanned, name='decoder')(x, mask, train), mask)
        logits = words.logits(x) if self.shared else self.shape.dense(self.vocabulary, 'head')(x)
        return tap(self, 'logits', logits, mask)


def transformer(
    *,
    vocabulary: int,
    width: int = 64,
    depth: int = 2,
    heads: int = 2,
    inner: int = 256,
    positions: int = 0,
    norm: str = 'pre',
    shared: bool = True,
    scanned: bool = False,
    dropout: float = 0.1,
    attention_dropout: float = 0.0,
    epsilon: float = 1e-5,
    precision: str = 'float32',
    axis: str | None = None,
) -> Net:
    """Which token follows each of a text; inputs (B, N) ids, 0 for padding on the right; logits (B, N, vocabulary).

    It has a generator, which reads nothing of a source but how many texts there are.

    Taps, with masks: 'embedding' (B, N, D); of each layer from 1 on, 'query1', 'key1', 'value1' (B, N, D) over all
    heads, 'attention1' (B, heads, N, N), scores before the softmax, -1e30 of tokens that come later, 'hidden1'
    (B, N, D); and 'penult' (B, N, D).

    Args:
      vocabulary: ids, of the padding too; ids beyond share the vector of id 1.
      width: D.
      depth: number of layers.
      heads: of attention; divides the width.
      inner: units of a layer's MLP.
      positions: how many have a learned vector, at least N; 0 for sines and cosines, which have no end.
      norm: 'pre', of what a branch reads, or 'post', of its sum with what it adds.
      shared: whether logits are products with the vectors of words (Press, Wolf, EACL 2017), rather than of a head.
      scanned: whether layers are a loop over parameters with a leading axis, which takes less time to compile.
      dropout: probability of dropping a unit of the embeddings and of what a branch adds, in training.
      attention_dropout: that of dropping a token that is read.
      epsilon: of layer normalisation.
      precision: dtype of activations, 'float32' or 'bfloat16'.
      axis: name of the device axis that a batch is split over, None where it is whole: which units are dropped.

    Raises:
      UsageError: a number below 1, a width that the heads do not divide, an unknown norm, or (in `init`) more tokens
        than positions.

    Reference: Radford et al., Language Models are Unsupervised Multitask Learners, 2019 (pre-norm).
    """
    at_least('language model', depth=depth, vocabulary=vocabulary)
    at_least('language model', least=0, positions=positions)
    shape = shape_of('language model', width, heads, inner, dropout, attention_dropout, epsilon, norm, precision, axis)
    module = _LanguageModel(shape, depth, vocabulary, positions, shared, scanned)
    net = from_linen(module, ('embedding', *decoder_taps(depth), 'penult'))
    return net._replace(generator=_generator(module))


def _generator(of: _LanguageModel) -> Generator:
    words = Words(of.shape, of.vocabulary, of.positions)

    def start(variables: Tree, source: Array, length: int, width: int = 1) -> Cache:
        return begun(of.shape, variables['params'], of.depth, (len(source), width, length), None, None)

    def extend(variables: Tree, cache: Cache, token: Array, t: Array | int) -> tuple[Array, Cache]:
        params, longest = variables['params'], cache.own.shape[1]
        x: Any = words.apply({'params': params['words']}, token[:, None], t, longest)
        x, cache = extended(of.shape, params['decoder'], x, cache, t)
        if of.shared:
            logits: Any = words.apply({'params': params['words']}, x, method='logits')
        else:
            logits = of.shape.dense(of.vocabulary).apply({'params': params['head']}, x)
        return logits[:, 0].astype(jnp.float32), cache

    return Generator(start, extend)
