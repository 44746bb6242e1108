"""Draws of ids that an example has for itself, wherever it stands in a batch and on however many devices."""

from typing import Any

import jax
import jax.numpy as jnp

from kdjax.dataset import picked
from kdjax.types import Array

SPARE = 7, 1 / 5  # draws beyond those that are taken, in the place of those that may not be: at least, and a share


def key_of(identity: Array, view: Array) -> Array:
    """The key of an example's view: its draws depend neither on its place nor on devices."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(0), identity), view)


def part(keys_B: Array, place: int) -> Array:
    """The keys of one of an example's draws, those of the others are not made: `jax.random.split` has them in turn."""
    return jax.vmap(lambda key: jax.random.fold_in(key, place))(keys_B)


def drawn(keys_B: Array, count: int, seen: Any, avoided_BP: Array | None = None) -> Array:
    """Ids drawn uniformly, with replacement, from those that are neither seen nor avoided. (B, count) int32

    More are drawn than are taken. Where too few of them may be, those that may are taken again.
    """
    spare, share = SPARE
    size, ids = count + max(spare, int(share * count)), 32 * seen.shape[-1]
    bits_BD = jax.vmap(lambda key: jax.random.bits(key, (size,), jnp.uint32))(keys_B)
    drawn_BD = (bits_BD % ids).astype(jnp.int32)
    bad_BD = _bit(picked(seen, drawn_BD // 32), drawn_BD)
    if avoided_BP is not None:
        bad_BD |= jnp.any(drawn_BD[:, :, None] == avoided_BP[:, None], axis=2)
    before_BD = jnp.cumsum((~bad_BD).astype(jnp.int32), axis=1)
    wanted_BC = jnp.arange(count) % jnp.maximum(before_BD[:, -1:], 1)
    # Where the wanted one of those that may be lies; the first of all where none may.
    place_BC = jnp.sum(before_BD[:, None] <= wanted_BC[:, :, None], axis=2) % size
    return jnp.take_along_axis(drawn_BD, place_BC, axis=1)


def _bit(words: Array, ids: Array) -> Array:
    return (words >> (ids % 32).astype(words.dtype)) & 1 > 0
