"""Layers of transformers that write: they read the tokens so far, and a source where there is one.

A decoder has two forms of the same parameters: `Decoder` reads whole texts, as training does, and `extended` one more
token of each, with keys and values of those before in a cache. Layers of either are those of `nets.blocks`.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from kdjax.errors import UsageError
from kdjax.nets.base import tap
from kdjax.nets.blocks import MLP, Attention, Shape, causal, readable, through, unrolled, waves
from kdjax.nets.layers import Dropout
from kdjax.nets.sequences import LOWEST, known, mask_of, only_real
from kdjax.types import Array, Cache, Tree

START = nn.initializers.normal(0.02)
Kept = tuple[Array, Array]  # keys and values, (B, M, D) or by heads, as `Attention.apart` has them


class Words(nn.Module):
    """Vectors of ids and of their positions, and, by the same table, logits of vectors.

    Vectors start, with sines and cosines, with variance 1 / D and are made as large as those, so that as what logits
    are made of they are small.

    Attributes:
      vocabulary: ids that have a vector; those beyond share that of id 1.
      positions: how many have a learned vector; 0 for sines and cosines.
    """

    shape: Shape
    vocabulary: int
    positions: int

    def setup(self) -> None:
        width = self.shape.width
        start = START if self.positions else nn.initializers.normal(width**-0.5)
        self.table = self.param('table', start, (self.vocabulary, width))
        if self.positions:
            self.places = self.param('positions', START, (self.positions, width))

    def __call__(self, ids: Array, first: Array | int = 0, longest: int = 0) -> Array:
        """(B, N, D) of ids (B, N), whose first one is number `first` of texts of at most `longest`, by default N.

        Raises:
          UsageError: fewer positions than that.
        """
        count, width = ids.shape[1], self.shape.width
        x = jnp.take(self.table, known(ids, self.vocabulary), axis=0, mode='clip')
        places = jax.lax.dynamic_slice_in_dim(self._places(longest or count), first, count)
        x = x + places if self.positions else x * width**0.5 + places
        return only_real(x.astype(self.shape.dtype), mask_of(ids))

    def _places(self, count: int) -> Array:
        if not self.positions:
            return jnp.asarray(waves(count, self.shape.width))
        if count > self.positions:
            raise UsageError(f'positions of a transformer are {self.positions}, and a text has {count} tokens')
        return self.places[:count]

    def logits(self, x: Array) -> Array:
        """(..., V) of (..., D)."""
        return x @ self.table.T.astype(x.dtype)


class DecoderLayer(nn.Module):
    """Attention to the tokens so far, to a source where there is one, and an MLP, each added.

    Attributes:
      crossed: whether there is a source.

    Reference: Vaswani et al., Attention Is All You Need, NeurIPS 2017, sec. 3.1.
    """

    shape: Shape
    crossed: bool

    def setup(self) -> None:
        self.attention, self.norm1 = Attention(self.shape), self.shape.norm()
        if self.crossed:
            self.cross, self.norm_cross = Attention(self.shape), self.shape.norm()
        self.mlp, self.norm2 = MLP(self.shape), self.shape.norm()
        self.drop = Dropout(self.shape.dropout, self.shape.axis)

    def __call__(self, tokens: tuple[Array, Any, Any, Any], train: bool) -> tuple[Array, Mapping[str, Array]]:
        """Of tokens (B, N, D), who may read whom, and a source (B, M, D) with which of it is real, or None."""
        x, allowed, source, real = tokens
        kept = None if source is None else self.keys(source)
        return self._read(x, lambda x: (self.attention.keys(x), allowed), kept, real, train)

    def keys(self, source: Array) -> Kept:
        """What is read of a source."""
        return self.cross.keys(source)

    def apart(self, source: Array) -> Kept:
        """What is read of a source, by heads."""
        return self.cross.apart(self.keys(source))

    def extend(
        self, x: Array, past: Kept, kept: Kept | None, t: Array | int, allowed: Array, real: Array | None
    ) -> tuple[Array, Kept]:
        """One token of each of W texts (B, W, D), number t; its keys and values come to those of the tokens before.

        Args:
          x: the tokens.
          past: keys (B, heads, D / heads, T, W) and values (B, heads, T, W, D / heads).
          kept: what is read of a source, by heads.
          t: the tokens' number.
          allowed: which of the T W tokens before each text has, (B, 1, W, T W).
          real: which tokens of a source are, (B, 1, 1, M).
        """
        written = past

        def read(x: Array) -> Array:
            nonlocal written
            new, place = self.attention.apart(self.attention.keys(x)), jax.lax.dynamic_update_slice_in_dim
            keys, values = past
            before = keys.reshape(*keys.shape[:3], -1), values.reshape(*values.shape[:2], -1, values.shape[-1])
            # Each text reads its own token by itself: what is read before it is written need not be copied
            found = self.attention.read(x, before, allowed, new)
            at = _after(t, found)
            written = place(keys, new[0][:, :, :, None], at, axis=3), place(values, new[1][:, :, None], at, axis=2)
            return found

        x = self._added(x, read, self.norm1, train=False)
        if kept is not None:
            assert real is not None
            x = self._added(x, lambda x: self.cross.read(x, kept, real), self.norm_cross, train=False)
        return self._added(x, self.mlp, self.norm2, train=False), written

    def _read(
        self, x: Array, own: Callable[[Array], tuple[Kept, Any]], kept: Kept | None, real: Array | None, train: bool
    ) -> tuple[Array, Mapping[str, Array]]:
        seen: dict[str, Array] = {}

        def itself(x: Array) -> Array:
            read, allowed = own(x)
            found, taps = self.attention(x, read, allowed, train)
            # What may not be read is no part of what a term is to compare.
            seen.update(taps, attention=jnp.where(allowed, taps['attention'], LOWEST))
            return found

        def source(x: Array) -> Array:
            assert kept is not None
            assert real is not None
            found, taps = self.cross(x, kept, real, train)
            seen.update(cross_attention=taps['attention'])
            return found

        x = self._added(x, itself, self.norm1, train)
        x = x if kept is None or real is None else self._added(x, source, self.norm_cross, train)
        return self._added(x, self.mlp, self.norm2, train), seen

    def _added(self, x: Array, branch: Callable[[Array], Array], norm: nn.Module, train: bool) -> Array:
        if self.shape.pre_norm:
            return x + self.drop(branch(norm(x)), train)
        return norm(x + self.drop(branch(x), train))


class Decoder(nn.Module):
    """Layers on each other; pre-norm ones end in a norm of their own. (B, N, D) and its mask (B, N) -> (B, N, D)

    Padding is on the right, where no real token reads. Taps of each layer are those of `blocks.Encoder` with `prefix`
    before their names; their scores are LOWEST where a token may not read. With a source also 'cross_attention1'
    (B, heads, N, M), whose masks are of the text and of the source.
    """

    shape: Shape
    depth: int
    scanned: bool
    prefix: str = ''

    @nn.compact
    def __call__(
        self, x: Array, mask: Array, train: bool, source: Array | None = None, source_mask: Array | None = None
    ) -> Array:
        real = None if source_mask is None else readable(source_mask)
        others = (jnp.asarray(causal(x.shape[1])), source, real)
        structure = self.shape, source is not None
        x, shown = through(DecoderLayer, structure, self.depth, self.scanned, x, others, train)
        masks: dict[str, list[Any]] = {'attention': [mask, mask], 'cross_attention': [mask, source_mask]}
        for layer, seen in enumerate(shown, start=1):
            for name, found in seen.items():
                prefix = '' if name == 'cross_attention' else self.prefix
                tap(self, f'{prefix}{name}{layer}', found, *masks.get(name, [mask]))
        return self.shape.norm('norm')(x) if self.shape.pre_norm else x


def _after(t: Array | int, found: Array) -> Array:
    """t, when `found` is known: XLA writes in place what it knows to be read before, and knows it of data alone."""
    return t + (found.reshape(-1)[0] > jnp.inf).astype(jnp.int32)


def decoder_taps(depth: int, prefix: str = '', crossed: bool = False) -> tuple[str, ...]:
    """Taps of a decoder, as `layers.attention_taps` has those of an encoder."""
    parts = [f'{prefix}{part}' for part in ('query', 'key', 'value', 'attention', 'hidden')]
    parts += ['cross_attention'] if crossed else []
    return tuple(f'{part}{layer}' for layer in range(1, depth + 1) for part in parts)


class Written(NamedTuple):
    """What a decoder keeps beside whose tokens a text goes on from, `Cache.own` (R, T): of the W texts of a source the
    one that wrote each of its tokens. So a search moves these numbers, and no keys and values."""

    past: tuple[Kept, ...]  # of each layer, of what all texts of a source have written, T tokens of W texts
    kept: tuple[Kept, ...] | None  # of each layer what it reads of a source, by heads; None where there is none
    mask: Array | None  # which tokens of a source are real, (B, M)


def begun(
    shape: Shape, params: Tree, depth: int, texts: tuple[int, int, int], source: Array | None, mask: Array | None
) -> Cache:
    """The cache of a decoder before the first token.

    Args:
      shape, params, depth: of the decoder.
      texts: how many sources there are, how many texts of each, and how many tokens they have at most.
      source: what it reads, (B, M, D), with which of it is real (B, M); None where it reads none.
    """
    count, width, length = texts
    size = shape.width // shape.heads
    keys = jnp.zeros((count, shape.heads, size, length, width), shape.dtype)
    values = jnp.zeros((count, shape.heads, length, width, size), shape.dtype)
    kept: Any = None
    if source is not None:
        layers, read = unrolled(params), functools.partial(DecoderLayer(shape, True).apply, method='apart')
        kept = tuple(read({'params': layers[f'layer{place}']}, source) for place in range(1, depth + 1))
    own = jnp.zeros((count * width, length), jnp.int32)
    return Cache(own, Written(((keys, values),) * depth, kept, mask))


def extended(shape: Shape, params: Tree, x: Array, cache: Cache, t: Array | int) -> tuple[Array, Cache]:
    """What a decoder makes of one more token of each text, (R, 1, D), and its new cache.

    Args:
      shape, params: of the decoder.
      x: (R, 1, D).
      cache: as `begun` made it.
      t: the tokens' number.
    """
    params, rest, longest = unrolled(params), cache.rest, cache.own.shape[1]
    width, layer, written = rest.past[0][0].shape[4], DecoderLayer(shape, rest.kept is not None), []
    x, writers = x.reshape(-1, width, x.shape[2]), jnp.arange(width, dtype=jnp.int32)
    wrote = cache.own.reshape(-1, width, longest)
    there = (wrote[..., None] == writers) & (jnp.arange(longest) < t)[:, None]
    allowed = there.reshape(len(wrote), 1, width, -1)
    real = None if rest.mask is None else readable(rest.mask)
    for place, past in enumerate(rest.past):
        kept, layers = None if rest.kept is None else rest.kept[place], {'params': params[f'layer{place + 1}']}
        answer: Any = layer.apply(layers, x, past, kept, t, allowed, real, method='extend')
        x = answer[0]
        written.append(answer[1])
    last: Any = shape.norm().apply({'params': params['norm']}, x) if shape.pre_norm else x
    own = jnp.where(jnp.arange(longest) == t, jnp.tile(writers, len(wrote))[:, None], cache.own)
    new = Cache(own, rest._replace(past=tuple(written)))
    return last.reshape(-1, 1, last.shape[2]), new
