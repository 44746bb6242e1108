"""TC-ResNet: residual blocks of convolutions over time, for which mel bands are channels."""

from collections.abc import Sequence
from typing import Any

from flax import linen as nn

from kdjax.nets.base import compute_dtype, from_linen, tap
from kdjax.nets.frames import (
    STATES,
    BatchNorm,
    Temporal,
    block_taps,
    blocks,
    mean_over_time,
    one_each,
    read,
    strided,
)
from kdjax.nets.layers import Dropout
from kdjax.nets.sequences import at_least, only_real
from kdjax.types import Array, Net, Tree


class _Block(nn.Module):
    """Two convolutions, the first with the stride, and the way around them."""

    width: int
    size: int
    stride: int
    axis: str | None
    dtype: Any
    train: bool

    @nn.compact
    def __call__(self, x: Array, mask: Array) -> Array:
        after = strided(mask, self.stride)
        y = nn.relu(self._normed(x, after, self.size, self.stride, '1'))
        y = self._normed(only_real(y, after), after, self.size, 1, '2')
        around = x
        if self.stride > 1 or x.shape[-1] != self.width:
            around = nn.relu(self._normed(x, after, 1, self.stride, '_around'))
        return only_real(nn.relu(y + around), after)

    def _normed(self, x: Array, after: Array, size: int, stride: int, name: str) -> Array:
        y = Temporal(self.width, size, stride, self.dtype, name=f'conv{name}')(x)
        return BatchNorm(self.axis, self.dtype, name=f'norm{name}')(y, after, self.train)


class _TCResNet(nn.Module):
    classes: int
    widths: tuple[int, ...]
    strides: tuple[int, ...]
    size: int
    dropout: float
    axis: str | None
    dtype: Any

    @nn.compact
    def __call__(self, inputs: Tree, *, train: bool) -> Array:
        x, mask = read(inputs, self.dtype)
        x = only_real(Temporal(self.widths[0], 3, 1, self.dtype, name='first')(x), mask)

        def block(width: int, stride: int, name: str) -> _Block:
            return _Block(width, self.size, stride, self.axis, self.dtype, train, name=name)

        x, mask = blocks(self, x, mask, self.widths[1:], self.strides, block)
        x = tap(self, 'penult', mean_over_time(tap(self, STATES, x, mask), mask))
        return nn.Dense(self.classes, dtype=self.dtype, name='head')(Dropout(self.dropout, self.axis)(x, train))


def tcresnet(
    *,
    classes: int,
    widths: Sequence[int] = (16, 24, 32, 48),
    strides: Sequence[int] = (2, 2, 2),
    size: int = 9,
    dropout: float = 0.5,
    precision: str = 'float32',
    axis: str | None = None,
) -> Net:
    """A keyword network: a convolution of 3 frames, a residual block per stride, the mean over real frames.

    By default TC-ResNet8, 66 k parameters with 12 classes and 40 bands; widths of (24, 36, 48, 72) are the paper's
    multiplier of 1.5. Batch normalisation is over real frames. Inputs are those of `audio.log_mel`.

    Taps: 'block1', ..., 'states' (the last of them), (B, T', width), and 'penult' (B, width).

    Args:
      classes: number of logits.
      widths: channels of the first convolution and of every block.
      strides: of the blocks.
      size: frames that their convolutions see.
      dropout: probability of dropping a number of 'penult' in training.
      precision: dtype of activations, 'float32' or 'bfloat16'.
      axis: name of the device axis that a batch is split over, None where it is whole.

    Raises:
      UsageError: a number below 1, or other than one stride per block.

    Reference: Choi, Seo, Shin, Byun, Kersner, Kim, Kim, Ha, Temporal Convolution for Real-Time Keyword Spotting on
    Mobile Devices, Interspeech 2019.
    """
    widths, strides = tuple(widths), tuple(strides)
    at_least('tcresnet', widths=min(widths, default=0), strides=min(strides, default=0), size=size)
    one_each('tcresnet', widths[1:], strides)
    module = _TCResNet(classes, widths, strides, size, dropout, axis, compute_dtype(precision))
    return from_linen(module, (*block_taps(len(strides)), STATES, 'penult'))
