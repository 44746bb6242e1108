"""The smallest of many numbers, how many being traced, without sorting them."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from kdjax.types import Array


def smallest(magnitudes: Sequence[Array], count: Array | int) -> list[Array]:
    """Of several arrays together the `count` smallest numbers, of equal ones the first.

    Numbers >= 0 order as their bits do, so a bisection over the bits finds the threshold without sorting: 31 times
    compare and count, of a traced `count`.

    Args:
      magnitudes: >= 0, of one dtype of floats.
      count: () from 0 to the size of all.

    Returns:
      True for those, in the shapes of the arrays.
    """
    width = jnp.finfo(magnitudes[0].dtype).bits
    keys = [jax.lax.bitcast_convert_type(array, f'int{width}') for array in magnitudes]
    return smallest_of_bits(keys, jnp.asarray(count, jnp.int32), width - 1)


def smallest_of_bits(keys: Sequence[Array], count: Array, bits: int) -> list[Array]:
    """The same of integers >= 0 that have so many bits; `count` is int32."""

    def below(threshold: Array) -> Array:
        return sum((jnp.sum(key < threshold, dtype=jnp.int32) for key in keys), jnp.zeros((), jnp.int32))

    threshold = _largest(lambda candidate: below(candidate) <= count, bits, keys[0].dtype)
    more = count - below(threshold)  # of those that equal the threshold
    offsets = [sum(key.size for key in keys[:place]) for place in range(len(keys))]
    places = [jnp.arange(key.size, dtype=jnp.int32).reshape(key.shape) + start
              for key, start in zip(keys, offsets, strict=True)]  # fmt: skip

    def before(place: Array) -> Array:
        equal = (jnp.sum((key == threshold) & (own < place), dtype=jnp.int32)
                 for key, own in zip(keys, places, strict=True))  # fmt: skip
        return sum(equal, jnp.zeros((), jnp.int32))

    size = sum(key.size for key in keys)
    end = _largest(lambda candidate: before(candidate) <= more, size.bit_length(), jnp.int32)
    return [(key < threshold) | ((key == threshold) & (own < end)) for key, own in zip(keys, places, strict=True)]


def _largest(holds: Callable[[Array], Array], bits: int, dtype: Any) -> Array:
    """The largest integer of so many bits that it holds for, as it does for all that are smaller."""

    def bisected(place: Array, found: Array) -> Array:
        candidate = found | (jnp.ones((), dtype) << (bits - 1 - place).astype(dtype))
        return jnp.where(holds(candidate), candidate, found)

    return jax.lax.fori_loop(0, bits, bisected, jnp.zeros((), dtype))
