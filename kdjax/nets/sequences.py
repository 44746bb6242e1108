"""What networks of words share: which tokens are real, embeddings with unknown words, spellings, LSTMs, pooling.

Inputs are `ids` (B, N) int32: 0 is padding on the right, 1 a word without an embedding of its own. Masks are (B, N)
float32, 1 for real tokens, as `mask_of(ids)` makes them and `base.tap` takes them. All modules give 0 at padding, and
more padding changes nothing elsewhere.

Parts: `Embedding` (ids -> vectors), `Spelling` (ids -> features of a word's letters), `LSTM` (vectors -> states),
`windows` (neighbours side by side), `pooled` (one vector of all tokens). `WordStates` joins the first three, from ids
to a state per token and the last state of each direction. Whatever stands on such states, a classifier or a CRF, is

    class _Tagger(nn.Module):
        classes: int
        of: States  # made by `states('tagger', vocabulary=..., width=..., ...)`
        dtype: Any

        @nn.compact
        def __call__(self, inputs, *, train):
            states, last, mask = WordStates(self.of, self.dtype, name='states')(inputs, train)
            return tap(self, 'logits', nn.Dense(self.classes, dtype=self.dtype, name='head')(states), mask)

and has `state_taps(layers)` before taps of its own.
"""

import collections
import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from kdjax.errors import UsageError, unknown
from kdjax.nets.base import tap
from kdjax.nets.layers import Dropout, Initializer, uniform
from kdjax.types import Array

PADDING, UNKNOWN = 0, 1  # ids that are no words
LETTERS = 16  # of a word that are read
RARE, ALPHABET = 1, 254  # the letter that stands for rare ones, and how many have a number of their own
POOLINGS = ('mean', 'max', 'first')
LOWEST = -1e30  # no activation is as low, and sums of some are finite


def mask_of(ids: Array) -> Array:
    """1 for real tokens. (B, N)"""
    return (ids > PADDING).astype(jnp.float32)


def known(ids: Array, vocabulary: int) -> Array:
    """Ids below `vocabulary`, UNKNOWN for words that came later."""
    return jnp.where(ids < vocabulary, ids, UNKNOWN)


def only_real(x: Array, mask: Array) -> Array:
    """Tokens (B, N, D), 0 where `mask` (B, N) is: no gradient comes from there either."""
    return jnp.where(mask[..., None] > 0, x, jnp.zeros((), x.dtype))


def at_least(network: str, least: int = 1, **numbers: float) -> None:
    """Raises UsageError for an argument of a network that is too small."""
    for name, value in numbers.items():
        if value < least:
            raise UsageError(f'{name} of a {network} must be at least {least}, got {value}')


@dataclasses.dataclass(frozen=True, eq=False)
class Constant:
    """An array that belongs to a network and is not learned; as modules are hashed, it is equal to itself alone."""

    values: np.ndarray


class Embedding(nn.Module):
    """A vector for each id below `vocabulary`, one for all words beyond, and 0 for padding. (B, N) -> (B, N, D)"""

    vocabulary: int
    width: int
    dtype: Any
    start: Initializer = nn.initializers.normal(0.1)

    @nn.compact
    def __call__(self, ids: Array) -> Array:
        table = self.param('table', self.start, (self.vocabulary, self.width))
        return only_real(_rows(table, known(ids, self.vocabulary)).astype(self.dtype), mask_of(ids))


def _rows(table: Array, ids: Array) -> Array:
    return jnp.take(table, ids, axis=0, mode='clip')


