"""Frames of sound as networks of pitch see them: as they are, or as bins of log-frequency."""

import functools

import jax.numpy as jnp
import numpy as np

from kdjax.data.preprocess import Preprocess
from kdjax.errors import UsageError
from kdjax.types import Array


def standard() -> Preprocess:
    """Samples (..., S) about their mean and over their deviation, with S - 1 in its denominator, float32."""
    return _standard


def _standard(samples: Array) -> Array:
    centred = jnp.asarray(samples, jnp.float32)
    centred = centred - jnp.mean(centred, axis=-1, keepdims=True)
    square = jnp.sum(jnp.square(centred), axis=-1, keepdims=True) / (samples.shape[-1] - 1)
    return centred / jnp.maximum(jnp.sqrt(square), 1e-10)


def log_frequency(
    *, rate: int = 16000, fft: int = 4096, lowest: float = 31.7, octave: int = 60, bins: int = 418, floor: float = 1e-4
) -> Preprocess:
    """log(power + floor) of samples (..., S) at evenly spaced log-frequencies, about the mean of the frame. (..., bins)

    The spectrum under a periodic Hann window, of the samples as `standard` makes them, is read between its own
    frequencies by straight lines.

    Args:
      rate: samples per second.
      fft: of the transform, samples and zeros.
      lowest: Hz of the first bin.
      octave: bins of an octave.
      bins: how many there are; by default to 3,967 Hz, which is all of speech at 8 kHz.
      floor: what is added before the logarithm.

    Raises:
      UsageError: a bin above rate / 2, a number that is not positive, or, once called, more samples than `fft`.
    """
    centres = lowest * 2 ** (np.arange(max(bins, 1)) / max(octave, 1))
    if min(rate, fft, lowest, octave, bins, floor) <= 0 or centres[-1] > rate / 2:
        raise UsageError(f'log_frequency needs numbers > 0 and bins to {rate / 2:g} Hz at most, got {bins} to '
                         f'{centres[-1]:.0f} Hz')  # fmt: skip
    place = centres * fft / rate
    below = np.minimum(place.astype(int), fft // 2 - 1)
    return functools.partial(_log_frequency, fft=fft, below=below, share=(place - below).astype(np.float32),
                             floor=floor)  # fmt: skip


def _log_frequency(samples: Array, *, fft: int, below: np.ndarray, share: np.ndarray, floor: float) -> Array:
    if (size := samples.shape[-1]) > fft:
        raise UsageError(f'log_frequency has a transform of {fft} samples, got frames of {size}')
    hann = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)
    spectrum = jnp.fft.rfft(_standard(samples) * hann, n=fft)
    power = (jnp.square(spectrum.real) + jnp.square(spectrum.imag)) / size
    found = jnp.log((1 - share) * power[..., below] + share * power[..., below + 1] + floor)
    return found - jnp.mean(found, axis=-1, keepdims=True)
