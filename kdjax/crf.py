"""Linear-chain conditional random fields: what sequences of tags score, how they weigh together, and which are best.

Tags y of a sentence with n real tokens score

  s(y) = start[y_1] + sum_i emissions[i, y_i] + sum_i between[y_(i-1), y_i] + end[y_n],   p(y) = exp(s(y)) / Z.

Here `emissions` are (B, N, K), and all the other scores are one array `transitions` (B, K + 2, K): row j < K leads from
tag j to each tag, row K from the start of a sentence, and row K + 1 from each tag to its end. They have a batch axis
because whatever is read from a network has one; `mask` (B, N) is 1 for real tokens, which come first. What is at
padding matters to nothing, and no gradient comes from there. A sentence without a real token has one sequence, of
score 0. Arithmetic is at least float32.

Reference: Lafferty, McCallum, Pereira, Conditional Random Fields, ICML 2001.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from kdjax.types import Array

LOWEST = -1e30  # the score of what is impossible: sums of some are finite, and its exponential is 0


class Chain(NamedTuple):
    """Scores without anything at padding; axes of tokens come first, as loops want them."""

    emissions: Array  # (N, B, K)
    start: Array  # (B, K)
    between: Array  # (B, K, K)
    end: Array  # (B, K)
    real: Array  # (N, B)


def log_partition(emissions: Array, transitions: Array, mask: Array) -> Array:
    """log Z. (B,)"""
    chain = _chain(emissions, transitions, mask)
    return jnp.where(chain.real[0], jax.nn.logsumexp(_forward(chain)[-1] + chain.end, axis=-1), 0)


def log_marginals(emissions: Array, transitions: Array, mask: Array) -> Array:
    """log p(y_i = k), 0 at padding: by the forward-backward algorithm, so that rare tags do not vanish. (B, N, K)"""
    chain = _chain(emissions, transitions, mask)
    marginals = jax.nn.log_softmax(_forward(chain) + _backward(chain), axis=-1)
    return jnp.where(chain.real[..., None], marginals, 0).swapaxes(0, 1)


def expectations(emissions: Array, transitions: Array, mask: Array) -> tuple[Array, Array]:
    """How often a tag is expected at each token (B, N, K), and each transition in a sentence (B, K + 2, K).

    They are the gradient of log Z by the scores; with them the expected score of any other CRF is a product.
    """

    def total(emissions: Array, transitions: Array) -> Array:
        return jnp.sum(log_partition(emissions, transitions, mask))

    return jax.grad(total, (0, 1))(_wide(emissions), _wide(transitions))


def log_likelihood(emissions: Array, transitions: Array, mask: Array, tags: Array) -> Array:
    """log of the probability of all sequences with the known tags; those below 0 are not known. (B,)

    Args:
      emissions, transitions, mask: see the module.
      tags: (B, N) integers.

    Reference: Tsuboi, Kashima, Mori, Oda, Matsumoto, Training Conditional Random Fields Using Incomplete Annotations,
    COLING 2008, for what is not known.
    """
    possible = (tags[..., None] == jnp.arange(emissions.shape[-1], dtype=tags.dtype)) | (tags[..., None] < 0)
    scores = _wide(emissions)
    both = jnp.concatenate([jnp.where(possible, scores, LOWEST), scores])  # one loop for the two sums
    known, every = jnp.split(log_partition(both, *(jnp.concatenate([x, x]) for x in (transitions, mask))), 2)
    return known - every


def path_scores(emissions: Array, transitions: Array, mask: Array, paths: Array) -> Array:
    """s(y) of the sequences `paths` (B, R, N). (B, R)"""
    chain = _chain(emissions, transitions, mask)
    size, tags = emissions.shape[-1], jnp.where(chain.real, jnp.moveaxis(paths, 1, 0).swapaxes(1, 2), 0)  # (R, N, B)
    before = jnp.concatenate([jnp.full_like(tags[:, :1], size), tags[:, :-1]], axis=1)
    last = jnp.take_along_axis(tags, jnp.maximum(jnp.sum(chain.real, axis=0) - 1, 0)[None, None], axis=1)[:, 0]
    rows = jnp.concatenate([chain.between, chain.start[:, None], chain.end[:, None]], axis=1)
    examples = jnp.arange(emissions.shape[0])
    moved = rows[examples, before, tags]
    emitted = jnp.take_along_axis(chain.emissions[None], tags[..., None], axis=-1)[..., 0]
    scores = jnp.sum(jnp.where(chain.real, moved + emitted, 0), axis=1) + rows[examples, size + 1, last]
    return jnp.where(chain.real[0], scores, 0).T


def best_paths(emissions: Array, transitions: Array, mask: Array, count: int = 1) -> tuple[Array, Array]:
    """The `count` sequences that score highest, best first, by the Viterbi algorithm with lists.

    Returns:
      (B, count, N) int32, 0 at padding, and their scores (B, count). A sentence that has fewer sequences gets some
      twice, with scores of LOWEST or about that.

    Reference: Seshadri, Sundberg, List Viterbi Decoding Algorithms with Applications, IEEE Trans. Commun. 1994.
    """
    chain = _chain(emissions, transitions, mask)
    examples, size = chain.start.shape
    stay = jnp.broadcast_to(jnp.arange(size * count, dtype=jnp.int32).reshape(size, count), (examples, size, count))

    def extend(scores: Array, at: tuple[Array, Array]) -> tuple[Array, Array]:
        """Scores (B, K, count) of the best beginnings that end in each tag, and which of K * count they continue."""
        emission, real = at[0][..., None], at[1][:, None, None]
        ways = scores[..., None] + chain.between[:, :, None]  # from tag, rank, to tag
        found, which = jax.lax.top_k(ways.reshape(examples, size * count, size).swapaxes(1, 2), count)
        return jnp.where(real, found + emission, scores), jnp.where(real, which, stay)

    def back(place: Array, which: Array) -> tuple[Array, Array]:
        before = jnp.take_along_axis(which.reshape(examples, size * count), place, axis=1)
        return before, place // count

    first = jnp.where(jnp.arange(count) == 0, (chain.start + chain.emissions[0])[..., None], LOWEST)
    scores, which = jax.lax.scan(extend, first, (chain.emissions[1:], chain.real[1:]))
    scores, place = jax.lax.top_k((scores + chain.end[..., None]).reshape(examples, size * count), count)
    place, tags = jax.lax.scan(back, place, which, reverse=True)
    tags = jnp.where(chain.real[..., None], jnp.concatenate([place[None] // count, tags]), 0)
    some = chain.real[0][:, None]
    alone = jnp.where(jnp.arange(count) == 0, 0, LOWEST).astype(scores.dtype)
    return jnp.moveaxis(tags, 0, -1).astype(jnp.int32), jnp.where(some, scores, alone)


def _forward(chain: Chain) -> Array:
    """log of the sum over all beginnings that end in a tag, with its own emission; as before at padding. (N, B, K)"""

    def extend(before: Array, at: tuple[Array, Array]) -> tuple[Array, Array]:
        emission, real = at
        after = jax.nn.logsumexp(before[:, :, None] + chain.between, axis=1) + emission
        after = jnp.where(real[:, None], after, before)
        return after, after

    first = chain.start + chain.emissions[0]
    return jnp.concatenate([first[None], jax.lax.scan(extend, first, (chain.emissions[1:], chain.real[1:]))[1]])


def _backward(chain: Chain) -> Array:
    """log of the sum over all ends that follow a tag, without its own emission. (N, B, K)"""

    def extend(after: Array, at: tuple[Array, Array]) -> tuple[Array, Array]:
        emission, real = at
        before = jax.nn.logsumexp(chain.between + (emission + after)[:, None], axis=2)
        before = jnp.where(real[:, None], before, after)
        return before, before

    steps = (chain.emissions[1:], chain.real[1:])
    return jnp.concatenate([jax.lax.scan(extend, chain.end, steps, reverse=True)[1], chain.end[None]])


def _chain(emissions: Array, transitions: Array, mask: Array) -> Chain:
    real, size = mask.astype(bool), emissions.shape[-1]
    transitions = jnp.where(real[:, :1, None], _wide(transitions), 0)
    emissions = jnp.where(real[..., None], _wide(emissions), 0).swapaxes(0, 1)
    return Chain(emissions, transitions[:, size], transitions[:, :size], transitions[:, size + 1], real.T)


def _wide(x: Array) -> Array:
    return x if x.dtype == jnp.float64 else x.astype(jnp.float32)
