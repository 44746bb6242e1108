"""Salience of pitches: small convolutions over log-frequency, which see the harmonics of a pitch side by side."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from kdjax.errors import UsageError
from kdjax.nets.base import compute_dtype, from_linen, tap
from kdjax.nets.frames import Temporal
from kdjax.nets.sequences import at_least
from kdjax.types import Array, Net

OCTAVE = 60  # bins, of 20 cents
HARMONICS = (0.5, 1, 2, 3, 4, 5)


class _Salience(nn.Module):
    classes: int
    widths: tuple[int, ...]
    size: int
    dtype: Any

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        if inputs.ndim != 2 or inputs.shape[1] < self.classes:
            raise UsageError(f'salience reads bins of log-frequency (B, {self.classes} or more), got {inputs.shape}')
        x = harmonics(inputs.astype(self.dtype), self.classes)
        for place, width in enumerate(self.widths, start=1):
            x = nn.relu(Temporal(width, self.size, 1, self.dtype, bias=True, name=f'conv{place}')(x))
            x = tap(self, f'block{place}', x)
        return nn.Dense(1, dtype=self.dtype, name='head')(x)[..., 0]


def harmonics(bins_BF: Array, pitches: int) -> Array:
    """What is at each harmonic of every pitch, 0 beyond the ends. (B, pitches, harmonics)"""
    places = np.arange(pitches)[:, None] + np.round(OCTAVE * np.log2(HARMONICS)).astype(int)
    there = (places >= 0) & (places < bins_BF.shape[1])
    return jnp.where(there, bins_BF[:, np.where(there, places, 0)], jnp.zeros((), bins_BF.dtype))


def salience(
    *,
    classes: int = 360,
    widths: Sequence[int] = (16, 16),
    size: int = 15,
    precision: str = 'float32',
    axis: str | None = None,
) -> Net:
    """A logit for each pitch, from what lies at its harmonics and next to them: alike for all pitches.

    By default 5.3 k parameters. Inputs (B, F): bins of 20 cents from the lowest pitch up, `data.pitch.log_frequency`.

    Taps: 'block1', ..., (B, classes, width).

    Args:
      classes: pitches, of the lowest bins.
      widths: channels of the convolutions.
      size: bins that they see.
      precision: dtype of activations, 'float32' or 'bfloat16'.
      axis: unused: nothing in it depends on how a batch is split.

    Raises:
      UsageError: a number below 1, or (in `init`) fewer bins than pitches.

    Reference: Bittner, McFee, Salamon, Li, Bello, Deep Salience Representations for F0 Estimation in Polyphonic Music,
    ISMIR 2017.
    """
    del axis
    at_least('salience', classes=classes, widths=min(widths, default=0), size=size)
    module = _Salience(classes, tuple(widths), size, compute_dtype(precision))
    return from_linen(module, tuple(f'block{place}' for place in range(1, len(widths) + 1)))
