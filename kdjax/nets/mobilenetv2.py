"""MobileNetV2 for small images: inverted residuals with linear bottlenecks."""

from flax import linen as nn

from kdjax.nets.base import compute_dtype, from_linen, repeated, tap
from kdjax.nets.layers import Layers, images
from kdjax.types import Array, Net

# Channels, blocks and stride of each group of blocks; the groups after which a stage of the literature ends.
GROUPS = ((16, 1, 1), (24, 2, 1), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))
STAGES = {1: 'stage1', 2: 'stage2', 4: 'stage3', 6: 'stage4'}


class _Inverted(Layers):
    """1x1 to more channels, 3x3 within each channel, 1x1 to `width` without a ReLU."""

    width: int
    stride: int
    expansion: int

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        wide = self.expansion * x.shape[-1]
        y = self.conv_norm(x, wide, 1, ('conv_0', 'conv_1'), train, relu=True)
        y = self.conv_norm(y, wide, 3, ('conv_3', 'conv_4'), train, stride=self.stride, groups=wide, relu=True)
        after = x if self.stride == 1 and x.shape[-1] == self.width else None
        return self.conv_norm(y, self.width, 1, ('conv_6', 'conv_7'), train, after=after)


class _MobileNetV2(Layers):
    classes: int
    width: float
    expansion: int

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool) -> Array:
        x = images(inputs, self.dtype)
        x = self.conv_norm(x, int(32 * self.width), 3, ('conv1_0', 'conv1_1'), train, stride=2, relu=True)
        x = tap(self, 'stem', x)
        for group, (channels, count, stride) in enumerate(GROUPS):
            for place in range(count):
                block = repeated(_Inverted)(
                    self.dtype, self.axis, int(channels * self.width), 1 if place else stride,
                    self.expansion if group else 1, name=f'blocks_{group}_{place}',
                )  # fmt: skip
                x = block(x, train)
            x = tap(self, STAGES[group], x) if group in STAGES else x
        last = int(1280 * max(self.width, 1.0))
        x = self.conv_norm(x, last, 1, ('conv2_0', 'conv2_1'), train, relu=True)
        x = tap(self, 'penult', x.mean(axis=(1, 2)))
        return self.head(x, self.classes, nn.initializers.normal(0.01), nn.initializers.zeros)


def mobilenetv2(
    *, classes: int, width: float = 0.5, expansion: int = 6, precision: str = 'float32', axis: str | None = None
) -> Net:
    """MobileNetV2; inputs (B, H, W) or (B, H, W, C), in the literature (B, 32, 32, 3) with width=0.5 ('half').

    It differs from the original for ImageNet: the second group of blocks keeps the map, channels are rounded down, and
    there is no dropout before the classifier.

    Taps, with w = width: 'stem' (B, H/2, W/2, 32 w), 'stage1' (24 w, same map), 'stage2' (32 w, halved), 'stage3'
    (96 w, halved again), 'stage4' (320 w, halved again), 'penult' (B, 1280). Stages end in linear bottlenecks: there is
    no ReLU, and so no '_pre'. The normalisations are 'blocks_1_1/conv_7', 'blocks_2_2/conv_7', 'blocks_4_2/conv_7' and
    'blocks_6_0/conv_7'.

    Args:
      classes: number of logits.
      width: multiplies the channels; those of 'penult' only above 1.
      expansion: of channels inside a block, T in the literature.
      precision: dtype of activations, 'float32' or 'bfloat16'.
      axis: name of the device axis over which batch statistics are taken; None on one device or under jit sharding.

    Reference: Sandler, Howard, Zhu, Zhmoginov, Chen, MobileNetV2, CVPR 2018, as in the code of Tian, Krishnan, Isola,
    Contrastive Representation Distillation, ICLR 2020.
    """
    module = _MobileNetV2(compute_dtype(precision), axis, classes, width, expansion)
    return from_linen(module, ('stem', *STAGES.values(), 'penult'))
