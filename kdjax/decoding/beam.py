"""Beam search: several texts of each source at once, of which the best are kept.

What differs between implementations has a name: the length rule and when a search stops. Of the 2 K best continuations
of K texts those of the first K that end go to the finished ones, of which the K best are kept; of all that do not end
the K best go on, so K go on however many end. With K = 1 and stop 'full' that is greedy decoding.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from kdjax.decoding.base import LOWEST, PADDING, Limits, checked
from kdjax.decoding.highest import highest
from kdjax.decoding.lengths import RULES
from kdjax.errors import UsageError, unknown
from kdjax.types import Array, Cache, Generator, Tree

STOPS = ('bound', 'full')


class Beam(NamedTuple):
    """How to search.

    With stop 'bound' a search goes on until nothing that goes on can come among the finished texts any more, even if
    all that follows were certain; with 'full' until K are finished, as fairseq does, which may miss better ones.
    """

    width: int = 5  # K, texts that go on, and texts that are found
    rule: str = 'gnmt'  # of length, a key of `lengths.RULES`
    alpha: float = 0.6  # its exponent, >= 0
    stop: str = 'bound'  # of STOPS

    def checked(self) -> 'Beam':
        """Itself; raises UsageError where it is no search."""
        if self.rule not in RULES:
            raise unknown('length rule', self.rule, RULES, ' of a beam search')
        if self.stop not in STOPS:
            raise unknown('stop rule', self.stop, STOPS, ' of a beam search')
        if self.width < 1 or self.alpha < 0:
            raise UsageError(f'a beam search needs a width >= 1 and an alpha >= 0, got {self.width} and {self.alpha}')
        return self

    def score(self, log_probabilities: Array, lengths: Array) -> Array:
        """What texts are compared by."""
        return log_probabilities / RULES[self.rule](lengths, self.alpha)


class Found(NamedTuple):
    """The texts that a search found, without the first token of their prompts: finished ones first, the best first."""

    tokens: Array  # (B, K, T) int32, 0 after the end
    lengths: Array  # (B, K) int32, the end included; 0 where there are fewer than K
    log_probabilities: Array  # (B, K) of the network, of the tokens that were chosen
    scores: Array  # (B, K), by the length rule
    ended: Array  # (B, K) bool, whether the end was written


class _Texts(NamedTuple):
    """Texts of every source, (B, K, ...)."""

    tokens: Array
    lengths: Array
    log_probabilities: Array
    scores: Array

    def best(self, count: int) -> tuple['_Texts', Array]:
        """Those of the highest scores, and where they were."""
        where = jax.lax.top_k(self.scores, count)[1]
        return self.at(where), where

    def at(self, where: Array) -> '_Texts':
        return _Texts(*(_picked(leaf, where) for leaf in self))


class _State(NamedTuple):
    t: Array
    cache: Cache
    last: Array  # (B, K), the last token of what goes on
    alive: _Texts
    finished: _Texts
    stopped: Array  # (B,)


def search(
    generator: Generator, variables: Tree, source: Tree, prompt: Array, limits: Limits, beam: Beam = Beam()
) -> Found:
    """The best texts of every source. No gradient comes through.

    What is finished comes before what reached the longest length without an end.

    Args:
      generator, variables: the network.
      source: what it reads, (B, ...).
      prompt: (B, P) ids that texts begin with, 0 for padding on the right.
      limits: what may be written.
      beam: how to search.

    Raises:
      UsageError: a search that is none, or prompts that are longer than texts may be.
    """
    beam.checked()
    checked(prompt, limits)
    variables, source = jax.lax.stop_gradient((variables, source))
    given = jnp.zeros((len(prompt), limits.length + 1), jnp.int32).at[:, : prompt.shape[1]].set(prompt)

    def going(state: _State) -> Array:
        return (state.t < limits.length) & ~jnp.all(state.stopped)

    def step(state: _State) -> _State:
        logits, cache = generator.extend(variables, state.cache, state.last.reshape(-1), state.t)
        logits = logits.astype(jnp.float32).reshape(*state.last.shape, -1)
        return _stepped(state, cache, logits, given[:, state.t + 1], limits, beam)

    begun = _begun(generator.start(variables, source, limits.length, beam.width), given[:, 0], limits, beam)
    return _found(jax.lax.while_loop(going, step, begun), beam)


def _begun(cache: Cache, first: Array, limits: Limits, beam: Beam) -> _State:
    shape = len(first), beam.width
    tokens = jnp.zeros((*shape, limits.length), jnp.int32)
    lengths, nothing = jnp.zeros(shape, jnp.int32), jnp.full(shape, LOWEST, jnp.float32)
    none = _Texts(tokens, lengths, nothing, nothing)
    # All K begin alike: one alone counts.
    alone = nothing.at[:, 0].set(0)
    alive = none._replace(log_probabilities=alone, scores=alone)
    last = jnp.broadcast_to(first[:, None], shape)
    return _State(jnp.zeros((), jnp.int32), cache, last, alive, none, jnp.zeros(len(first), bool))


def _stepped(state: _State, cache: Cache, logits: Array, forced: Array, limits: Limits, beam: Beam) -> _State:
    """A step of the search; `logits` (B, K, V) of what may follow, `forced` (B,) what must, 0 where nothing must."""
    width, vocabulary = logits.shape[1:]
    count = min(2 * width, width * vocabulary)
    so_far = state.alive.log_probabilities[..., None]
    best, where = highest(limits.allowed(logits), so_far - jax.nn.logsumexp(logits, axis=-1, keepdims=True), count)
    # What is given costs nothing: as many of it as there are texts
    must, texts = (forced > 0)[:, None], jnp.arange(count)
    given = jnp.where(texts < width, so_far[:, jnp.minimum(texts, width - 1), 0], LOWEST)
    best, parent = jnp.where(must, given, best), jnp.where(must, jnp.minimum(texts, width - 1), where // vocabulary)
    best, token = jnp.maximum(best, LOWEST), jnp.where(must, forced[:, None], where % vocabulary)
    tokens = _picked(state.alive.tokens, parent).at[..., state.t].set(token)
    lengths = jnp.full_like(token, state.t + 1)
    ends = (token == limits.end) & (best > LOWEST) & (jnp.arange(token.shape[1]) < width)
    scores = jnp.where(ends, beam.score(best, lengths), LOWEST)
    finished = _joined(state.finished, _Texts(tokens, lengths, best, scores)).best(width)[0]
    goes_on = jnp.where(token == limits.end, LOWEST, best)
    alive, chosen = _padded(_Texts(tokens, lengths, goes_on, goes_on), width).best(width)
    parent, token = (_picked(_padded_rows(x, width), chosen) for x in (parent, token))
    own = jax.tree.map(lambda leaf: _reordered(leaf, parent), cache.own)
    new = _State(state.t + 1, cache._replace(own=own), token, alive, finished, state.stopped)
    return _kept(state, new, limits, beam)


def _kept(state: _State, new: _State, limits: Limits, beam: Beam) -> _State:
    """The new state, of searches that had not stopped."""
    stay = state.stopped
    alive, finished = (
        _Texts(*(jnp.where(stay.reshape(-1, *[1] * (x.ndim - 1)), x, y) for x, y in zip(old, own, strict=True)))
        for old, own in ((state.alive, new.alive), (state.finished, new.finished))
    )
    worst, longest = jnp.min(finished.scores, axis=1), limits.most(len(stay))
    if beam.stop == 'full':
        stopped = worst > LOWEST
    else:
        stopped = beam.score(jnp.max(alive.log_probabilities, axis=1), longest) <= worst
    stopped |= new.t >= longest
    last = jnp.where(stay[:, None], PADDING, new.last)
    return new._replace(alive=alive, finished=finished, last=last, stopped=stay | stopped)


def _found(state: _State, beam: Beam) -> Found:
    """Finished texts, and where there are fewer than K the best of the others."""
    alive, finished = state.alive, state.finished
    real = alive.log_probabilities > LOWEST
    alive = alive._replace(scores=jnp.where(real, beam.score(alive.log_probabilities, alive.lengths), LOWEST))
    texts = _joined(finished, alive)
    ended = jnp.concatenate([finished.scores > LOWEST, jnp.zeros_like(real)], axis=1)
    there = texts.scores > LOWEST
    order = jnp.lexsort((-texts.scores, ~ended), axis=1)[:, : beam.width]
    texts, ended, there = texts.at(order), _picked(ended, order), _picked(there, order)
    lengths = jnp.where(there, texts.lengths, 0)
    tokens = jnp.where(there[..., None], texts.tokens, PADDING)
    return Found(tokens, lengths, texts.log_probabilities, texts.scores, ended)


def _joined(first: _Texts, second: _Texts) -> _Texts:
    return _Texts(*(jnp.concatenate(pair, axis=1) for pair in zip(first, second, strict=True)))


def _padded(texts: _Texts, width: int) -> _Texts:
    """At least `width` of them: a vocabulary of one token has fewer continuations."""
    padded = [_padded_rows(leaf, width) for leaf in texts[:2]]
    return _Texts(*padded, *(_padded_rows(leaf, width, LOWEST) for leaf in texts[2:]))


def _padded_rows(x: Array, width: int, value: float = 0) -> Array:
    short = max(0, width - x.shape[1])
    return jnp.pad(x, [(0, 0), (0, short), *[(0, 0)] * (x.ndim - 2)], constant_values=value)


def _picked(x: Array, where: Array) -> Array:
    """(B, M, ...) at (B, K): (B, K, ...)."""
    return jnp.take_along_axis(x, where.reshape(*where.shape, *[1] * (x.ndim - 2)), axis=1)


def _reordered(leaf: Array, parent: Array) -> Array:
    """Rows (B K, ...) of those that texts go on from."""
    count, width = parent.shape
    return leaf[(jnp.arange(count)[:, None] * width + parent).reshape(-1)]
