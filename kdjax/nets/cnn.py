"""Small convolutional network: a stem, stages that halve the map, global average pooling."""

import jax.numpy as jnp
from flax import linen as nn

from kdjax.cpu.convolution import Conv
from kdjax.nets.base import compute_dtype, from_linen, tap
from kdjax.nets.sequences import at_least
from kdjax.types import Array, Net


class _CNN(nn.Module):
    widths: tuple[int, ...]
    classes: int
    dtype: jnp.dtype
    axis: str | None

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool) -> Array:
        x = inputs[..., None] if inputs.ndim == 3 else inputs
        x = self._block(x.astype(self.dtype), self.widths[0], 1, 'stem', train)
        for stage, width in enumerate(self.widths, start=1):
            x = self._block(x, width, 1 if stage == 1 else 2, f'stage{stage}', train)
        x = tap(self, 'penult', jnp.mean(x, axis=(1, 2)))
        return nn.Dense(self.classes, dtype=self.dtype, name='head')(x)

    def _block(self, x: Array, width: int, stride: int, name: str, train: bool) -> Array:
        conv = Conv(width, (3, 3), (stride, stride), use_bias=False, dtype=self.dtype, name=f'{name}_conv')
        norm = nn.BatchNorm(
            use_running_average=not train, momentum=0.9, dtype=self.dtype, axis_name=self.axis, name=f'{name}_norm'
        )
        return tap(self, name, nn.relu(tap(self, f'{name}_pre', norm(conv(x)))))


def cnn(
    *, classes: int, widths: tuple[int, ...] = (16, 32, 64), precision: str = 'float32', axis: str | None = None
) -> Net:
    """3x3 convolutions with batch normalisation and ReLU; inputs (B, H, W) or (B, H, W, C).

    Taps: 'stem' (B, H, W, widths[0]), 'stage1' (same map), 'stage2' (map halved), ..., 'penult' (B, widths[-1]); and
    'stem_pre', 'stage1_pre', ..., the same before the ReLU.

    Args:
      classes: number of logits.
      widths: channels of each stage.
      precision: dtype of activations, 'float32' or 'bfloat16'.
      axis: name of the device axis over which batch statistics are taken; None on one device or under jit sharding.
    """
    at_least('cnn', widths=min(widths, default=0), classes=classes)
    module = _CNN(tuple(widths), classes, compute_dtype(precision), axis)
    blocks = ('stem', *(f'stage{stage}' for stage in range(1, len(widths) + 1)))
    return from_linen(module, (*(f'{block}{end}' for block in blocks for end in ('_pre', '')), 'penult'))
