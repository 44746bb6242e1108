"""Audio: clips of 16 bits with their lengths, and what networks see of them, the logarithm of mel spectrograms.

'inputs' of a data set of audio is a tree of columns, made by `clips`. `log_mel` is its preprocessing, so that what
features are is a field of a run and augmentations (`augment_audio`) act on samples.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.data.preprocess import Preprocess
from kdjax.errors import UsageError, unknown
from kdjax.types import Array

SPANS = 2  # that an augmentation may hide of a clip, in time and in mel bands each
FULL = 2**15  # what stands for 1
SCALES = ('slaney', 'htk')
CENTRES = ('mean', 'mean_std', 'none')


def clips(recordings: Sequence[np.ndarray], longest: int) -> dict[str, np.ndarray]:
    """Recordings as a tree of columns.

    Args:
      recordings: N arrays of int16, each of at least one sample.
      longest: samples S after which a recording is cut off.

    Returns:
      'audio' (N, S) int16, silent behind its end; 'samples' (N,) int32, how many are real; 'hidden'
      (N, 2, SPANS, 2) int32, starts and widths of what an augmentation hides: samples, and bands. Nothing is, as yet.

    Raises:
      UsageError: a recording is empty or of another type, or `longest` < 1.
    """
    if longest < 1:
        raise UsageError(f'clips must be at least 1 sample long, got {longest}')
    audio = np.zeros((len(recordings), longest), np.int16)
    for place, (row, recording) in enumerate(zip(audio, recordings, strict=True)):
        if recording.dtype != np.int16 or recording.ndim != 1 or not len(recording):
            raise UsageError(f'recording {place} must be samples (n,) of int16, got {recording.dtype} '
                             f'{recording.shape}')  # fmt: skip
        row[: len(recording)] = recording[:longest]
    samples = np.asarray([min(len(recording), longest) for recording in recordings], np.int32)
    return {'audio': audio, 'samples': samples, 'hidden': np.zeros((len(recordings), 2, SPANS, 2), np.int32)}


def log_mel(
    *,
    rate: int = 8000,
    window: int = 200,
    hop: int = 80,
    fft: int = 256,
    mels: int = 40,
    low: float = 20.0,
    high: float = 4000.0,
    scale: str = 'slaney',
    floor: float = 1e-6,
    centre: str = 'mean',
) -> Preprocess:
    """log(mel power spectrum + floor), per clip and band about its mean over real frames, and 0 where there is none.

    Of a tree of `clips` (..., S) it makes 'frames' (..., T, mels) float32, T = 1 + (S - window) // hop; 'mask' (..., T)
    float32, 1 for the frames that lie whole within the clip, of which there is always one; and 'hop_ms' (...), from
    one frame to the next. What an augmentation hides is 0, the mean, and counts as real.

    Args:
      rate: samples per second.
      window, hop: samples of a frame, under a periodic Hann window, and from one to the next.
      fft: samples of the Fourier transform, the window and zeros.
      mels: triangular filters, from `low` to `high` Hz.
      scale: 'slaney', linear below 1 kHz and filters of one area, as librosa's; or 'htk', 2595 log10(1 + f / 700) and
        filters of one height, as torchaudio's.
      floor: what is added before the logarithm; samples are in [-1, 1).
      centre: 'mean', 'mean_std', which makes of every band one deviation too, or 'none'.

    Raises:
      UsageError: a number out of range, an unknown scale or centre, a filter without a frequency, or, once called,
        clips shorter than a window.
    """
    if centre not in CENTRES:
        raise unknown('centre', centre, CENTRES, ' of log_mel')
    if not hop >= 1 or not 1 <= window <= fft or floor <= 0:
        raise UsageError(f'log_mel needs hop >= 1, 1 <= window <= fft and floor > 0, got {hop}, {window}, {fft} and '
                         f'{floor}')  # fmt: skip
    bank = filters(rate=rate, fft=fft, mels=mels, low=low, high=high, scale=scale).astype(np.float32)
    hann = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)).astype(np.float32)
    return functools.partial(_log_mel, hann=hann, hop=hop, fft=fft, bank=bank, floor=floor, centre=centre,
                             hop_ms=1e3 * hop / rate)  # fmt: skip


def _log_mel(
    inputs: Any, *, hann: np.ndarray, hop: int, fft: int, bank: np.ndarray, floor: float, centre: str, hop_ms: float
) -> dict[str, Array]:
    audio, samples, hidden = inputs['audio'], inputs['samples'], inputs['hidden']
    window = len(hann)
    count = 1 + (audio.shape[-1] - window) // hop
    if count < 1:
        raise UsageError(f'clips of {audio.shape[-1]} samples have no frame of {window}')
    starts = hop * np.arange(count, dtype=np.int32)

    def spectra(some: Array) -> Array:
        pieces = _pieces(some, count, window, hop).astype(jnp.float32) / FULL
        spectrum = jnp.fft.rfft(pieces * hann, n=fft)
        power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
        return jnp.log(power @ bank.T + floor)

    frames = _batch_by_batch(spectra, jnp.asarray(audio))
    real = jnp.maximum(samples - window, 0)[..., None] >= starts
    times, bands = _within(starts, hidden[..., 0, :, :]), _within(np.arange(len(bank)), hidden[..., 1, :, :])
    shown = real[..., None] & ~times[..., None] & ~bands[..., None, :]
    return {
        'frames': jnp.where(shown, _centred(frames, real[..., None], centre), 0),
        'mask': real.astype(jnp.float32),
        'hop_ms': jnp.full(samples.shape, hop_ms, jnp.float32),
    }


def _batch_by_batch(change: Callable[[Array], Array], audio: Array) -> Array:
    """What `change` makes of clips (..., B, S), of one batch after the other.

    Of all at once, transforms are many times as large as what comes of them, and lie far from a processor.
    """
    if audio.ndim < 3:
        return change(audio)
    made = jax.lax.map(change, audio.reshape(-1, *audio.shape[-2:]))
    return made.reshape(*audio.shape[:-1], *made.shape[2:])


def _pieces(audio: Array, count: int, window: int, hop: int) -> Array:
    """`count` windows of clips (..., S), one every `hop` samples. (..., count, window)

    Of slices, as samples looked up one by one are, on a CPU, several times as slow.
    """
    hops = -(-window // hop)  # that a window reaches into
    whole = (count - 1 + hops) * hop
    silence = [(0, 0)] * (audio.ndim - 1) + [(0, max(0, whole - audio.shape[-1]))]
    by_hop = jnp.pad(audio, silence)[..., :whole].reshape(*audio.shape[:-1], count - 1 + hops, hop)
    parts = [by_hop[..., at : at + count, : window - at * hop] for at in range(hops)]
    return jnp.concatenate(parts, axis=-1)


def _centred(frames: Array, real: Array, centre: str) -> Array:
    """About the mean over real frames, band by band."""
    if centre == 'none':
        return frames
    frames = frames - jnp.mean(frames, axis=-2, where=real, keepdims=True)
    if centre == 'mean':
        return frames
    return frames / jnp.sqrt(jnp.mean(jnp.square(frames), axis=-2, where=real, keepdims=True) + 1e-5)


def _within(places: np.ndarray, spans: Array) -> Array:
    """Which of `places` (P,) lie in any of spans (..., SPANS, 2) of starts and widths. (..., P)"""
    start, width, places = spans[..., 0, None], spans[..., 1, None], places.astype(np.int32)
    return jnp.any((places >= start) & (places < start + width), axis=-2)


def filters(*, rate: int, fft: int, mels: int, low: float, high: float, scale: str) -> np.ndarray:
    """Triangular filters that are evenly spaced on a mel scale, (mels, 1 + fft // 2) float64; see `log_mel`.

    Raises:
      UsageError: an unknown scale, frequencies out of order or above rate / 2, or a filter that no frequency of the
        transform falls into.

    Reference: Slaney, Auditory Toolbox, Interval Research Corporation, 1998; Young et al., The HTK Book, sec. 5.6.
    """
    if scale not in SCALES:
        raise unknown('scale', scale, SCALES, ' of log_mel')
    if not 0 <= low < high <= rate / 2 or mels < 1:
        raise UsageError(f'mel filters need 0 <= low < high <= {rate / 2:g} Hz and mels >= 1, got {low:g}, {high:g} '
                         f'and {mels}')  # fmt: skip
    to_mel, to_hz = (_slaney, _of_slaney) if scale == 'slaney' else (_htk, _of_htk)
    lowest, highest = to_mel(np.array([low, high], np.float64))
    corners = to_hz(np.linspace(float(lowest), float(highest), mels + 2))
    bins = np.arange(1 + fft // 2) * rate / fft
    rising = (bins - corners[:-2, None]) / np.diff(corners)[:-1, None]
    falling = (corners[2:, None] - bins) / np.diff(corners)[1:, None]
    bank = np.maximum(0, np.minimum(rising, falling))
    if scale == 'slaney':
        bank *= 2 / (corners[2:] - corners[:-2])[:, None]
    if empty := int(np.sum(bank.max(axis=1) == 0)):
        raise UsageError(f'{empty} of {mels} mel filters have no frequency: a larger fft than {fft}, or fewer mels')
    return bank


KNEE, SLOPE, STEP = 1000.0, 3 / 200, np.log(6.4) / 27  # Hz where the scale bends; mels per Hz below; per mel above


def _slaney(hertz: np.ndarray) -> np.ndarray:
    above = KNEE * SLOPE + np.log(np.maximum(hertz, KNEE) / KNEE) / STEP
    return np.where(hertz < KNEE, hertz * SLOPE, above)


def _of_slaney(mels: np.ndarray) -> np.ndarray:
    knee = KNEE * SLOPE
    return np.where(mels < knee, mels / SLOPE, KNEE * np.exp(STEP * (np.maximum(mels, knee) - knee)))


def _htk(hertz: np.ndarray) -> np.ndarray:
    return 2595 * np.log10(1 + hertz / 700)


def _of_htk(mels: np.ndarray) -> np.ndarray:
    return 700 * (10 ** (mels / 2595) - 1)
