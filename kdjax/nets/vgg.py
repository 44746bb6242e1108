"""VGG networks for small images: batch normalisation, and one linear layer at the end."""

from flax import linen as nn

from kdjax.cpu.pooling import max_pool
from kdjax.errors import UsageError
from kdjax.nets.base import compute_dtype, from_linen, tap
from kdjax.nets.layers import Layers, images, stage_taps
from kdjax.types import Array, Net

# Convolutions of each block, of 64, 128, 256, 512 and 512 channels.
DEPTHS = {8: (1, 1, 1, 1, 1), 11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


class _VGG(Layers):
    classes: int
    counts: tuple[int, ...]

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool) -> Array:
        x = images(inputs, self.dtype)
        height, width = x.shape[1:3]
        if min(height, width) < 8:
            raise UsageError(f'a vgg halves the map three times; {height}x{width} is too small')
        pooled = (0, 1, 2, 3) if height == 64 else (0, 1, 2)
        for stage, count in enumerate(self.counts):
            x = self._block(x, stage, count, train)
            x = tap(self, f'stage{stage}' if stage else 'stem', nn.relu(x))
            x = max_pool(x, (2, 2), (2, 2)) if stage in pooled else x
        x = tap(self, 'penult', x.mean(axis=(1, 2)))
        return self.head(x, self.classes, nn.initializers.normal(0.01), nn.initializers.zeros)

    def _block(self, x: Array, stage: int, count: int, train: bool) -> Array:
        """Convolutions of a block up to its last ReLU; layers are numbered with the ReLUs between them."""
        for place in range(0, 3 * count, 3):
            names = (f'block{stage}_{place}', f'block{stage}_{place + 1}')
            inner = place < 3 * (count - 1)
            x = self.conv_norm(x, min(64 * 2**stage, 512), 3, names, train, bias=True, relu=inner)
        return tap(self, f'stage{stage}_pre', x) if stage else x


def vgg(*, classes: int, depth: int = 8, precision: str = 'float32', axis: str | None = None) -> Net:
    """VGG of 5 blocks of 3x3 convolutions; inputs (B, H, W) or (B, H, W, C), in the literature (B, 32, 32, 3).

    Max-pooling follows the first three blocks, and the fourth where images are 64 high; then the mean over the map.

    Taps: 'stem' (B, H, W, 64), 'stage1' (128, map halved), 'stage2' (256, halved again), 'stage3' (512, halved again),
    'stage4' (512, same map), 'stage1_pre', ..., the same before the ReLU, and 'penult' (B, 512). The normalisation
    before 'stage1_pre' is 'block1_m', m = 3 n - 2 after n convolutions.

    Args:
      classes: number of logits.
      depth: 8, 11, 13, 16 or 19: convolutions and the three linear layers of the original, of which one is left.
      precision: dtype of activations, 'float32' or 'bfloat16'.
      axis: name of the device axis over which batch statistics are taken; None on one device or under jit sharding.

    Raises:
      UsageError: another depth, or (in `init`) images smaller than 8 x 8.

    Reference: Simonyan, Zisserman, Very Deep Convolutional Networks, ICLR 2015, table 1, as in the code of Tian,
    Krishnan, Isola, Contrastive Representation Distillation, ICLR 2020.
    """
    if depth not in DEPTHS:
        raise UsageError(f'depth of a vgg must be one of {", ".join(map(str, DEPTHS))}, got {depth}')
    module = _VGG(compute_dtype(precision), axis, classes, DEPTHS[depth])
    return from_linen(module, ('stem', *stage_taps(4), 'penult'))
