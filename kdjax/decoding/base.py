"""Writing a token at a time: what all ways of choosing it share.

Texts begin with what they are given, a prompt (B, P): of a translation the token that begins every sentence. All is of
static shape and runs under `jax.jit`. Rows know nothing of each other: one that has ended stays as it is while others
go on, so what is written of a source does not depend on its batch.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.errors import UsageError
from kdjax.types import Array, Generator, Net, Tree

PADDING, UNKNOWN, BEGIN, END = range(4)  # ids that all vocabularies of sub-words have
ENDLESS = -1  # the id of an end that does not come
LOWEST = -1e30  # a log-probability of nothing: sums of some are finite


class Limits(NamedTuple):
    """What may be written."""

    length: int  # tokens at most after the first of the prompt, the end included
    end: int = END  # the token that ends a text, and is written; ENDLESS where none does
    forbidden: tuple[int, ...] = (PADDING, BEGIN)  # tokens that are never chosen
    each: Array | None = None  # (B,) the same as `length` of each text, where one may be as long as its source allows

    def most(self, count: int) -> Array:
        """Tokens at most of each of so many texts. (B,) int32"""
        return jnp.full(count, self.length, jnp.int32) if self.each is None else jnp.minimum(self.each, self.length)

    def allowed(self, log_probabilities: Array) -> Array:
        """Log-probabilities (..., K), LOWEST of what is never chosen."""
        if not self.forbidden:
            return log_probabilities
        never = np.isin(np.arange(log_probabilities.shape[-1]), self.forbidden)
        return jnp.where(never, LOWEST, log_probabilities)


class Written(NamedTuple):
    """Texts, without the first token of their prompts."""

    tokens: Array  # (B, T) int32, 0 after the end
    lengths: Array  # (B,) int32, the end included
    log_probabilities: Array  # (B,) of the network, of the tokens that were chosen
    ended: Array  # (B,) bool, whether the end was written

    @property
    def mask(self) -> Array:
        """1 for what was written. (B, T) float32"""
        return (jnp.arange(self.tokens.shape[1]) < self.lengths[:, None]).astype(jnp.float32)


class _State(NamedTuple):
    t: Array
    token: Array
    cache: Tree
    written: Written


def generator_of(net: Net | None) -> Generator:
    """What a network writes with.

    Raises:
      UsageError: it does not write.
    """
    if net is None or net.generator is None:
        raise UsageError(
            'decoding needs a network that has a generator, such as encoder_decoder.transformer or '
            'decoder_only.transformer; ensembles, changed networks and answers from files have none'
        )
    return net.generator


def checked(prompt: Array, limits: Limits) -> None:
    """Raises UsageError where nothing can be written."""
    if limits.length < 1 or prompt.ndim != 2 or not 1 <= prompt.shape[1] <= limits.length + 1:
        raise UsageError(f'decoding needs prompts (B, P) of 1 to length + 1 tokens, got {prompt.shape} for length '
                         f'{limits.length}')  # fmt: skip


def write(
    generator: Generator,
    variables: Tree,
    source: Tree,
    prompt: Array,
    limits: Limits,
    choose: Callable[[Array, Array], Array],
) -> Written:
    """One text of each row, whose tokens are chosen one after the other. No gradient comes through.

    Args:
      generator, variables: the network.
      source: what it reads, (B, ...).
      prompt: (B, P) ids that texts begin with, 0 for padding on the right, where a row is free to go on.
      limits: what may be written.
      choose: from log-probabilities (B, K) of the next token, LOWEST of those that are never chosen, and the number of
        the last one, to ids (B,).

    Raises:
      UsageError: prompts that are longer than texts may be.
    """
    checked(prompt, limits)
    variables, source = jax.lax.stop_gradient((variables, source))
    count, given = len(prompt), jnp.zeros((len(prompt), limits.length + 1), jnp.int32)
    given = given.at[:, : prompt.shape[1]].set(prompt)

    most = limits.most(count)

    def going(state: _State) -> Array:
        return (state.t < limits.length) & ~jnp.all(_done(state.written, most))

    def step(state: _State) -> _State:
        logits, cache = generator.extend(variables, state.cache, state.token, state.t)
        logs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
        forced, own = given[:, state.t + 1], choose(limits.allowed(logs), state.t).astype(jnp.int32)
        done = _done(state.written, most)
        token = jnp.where(done, PADDING, jnp.where(forced > 0, forced, own))
        chosen = jnp.take_along_axis(logs, own[:, None], axis=1)[:, 0]
        free = ~done & (forced == 0)
        added = Written(
            state.written.tokens.at[:, state.t].set(token),
            state.written.lengths + (~done).astype(jnp.int32),
            state.written.log_probabilities + jnp.where(free, chosen, 0),
            state.written.ended | (~done & (token == limits.end)),
        )
        return _State(state.t + 1, token, cache, added)

    nothing = Written(
        jnp.zeros((count, limits.length), jnp.int32), jnp.zeros(count, jnp.int32), jnp.zeros(count, jnp.float32),
        jnp.zeros(count, bool),
    )  # fmt: skip
    begun = _State(jnp.zeros((), jnp.int32), given[:, 0], generator.start(variables, source, limits.length), nothing)
    return jax.lax.while_loop(going, step, begun).written


def _done(written: Written, most: Array) -> Array:
    """Which texts go on no more. (B,)"""
    return written.ended | (written.lengths >= most)