def spelled(words: Sequence[str], vocabulary: int) -> Constant:
    """The letters of every word, (W, LETTERS) uint8: 0 behind its end, RARE for what words of training hardly have.

    Letters are numbered by how often the first `vocabulary` words have them; of longer words the first and the last
    half of LETTERS are kept. Ids that are no words have no letters.
    """
    counts = collections.Counter(letter for word in words[UNKNOWN + 1 : vocabulary] for letter in word)
    order = sorted(counts, key=lambda letter: (-counts[letter], letter))[:ALPHABET]
    numbers = {letter: RARE + 1 + place for place, letter in enumerate(order)}
    table = np.zeros((len(words), LETTERS), np.uint8)
    for word, row in zip(words[UNKNOWN + 1 :], table[UNKNOWN + 1 :], strict=True):
        kept = word if len(word) <= LETTERS else word[: LETTERS // 2] + word[-LETTERS // 2 :]
        row[: len(kept)] = [numbers.get(letter, RARE) for letter in kept]
    return Constant(table)


class Spelling(nn.Module):
    """Features of a word's letters: the strongest answer to each filter at any place. (B, N) -> (B, N, filters)

    Attributes:
      letters: of every id, as `spelled` gives them.
      filters: how many features.
      width: of a letter's vector.
      size: letters that a filter sees.

    Reference: Ma, Hovy, End-to-End Sequence Labeling via Bi-directional LSTM-CNNs-CRF, ACL 2016, sec. 2.1.
    """

    letters: Constant
    filters: int
    dtype: Any
    width: int = 30
    size: int = 3

    @nn.compact
    def __call__(self, ids: Array) -> Array:
        letters = _rows(jnp.asarray(self.letters.values), ids).astype(jnp.int32)
        alphabet = int(self.letters.values.max(initial=RARE)) + 1
        x = Embedding(alphabet, self.width, self.dtype, uniform((3 / self.width) ** 0.5), name='letters')(letters)
        seen = windows(x, self.size // 2, (self.size - 1) // 2)
        return pooled(nn.Dense(self.filters, dtype=self.dtype, name='filters')(seen), mask_of(letters), 'max')


def windows(x: Array, before: int, after: int) -> Array:
    """Each token and its neighbours side by side, 0 beyond the ends. (..., N, D) -> (..., N, (before + 1 + after) D)"""
    count = x.shape[-2]
    around = jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(before, after), (0, 0)])
    return jnp.concatenate([around[..., place : place + count, :] for place in range(before + 1 + after)], axis=-1)


def pooled(x: Array, mask: Array, how: str) -> Array:
    """One vector of the real tokens, 0 where there are none: (..., N, D) and (..., N) -> (..., D).

    Raises:
      UsageError: `how` is not in POOLINGS.
    """
    if how not in POOLINGS:
        raise unknown('pooling', how, POOLINGS)
    x = only_real(x, mask)
    if how == 'first':
        return x[..., 0, :]
    if how == 'mean':
        return jnp.sum(x, axis=-2) / jnp.maximum(jnp.sum(mask, axis=-1, keepdims=True), 1).astype(x.dtype)
    real = mask[..., None] > 0
    return jnp.where(jnp.any(real, axis=-2), jnp.max(jnp.where(real, x, LOWEST), axis=-2), jnp.zeros((), x.dtype))


class LSTM(nn.Module):
    """States of both directions, (B, N, D) -> (B, N, 2 H) and the last of each (B, 2 H): backwards that of token 0.

    Each direction starts at the sentence's own end, as PyTorch's does on packed sequences. Its weights, with the same
    gates (input, forget, cell, output): 'kernel' (2, D, 4 H) and 'recurrent' (2, H, 4 H) are weight_ih and weight_hh,
    transposed, 'bias' (2, 4 H) the sum of both; it starts at 0, and at 1 for the forget gate.

    Attributes:
      units: H.

    Reference: Hochreiter, Schmidhuber, Long Short-Term Memory, Neural Computation 1997; Jozefowicz, Zaremba, Sutskever,
    An Empirical Exploration of Recurrent Network Architectures, ICML 2015 (the forget gate's bias).
    """

    units: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Array, mask: Array) -> tuple[Array, Array]:
        start, wide = uniform(self.units**-0.5), 4 * self.units
        kernel = self.param('kernel', start, (2, x.shape[-1], wide)).astype(self.dtype)
        recurrent = self.param('recurrent', start, (2, self.units, wide)).astype(self.dtype)
        bias = self.param('bias', _open_forget_gates, (2, wide)).astype(self.dtype)
        vectors, real = x.swapaxes(0, 1), mask.T[..., None] > 0
        state = jnp.zeros((x.shape[0], self.units), self.dtype)
        forth, back = (
            jax.lax.scan(
                functools.partial(_cell, jnp.concatenate([kernel[way], recurrent[way]]), bias[way]),
                (state, state), (vectors, real), reverse=way == 1,
            ) for way in range(2)
        )  # fmt: skip
        both = jnp.concatenate([forth[1], back[1]], axis=-1).swapaxes(0, 1)
        return only_real(both, mask), jnp.concatenate([forth[0][0], back[0][0]], axis=-1)


