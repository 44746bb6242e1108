"""Residual networks for small images: a 3x3 stem and three stages, of depth 6n + 2."""

from flax import linen as nn

from kdjax.errors import UsageError
from kdjax.nets.base import compute_dtype, from_linen, tap
from kdjax.nets.layers import Layers, Residual, images, stage_taps
from kdjax.types import Array, Net


class _ResNet(Layers):
    classes: int
    widths: tuple[int, ...]
    count: int

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool) -> Array:
        x = self.conv_norm(images(inputs, self.dtype), self.widths[0], 3, ('conv1', 'bn1'), train, relu=True)
        x = tap(self, 'stem', x)
        x = self.stages(x, Residual, self.widths[1:], (self.count,) * 3, train)
        return self.head(tap(self, 'penult', x.mean(axis=(1, 2))), self.classes)


def resnet(
    *,
    classes: int,
    depth: int = 20,
    widths: tuple[int, int, int, int] = (16, 16, 32, 64),
    precision: str = 'float32',
    axis: str | None = None,
) -> Net:
    """ResNet of two-convolution blocks; inputs (B, H, W) or (B, H, W, C), in the literature (B, 32, 32, 3).

    The ways around blocks that change the shape are 1x1 convolutions with batch normalisation. In the tables of the
    literature resnet20 is depth=20, and resnet8x4 is depth=8, widths=(32, 64, 128, 256).

    Taps: 'stem' (B, H, W, widths[0]); of each stage 'stage1' (B, H, W, widths[1]), 'stage2' (map halved), 'stage3'
    (halved again), and 'stage1_pre', ..., the same before the ReLU; 'penult' (B, widths[3]). The normalisation before
    'stage1_pre' is 'layer1_n/bn2', n = (depth - 2) / 6 - 1.

    Args:
      classes: number of logits.
      depth: number of layers with weights, without the 1x1 convolutions: 8, 14, 20, 26, 32, ...
      widths: channels of the stem and of each stage.
      precision: dtype of activations, 'float32' or 'bfloat16'.
      axis: name of the device axis over which batch statistics are taken; None on one device or under jit sharding.

    Raises:
      UsageError: a depth that is not 6n + 2, or not four widths.

    Reference: He, Zhang, Ren, Sun, Deep Residual Learning for Image Recognition, CVPR 2016, sec. 4.2; the 'x4' widths
    and the 1x1 convolutions: Tian, Krishnan, Isola, Contrastive Representation Distillation, ICLR 2020, and its code.
    """
    if depth < 8 or depth % 6 != 2:
        raise UsageError(f'depth of a CIFAR resnet must be 6n + 2 (8, 14, 20, 32, 44, 56, 110, ...), got {depth}')
    if len(widths) != 4:
        raise UsageError(f'widths of a CIFAR resnet are of the stem and of 3 stages, got {tuple(widths)}')
    module = _ResNet(compute_dtype(precision), axis, classes, tuple(widths), (depth - 2) // 6)
    return from_linen(module, ('stem', *stage_taps(3), 'penult'))
