"""Maxout networks of the MNIST tables: dense ones, and the convolutional teacher and student of FitNets."""

import functools
from typing import NamedTuple

import jax.numpy as jnp
from flax import linen as nn

from kdjax.cpu.convolution import Conv
from kdjax.cpu.pooling import max_pool
from kdjax.errors import UsageError
from kdjax.nets.base import compute_dtype, from_linen, tap
from kdjax.nets.layers import Dropout, images, uniform
from kdjax.types import Array, Net

START = 0.005  # weights begin within this of 0


class _Layer(NamedTuple):
    """A convolutional maxout layer: units, kernel and zeros around it, side and stride of max-pooling."""

    units: int
    kernel: int
    zeros: int
    pool: int = 1
    stride: int = 1


TEACHER = (_Layer(48, 8, 0, 4, 2), _Layer(48, 8, 3, 4, 2), _Layer(24, 5, 3, 2, 2))
FITNET = (
    _Layer(16, 5, 0), _Layer(16, 3, 0, 4, 2), _Layer(16, 5, 3), _Layer(16, 3, 0, 4, 2), _Layer(12, 3, 3),
    _Layer(12, 3, 0, 2, 2),
)  # fmt: skip


class _MaxoutConv(nn.Module):
    layer: _Layer
    pieces: int
    start: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        units, size = self.layer.units, (self.layer.kernel, self.layer.kernel)
        x = Conv(
            self.pieces * units, size, padding=self.layer.zeros, use_bias=False, kernel_init=uniform(self.start),
            dtype=self.dtype, name='linear',
        )(x)  # fmt: skip
        x = x + self.param('bias', nn.initializers.zeros, x.shape[1:]).astype(self.dtype)
        x = _largest(x.reshape(*x.shape[:-1], units, self.pieces))
        pool, stride = self.layer.pool, self.layer.stride
        # The last window may reach over the edge, as in the library that the papers used.
        beyond = [(0, -(length - pool) % stride) for length in x.shape[1:3]]
        return max_pool(x, window_shape=(pool, pool), strides=(stride, stride), padding=beyond)


class _Conv(nn.Module):
    classes: int
    layers: tuple[_Layer, ...]
    pieces: tuple[int, ...]
    start: float
    dropout: float
    input_dropout: float
    axis: str | None
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool) -> Array:
        x = _masked(images(inputs, self.dtype), self.input_dropout, self.axis, train)
        for depth, (layer, pieces) in enumerate(zip(self.layers, self.pieces, strict=True), start=1):
            maxout = _MaxoutConv(layer, pieces, self.start, self.dtype, name=f'conv{depth}')
            x = tap(self, f'hidden{depth}', maxout(x, train))
            x = Dropout(self.dropout, self.axis)(x, train)
        x = x.reshape(x.shape[0], -1)
        return nn.Dense(self.classes, kernel_init=uniform(self.start), dtype=self.dtype, name='head')(x)


class _Dense(nn.Module):
    classes: int
    widths: tuple[int, ...]
    pieces: int
    dropout: float
    input_dropout: float
    axis: str | None
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool) -> Array:
        x = _masked(inputs.reshape(inputs.shape[0], -1).astype(self.dtype), self.input_dropout, self.axis, train)
        for depth, width in enumerate(self.widths, start=1):
            x = nn.Dense(self.pieces * width, kernel_init=uniform(START), dtype=self.dtype, name=f'dense{depth}')(x)
            x = tap(self, f'hidden{depth}', _largest(x.reshape(x.shape[0], width, self.pieces)))
            x = Dropout(self.dropout, self.axis)(x, train)
        return nn.Dense(self.classes, kernel_init=uniform(START), dtype=self.dtype, name='head')(x)


def dense(
    *,
    classes: int,
    widths: tuple[int, ...] = (240, 240),
    pieces: int = 5,
    dropout: float = 0.0,
    input_dropout: float = 0.0,
    precision: str = 'float32',
    axis: str | None = None,
) -> Net:
    """Dense maxout network over flattened inputs; taps 'hidden1', 'hidden2', ... of shape (B, width).

    The paper trains it with dropout=0.5, input_dropout=0.2 and the weights into a unit kept to a norm of 1.9365
    (`layers.max_norm`).

    Args:
      classes: number of logits.
      widths: units of each hidden layer.
      pieces: linear functions of which a unit takes the largest.
      dropout: probability of dropping a hidden unit in training.
      input_dropout: that of dropping an input; what is kept is not scaled up, as in the authors' code.
      precision: dtype of activations, 'float32' or 'bfloat16'.
      axis: name of the device axis that a batch is split over, None where it is whole: which units are dropped.

    Reference: Goodfellow, Warde-Farley, Mirza, Courville, Bengio, Maxout Networks, ICML 2013, sec. 5.1, with initial
    weights as in its code.
    """
    if pieces < 1:
        raise UsageError(f'pieces of a maxout network must be at least 1, got {pieces}')
    module = _Dense(classes, tuple(widths), pieces, dropout, input_dropout, axis, compute_dtype(precision))
    return from_linen(module, tuple(f'hidden{depth}' for depth in range(1, len(widths) + 1)))