def _open_forget_gates(key: Array, shape: tuple[int, int], dtype: Any = jnp.float32) -> Array:
    del key
    units = shape[1] // 4
    return jnp.zeros(shape, dtype).at[:, units : 2 * units].set(1)


def _cell(weights: Array, bias: Array, carry: tuple[Array, Array], at: tuple[Array, Array]) -> tuple[Any, Array]:
    """One token of every example: (B, H) each of the state before, (B, D) of the vector. It waits at padding.

    A vector and the state are multiplied as one, by `weights` (D + H, 4 H): what the gates have of all vectors, made
    before, would be several times as large as these, and be read again.
    """
    (hidden, cell), (vector, real) = carry, at
    gates = jnp.concatenate([vector, hidden], axis=-1) @ weights + bias
    enter, forget, new, leave = jnp.split(gates, 4, axis=-1)
    moved = nn.sigmoid(forget) * cell + nn.sigmoid(enter) * jnp.tanh(new)
    hidden = jnp.where(real, nn.sigmoid(leave) * jnp.tanh(moved), hidden)
    return (hidden, jnp.where(real, moved, cell)), hidden


class States(NamedTuple):
    """What decides the states that words have; made by `states`."""

    vocabulary: int  # ids that have a vector
    width: int  # of it
    units: int  # H, of each direction
    layers: int  # LSTMs on each other
    dropout: float  # probability of dropping a unit between layers in training, first and last included
    filters: int = 0  # features of a word's letters
    letters: Constant | None = None  # of every id
    axis: str | None = None  # of the devices that a batch is split over


def states(
    network: str,
    *,
    vocabulary: int,
    width: int,
    units: int,
    layers: int,
    dropout: float,
    axis: str | None,
    spelling: int = 0,
    words: Sequence[str] = (),
) -> States:
    """The arguments of a network as `WordStates` takes them, checked.

    Args:
      network: its name, for errors.
      vocabulary, width, units, layers, dropout, axis: see `States`.
      spelling: features of a word's letters beside its vector; 0 for none.
      words: of every id; only read with `spelling`.

    Raises:
      UsageError: a number that is too small, or fewer words than ids that have a vector.
    """
    at_least(network, vocabulary=vocabulary, width=width, units=units, layers=layers)
    at_least(network, least=0, spelling=spelling)
    if spelling and len(words) < vocabulary:
        raise UsageError(f'spelling of a {network} needs the words of all {vocabulary} ids, got {len(words)}')
    letters = spelled(words, vocabulary) if spelling else None
    return States(vocabulary, width, units, layers, dropout, spelling, letters, axis)


class WordStates(nn.Module):
    """A state per token of a bidirectional LSTM over words: (B, N) -> (B, N, 2 H), the last states (B, 2 H), the mask.

    Taps: 'embedding' (B, N, width + filters), 'hidden1', ... (B, N, 2 H) of each layer, all with their mask.
    """

    of: States
    dtype: Any

    @nn.compact
    def __call__(self, ids: Array, train: bool) -> tuple[Array, Array, Array]:
        mask, drop = mask_of(ids), Dropout(self.of.dropout, self.of.axis)
        x = Embedding(self.of.vocabulary, self.of.width, self.dtype, name='words')(ids)
        if self.of.letters is not None:
            spelling = Spelling(self.of.letters, self.of.filters, self.dtype, name='spelling')
            x = jnp.concatenate([x, spelling(ids)], axis=-1)
        x = drop(tap(self, 'embedding', x, mask), train)
        for layer in range(1, self.of.layers + 1):
            x, last = LSTM(self.of.units, self.dtype, name=f'lstm{layer}')(x, mask)
            x = drop(tap(self, f'hidden{layer}', x, mask), train)
        return x, drop(last, train), mask


def state_taps(layers: int) -> tuple[str, ...]:
    """Taps of `WordStates`: 'embedding', 'hidden1', ..."""
    return ('embedding', *(f'hidden{layer}' for layer in range(1, layers + 1)))
