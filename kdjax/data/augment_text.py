"""Augmentations of sentences: pure functions of (key, ids (L,)), padding 0 on the right before and after.

A sentence may become shorter. Networks see by the ids which tokens are real, so nothing else changes with it; the label
of what a sentence has become is the teacher's to say, and terms on hard labels have to be off for drawn views, or weak.

Reference: Tang, Lu, Liu, Mou, Vechtomova, Lin, Distilling Task-Specific Knowledge from BERT into Simple Neural
Networks, arXiv 1903.12136, sec. 3.3. The paper masks words, then takes an n-gram: in a config
({'kind': 'augment_text.mask'}, {'kind': 'augment_text.ngram'}). Its replacement of words by others of their part of
speech needs a tagger and is not here.
"""

import jax
import jax.numpy as jnp

from kdjax.data.augment import Augment
from kdjax.errors import UsageError
from kdjax.types import Array


def mask(*, probability: float = 0.1, token: int = 1) -> Augment:
    """Each word of a sentence, with a probability, replaced by the id `token`: 1 is the unknown word.

    Raises:
      UsageError: the probability is not in [0, 1], or the token is padding.
    """
    _check('mask', probability)
    if token < 1:
        raise UsageError(f'token of mask must be >= 1, since 0 is padding, got {token}')

    def augment(key: Array, ids: Array) -> Array:
        hidden = jax.random.bernoulli(key, probability, ids.shape) & (ids > 0)
        return jnp.where(hidden, jnp.asarray(token, ids.dtype), ids)

    return augment


def ngram(*, probability: float = 0.25, longest: int = 5) -> Augment:
    """A sentence, with a probability, cut down to an n-gram of itself: n from 1 to `longest`, all as likely, at a place
    that is drawn. A sentence shorter than n stays as it is.

    Raises:
      UsageError: the probability is not in [0, 1], or `longest` < 1.
    """
    _check('ngram', probability)
    if longest < 1:
        raise UsageError(f'longest of ngram must be >= 1, got {longest}')

    def augment(key: Array, ids: Array) -> Array:
        of_whether, of_size, of_place = jax.random.split(key, 3)
        length = jnp.sum(ids > 0, dtype=jnp.int32)
        size = jnp.minimum(jax.random.randint(of_size, (), 1, longest + 1), length)
        start = jax.random.randint(of_place, (), 0, length - size + 1)
        place = jnp.arange(len(ids))
        cut = jnp.where(place < size, ids[(start + place) % len(ids)], 0)
        return jnp.where(jax.random.bernoulli(of_whether, probability), cut, ids)

    return augment


def _check(name: str, probability: float) -> None:
    if not 0 <= probability <= 1:
        raise UsageError(f'probability of {name} must be in [0, 1], got {probability}')
