"""Which cell of a detector's maps answers for which object: centre sampling and ATSS, with static shapes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from kdjax.boxes import Cells, area, around, diou, pairwise_iou
from kdjax.types import Array

NEAREST = 9  # cells of a map that ATSS looks at for an object


class Objects(NamedTuple):
    """The objects of a batch, in pixels."""

    boxes: Array  # (B, N, 4)
    real: Array  # (B, N) bool
    labels: Array  # (B, N)


class Targets(NamedTuple):
    """What every cell should say."""

    classes: Array  # (B, M) int32, -1 of the background
    edges: Array  # (B, M, 4) distances to the edges of its object, in strides
    valuable: Array  # (B, M) 1 where a cell of the background is next to an object, else 0


def objects(boxes: Array, labels: Array, height: int, width: int) -> Objects:
    """Of boxes (B, N, 4) in [0, 1] and labels (B, N): what has an area and a label, in pixels."""
    pixels = boxes * jnp.asarray([width, height, width, height], boxes.dtype)
    return Objects(pixels, (area(boxes) > 0) & (labels >= 0), labels)


def targets(
    seen: Objects, cells: Cells, bins: int, assign: str, radius: float, anchor: float, valuable: float
) -> Targets:
    """What the cells should say.

    An object belongs to the first map whose bins reach over its longest side, or to the last. One that no cell fits has
    that which is nearest to its centre; of several objects a cell answers for the smallest ('centre'), or for that
    which its anchor overlaps most ('atss').

    Args:
      seen: the objects.
      cells: of the maps.
      bins: distances are at most bins - 1 strides.
      assign: 'centre' (Tian et al., FCOS, 2019): cells inside of the box whose centre is at most `radius` strides from
        its own along each axis; 'atss' (Zhang et al., 2020, algorithm 1): of the 9 nearest cells of every map those
        inside whose anchors overlap with the box by the mean of all and their standard deviation at least.
      radius: of 'centre', strides.
      anchor: side of a cell's anchor, strides.
      valuable: gamma of Zheng et al., Localization Distillation, 2022, algorithm 1: a cell is valuable whose anchor has
        a DIoU with a box from gamma times the threshold of ATSS up to that threshold. 0 for none.
    """
    gaps = _gaps(seen, cells)  # (B, M, N, 4)
    inside = (jnp.min(gaps, axis=-1) > 0) & seen.real[:, None]
    anchors = around(cells.centre, jnp.ones((len(cells.stride), 4)) * cells.stride[:, None] * anchor / 2)
    overlap = pairwise_iou(anchors, seen.boxes)
    near, threshold = _nearest(seen, cells, overlap)
    if assign == 'centre':
        fits = inside & _central(seen, cells, radius) & _of_level(seen, cells, bins)
        cost = jnp.broadcast_to(area(seen.boxes)[:, None], fits.shape)
    else:
        fits = inside & near & (overlap >= threshold[:, None])
        cost = -overlap
    fits |= _lonely(seen, cells, bins, ~jnp.any(fits, axis=1))
    chosen = jnp.argmin(jnp.where(fits, cost, jnp.inf), axis=2)
    positive = jnp.any(fits, axis=2)
    labels = jnp.take_along_axis(seen.labels, chosen, axis=1)
    own = jnp.take_along_axis(gaps, chosen[:, :, None, None], axis=2)[:, :, 0] / cells.stride[:, None]
    edges = jnp.where(positive[..., None], jnp.clip(own, 0, bins - 1), 0)
    classes = jnp.where(positive, labels, -1).astype(jnp.int32)
    if not valuable:
        return Targets(classes, edges, jnp.zeros_like(edges[..., 0]))
    distance = diou(anchors[None, :, None], seen.boxes[:, None])
    beside = (distance >= valuable * threshold[:, None]) & (distance <= threshold[:, None]) & seen.real[:, None]
    return Targets(classes, edges, (jnp.any(beside, axis=2) & ~positive).astype(edges.dtype))


def _gaps(seen: Objects, cells: Cells) -> Array:
    """Distances from the cells' centres to left, upper, right and lower edge of each box, in pixels. (B, M, N, 4)"""
    start, end = seen.boxes[:, None, :, :2], seen.boxes[:, None, :, 2:]
    centre = cells.centre[None, :, None]
    return jnp.concatenate([centre - start, end - centre], axis=-1)


def _apart(seen: Objects, cells: Cells) -> Array:
    """Distances of the cells' centres from those of the boxes, in pixels along each axis. (B, M, N, 2)"""
    middle = (seen.boxes[..., :2] + seen.boxes[..., 2:]) / 2
    return jnp.abs(cells.centre[None, :, None] - middle[:, None])


def _central(seen: Objects, cells: Cells, radius: float) -> Array:
    return jnp.all(_apart(seen, cells) <= radius * cells.stride[:, None, None], axis=-1)


def _of_level(seen: Objects, cells: Cells, bins: int) -> Array:
    """Whether a cell is of the map that a box belongs to. (B, M, N)"""
    strides = jnp.asarray([cells.stride[cells.level == level][0] for level in range(cells.level[-1] + 1)])
    longest = jnp.max(seen.boxes[..., 2:] - seen.boxes[..., :2], axis=-1)
    own = jnp.sum(longest[..., None] > (bins - 1) * strides[:-1], axis=-1)
    return cells.level[None, :, None] == own[:, None]


def _lonely(seen: Objects, cells: Cells, bins: int, alone: Array) -> Array:
    """The cell that is nearest to the centre of each box that no cell fits. (B, M, N)"""
    far = jnp.sum(jnp.square(_apart(seen, cells)), axis=-1)
    far = jnp.where(_of_level(seen, cells, bins), far, jnp.inf)
    nearest = jnp.argmin(far, axis=1)[:, None] == jnp.arange(len(cells.stride))[:, None]
    return nearest & (alone & seen.real)[:, None]


def _nearest(seen: Objects, cells: Cells, overlap: Array) -> tuple[Array, Array]:
    """Of every box the cells of each map that are nearest to its centre (B, M, N), and the threshold (B, N)."""
    far = jnp.sum(jnp.square(_apart(seen, cells)), axis=-1).swapaxes(1, 2)
    near = jnp.zeros(far.shape, bool)
    for level in range(cells.level[-1] + 1):
        own = jnp.where(cells.level == level, far, jnp.inf)
        place = jax.lax.top_k(-own, min(NEAREST, int((cells.level == level).sum())))[1]
        near |= jnp.any(place[..., None] == jnp.arange(len(cells.level)), axis=2)
    near = near.swapaxes(1, 2)
    count = jnp.sum(near, axis=1).astype(overlap.dtype)
    mean = jnp.sum(jnp.where(near, overlap, 0), axis=1) / count
    square = jnp.sum(jnp.where(near, jnp.square(overlap - mean[:, None]), 0), axis=1)
    return near, mean + jnp.sqrt(square / jnp.maximum(count - 1, 1))
