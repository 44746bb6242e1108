"""The few highest of many numbers, as `jax.lax.top_k` finds them, sooner."""

import jax
import jax.numpy as jnp

from kdjax.types import Array

BLOCKS = range(64, 15, -1)  # numbers of which the maximum is taken first


def highest(x: Array, add: Array, count: int) -> tuple[Array, Array]:
    """Values and places of the `count` highest of x (B, K, V) + add (B, K, 1), of each B, among all K V.

    Of equal ones those of the lowest places come first. All lie in the `count` blocks whose maxima are the highest: a
    few blocks are ordered and not all of x, where a number of BLOCKS divides V.
    """
    rows, each, size = x.shape
    block = _block(size)
    if not block or each * size // block <= 2 * count:
        return _ordered((x + add).reshape(rows, -1), count)
    blocks, parts = size // block, x.reshape(rows, -1, block)
    tops = jnp.max(parts, axis=-1).reshape(rows, each, blocks) + add
    # In the order of their places, so that equal numbers stay in theirs
    where = jnp.sort(_ordered(tops.reshape(rows, -1), count)[1], axis=-1)
    few = jnp.take_along_axis(parts, where[..., None], axis=1)
    few = few + jnp.take_along_axis(add[..., 0], where // blocks, axis=1)[..., None]
    values, places = _ordered(few.reshape(rows, -1), count)
    return values, jnp.take_along_axis(where, places // block, axis=1) * block + places % block


def first(x: Array) -> Array:
    """Where the highest of each row of x (B, V) is, the lowest of such places. (B,)"""
    block = _block(x.shape[1])
    if not block:
        return jnp.argmax(x, axis=-1)
    parts = x.reshape(len(x), -1, block)
    where = jnp.argmax(jnp.max(parts, axis=-1), axis=-1)
    return where * block + jnp.argmax(jnp.take_along_axis(parts, where[:, None, None], axis=1)[:, 0], axis=-1)


def _ordered(x: Array, count: int) -> tuple[Array, Array]:
    """Values and places of the `count` highest of each row of x (B, V), one after the other.

    Inside of a loop XLA makes a whole sort of `jax.lax.top_k` on a CPU, which costs ten times as much.
    """
    places = jnp.arange(x.shape[1], dtype=jnp.int32)

    def following(last: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        value, place = last
        later = (x < value) | ((x == value) & (places > place))
        value = jnp.max(x, axis=-1, keepdims=True, where=later, initial=-jnp.inf)
        place = jnp.min(jnp.where(later & (x == value), places, len(places) - 1), axis=-1, keepdims=True)
        return (value, place), (value[:, 0], place[:, 0])

    begun = jnp.full_like(x[:, :1], jnp.inf), jnp.full((len(x), 1), -1, jnp.int32)
    values, where = jax.lax.scan(following, begun, length=count)[1]
    return values.T, where.T


def _block(size: int) -> int:
    return next((block for block in BLOCKS if size % block == 0), 0)
