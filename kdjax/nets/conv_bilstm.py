"""Convolutions over time and a bidirectional LSTM: a transcriber that reads whole clips."""

from collections.abc import Sequence
from typing import Any

from flax import linen as nn

from kdjax.nets.base import compute_dtype, from_linen, tap
from kdjax.nets.frames import STATES, Temporal, block_taps, read, strided
from kdjax.nets.layers import Dropout
from kdjax.nets.sequences import LSTM, at_least, only_real
from kdjax.types import Array, Net, Tree


class _ConvBiLSTM(nn.Module):
    classes: int
    width: int
    size: int
    strides: tuple[int, ...]
    units: int
    dropout: float
    axis: str | None
    dtype: Any

    @nn.compact
    def __call__(self, inputs: Tree, *, train: bool) -> Array:
        (x, mask), drop = read(inputs, self.dtype), Dropout(self.dropout, self.axis)
        for place, stride in enumerate(self.strides, start=1):
            x = Temporal(self.width, self.size, stride, self.dtype, bias=True, name=f'conv{place}')(x)
            mask = strided(mask, stride)
            x = only_real(nn.relu(nn.LayerNorm(dtype=self.dtype, name=f'norm{place}')(x)), mask)
            x = tap(self, f'block{place}', x, mask)
        x = tap(self, STATES, LSTM(self.units, self.dtype, name='lstm')(drop(x, train), mask)[0], mask)
        return tap(self, 'logits', nn.Dense(self.classes, dtype=self.dtype, name='head')(drop(x, train)), mask)


def transcriber(
    *,
    classes: int,
    width: int = 80,
    size: int = 5,
    strides: Sequence[int] = (2, 2),
    units: int = 96,
    dropout: float = 0.1,
    precision: str = 'float32',
    axis: str | None = None,
) -> Net:
    """Convolutions, a bidirectional LSTM, and logits (B, T', classes) of every frame that strides leave, for CTC.

    By default 187 k parameters with 11 classes and 40 bands. Inputs are those of `audio.log_mel`.

    Taps: 'block1', ... (B, T', width), 'states' (B, T', 2 units).

    Args:
      classes: number of logits, with the blank.
      width: channels of the convolutions.
      size: frames that they see.
      strides: of each of them.
      units: of the LSTM in each direction.
      dropout: probability of dropping a number before and after the LSTM in training.
      precision: dtype of activations, 'float32' or 'bfloat16'.
      axis: name of the device axis that a batch is split over, None where it is whole.

    Raises:
      UsageError: a number below 1.

    Reference: Graves, Jaitly, Towards End-to-End Speech Recognition with Recurrent Neural Networks, ICML 2014.
    """
    strides = tuple(strides)
    at_least('conv_bilstm', width=width, size=size, units=units, strides=min(strides, default=0))
    module = _ConvBiLSTM(classes, width, size, strides, units, dropout, axis, compute_dtype(precision))
    return from_linen(module, (*block_taps(len(strides)), STATES))