def teacher(
    *,
    classes: int,
    pieces: int = 2,
    dropout: float = 0.0,
    input_dropout: float = 0.0,
    precision: str = 'float32',
    axis: str | None = None,
) -> Net:
    """The convolutional maxout network for MNIST that teaches in FitNets; inputs (B, 28, 28) or (B, 28, 28, C).

    Taps: 'hidden1' (B, 10, 10, 48), 'hidden2' (B, 4, 4, 48), 'hidden3' (B, 3, 3, 24). The hint is 'hidden2'.

    It is trained with dropout=0.5, input_dropout=0.2 and the weights into a unit kept to a norm of 0.9 in 'conv1' and
    of 1.9365 elsewhere (`layers.max_norm`).

    Args:
      classes: number of logits.
      pieces: of the last convolution, linear functions of which a unit takes the largest (2 in the others). The table
        of FitNets counts 361 thousand weights, which is 2; the published code has 4.
      dropout: probability of dropping a hidden unit in training.
      input_dropout: that of dropping an input; what is kept is not scaled up, as in the authors' code.
      precision: dtype of activations, 'float32' or 'bfloat16'.
      axis: name of the device axis that a batch is split over, None where it is whole: which units are dropped.

    Reference: Goodfellow, Warde-Farley, Mirza, Courville, Bengio, Maxout Networks, ICML 2013, sec. 5.1; Romero, Ballas,
    Kahou, Chassang, Gatta, Bengio, FitNets, ICLR 2015, sec. 3.3.
    """
    return _conv(TEACHER, (2, 2, pieces), classes, START, dropout, input_dropout, precision, axis)


def fitnet(
    *,
    classes: int,
    pieces: int = 2,
    start: float = START,
    dropout: float = 0.0,
    input_dropout: float = 0.0,
    precision: str = 'float32',
    axis: str | None = None,
) -> Net:
    """The student of FitNets for MNIST, twice as deep as `teacher` and with 8 % of its weights.

    Taps, of inputs (B, 28, 28) or (B, 28, 28, C): 'hidden1' (B, 24, 24, 16), 'hidden2' (B, 10, 10, 16), 'hidden3' (B,
    12, 12, 16), 'hidden4' (B, 4, 4, 16), which the hint guides, 'hidden5' (B, 8, 8, 12), 'hidden6' (B, 3, 3, 12).

    It is trained with the weights into a unit kept to a norm of 0.9 in the first two layers and of 1.9365 elsewhere
    (`layers.max_norm`).

    Args:
      classes: number of logits.
      pieces: of the last two convolutions, linear functions of which a unit takes the largest (2 in the others). The
        table of FitNets counts 30 thousand weights, which is 2; the published code has 4.
      start: initial weights are uniform within this of 0. With the authors' 0.005 so little is left of a signal after
        six layers that labels alone teach nothing in the first thousand steps.
      dropout: probability of dropping a hidden unit in training.
      input_dropout: that of dropping an input; what is kept is not scaled up.
      precision: dtype of activations, 'float32' or 'bfloat16'.
      axis: name of the device axis that a batch is split over, None where it is whole: which units are dropped.

    Reference: Romero, Ballas, Kahou, Chassang, Gatta, Bengio, FitNets, ICLR 2015, sec. 3.3, and its code.
    """
    return _conv(FITNET, (2, 2, 2, 2, pieces, pieces), classes, start, dropout, input_dropout, precision, axis)


def _conv(
    layers: tuple[_Layer, ...],
    pieces: tuple[int, ...],
    classes: int,
    start: float,
    dropout: float,
    input_dropout: float,
    precision: str,
    axis: str | None,
) -> Net:
    if min(pieces) < 1:
        raise UsageError(f'pieces of a maxout network must be at least 1, got {min(pieces)}')
    module = _Conv(classes, layers, pieces, start, dropout, input_dropout, axis, compute_dtype(precision))
    return from_linen(module, tuple(f'hidden{depth}' for depth in range(1, len(layers) + 1)))


def _largest(pieces: Array) -> Array:
    """Over the last axis, piece by piece: a reduction over an axis so short has a gradient that is slow on a CPU."""
    return functools.reduce(jnp.maximum, (pieces[..., piece] for piece in range(pieces.shape[-1])))


def _masked(x: Array, rate: float, axis: str | None, train: bool) -> Array:
    """Dropout without scaling up what is kept."""
    dropped = Dropout(rate, axis)(x, train)
    return dropped * (1 - rate) if train else dropped
