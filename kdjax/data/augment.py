"""Augmentations: pure functions of (key, image). View 0 of an example is the image itself; view v > 0 is drawn.

The draw depends on (seed, example id, view) alone, never on the batch: teacher, student and cache see the same pixels.
Images are as stored, bytes or floats, and keep their shape and dtype: what networks see comes after (`preprocess`).
So it is with tokens (N,). What moves labels too, such as boxes, is an `OfExample`.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from kdjax.errors import UsageError, unknown
from kdjax.types import Array, Batch, Tree


class OfExample(NamedTuple):
    """An augmentation of all that an example has: `apply(key, columns)` gives columns of the same shapes."""

    apply: Callable[[Array, Mapping[str, Tree]], Mapping[str, Tree]]


Augment = Callable[[Array, Array], Array] | OfExample  # (key, image) -> image


def identity() -> Augment:
    """No augmentation."""
    return _same


def _same(key: Array, image: Array) -> Array:
    return image


def chain(augments: Sequence[Augment]) -> Augment:
    """One augmentation after the other, each with a key of its own. In a config: a tuple of specs."""
    if any(isinstance(one, OfExample) for one in augments):
        return OfExample(functools.partial(_in_turn, [of_example(one) for one in augments]))

    def augment(key: Array, image: Array) -> Array:
        for place, one in enumerate(augments):
            assert not isinstance(one, OfExample)
            image = one(jax.random.fold_in(key, place), image)
        return image

    return augment


def _in_turn(augments: Sequence[OfExample], key: Array, columns: Mapping[str, Tree]) -> Mapping[str, Tree]:
    for place, one in enumerate(augments):
        columns = one.apply(jax.random.fold_in(key, place), columns)
    return columns


def of_example(augment: Augment) -> OfExample:
    """An augmentation of the inputs alone as one of the whole example.

    Raises:
      UsageError: once called, inputs that are several arrays.
    """
    if isinstance(augment, OfExample):
        return augment

    def apply(key: Array, columns: Mapping[str, Tree]) -> Mapping[str, Tree]:
        if not hasattr(columns['inputs'], 'dtype'):
            raise UsageError(
                f'inputs of several arrays, {sorted(columns["inputs"])}, need an augmentation of the whole example'
            )
        return {**columns, 'inputs': augment(key, columns['inputs'])}

    return OfExample(apply)


def crop(*, padding: int = 4, border: str = 'zero') -> Augment:
    """A piece of the padded image (H, W) or (H, W, C), of the image's own size, at a place that is drawn.

    Args:
      padding: pixels on every side.
      border: 'zero', or 'reflect' the image without repeating its edge.

    Raises:
      UsageError: `padding` < 1, an unknown border or, once called, more padding than image.

    Reference: He, Zhang, Ren, Sun, Deep Residual Learning for Image Recognition, CVPR 2016, sec. 4.2 (zeros).
    """
    modes = {'zero': 'constant', 'reflect': 'reflect'}
    if padding < 1:
        raise UsageError(f'padding of crop must be >= 1, got {padding}')
    if border not in modes:
        raise unknown('border', border, modes, ' of crop')

    def augment(key: Array, image: Array) -> Array:
        if padding > max(image.shape[:2]):
            raise UsageError(f'padding of crop is {padding}, and images are {image.shape[0]}x{image.shape[1]}')
        offset = jax.random.randint(key, (2,), 0, 2 * padding + 1)
        padded = jnp.pad(image, [(padding, padding)] * 2 + [(0, 0)] * (image.ndim - 2), mode=modes[border])
        return jax.lax.dynamic_slice(padded, (offset[0], offset[1], *(0,) * (image.ndim - 2)), image.shape)

    return augment


def flip() -> Augment:
    """Mirrors an image (H, W) or (H, W, C) left to right with probability 1/2."""
    return lambda key, image: jnp.where(jax.random.bernoulli(key), image[:, ::-1], image)


def shift(*, pixels: int = 1) -> Augment:
    """Moves an image (H, W) or (H, W, C) by up to `pixels` along each axis; what comes in is 0.

    Raises:
      UsageError: `pixels` < 1.
    """
    if pixels < 1:
        raise UsageError(f'pixels of shift must be >= 1, got {pixels}')
    return crop(padding=pixels)


def erase(*, share: float = 0.25) -> Augment:
    """Sets a square of an image (H, W) or (H, W, C) to 0; its area is `share` of the image's, its place is drawn.

    Raises:
      UsageError: `share` is not in (0, 1).
    """
    if not 0 < share < 1:
        raise UsageError(f'share of erase must be in (0, 1), got {share}')

    def augment(key: Array, image: Array) -> Array:
        height, width = image.shape[:2]
        side = max(1, round((share * height * width) ** 0.5))
        top, left = (
            jax.random.randint(own, (), 0, max(size - side, 0) + 1)
            for own, size in zip(jax.random.split(key), (height, width), strict=True)
        )
        rows, columns = jnp.arange(height)[:, None] - top, jnp.arange(width) - left
        inside = (rows >= 0) & (rows < side) & (columns >= 0) & (columns < side)
        return jnp.where(inside.reshape(height, width, *[1] * (image.ndim - 2)), 0, image)

    return augment


def views(augment: Augment, seed: int, columns: Batch, ids: Array, view: Array) -> Batch:
    """The given view of every example.

    Args:
      augment: the augmentation.
      seed: of all draws.
      columns: what the examples have, leaves (..., *example); the axes before those of an example are those of `ids`
        and `view`.
      ids: example ids.
      view: view numbers.
    """
    if augment is _same:
        return columns
    whole = of_example(augment)

    def one(example: Batch, identity: Array, number: Array) -> Batch:
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), identity), number)
        seen = whole.apply(key, example)
        return jax.tree.map(lambda new, old: new if new is old else jnp.where(number == 0, old, new), seen, example)

    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[ids.ndim :]), dict(columns))
    shown = jax.vmap(one)(flat, ids.reshape(-1), view.reshape(-1))
    return jax.tree.map(lambda leaf: leaf.reshape(*ids.shape, *leaf.shape[1:]), shown)
