"""BC-ResNet: maps of time and frequency, of which most is computed on their mean over frequency and broadcast back."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from kdjax.errors import UsageError
from kdjax.nets.base import compute_dtype, from_linen, tap
from kdjax.nets.frames import STATES, BatchNorm, Depthwise, mean_over_time, read, shifted, weighed
from kdjax.nets.layers import Dropout, he_normal
from kdjax.types import Array, Net, Tree

WIDTHS, BLOCKS = (8, 12, 16, 20), (2, 2, 4, 4)  # per unit of width; of the four stages
FIRST, LAST = 16, 32  # channels before and behind them
STRIDES = (1, 2, 2, 1)  # of the first block of a stage, over frequency
SUBBANDS = 5  # that are normalised apart


def _real(x: Array, mask: Array) -> Array:
    """(B, T, F, C), 0 where a frame is padding."""
    return jnp.where(mask[:, :, None, None] > 0, x, jnp.zeros((), x.dtype))


# Named as `frames.depthwise_time` is, and for what it is.
@functools.partial(jax.jit, static_argnums=2)
def depthwise_bands(x: Array, kernel: Array, stride: int) -> Array:
    """A filter over frequency (size, C), with the zeros of half its size on either side. (B, T, F, C)"""
    return weighed(kernel, shifted(x.swapaxes(1, 2), len(kernel), stride)).swapaxes(1, 2)


@jax.jit
def depthwise_both(x: Array, kernel: Array) -> Array:
    """A filter over frames and bands (size size, C), as far as it fits over bands. (B, T, F, C)"""
    size = math.isqrt(len(kernel))
    bands = x.shape[2] - size + 1
    columns = [shifted(x[:, :, place : place + bands], size) for place in range(size)]
    return weighed(kernel, [columns[place][tap] for tap in range(size) for place in range(size)])


class _Part(nn.Module):
    axis: str | None
    dtype: Any

    def mix(self, x: Array, width: int, name: str) -> Array:
        """A 1x1 convolution."""
        return nn.Dense(width, use_bias=False, kernel_init=he_normal, dtype=self.dtype, name=name)(x)

    def norm(self, x: Array, mask: Array, train: bool, name: str) -> Array:
        return BatchNorm(self.axis, self.dtype, name=name)(x, mask, train)

    def subbands(self, x: Array, mask: Array, train: bool, name: str) -> Array:
        """Batch normalisation of each of SUBBANDS parts of the frequencies by itself."""
        batch, time, bands, width = x.shape
        apart = x.reshape(batch, time, SUBBANDS, bands // SUBBANDS, width).swapaxes(2, 3)
        flat = apart.reshape(batch, time, bands // SUBBANDS, SUBBANDS * width)
        normed = self.norm(flat, mask, train, name).reshape(apart.shape)
        return normed.swapaxes(2, 3).reshape(x.shape)

    def filters(self, size: int, width: int, name: str) -> Array:
        return self.param(name, nn.initializers.normal((2 / size) ** 0.5), (size, width)).astype(self.dtype)


class _Block(_Part):
    """x + f2(x) + broadcast(f1(mean of f2(x) over frequency)); without x where the width changes (sec. 2.2)."""

    width: int
    stride: int
    dilation: int
    dropout: float

    @nn.compact
    def __call__(self, x: Array, mask: Array, train: bool) -> Array:
        changes, around = x.shape[-1] != self.width, x
        if changes:
            x = nn.relu(self.norm(self.mix(x, self.width, 'widen'), mask, train, 'widen_norm'))
        maps = depthwise_bands(x, self.filters(3, self.width, 'frequency'), self.stride)
        maps = _real(self.subbands(maps, mask, train, 'subbands'), mask)
        y = jnp.mean(maps, axis=2)
        y = Depthwise(3, 1, self.dtype, dilation=self.dilation, bias=False, name='time')(y)
        y = self.mix(nn.swish(self.norm(y, mask, train, 'norm')), self.width, 'mix')
        y = maps + Dropout(self.dropout, self.axis, whole=(1,))(y, train)[:, :, None]
        return _real(nn.relu(y if changes else y + around), mask)


class _BCResNet(_Part):
    classes: int
    width: float
    dropout: float

    @nn.compact
    def __call__(self, inputs: Tree, *, train: bool) -> Array:
        frames, mask = read(inputs, self.dtype)
        if frames.shape[2] % (8 * SUBBANDS):
            raise UsageError(f'a bcresnet reads a multiple of {8 * SUBBANDS} mel bands, got {frames.shape[2]}')
        x = self._first(frames[..., None], train, mask)
        for stage, (width, blocks, stride) in enumerate(zip(WIDTHS, BLOCKS, STRIDES, strict=True), start=1):
            for place in range(blocks):
                block = _Block(self.axis, self.dtype, round(width * self.width), stride if place == 0 else 1,
                               2 ** (stage - 1), self.dropout, name=f'layer{stage}_{place}')  # fmt: skip
                x = block(x, mask, train)
            x = tap(self, f'stage{stage}', x)
        x = self._last(x, mask, train)
        x = tap(self, 'penult', mean_over_time(x, mask))
        return nn.Dense(self.classes, dtype=self.dtype, name='head')(x)

    def _first(self, x: Array, train: bool, mask: Array) -> Array:
        """A 5x5 convolution that halves the frequencies."""
        time = jnp.concatenate(shifted(x, 5), axis=-1)
        both = jnp.concatenate(shifted(time.swapaxes(1, 2), 5, 2), axis=-1).swapaxes(1, 2)
        x = self.mix(both, round(FIRST * self.width), 'first')
        return _real(nn.relu(self.norm(x, mask, train, 'first_norm')), mask)

    def _last(self, x: Array, mask: Array, train: bool) -> Array:
        """A filter of 5 frames and 5 bands for each channel, and a mix; what is known of every frame."""
        size = 5
        x = depthwise_both(x, self.filters(size * size, x.shape[-1], 'last_filters'))
        x = self.mix(x, round(LAST * self.width), 'last')
        x = jnp.mean(nn.relu(self.norm(x, mask, train, 'last_norm')), axis=2)
        return tap(self, STATES, jnp.where(mask[..., None] > 0, x, jnp.zeros((), x.dtype)), mask)


def bcresnet(
    *, classes: int, width: float = 1.0, dropout: float = 0.1, precision: str = 'float32', axis: str | None = None
) -> Net:
    """A keyword network that keeps every frame: BC-ResNet-1, 9.2 k parameters with 12 classes, by default.

    Batch normalisation is over real frames. Inputs are those of `audio.log_mel`, of which bands must be a multiple of
    40: after three halvings five sub-bands are normalised apart.

    Taps: 'stage1' to 'stage4' (B, T, F, width), 'states' (B, T, 32 width) and 'penult' (B, 32 width).

    Args:
      classes: number of logits.
      width: the paper's tau: 1, 1.5, 2, 3, 6 or 8.
      dropout: probability of dropping a channel of a block, for a whole clip, in training.
      precision: dtype of activations, 'float32' or 'bfloat16'.
      axis: name of the device axis that a batch is split over, None where it is whole.

    Raises:
      UsageError: a width below 1/4.

    Reference: Kim, Chang, Lee, Sung, Broadcasted Residual Learning for Efficient Keyword Spotting, Interspeech 2021.
    """
    if width < 0.25:
        raise UsageError(f'width of a bcresnet must be at least 0.25, got {width}')
    module = _BCResNet(axis, compute_dtype(precision), classes, width, dropout)
    return from_linen(module, (*(f'stage{stage}' for stage in range(1, 5)), STATES, 'penult'))
