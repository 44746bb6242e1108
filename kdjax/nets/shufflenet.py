"""ShuffleNet V1 and V2 for small images: channels in groups, shuffled between them."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from kdjax.errors import UsageError
from kdjax.nets.base import compute_dtype, from_linen, repeated, tap
from kdjax.nets.layers import Layers, fan_in_uniform, images, stage_taps
from kdjax.types import Array, Net

# Channels of the three stages and before the classifier; blocks of each stage after the first.
SIZES = {
    0.2: ((40, 80, 160, 512), (3, 3, 3)),
    0.3: ((40, 80, 160, 512), (3, 7, 3)),
    0.5: ((48, 96, 192, 1024), (3, 7, 3)),
    1.0: ((116, 232, 464, 1024), (3, 7, 3)),
    1.5: ((176, 352, 704, 1024), (3, 7, 3)),
    2.0: ((224, 488, 976, 2048), (3, 7, 3)),
}


class _Layers(Layers):
    def normed(self, x: Array, width: int, size: int, place: int, train: bool, **more: Any) -> Array:
        """A convolution and its normalisation, numbered as in the published code."""
        return self.conv_norm(x, width, size, (f'conv{place}', f'bn{place}'), train, start=fan_in_uniform, **more)


class _Unit(_Layers):
    """V1: grouped 1x1, shuffle, 3x3 within each channel, grouped 1x1; the way around is added, or joined at stride 2.

    Gives what the last ReLU is to be applied to.
    """

    width: int
    stride: int
    groups: int

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        middle, first = self.width // 4, 1 if x.shape[-1] == 24 else self.groups
        y = self.normed(x, middle, 1, 1, train, groups=first, relu=True)
        y = self.normed(_shuffled(y, first), middle, 3, 2, train, stride=self.stride, groups=middle, relu=True)
        y = self.normed(y, self.width, 1, 3, train, groups=self.groups)
        if self.stride == 1:
            return y + x
        means = nn.pool(x, 0.0, jax.lax.add, (3, 3), (2, 2), ((1, 1), (1, 1))) / 9  # zeros at the edge count
        return jnp.concatenate([y, means], axis=-1)


class _V1(_Layers):
    classes: int
    widths: tuple[int, ...]
    counts: tuple[int, ...]
    groups: int

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool) -> Array:
        x = tap(self, 'stem', self.normed(images(inputs, self.dtype), 24, 1, 1, train, relu=True))
        for stage, (width, count) in enumerate(zip(self.widths, self.counts, strict=True), start=1):
            for place in range(count):
                own, stride = (width, 1) if place else (width - x.shape[-1], 2)
                before = repeated(_Unit)(self.dtype, self.axis, own, stride, self.groups, name=f'layer{stage}_{place}')(
                    x, train
                )
                x = nn.relu(before)
            tap(self, f'stage{stage}_pre', before)
            tap(self, f'stage{stage}', x)
        return self.head(tap(self, 'penult', x.mean(axis=(1, 2))), self.classes)


class _Basic(_Layers):
    """V2 at stride 1: half of the channels pass, the others are convolved; both are shuffled."""

    tapped: str  # the stage that it ends, or ''

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        kept, x = jnp.split(x, 2, axis=-1)
        width = x.shape[-1]
        x = self.normed(x, width, 1, 1, train, relu=True)
        x = self.normed(self.normed(x, width, 3, 2, train, groups=width), width, 1, 3, train)
        if self.tapped:
            tap(self, f'{self.tapped}_pre', jnp.concatenate([kept, x], axis=-1))
        return _shuffled(jnp.concatenate([kept, nn.relu(x)], axis=-1), 2)


class _Down(_Layers):
    """V2 at stride 2: two branches on all channels."""

    width: int

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        into, half = x.shape[-1], self.width // 2
        left = self.normed(x, into, 3, 1, train, stride=2, groups=into)
        left = self.normed(left, half, 1, 2, train, relu=True)
        right = self.normed(x, half, 1, 3, train, relu=True)
        right = self.normed(right, half, 3, 4, train, stride=2, groups=half)
        right = self.normed(right, half, 1, 5, train, relu=True)
        return _shuffled(jnp.concatenate([left, right], axis=-1), 2)


class _V2(_Layers):
    classes: int
    widths: tuple[int, ...]
    counts: tuple[int, ...]

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool) -> Array:
        x = tap(self, 'stem', self.normed(images(inputs, self.dtype), 24, 1, 1, train, relu=True))
        for stage, (width, count) in enumerate(zip(self.widths, self.counts, strict=False), start=1):
            x = repeated(_Down)(self.dtype, self.axis, width, name=f'layer{stage}_0')(x, train)
            for place in range(1, count + 1):
                tapped = f'stage{stage}' if place == count else ''
                x = repeated(_Basic)(self.dtype, self.axis, tapped, name=f'layer{stage}_{place}')(x, train)
            x = tap(self, f'stage{stage}', x)
        x = self.normed(x, self.widths[-1], 1, 2, train, relu=True)
        return self.head(tap(self, 'penult', x.mean(axis=(1, 2))), self.classes)


def shufflenetv1(
    *,
    classes: int,
    widths: tuple[int, int, int] = (240, 480, 960),
    counts: tuple[int, int, int] = (4, 8, 4),
    groups: int = 3,
    precision: str = 'float32',
    axis: str | None = None,
) -> Net:
    """ShuffleNet V1; inputs (B, H, W) or (B, H, W, C), in the literature (B, 32, 32, 3).

    The stem is a 1x1 convolution, without stride or pooling.

    Taps: 'stem' (B, H, W, 24), 'stage1' (B, H/2, W/2, widths[0]), 'stage2' (widths[1], halved), 'stage3' (widths[2],
    halved again), 'stage1_pre', ..., the same before the ReLU, and 'penult' (B, widths[2]).

    Args:
      classes: number of logits.
      widths: channels of the stages.
      counts: blocks of the stages.
      groups: of the 1x1 convolutions.
      precision: dtype of activations, 'float32' or 'bfloat16'.
      axis: name of the device axis over which batch statistics are taken; None on one device or under jit sharding.

    Raises:
      UsageError: groups that do not divide the channels of a block.

    Reference: Zhang, Zhou, Lin, Sun, ShuffleNet, CVPR 2018, as in the code of Tian, Krishnan, Isola, Contrastive
    Representation Distillation, ICLR 2020.
    """
    for width in (widths[0] - 24, widths[1] - widths[0], widths[2] - widths[1], *widths):
        if width < 4 or width // 4 % groups or width % groups:
            raise UsageError(f'groups {groups} of a shufflenetv1 must divide {width} and a quarter of it, {width // 4}')
    module = _V1(compute_dtype(precision), axis, classes, tuple(widths), tuple(counts), groups)
    return from_linen(module, ('stem', *stage_taps(3), 'penult'))


def shufflenetv2(*, classes: int, size: float = 1.0, precision: str = 'float32', axis: str | None = None) -> Net:
    """ShuffleNet V2; inputs (B, H, W) or (B, H, W, C), in the literature (B, 32, 32, 3).

    The stem is a 1x1 convolution, without stride or pooling.

    Taps: 'stem' (B, H, W, 24), 'stage1' (B, H/2, W/2, 116), 'stage2' (232, halved), 'stage3' (464, halved again) and
    'penult' (B, 1024), for size=1; 'stage1_pre', ... before the ReLU. A stage's channels are shuffled after the ReLU,
    as published: 'stage1' has those of the ReLU of 'stage1_pre' in another order.

    Args:
      classes: number of logits.
      size: 0.2, 0.3, 0.5, 1, 1.5 or 2, by the channels.
      precision: dtype of activations, 'float32' or 'bfloat16'.
      axis: name of the device axis over which batch statistics are taken; None on one device or under jit sharding.

    Raises:
      UsageError: another size.

    Reference: Ma, Zhang, Zheng, Sun, ShuffleNet V2, ECCV 2018, as in the code of Tian, Krishnan, Isola, Contrastive
    Representation Distillation, ICLR 2020.
    """
    if size not in SIZES:
        raise UsageError(f'size of a shufflenetv2 must be one of {", ".join(map(str, SIZES))}, got {size}')
    module = _V2(compute_dtype(precision), axis, classes, *SIZES[size])
    return from_linen(module, ('stem', *stage_taps(3), 'penult'))


def _shuffled(x: Array, groups: int) -> Array:
    """Channels of all groups taken in turn."""
    return x.reshape(*x.shape[:-1], groups, -1).swapaxes(-1, -2).reshape(x.shape)
