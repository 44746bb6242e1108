"""The few highest of many numbers, as `jax.lax.top_k` finds them, sooner."""

import jax
import jax.numpy as jnp

from kdjax.types import Array

BLOCK = 64  # numbers of which the maximum is taken first


def highest(x: Array, count: int) -> tuple[Array, Array]:
    """Values and places of the `count` highest along the last axis, of equal ones those of the lowest places first.

    All of them lie in the `count` blocks whose maxima are the highest: a few blocks are ordered and not all of x.
    """
    blocks = -(-x.shape[-1] // BLOCK)
    if blocks <= 2 * count:
        found: tuple[Array, Array] = tuple(jax.lax.top_k(x, count))
        return found
    short = blocks * BLOCK - x.shape[-1]
    x = jnp.pad(x, [*[(0, 0)] * (x.ndim - 1), (0, short)], constant_values=-jnp.inf)
    parts = x.reshape(*x.shape[:-1], blocks, BLOCK)
    # In the order of their places, so that equal numbers stay in theirs
    where = jnp.sort(jax.lax.top_k(jnp.max(parts, axis=-1), count)[1], axis=-1)
    few = jnp.take_along_axis(parts, where[..., None], axis=-2)
    values, places = jax.lax.top_k(few.reshape(*few.shape[:-2], -1), count)
    return values, jnp.take_along_axis(where, places // BLOCK, axis=-1) * BLOCK + places % BLOCK
