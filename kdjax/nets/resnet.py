"""Residual networks of four stages: ResNet-18, -34 and -50, with the stem for large images or that for small ones."""

from flax import linen as nn

from kdjax.cpu.pooling import max_pool
from kdjax.errors import UsageError, unknown
from kdjax.nets.base import compute_dtype, from_linen, tap
from kdjax.nets.layers import Bottleneck, Layers, Residual, images, stage_taps
from kdjax.types import Array, Net

DEPTHS = {18: (Residual, (2, 2, 2, 2)), 34: (Residual, (3, 4, 6, 3)), 50: (Bottleneck, (3, 4, 6, 3))}
STEMS = ('imagenet', 'cifar')


class _ResNet(Layers):
    classes: int
    depth: int
    stem: str

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool) -> Array:
        size, stride = (7, 2) if self.stem == 'imagenet' else (3, 1)
        x = images(inputs, self.dtype)
        x = tap(self, 'stem', self.conv_norm(x, 64, size, ('conv1', 'bn1'), train, stride=stride, relu=True))
        if self.stem == 'imagenet':
            x = max_pool(x, window_shape=(3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        block, counts = DEPTHS[self.depth]
        x = self.stages(x, block, (64, 128, 256, 512), counts, train)
        return self.head(tap(self, 'penult', x.mean(axis=(1, 2))), self.classes)


def resnet(
    *, classes: int, depth: int = 18, stem: str = 'imagenet', precision: str = 'float32', axis: str | None = None
) -> Net:
    """ResNet-18, -34 or -50; inputs (B, H, W) or (B, H, W, C).

    Taps: 'stem' (B, H', W', 64), before any pooling; of each stage 'stage1' (B, ., ., 64 e), 'stage2' (128 e, map
    halved), 'stage3' (256 e), 'stage4' (512 e), e = 4 at depth 50 and 1 otherwise, and 'stage1_pre', ..., the same
    before the ReLU; 'penult' (B, 512 e). Of images of 224 x 224 the stem 'imagenet' is 112 x 112 and stage1 56 x 56; of
    images of 32 x 32 the stem 'cifar' and stage1 are 32 x 32.

    Args:
      classes: number of logits.
      depth: 18 and 34 of two-convolution blocks, 50 of bottlenecks (stride on the 3x3 convolution).
      stem: 'imagenet', a 7x7 convolution of stride 2 and 3x3 max-pooling of stride 2; 'cifar', a 3x3 convolution.
      precision: dtype of activations, 'float32' or 'bfloat16'.
      axis: name of the device axis over which batch statistics are taken; None on one device or under jit sharding.

    Raises:
      UsageError: another depth or stem.

    Reference: He, Zhang, Ren, Sun, Deep Residual Learning for Image Recognition, CVPR 2016, table 1, with strides and
    initial weights as in torchvision; the stem 'cifar' as in the code of Tian, Krishnan, Isola, ICLR 2020.
    """
    if depth not in DEPTHS:
        raise UsageError(f'depth of a resnet must be one of {", ".join(map(str, DEPTHS))}, got {depth}')
    if stem not in STEMS:
        raise unknown('stem', stem, STEMS, ' of a resnet')
    module = _ResNet(compute_dtype(precision), axis, classes, depth, stem)
    return from_linen(module, ('stem', *stage_taps(4), 'penult'))
