"""What networks of speech share: which frames are real, through strides too, and layers over time that heed it.

Inputs are trees as `data.audio.log_mel` makes them: 'frames' (B, T, M) float32 and 'mask' (B, T) float32, 1 for real
frames, with padding on the right. All layers give 0 at padding, and more padding changes nothing elsewhere. Of a layer
with a stride, output t stands on input t * stride and is real where that is: n real frames leave ceil(n / stride).

Convolutions over time are sums of shifted frames, or matrix products of windows, so that many networks train as one
program of batched matrix products. A network calls 'states' its tap of what it knows of every frame: what costs say of
its receptive field is measured there.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from kdjax.errors import UsageError
from kdjax.nets.base import tap
from kdjax.nets.layers import EPSILON, he_normal
from kdjax.nets.sequences import only_real
from kdjax.types import Array, Tree

STATES = 'states'
# Width, stride and name of a block -> what it makes of frames (B, T, C) and their mask (B, T).
Block = Callable[[int, int, str], Callable[[Array, Array], Array]]


def read(inputs: Tree, dtype: Any) -> tuple[Array, Array]:
    """Frames (B, T, M), 0 at padding, and their mask (B, T).

    Raises:
      UsageError: inputs are no frames.
    """
    if not hasattr(inputs, 'keys') or not {'frames', 'mask'} <= set(inputs.keys()):
        raise UsageError("a network of speech reads frames and their mask: choose data.preprocess.kind='audio.log_mel'")
    return only_real(inputs['frames'].astype(dtype), inputs['mask']), inputs['mask']


def strided(mask: Array, stride: int) -> Array:
    """The mask behind a layer with a stride. (B, T) -> (B, ceil(T / stride))"""
    return mask[:, ::stride]


def shifted(x: Array, size: int, stride: int = 1, dilation: int = 1) -> list[Array]:
    """The frames that `size` taps of a filter meet, each (B, ceil(T / stride), ...); 0 beyond the ends."""
    before = dilation * ((size - 1) // 2)
    padding = [(0, 0), (before, dilation * (size - 1) - before), *[(0, 0)] * (x.ndim - 2)]
    padded = jnp.pad(x, padding)
    return [padded[:, tap * dilation : tap * dilation + x.shape[1] : stride] for tap in range(size)]


def weighed(kernel: Array, parts: Sequence[Array]) -> Array:
    """Each channel by itself: the sum of what the taps of a filter (size, C) meet, (..., C) each."""
    products = [kernel[place] * part for place, part in enumerate(parts)]
    return sum(products[1:], products[0])


# By its name a program that is taken apart, to be rounded, knows it as one product of inputs and a kernel (size, C).
@functools.partial(jax.jit, static_argnums=(2, 3))
def depthwise_time(x: Array, kernel: Array, stride: int, dilation: int) -> Array:
    """A filter over time (size, C) of each channel by itself. (B, T, ..., C) -> (B, ceil(T / stride), ..., C)"""
    return weighed(kernel, shifted(x, len(kernel), stride, dilation))


def blocks(
    module: nn.Module, x: Array, mask: Array, widths: Sequence[int], strides: Sequence[int], block: Block
) -> tuple[Array, Array]:
    """Blocks 'layer1', ... one after the other, taps 'block1', ... of `module`: frames and mask behind the last."""
    for place, (width, stride) in enumerate(zip(widths, strides, strict=True), start=1):
        x, mask = block(width, stride, f'layer{place}')(x, mask), strided(mask, stride)
        x = tap(module, f'block{place}', x, mask)
    return x, mask


def block_taps(count: int) -> tuple[str, ...]:
    """What `blocks` calls so many of them."""
    return tuple(f'block{place}' for place in range(1, count + 1))


def mean_over_time(x: Array, mask: Array) -> Array:
    """The mean over real frames. (B, T, C) -> (B, C)"""
    count = jnp.maximum(jnp.sum(mask, axis=1, keepdims=True), 1)
    return jnp.sum(only_real(x, mask), axis=1) / count.astype(x.dtype)


class Temporal(nn.Module):
    """A convolution over time of all channels, (B, T, C) -> (B, ceil(T / stride), width)."""

    width: int
    size: int
    stride: int
    dtype: Any
    bias: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        windows = jnp.concatenate(shifted(x, self.size, self.stride), axis=-1)
        return nn.Dense(self.width, use_bias=self.bias, kernel_init=he_normal, dtype=self.dtype, name='taps')(windows)


class Depthwise(nn.Module):
    """A convolution over time, channel by channel, (B, T, ..., C) -> (B, ceil(T / stride), ..., C)."""

    size: int
    stride: int
    dtype: Any
    dilation: int = 1
    bias: bool = True

    @nn.compact
    def __call__(self, x: Array) -> Array:
        start = nn.initializers.normal((2 / self.size) ** 0.5)
        kernel = self.param('kernel', start, (self.size, x.shape[-1])).astype(self.dtype)
        y = depthwise_time(x, kernel, self.stride, self.dilation)
        if not self.bias:
            return y
        return y + self.param('bias', nn.initializers.zeros, (x.shape[-1],)).astype(self.dtype)


class BatchNorm(nn.Module):
    """Batch normalisation over the real frames of all devices, of (B, T, ..., C) with a mask (B, T).

    Attributes:
      axis: name of the device axis that the batch is split over; None where it is whole.
      dtype: of what it gives; statistics are float32.
    """

    axis: str | None
    dtype: Any

    @nn.compact
    def __call__(self, x: Array, mask: Array, train: bool) -> Array:
        width = x.shape[-1]
        mean = self.variable('batch_stats', 'mean', jnp.zeros, (width,))
        var = self.variable('batch_stats', 'var', jnp.ones, (width,))
        scale = self.param('scale', nn.initializers.ones, (width,))
        bias = self.param('bias', nn.initializers.zeros, (width,))
        centre, spread = mean.value, var.value
        if train:
            centre, spread = self._statistics(x.astype(jnp.float32), mask)
            if not self.is_initializing():
                mean.value, var.value = (0.9 * old.value + 0.1 * new for old, new in ((mean, centre), (var, spread)))
        factor = scale * jax.lax.rsqrt(spread + EPSILON)
        return (x * factor.astype(x.dtype) + (bias - centre * factor).astype(x.dtype)).astype(self.dtype)

    def _statistics(self, x: Array, mask: Array) -> tuple[Array, Array]:
        """Mean and variance of every channel over real frames."""
        real = jnp.broadcast_to(mask.reshape(*mask.shape, *[1] * (x.ndim - 2)), (*x.shape[:-1], 1))
        axes = tuple(range(x.ndim - 1))

        def over_devices(total: Array) -> Array:
            return total if self.axis is None else jax.lax.psum(total, self.axis)

        count = jnp.maximum(over_devices(jnp.sum(real)), 1)
        mean = over_devices(jnp.sum(jnp.where(real > 0, x, 0), axis=axes)) / count
        square = jnp.sum(jnp.where(real > 0, jnp.square(x - mean), 0), axis=axes)
        return mean, over_devices(square) / count


def one_each(network: str, widths: tuple[int, ...], strides: tuple[int, ...]) -> None:
    """Raises UsageError where a network does not have one stride per block."""
    if len(widths) != len(strides) or not widths:
        raise UsageError(f'a {network} has a stride for each of its blocks, got {len(strides)} for {len(widths)}')
