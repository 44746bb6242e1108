"""Translator: a transformer that reads a sentence and writes another."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn

from kdjax.errors import UsageError, unknown
from kdjax.nets.base import from_linen, tap
from kdjax.nets.blocks import Encoder, Shape, shape_of
from kdjax.nets.decoders import Decoder, Words, begun, decoder_taps, extended
from kdjax.nets.layers import attention_taps
from kdjax.nets.sequences import at_least, mask_of
from kdjax.types import Array, Cache, Generator, Net, Tree

SHARED = ('all', 'decoder', 'none')
PREFIX = 'decoder_'


class _Parts(NamedTuple):
    """Of what a translator is made."""

    shape: Shape
    depth: int
    decoder_depth: int
    vocabulary: int
    source_vocabulary: int
    positions: int
    shared: str
    scanned: bool

    def words(self, name: str | None = None) -> Words:
        return Words(self.shape, self.vocabulary, self.positions, name=name)

    def source_words(self, name: str | None = None) -> Words:
        return Words(self.shape, self.source_vocabulary, self.positions, name=name)

    def encoder(self, name: str | None = None) -> Encoder:
        return Encoder(self.shape, self.depth, self.scanned, name=name)

    def head(self, name: str | None = None) -> nn.Dense:
        return self.shape.dense(self.vocabulary, name)


class _Translator(nn.Module):
    of: _Parts

    @nn.compact
    def __call__(self, inputs: dict[str, Array], *, train: bool) -> Array:
        of, source, target = self.of, inputs['source'], inputs['target']
        real, mask, words = mask_of(source), mask_of(target), of.words('words')
        x = (words if of.shared == 'all' else of.source_words('source_words'))(source)
        x = of.shape.dropped(tap(self, 'embedding', x, real), train)
        states = of.encoder('encoder')(x, real, train)
        y = of.shape.dropped(tap(self, f'{PREFIX}embedding', words(target), mask), train)
        decoder = Decoder(of.shape, of.decoder_depth, of.scanned, PREFIX, name='decoder')
        y = tap(self, 'penult', decoder(y, mask, train, states, real), mask)
        return tap(self, 'logits', of.head('head')(y) if of.shared == 'none' else words.logits(y), mask)


def transformer(
    *,
    vocabulary: int,
    source_vocabulary: int = 0,
    width: int = 64,
    depth: int = 2,
    decoder_depth: int = 0,
    heads: int = 2,
    inner: int = 128,
    positions: int = 0,
    norm: str = 'pre',
    shared: str = 'all',
    scanned: bool = False,
    dropout: float = 0.1,
    attention_dropout: float = 0.0,
    epsilon: float = 1e-5,
    precision: str = 'float32',
    axis: str | None = None,
) -> Net:
    """Which token follows each of a translation so far; logits (B, N, vocabulary).

    Inputs are 'source' (B, M) and 'target' (B, N), ids with 0 for padding on the right; a target begins with a token of
    its own. The network has a generator, whose source is that column alone.

    Taps, with masks: of the encoder those of `transformer.encoder`, (B, M, D) and so on; of the decoder the same with
    'decoder_' before them, (B, N, D), whose scores are -1e30 of tokens that come later; 'cross_attention1'
    (B, heads, N, M), scores before masks and the softmax; and 'penult' (B, N, D).

    Args:
      vocabulary: ids of targets, that of the padding too; ids beyond share the vector of id 1.
      source_vocabulary: ids of sources; 0 for those of targets.
      width: D.
      depth: number of layers of the encoder.
      decoder_depth: of the decoder, on which the time of a translation depends; 0 for as many.
      heads: of attention; divides the width.
      inner: units of a layer's MLP.
      positions: how many have a learned vector, at least M and N; 0 for sines and cosines, which have no end.
      norm: 'pre', of what a branch reads, or 'post', of its sum with what it adds.
      shared: what has one table: 'all', words of sources and targets and the logits; 'decoder', without sources; or
        'none' (Press, Wolf, Using the Output Embedding to Improve Language Models, EACL 2017).
      scanned: whether layers are loops over parameters with a leading axis, which takes less time to compile.
      dropout: probability of dropping a unit of the embeddings and of what a branch adds, in training.
      attention_dropout: that of dropping a token that is read.
      epsilon: of layer normalisation.
      precision: dtype of activations, 'float32' or 'bfloat16'.
      axis: name of the device axis that a batch is split over, None where it is whole: which units are dropped.

    Raises:
      UsageError: a number below 1, a width that the heads do not divide, an unknown norm, a table that cannot be
        shared, or (in `init`) more tokens than positions.

    Reference: Vaswani et al., Attention Is All You Need, NeurIPS 2017.
    """
    decoder_depth, source_vocabulary = decoder_depth or depth, source_vocabulary or vocabulary
    at_least('translator', depth=depth, decoder_depth=decoder_depth, vocabulary=vocabulary)
    at_least('translator', least=0, positions=positions)
    if shared not in SHARED:
        raise unknown('sharing of tables', shared, SHARED, ' of a translator')
    if shared == 'all' and source_vocabulary != vocabulary:
        raise UsageError(f"a translator with shared='all' has one vocabulary, got {source_vocabulary} ids of sources "
                         f"and {vocabulary} of targets; there is: 'decoder', 'none'")  # fmt: skip
    shape = shape_of('translator', width, heads, inner, dropout, attention_dropout, epsilon, norm, precision, axis)
    of = _Parts(shape, depth, decoder_depth, vocabulary, source_vocabulary, positions, shared, scanned)
    own = (f'{PREFIX}embedding', *decoder_taps(decoder_depth, PREFIX, crossed=True), 'penult')
    net = from_linen(_Translator(of), ('embedding', *attention_taps(depth), *own))
    return net._replace(generator=_generator(of))


def _generator(of: _Parts) -> Generator:
    def start(variables: Tree, source: Array, length: int, width: int = 1) -> Cache:
        params, mask = variables['params'], mask_of(source)
        own, name = (of.words(), 'words') if of.shared == 'all' else (of.source_words(), 'source_words')
        x: Any = own.apply({'params': params[name]}, source)
        states: Any = of.encoder().apply({'params': params['encoder']}, x, mask, False)
        texts = (len(source), width, length)
        return begun(of.shape, params['decoder'], of.decoder_depth, texts, states, mask)

    def extend(variables: Tree, cache: Cache, token: Array, t: Array | int) -> tuple[Array, Cache]:
        params, longest = variables['params'], cache.own.shape[1]
        x: Any = of.words().apply({'params': params['words']}, token[:, None], t, longest)
        x, cache = extended(of.shape, params['decoder'], x, cache, t)
        if of.shared == 'none':
            logits: Any = of.head().apply({'params': params['head']}, x)
        else:
            logits = of.words().apply({'params': params['words']}, x, method='logits')
        return logits[:, 0].astype(jnp.float32), cache

    return Generator(start, extend)
