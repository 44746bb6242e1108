"""A detector of one map that takes objects for points: where their centres are, how large they are, and the rest."""

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from kdjax.boxes import Cells, around, cells, clipped
from kdjax.cpu.convolution import Conv
from kdjax.errors import UsageError
from kdjax.nets import pyramid
from kdjax.nets.base import compute_dtype, from_linen, tap
from kdjax.nets.layers import stage_taps
from kdjax.nets.pyramid import NAMES, Pyramid
from kdjax.types import Array, Net

PRIOR = 0.1  # probability of a centre at first: e^-2.19 in the authors' code


class _Centres(Pyramid):
    classes: int
    stride: int
    inner: int

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool) -> Array:
        height, width = inputs.shape[1:3]
        maps = {stride: x for stride, x in self.backbone(inputs, train).items() if stride >= self.stride}
        x = nn.relu(self.norm(self.smoothed(self.merged(maps)[0], 1), 'neck_norm1', train))
        x = tap(self, 'neck1', x)
        prior = float(np.log(PRIOR / (1 - PRIOR)))
        heat = tap(self, 'class_map1', self.said(x, 'heat', self.classes, prior))
        highest = nn.max_pool(heat, (3, 3), padding='SAME')
        tap(self, 'peaks', _rows(heat >= highest).astype(jnp.float32))
        sizes = tap(self, 'sizes', _rows(self.said(x, 'size', 2)))
        offsets = tap(self, 'offsets', _rows(self.said(x, 'offset', 2)))
        tap(self, 'boxes', decoded(sizes, offsets, cells(height, width, (self.stride,)), height, width))
        return _rows(heat)

    def said(self, x: Array, name: str, channels: int, bias: float = 0.0) -> Array:
        """What a head of its own says of every place."""
        x = nn.relu(Conv(self.inner, (3, 3), dtype=self.dtype, name=f'detect_{name}1')(x))
        start, own = nn.initializers.normal(0.01), nn.initializers.constant(bias)
        return Conv(channels, (1, 1), kernel_init=start, bias_init=own, dtype=self.dtype, name=f'detect_{name}2')(x)


def _rows(x: Array) -> Array:
    """A map as rows of cells. (B, M, C)"""
    return x.reshape(x.shape[0], -1, x.shape[-1])


def decoded(sizes: Array, offsets: Array, places: Cells, height: int, width: int) -> Array:
    """The boxes about the centres of cells, moved by offsets, both (B, M, 2) in strides; in [0, 1]. (B, M, 4)"""
    wide = (x.astype(jnp.promote_types(x.dtype, jnp.float32)) * places.stride[:, None] for x in (sizes, offsets))
    half, moved = next(wide) / 2, next(wide)
    boxes = around(places.centre + moved, jnp.concatenate([half, half], axis=-1))
    return clipped(boxes / np.asarray([width, height, width, height], np.float32))


def detector(
    *,
    classes: int,
    strides: tuple[int, ...] = (4,),
    widths: tuple[int, ...] = (32, 64, 128),
    counts: tuple[int, ...] = (1, 1, 1),
    first: int = 0,
    stem: str = 'small',
    neck: int = 64,
    head: int = 64,
    precision: str = 'float32',
    axis: str | None = None,
) -> Net:
    """A detector of the kind of CenterNet on a residual network; inputs (B, H, W) or (B, H, W, C).

    Logits are (B, M, K) of the cells of one map, row by row: of a sigmoid, how surely the centre of an object lies
    there. Taps: 'sizes' (B, M, 2), width and height of the object whose centre it is, and 'offsets' (B, M, 2), from the
    cell's centre to the object's along x and y, both in strides; 'boxes' (B, M, 4) in [0, 1], which both make; 'peaks'
    (B, M, K), 1 where no place of the 3x3 about it is surer, by which objects are found without suppression. 'neck1'
    (B, H', W', neck), the map that heads read, and 'class_map1' (B, H', W', K), the logits as a map; of the backbone
    'stem', 'stage1', 'stage1_pre', ... as `resnet.resnet` has them.

    The map is the finest of a feature pyramid, where the authors learn to enlarge the last; the backbone may start from
    weights as that of `gfl.detector` may.

    Args:
      classes: number of logits of a cell.
      strides: of the map: a single one, that a stage has.
      widths, counts: channels and blocks of the stages, of which the second and later halve the map. A first one of no
        blocks is the stem alone, whose map is the largest and dearest.
      first: channels of the stem; those of the first stage if 0.
      stem: 'small', a 3x3 convolution of stride 2; 'imagenet', a 7x7 one and max-pooling, of stride 4 together.
      neck: channels of the map.
      head: channels between the two convolutions of each head.
      precision: dtype of activations, 'float32' or 'bfloat16'.
      axis: name of the device axis over which batch statistics are taken; None on one device or under jit sharding.

    Raises:
      UsageError: an unknown stem, numbers below 1, or not one stride that a stage has.

    Reference: Zhou, Wang, Kraehenbuehl, Objects as Points, 2019 (1904.07850), sec. 3 and 4.
    """
    pyramid.check(strides, stem, widths, counts, neck)
    if len(strides) != 1 or min(classes, head) < 1 or first < 0:
        raise UsageError(f'a detector of points needs one stride and numbers >= 1, got strides={tuple(strides)}, '
                         f'classes={classes}, head={head}, first={first}')  # fmt: skip
    module = _Centres(
        compute_dtype(precision), axis, stem, first or widths[0], tuple(widths), tuple(counts), neck, classes,
        strides[0], head,
    )  # fmt: skip
    found = ('neck1', 'class_map1', 'peaks', 'sizes', 'offsets', 'boxes')
    net = from_linen(module, ('stem', *stage_taps(len(widths)), *found))
    return net._replace(names=NAMES)
