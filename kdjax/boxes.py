"""Boxes x0, y0, x1, y1: how two overlap, which of many are kept, and the cells of the maps that detectors answer for.

A box without area is none: it overlaps with nothing.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.types import Array

EPSILON = 1e-7  # in denominators


class Cells(NamedTuple):
    """The cells of maps, one map after the other, each row by row."""

    centre: np.ndarray  # (M, 2) x, y in pixels
    stride: np.ndarray  # (M,) pixels
    level: np.ndarray  # (M,) number of the map


class Kept(NamedTuple):
    """Which boxes are kept, best first, in arrays of a fixed length."""

    place: Array  # (count,) int32, 0 where there is none
    valid: Array  # (count,) bool


def area(boxes: Any) -> Any:
    """Of boxes (..., 4), 0 where an end is before its beginning. (...)"""
    return (boxes[..., 2] - boxes[..., 0]).clip(0) * (boxes[..., 3] - boxes[..., 1]).clip(0)


def iou(a: Any, b: Any) -> Any:
    """Intersection over union of boxes (..., 4) and (..., 4), which broadcast; of numpy's or JAX's arrays. (...)"""
    shared, union = _shared(a, b)
    return shared / (union + (union <= 0).astype(union.dtype))


def _shared(a: Any, b: Any) -> tuple[Any, Any]:
    """Areas of the intersection and of the union."""
    xp = np if isinstance(a, np.ndarray) and isinstance(b, np.ndarray) else jnp
    sides = (xp.minimum(a[..., 2:], b[..., 2:]) - xp.maximum(a[..., :2], b[..., :2])).clip(0)
    shared = sides[..., 0] * sides[..., 1]
    return shared, area(a) + area(b) - shared


def pairwise_iou(a: Any, b: Any) -> Any:
    """Of every box of (..., M, 4) with every box of (..., N, 4). (..., M, N)"""
    return iou(a[..., :, None, :], b[..., None, :, :])


def giou(a: Array, b: Array) -> Array:
    """IoU minus the share of the smallest box around both that neither covers, in [-1, 1]. (...)

    Reference: Rezatofighi et al., Generalized Intersection over Union, CVPR 2019, algorithm 1.
    """
    shared, union = _shared(a, b)
    union = jnp.maximum(union, EPSILON)
    width, height = _around(a, b)
    around = jnp.maximum(width * height, EPSILON)
    return shared / union - (around - union) / around


def diou(a: Array, b: Array) -> Array:
    """IoU minus the squared distance of the centres over that of the corners of the smallest box around both. (...)

    Reference: Zheng et al., Distance-IoU Loss, AAAI 2020, eq. (7).
    """
    shared, union = _shared(a, b)
    width, height = _around(a, b)
    apart = jnp.square(a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]) / 4
    far = jnp.square(width) + jnp.square(height) + EPSILON
    return shared / (union + EPSILON) - jnp.sum(apart, axis=-1) / far


def ciou(a: Array, b: Array) -> Array:
    """DIoU minus alpha v: v is how much the ratios of the sides differ, alpha = v / (1 - IoU + v). (...)

    Reference: Zheng et al., Distance-IoU Loss, AAAI 2020, eqs. (8) to (11); a gradient flows through alpha, as in
    mmdetection.
    """
    shared, union = _shared(a, b)
    first, second = (jnp.arctan((x[..., 2] - x[..., 0]) / (x[..., 3] - x[..., 1] + EPSILON)) for x in (a, b))
    v = 4 / jnp.pi**2 * jnp.square(second - first)
    rest = 1 - shared / (union + EPSILON) + v
    return diou(a, b) - jnp.square(v) / jnp.where(rest > 0, rest, 1)


def _around(a: Array, b: Array) -> tuple[Array, Array]:
    """Width and height of the smallest box around both."""
    sides = jnp.maximum(a[..., 2:], b[..., 2:]) - jnp.minimum(a[..., :2], b[..., :2])
    return sides[..., 0], sides[..., 1]


def nms(boxes: Array, scores: Array, threshold: float, count: int, classes: Array | None = None) -> Kept:
    """Best first, the boxes that overlap by more than `threshold` with none that is kept before; at most `count`.

    A score that is not finite, or -inf, is no box. Under jit: what is kept is the one assignment in which a box is kept
    exactly where no kept better one overlaps; it is found from the best on, in as many rounds as the longest chain of
    boxes of which each drops the next.

    Args:
      boxes: (N, 4).
      scores: (N,); of equal ones the first comes first.
      threshold: IoU in [0, 1].
      count: how many are kept at most.
      classes: (N,) integers; boxes of two classes do not drop each other. None where there is one.
    """
    order = jnp.argsort(-jnp.where(jnp.isfinite(scores), scores, -jnp.inf), stable=True)
    boxes, real = boxes[order], jnp.isfinite(scores[order])
    drops = (pairwise_iou(boxes, boxes) > threshold) & jnp.triu(jnp.ones((len(boxes),) * 2, bool), 1)
    if classes is not None:
        drops &= classes[order][:, None] == classes[order]

    def changes(state: tuple[Array, Array]) -> Array:
        return jnp.any(state[0] != state[1])

    def improve(state: tuple[Array, Array]) -> tuple[Array, Array]:
        return real & ~jnp.any(drops & state[0][:, None], axis=0), state[0]

    kept, _ = jax.lax.while_loop(changes, improve, improve((real, real)))
    place = jnp.argsort(~kept, stable=True)[:count]
    valid = kept[place]
    return Kept(jnp.where(valid, order[place], 0).astype(jnp.int32), valid)


def nms_on_host(
    boxes: np.ndarray, scores: np.ndarray, threshold: float, classes: np.ndarray | None = None
) -> np.ndarray:
    """The positions of all that are kept, best first; arguments as of `nms`."""
    kept: list[int] = []
    for place in np.argsort(-scores, kind='stable'):
        others = [other for other in kept if classes is None or classes[other] == classes[place]]
        if np.isfinite(scores[place]) and not np.any(pairwise_iou(boxes[[place]], boxes[others]) > threshold):
            kept.append(int(place))
    return np.asarray(kept, np.int64)


def cells(height: int, width: int, strides: tuple[int, ...]) -> Cells:
    """Of images of that size: a map of stride s has ceil(height / s) rows, and cells begin at multiples of s."""
    centres, levels = [], []
    for level, stride in enumerate(strides):
        rows, columns = (np.arange(-(-size // stride)) * stride + stride / 2 for size in (height, width))
        y, x = np.meshgrid(rows, columns, indexing='ij')
        centres.append(np.stack([x.ravel(), y.ravel()], axis=1))
        levels.append(np.full(x.size, level))
    of_cells = np.concatenate(levels)
    return Cells(np.concatenate(centres).astype(np.float32), np.asarray(strides, np.float32)[of_cells], of_cells)


def around(centre: Any, distances: Array) -> Array:
    """Boxes (..., 4) of distances (..., 4) to the left, upper, right and lower edge from points (..., 2)."""
    return jnp.concatenate([centre - distances[..., :2], centre + distances[..., 2:]], axis=-1)


def clipped(boxes: Array) -> Array:
    """What of boxes (..., 4) lies in [0, 1]."""
    return jnp.clip(boxes, 0, 1)


def expected_distance(edges: Array) -> Array:
    """The mean of distributions over bins 0, 1, 2, ..., given by logits (..., bins). (...)"""
    bins = jnp.arange(edges.shape[-1], dtype=edges.dtype)
    return jnp.sum(jax.nn.softmax(edges, axis=-1) * bins, axis=-1)
