"""The smallest of many numbers, how many being traced, without sorting them."""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from kdjax.types import Array


def smallest(magnitudes: Sequence[Array], count: Array | int) -> list[Array]:
    """Of several arrays together the `count` smallest numbers, of equal ones the first.

    Args:
      magnitudes: >= 0, of one dtype of floats.
      count: () from 0 to the size of all.

    Returns:
      True for those, in the shapes of the arrays.
    """
    keys = [as_bits(array) for array in magnitudes]
    return smallest_of_bits(keys, jnp.asarray(count, jnp.int32), jnp.finfo(magnitudes[0].dtype).bits - 1)


def smallest_of_bits(keys: Sequence[Array], count: Array, bits: int) -> list[Array]:
    """The same of integers >= 0 that have so many bits; `count` is int32.

    A bisection over the bits finds the number that divides them, and ends as soon as so many are below it; where
    several equal it, another over their places.
    """
    flat = jnp.concatenate([key.reshape(-1) for key in keys])
    value, found = _bisected(flat, jnp.ones((), bool), count, bits)
    places, equal = jnp.arange(flat.size, dtype=jnp.int32), flat == value
    end, _ = _bisected(places, equal, count - found, flat.size.bit_length())
    chosen = (flat < value) | (equal & (places < end))
    ends = list(itertools.accumulate(key.size for key in keys))
    return [part.reshape(key.shape) for part, key in zip(jnp.split(chosen, ends[:-1]), keys, strict=True)]


def as_bits(magnitudes: Array) -> Array:
    """Floats >= 0 as integers, which order as they do."""
    return jax.lax.bitcast_convert_type(magnitudes, f'int{jnp.finfo(magnitudes.dtype).bits}')


def _bisected(keys: Array, of: Array, count: Array, bits: int) -> tuple[Array, Array]:
    """A number below which lie `count` of the keys that it is `of`, or as many as can without more; and how many."""

    def below(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        value, found, place = state
        candidate = value | (jnp.ones((), keys.dtype) << place.astype(keys.dtype))
        reached = jnp.sum((keys < candidate) & of, dtype=jnp.int32)
        fits = reached <= count
        return jnp.where(fits, candidate, value), jnp.where(fits, reached, found), place - 1

    def unfinished(state: tuple[Array, Array, Array]) -> Array:
        return (state[2] >= 0) & (state[1] != count)

    begin = jnp.zeros((), keys.dtype), jnp.zeros((), jnp.int32), jnp.full((), bits - 1, jnp.int32)
    value, found, _ = jax.lax.while_loop(unfinished, below, begin)
    return value, found
