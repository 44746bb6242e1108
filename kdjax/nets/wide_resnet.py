"""Wide residual networks: blocks with normalisation before convolution, of depth 6n + 4."""

from flax import linen as nn

from kdjax.errors import UsageError
from kdjax.nets.base import compute_dtype, from_linen, repeated, tap
from kdjax.nets.layers import Dropout, Layers, images, stage_taps
from kdjax.types import Array, Net


class _Block(Layers):
    width: int
    stride: int
    dropout: float
    normed: str  # the tap of the normalised input, or ''

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        y = self.norm(x, 'bn1', train)
        y = nn.relu(tap(self, self.normed, y) if self.normed else y)
        if x.shape[-1] != self.width:
            x = self.conv(y, self.width, 1, 'convShortcut', stride=self.stride)
        y = self.conv_norm(y, self.width, 3, ('conv1', 'bn2'), train, stride=self.stride, relu=True)
        y = Dropout(self.dropout, self.axis)(y, train)
        return x + self.conv(y, self.width, 3, 'conv2')


class _WideResNet(Layers):
    classes: int
    count: int
    widen: int
    dropout: float

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool) -> Array:
        x = tap(self, 'stem', self.conv(images(inputs, self.dtype), 16, 3, 'conv1'))
        for stage, width in enumerate((16, 32, 64), start=1):
            for place in range(self.count):
                first = stage > 1 and place == 0
                block = repeated(_Block)(
                    self.dtype, self.axis, width * self.widen, 2 if first else 1, self.dropout,
                    f'stage{stage - 1}_pre' if first else '', name=f'block{stage}_layer_{place}',
                )  # fmt: skip
                x = block(x, train)
            x = tap(self, f'stage{stage}', x)
        x = nn.relu(tap(self, 'stage3_pre', self.norm(x, 'bn1', train)))
        return self.head(tap(self, 'penult', x.mean(axis=(1, 2))), self.classes, bias=nn.initializers.zeros)


def wrn(
    *,
    classes: int,
    depth: int = 40,
    widen: int = 2,
    dropout: float = 0.0,
    precision: str = 'float32',
    axis: str | None = None,
) -> Net:
    """WRN-depth-widen; inputs (B, H, W) or (B, H, W, C), in the literature (B, 32, 32, 3).

    Taps: 'stem' (B, H, W, 16), 'stage1' (B, H, W, 16 widen), 'stage2' (32 widen, map halved), 'stage3' (64 widen,
    halved again), 'penult' (B, 64 widen). As in the code of the literature, a stage is the sum that its last block
    gives, which no ReLU has seen; 'stage1_pre', 'stage2_pre' and 'stage3_pre' are those sums normalised, before the
    ReLU that follows. The normalisations are 'block2_layer_0/bn1', 'block3_layer_0/bn1' and 'bn1'.

    Args:
      classes: number of logits.
      depth: number of layers with weights: 10, 16, 22, 28, 40, ...
      widen: how many times wider than the first ResNets the stages are.
      dropout: probability of dropping a unit between the two convolutions of a block, in training.
      precision: dtype of activations, 'float32' or 'bfloat16'.
      axis: name of the device axis over which batch statistics are taken; None on one device or under jit sharding.

    Raises:
      UsageError: a depth that is not 6n + 4.

    Reference: Zagoruyko, Komodakis, Wide Residual Networks, BMVC 2016; taps and initial weights as in the code of Tian,
    Krishnan, Isola, Contrastive Representation Distillation, ICLR 2020.
    """
    if depth < 10 or depth % 6 != 4:
        raise UsageError(f'depth of a wrn must be 6n + 4 (10, 16, 22, 28, 40, ...), got {depth}')
    module = _WideResNet(compute_dtype(precision), axis, classes, (depth - 4) // 6, widen, dropout)
    return from_linen(module, ('stem', *stage_taps(3), 'penult'))
