"""A one-stage detector without anchors of several shapes: each cell says a class, and a distribution for every edge."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from kdjax.boxes import Cells, around, cells, clipped, expected_distance
from kdjax.cpu.convolution import Conv
from kdjax.errors import UsageError
from kdjax.nets import pyramid
from kdjax.nets.base import compute_dtype, from_linen, tap
from kdjax.nets.layers import stage_taps
from kdjax.nets.pyramid import NAMES, PRIOR, Pyramid
from kdjax.types import Array, Net

GROUPS = 8  # channels that are normalised together, at most so many groups


class _Detect(nn.Module):
    """What is done to each map alike: convolutions, and what they say of classes and of edges."""

    classes: int
    bins: int
    width: int
    depth: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, Array, Array]:
        """The last map, logits of classes (B, H, W, K) and of edges (B, H, W, 4 bins)."""
        for number in range(1, self.depth + 1):
            x = Conv(self.width, (3, 3), use_bias=False, dtype=self.dtype, name=f'conv{number}')(x)
            groups = max(count for count in range(1, GROUPS + 1) if self.width % count == 0)
            x = nn.relu(nn.GroupNorm(groups, dtype=self.dtype, name=f'norm{number}')(x))
        start = nn.initializers.normal(0.01)
        prior = nn.initializers.constant(float(np.log(PRIOR / (1 - PRIOR))))
        classes = Conv(self.classes, (3, 3), kernel_init=start, bias_init=prior, dtype=self.dtype, name='classes')(x)
        edges = Conv(4 * self.bins, (3, 3), kernel_init=start, dtype=self.dtype, name='edges')(x)
        return x, classes, edges


class _Detector(Pyramid):
    classes: int
    strides: tuple[int, ...]
    bins: int
    depth: int

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool) -> Array:
        height, width = inputs.shape[1:3]
        stages = self.backbone(inputs, train)
        merged = self.merged({stride: stages[stride] for stride in self.strides})
        maps = [self.smoothed(x, number) for number, x in enumerate(merged, start=1)]
        detect = _Detect(self.classes, self.bins, self.neck, self.depth, self.dtype, name='detect')
        logits, edges = [], []
        for number, x in enumerate(maps, start=1):
            x, classes, distances = detect(tap(self, f'neck{number}', x))
            tap(self, f'tower{number}', x)
            tap(self, f'class_map{number}', classes)
            tap(self, f'edge_map{number}', distances)
            logits.append(classes.reshape(classes.shape[0], -1, self.classes))
            edges.append(distances.reshape(distances.shape[0], -1, 4, self.bins))
        every = tap(self, 'edges', jnp.concatenate(edges, axis=1))
        tap(self, 'boxes', decoded(every, cells(height, width, self.strides), height, width))
        return jnp.concatenate(logits, axis=1)


def decoded(edges: Array, places: Cells, height: int, width: int) -> Array:
    """The boxes that distributions (B, M, 4, bins) over distances in strides are, in [0, 1]. (B, M, 4)"""
    wide = edges.astype(jnp.promote_types(edges.dtype, jnp.float32))
    distances = expected_distance(wide) * places.stride[:, None]
    return clipped(around(places.centre, distances) / np.asarray([width, height, width, height], np.float32))


def detector(
    *,
    classes: int,
    strides: tuple[int, ...] = (8,),
    bins: int = 12,
    widths: tuple[int, ...] = (32, 64, 128),
    counts: tuple[int, ...] = (1, 1, 1),
    first: int = 0,
    stem: str = 'small',
    neck: int = 64,
    depth: int = 2,
    precision: str = 'float32',
    axis: str | None = None,
) -> Net:
    """A detector of the kind of GFL on a residual network; inputs (B, H, W) or (B, H, W, C).

    Logits are (B, M, K) of the cells of all maps, one map after the other, each row by row; of sigmoids. Taps: 'edges'
    (B, M, 4, bins), logits of the distances from a cell's centre to the edges of its box, in strides, and 'boxes'
    (B, M, 4) in [0, 1], their means. Of each map from the finest, 1, on: 'neck1' (B, H', W', neck), 'tower1' (B, H',
    W', neck), the last before what it says, and 'class_map1' (B, H', W', K) and 'edge_map1' (B, H', W', 4 bins),
    logits. Of the backbone 'stem', 'stage1', 'stage1_pre', ... as `resnet.resnet` has them.

    The convolutions over the maps are one for all of them, normalised in groups; the backbone is ResNet-18 with
    widths=(64, 128, 256, 512), counts=(2, 2, 2, 2), first=64 and stem='imagenet', and may start from its weights.

    Args:
      classes: number of logits of a cell.
      strides: of the maps, ascending, each twice the one before; stages must have them.
      bins: of an edge.
      widths, counts: channels and blocks of the stages, of which the second and later halve the map. A first one of no
        blocks is the stem alone, whose map is the largest and dearest.
      first: channels of the stem; those of the first stage if 0.
      stem: 'small', a 3x3 convolution of stride 2; 'imagenet', a 7x7 one and max-pooling, of stride 4 together.
      neck: channels of what is done to every map.
      depth: 3x3 convolutions before what a map says.
      precision: dtype of activations, 'float32' or 'bfloat16'.
      axis: name of the device axis over which batch statistics are taken; None on one device or under jit sharding.

    Raises:
      UsageError: an unknown stem, numbers below 1, or strides that no stages have.

    Reference: Li et al., Generalized Focal Loss, NeurIPS 2020; Lin et al., Feature Pyramid Networks, CVPR 2017.
    """
    pyramid.check(strides, stem, widths, counts, neck)
    if min(classes, bins - 1) < 1 or min(depth, first) < 0:
        raise UsageError(f'a detector needs numbers >= 1 and bins >= 2, got classes={classes}, bins={bins}, '
                         f'depth={depth}, first={first}')  # fmt: skip
    module = _Detector(
        compute_dtype(precision), axis, stem, first or widths[0], tuple(widths), tuple(counts), neck, classes,
        tuple(strides), bins, depth,
    )  # fmt: skip
    maps = [f'{name}{k}' for k in range(1, len(strides) + 1) for name in ('neck', 'tower', 'class_map', 'edge_map')]
    net = from_linen(module, ('stem', *stage_taps(len(widths)), *maps, 'edges', 'boxes'))
    return net._replace(names=NAMES)
