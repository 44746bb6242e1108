"""Augmentations of pictures with boxes: one draw moves the pixels and the column 'boxes'.

Boxes (M, 4) are x0, y0, x1, y1 in [0, 1]. What leaves the picture is cut off, and a box of which less than 30 % is left
becomes padding: all 0, without area. Its class stays where it is. New pixels are the picture's mean: were they those of
its edge, what was cut off would go on where it has no box.
"""

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from kdjax.boxes import area, clipped
from kdjax.data.augment import OfExample
from kdjax.errors import UsageError
from kdjax.types import Array, Tree

LEAST = 0.3  # of a box's area


def flip(*, horizontal: float = 0.5, vertical: float = 0.0) -> OfExample:
    """Mirrors left to right, and top to bottom, with these probabilities.

    Raises:
      UsageError: a probability that is none.
    """
    if not (0 <= horizontal <= 1 and 0 <= vertical <= 1):
        raise UsageError(f'probabilities of flip must be in [0, 1], got {horizontal} and {vertical}')
    return _of_picture(functools.partial(_flip, (float(horizontal), float(vertical))))


def _flip(chances: tuple[float, float], key: Array, image: Array, boxes: Array) -> tuple[Array, Array]:
    across, down = (jax.random.bernoulli(own, p) for own, p in zip(jax.random.split(key), chances, strict=True))
    image = jnp.where(across, image[:, ::-1], image)
    image = jnp.where(down, image[::-1], image)
    x0, y0, x1, y1 = (boxes[:, side] for side in range(4))
    x0, x1 = jnp.where(across, 1 - x1, x0), jnp.where(across, 1 - x0, x1)
    y0, y1 = jnp.where(down, 1 - y1, y0), jnp.where(down, 1 - y0, y1)
    return image, jnp.stack([x0, y0, x1, y1], axis=1)


def scale(*, share: float = 0.2) -> OfExample:
    """Enlarges about the centre, or makes smaller, by a factor in 1 - share to 1 + share, the same for both axes.

    Raises:
      UsageError: `share` is not in (0, 1).
    """
    _checked('scale', share)

    def place(key: Array) -> tuple[Array, Array]:
        factor = jax.random.uniform(key, (), minval=1 - share, maxval=1 + share)
        return jnp.stack([factor, factor]), jnp.stack([0.5 - 0.5 * factor] * 2)

    return _of_picture(functools.partial(_placed, place))


def shift(*, share: float = 0.1) -> OfExample:
    """Moves along each axis by up to that share of the picture's side.

    Raises:
      UsageError: `share` is not in (0, 1).
    """
    _checked('shift', share)

    def place(key: Array) -> tuple[Array, Array]:
        return jnp.ones(2), jax.random.uniform(key, (2,), minval=-share, maxval=share)

    return _of_picture(functools.partial(_placed, place))


def crop(*, share: float = 0.7) -> OfExample:
    """A part of the picture, of that share of its sides at least, is made as large as the picture.

    Raises:
      UsageError: `share` is not in (0, 1).
    """
    _checked('crop', share)

    def place(key: Array) -> tuple[Array, Array]:
        of_size, of_place = jax.random.split(key)
        part = jax.random.uniform(of_size, (), minval=share, maxval=1)
        start = jax.random.uniform(of_place, (2,)) * (1 - part)
        return jnp.stack([1 / part, 1 / part]), -start / part

    return _of_picture(functools.partial(_placed, place))


def _checked(name: str, share: float) -> None:
    if not 0 < share < 1:
        raise UsageError(f'share of {name} must be in (0, 1), got {share}')


def _of_picture(move: Callable[[Array, Array, Array], tuple[Array, Array]]) -> OfExample:
    """What moves the picture (H, W, C) and the boxes (M, 4) of an example."""

    def apply(key: Array, columns: Mapping[str, Tree]) -> Mapping[str, Tree]:
        for column in ('inputs', 'boxes'):
            if column not in columns:
                raise UsageError(f'an augmentation of boxes needs the column {column!r}, there are: '
                                 f'{", ".join(sorted(columns))}')  # fmt: skip
        image, boxes = move(key, columns['inputs'], columns['boxes'])
        return {**columns, 'inputs': image.astype(columns['inputs'].dtype), 'boxes': left(columns['boxes'], boxes)}

    return OfExample(apply)


def left(before: Array, after: Array) -> Array:
    """Of boxes that were moved (M, 4) what lies in the picture; 0 of one of which too little does, or that was none."""
    inside, whole = clipped(after), area(after)
    kept = (area(before) > 0) & (area(inside) >= LEAST * whole) & (whole > 0)
    return jnp.where(kept[:, None], inside, 0).astype(before.dtype)


def _placed(
    place: Callable[[Array], tuple[Array, Array]], key: Array, image: Array, boxes: Array
) -> tuple[Array, Array]:
    """Picture and boxes where x goes to factor x + offset, both (2,) of x and y in [0, 1]; linear in between."""
    factor, offset = place(key)
    height, width = image.shape[:2]
    mean = jnp.mean(image.astype(jnp.float32), axis=(0, 1))
    moved = image.astype(jnp.float32) - mean
    for axis, (size, k) in enumerate(((height, 1), (width, 0))):
        # The pixel that comes to stand at each place, and its two neighbours' shares.
        places = jnp.arange(size, dtype=jnp.float32)
        source = ((places + 0.5) / size - offset[k]) / factor[k] * size - 0.5
        inside = (source >= -0.5) & (source <= size - 0.5)
        shares = jnp.maximum(1 - jnp.abs(jnp.clip(source, 0, size - 1)[:, None] - places), 0)
        shares = jnp.where(inside[:, None], shares, 0)
        moved = jnp.moveaxis(jnp.tensordot(shares, moved, axes=(1, axis)), 0, axis)
    integers = jnp.issubdtype(image.dtype, jnp.integer)
    moved += mean
    return (jnp.round(moved) if integers else moved), boxes * jnp.tile(factor, 2) + jnp.tile(offset, 2)
