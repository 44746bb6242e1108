"""Depthwise separable convolutions over time: networks of speech of a few thousand parameters."""

from collections.abc import Sequence
from typing import Any

from flax import linen as nn

from kdjax.nets.base import compute_dtype, from_linen, tap
from kdjax.nets.frames import (
    STATES,
    Depthwise,
    Temporal,
    block_taps,
    blocks,
    mean_over_time,
    one_each,
    read,
    strided,
)
from kdjax.nets.layers import Dropout, he_normal
from kdjax.nets.sequences import at_least, only_real
from kdjax.types import Array, Net, Tree


class _Separable(nn.Module):
    """A filter over time for each channel, then a mix of channels; a sum with the input where its shape allows one."""

    width: int
    size: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Array, mask: Array) -> Array:
        after = strided(mask, self.stride)
        y = Depthwise(self.size, self.stride, self.dtype, name='depthwise')(x)
        y = nn.Dense(self.width, kernel_init=he_normal, dtype=self.dtype, name='pointwise')(y)
        y = nn.relu(nn.LayerNorm(dtype=self.dtype, name='norm')(y))
        return only_real(x + y if y.shape == x.shape else y, after)


class _Depthwise(nn.Module):
    classes: int
    first: int
    stride: int
    widths: tuple[int, ...]
    strides: tuple[int, ...]
    size: int
    pool: bool
    dropout: float
    axis: str | None
    dtype: Any

    @nn.compact
    def __call__(self, inputs: Tree, *, train: bool) -> Array:
        x, mask = read(inputs, self.dtype)
        x = Temporal(self.first, 3, self.stride, self.dtype, bias=True, name='first')(x)
        mask = strided(mask, self.stride)
        x = only_real(nn.relu(nn.LayerNorm(dtype=self.dtype, name='norm')(x)), mask)

        def block(width: int, stride: int, name: str) -> _Separable:
            return _Separable(width, self.size, stride, self.dtype, name=name)

        x, mask = blocks(self, x, mask, self.widths, self.strides, block)
        x, head = tap(self, STATES, x, mask), nn.Dense(self.classes, dtype=self.dtype, name='head')
        drop = Dropout(self.dropout, self.axis)
        if self.pool:
            return head(drop(tap(self, 'penult', mean_over_time(x, mask)), train))
        return tap(self, 'logits', head(drop(x, train)), mask)


def keyword(
    *,
    classes: int,
    first: int = 24,
    stride: int = 2,
    widths: Sequence[int] = (32, 32, 48, 48),
    strides: Sequence[int] = (2, 1, 2, 1),
    size: int = 9,
    dropout: float = 0.0,
    precision: str = 'float32',
    axis: str | None = None,
) -> Net:
    """A keyword network of 10.8 k parameters for 10 classes and 40 bands; first=12, widths=(16, 16, 16) and
    strides=(2, 1, 2) have 2.9 k.

    A convolution of 3 frames, then per block a filter of `size` frames for each channel and a mix of channels, layer
    normalisation, ReLU; the mean over real frames. Inputs are those of `audio.log_mel`.

    Taps: 'block1', ..., 'states' (the last of them), (B, T', width), and 'penult' (B, width).

    Args:
      classes: number of logits.
      first: channels of the first convolution.
      stride: of it.
      widths, strides: channels and stride of every block.
      size: frames that the filters of blocks see.
      dropout: probability of dropping a number of 'penult' in training.
      precision: dtype of activations, 'float32' or 'bfloat16'.
      axis: name of the device axis that a batch is split over, None where it is whole.

    Raises:
      UsageError: a number below 1, or other than one stride per block.

    Reference: Zhang, Suda, Lai, Chandra, Hello Edge: Keyword Spotting on Microcontrollers, arXiv 1711.07128, sec. 4.6
    (depthwise separable convolutions, there of two axes).
    """
    return _net(classes, first, stride, widths, strides, size, True, dropout, precision, axis)


def transcriber(
    *,
    classes: int,
    first: int = 24,
    stride: int = 2,
    widths: Sequence[int] = (32, 40, 40, 40),
    strides: Sequence[int] = (2, 1, 1, 1),
    size: int = 9,
    dropout: float = 0.0,
    precision: str = 'float32',
    axis: str | None = None,
) -> Net:
    """The same without the mean: logits (B, T', classes) for every stride-th frame, for CTC.

    By default 10.3 k parameters with 11 classes and 40 bands, and one of four frames has logits.

    Taps: 'block1', ..., 'states' (the last of them), (B, T', width).

    Args, Raises, Reference: as of `keyword`; dropout is of 'states'.
    """
    return _net(classes, first, stride, widths, strides, size, False, dropout, precision, axis)


def _net(
    classes: int, first: int, stride: int, widths: Sequence[int], strides: Sequence[int], size: int, pool: bool,
    dropout: float, precision: str, axis: str | None,
) -> Net:  # fmt: skip
    widths, strides = tuple(widths), tuple(strides)
    numbers = {'widths': min(widths, default=0), 'strides': min(strides, default=0), 'size': size}
    at_least('depthwise network', first=first, stride=stride, **numbers)
    one_each('depthwise network', widths, strides)
    dtype = compute_dtype(precision)
    module = _Depthwise(classes, first, stride, widths, strides, size, pool, dropout, axis, dtype)
    return from_linen(module, (*block_taps(len(widths)), STATES, *(('penult',) if pool else ())))
