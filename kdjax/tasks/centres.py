"""Which cell of a map an object's centre lies in, and how much of a centre the cells about it are."""

from typing import NamedTuple

import jax.numpy as jnp

from kdjax.boxes import Cells
from kdjax.tasks.targets import Objects
from kdjax.types import Array

OVERLAP = 0.7  # IoU with its box that one about any cell within the radius of an object has


class Centres(NamedTuple):
    """What every cell should say."""

    heat: Array  # (B, M, K) 1 at a centre, less about it, in [0, 1]
    classes: Array  # (B, M) int32, of the object whose centre it has, or -1
    sizes: Array  # (B, M, 2) its width and height, in strides; 0 where there is none
    offsets: Array  # (B, M, 2) from the cell's centre to the object's, in strides, in [-1/2, 1/2]; 0 likewise


def centres(seen: Objects, cells: Cells, classes: int) -> Centres:
    """What the cells of one map should say.

    A centre is a normal distribution about its cell, cut off at the radius of `radii` in whole cells, with a standard
    deviation of a sixth of 2 radius + 1; of several of a class the highest counts. A cell with two centres has the
    smaller object.

    Args:
      seen: the objects.
      cells: of the map.
      classes: how many there are.

    Reference: Zhou, Wang, Kraehenbuehl, Objects as Points, 2019, sec. 3.
    """
    stride = cells.stride[0]
    own = jnp.asarray(cells.centre / stride - 0.5)  # (M, 2) column and row
    middle = (seen.boxes[..., :2] + seen.boxes[..., 2:]) / 2 / stride
    # A centre on the lower or right edge belongs to the last cells.
    place = jnp.clip(jnp.floor(middle), 0, own.max(axis=0))  # (B, N, 2)
    apart = jnp.abs(own[None, :, None] - place[:, None])  # (B, M, N, 2) cells
    sizes = (seen.boxes[..., 2:] - seen.boxes[..., :2]) / stride
    radius = jnp.floor(radii(sizes))[:, None]
    deviation = (2 * radius + 1) / 6
    heat = jnp.exp(-jnp.sum(jnp.square(apart), axis=-1) / (2 * jnp.square(deviation)))
    heat = jnp.where(seen.real[:, None] & jnp.all(apart <= radius[..., None], axis=-1), heat, 0)
    of_class = jnp.stack([jnp.max(jnp.where((seen.labels == k)[:, None], heat, 0), axis=2) for k in range(classes)], -1)
    here = jnp.all(apart == 0, axis=-1) & seen.real[:, None]
    chosen = jnp.argmin(jnp.where(here, jnp.prod(sizes, axis=-1)[:, None], jnp.inf), axis=2)
    any_here = jnp.any(here, axis=2)
    labels = jnp.take_along_axis(seen.labels, chosen, axis=1)

    def of_chosen(x: Array) -> Array:
        return jnp.where(any_here[..., None], jnp.take_along_axis(x, chosen[..., None], axis=1), 0)

    offsets = of_chosen(middle) - jnp.where(any_here[..., None], own + 0.5, 0)
    return Centres(of_class, jnp.where(any_here, labels, -1).astype(jnp.int32), of_chosen(sizes), offsets)


def radii(sizes: Array) -> Array:
    """How far both corners of boxes (..., 2), width and height, may be off, if an IoU of `OVERLAP` is to be left. (...)

    The least of three: both corners moved the same way, both inwards, both outwards.

    Reference: Law, Deng, CornerNet, ECCV 2018, sec. 3.2, with the roots as mmdetection has them.
    """
    around, area = jnp.sum(sizes, axis=-1), jnp.prod(sizes, axis=-1)
    same = _root(1.0, -around, area * (1 - OVERLAP) / (1 + OVERLAP))
    inwards = _root(4.0, -2 * around, area * (1 - OVERLAP))
    outwards = _root(-4 * OVERLAP, -2 * OVERLAP * around, area * (1 - OVERLAP))
    return jnp.minimum(jnp.minimum(same, inwards), outwards)


def _root(a: float, b: Array, c: Array) -> Array:
    """The smaller root beyond 0 of a x^2 + b x + c, where b <= 0 <= c."""
    return 2 * c / jnp.maximum(-b + jnp.sqrt(jnp.maximum(jnp.square(b) - 4 * a * c, 0)), 1e-9)
