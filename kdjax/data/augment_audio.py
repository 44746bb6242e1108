"""Augmentations of clips (`audio.clips`): pure functions of a key, which comes of seed, example id and view.

They act on the samples of the column 'inputs'; what SpecAugment hides they note, for `audio.log_mel` to leave out.
"""

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.data.audio import SPANS
from kdjax.data.augment import OfExample
from kdjax.errors import UsageError
from kdjax.types import Array, Tree

TAPE = 2**16  # samples of noise, of which a piece is taken
LOWEST, HIGHEST = -(2**15), 2**15 - 1


def shift(*, samples: int = 800) -> OfExample:
    """A clip that begins up to so many samples later, after silence, or earlier, without as many of its first ones.

    At least half of a clip stays. 800 samples are 100 ms at 8 kHz.

    Raises:
      UsageError: `samples` < 1.
    """
    if samples < 1:
        raise UsageError(f'samples of shift must be >= 1, got {samples}')
    return _of_clip(functools.partial(_shift, samples))


def _shift(most: int, key: Array, clip: Mapping[str, Array]) -> dict[str, Array]:
    audio, count = clip['audio'], clip['samples']
    by = jnp.maximum(jax.random.randint(key, (), -most, most + 1), -(count // 2))
    padded = jnp.pad(audio, most)
    moved = jax.lax.dynamic_slice(padded, (most - by,), audio.shape)
    return {**clip, 'audio': moved, 'samples': jnp.minimum(count + by, len(audio)).astype(count.dtype)}


def noise(*, level: float = 0.1) -> OfExample:
    """White noise, up to `level` as loud as the clip (root mean square), over its real samples.

    The noise is a piece of one tape, from a place that is drawn.

    Raises:
      UsageError: `level` is not above 0.
    """
    if not level > 0:
        raise UsageError(f'level of noise must be > 0, got {level}')
    return _of_clip(functools.partial(_noise, level))


@functools.cache
def _tape() -> np.ndarray:
    return np.random.default_rng(0).standard_normal(TAPE).astype(np.float32)


def _noise(level: float, key: Array, clip: Mapping[str, Array]) -> dict[str, Array]:
    of_place, of_level = jax.random.split(key)
    audio, count = clip['audio'].astype(jnp.float32), clip['samples']
    real = jnp.arange(len(audio)) < count
    loudness = jnp.sqrt(jnp.sum(jnp.square(audio)) / count.astype(jnp.float32))
    # Twice, so that a piece of any length lies within.
    tape = jnp.asarray(np.resize(_tape(), TAPE + len(audio)))
    piece = jax.lax.dynamic_slice(tape, (jax.random.randint(of_place, (), 0, TAPE),), audio.shape)
    louder = audio + piece * loudness * jax.random.uniform(of_level, maxval=level)
    sounds = jnp.clip(jnp.round(louder), LOWEST, HIGHEST).astype(clip['audio'].dtype)
    return {**clip, 'audio': jnp.where(real, sounds, clip['audio'])}


def spec_augment(
    *, times: int = 1, time: int = 1120, share: float = 0.3, bands: int = 1, band: int = 8, mels: int = 40
) -> OfExample:
    """Hides spans of a clip's frames, and of its mel bands: they become 0, which is their mean.

    Args:
      times: spans of time, at most SPANS.
      time: the widest, in samples; 1,120 are 140 ms at 8 kHz.
      share: of the real samples that a span may have at most.
      bands: spans of bands, at most SPANS.
      band: the widest, in bands.
      mels: bands that there are.

    Raises:
      UsageError: a number out of range.

    Reference: Park, Chan, Zhang, Chiu, Zoph, Cubuk, Le, SpecAugment: A Simple Data Augmentation Method for Automatic
    Speech Recognition, Interspeech 2019, sec. 2 (without time warping).
    """
    if not (0 <= times <= SPANS and 0 <= bands <= SPANS and times + bands):
        raise UsageError(
            f'times and bands of spec_augment must be in 0 to {SPANS}, not both 0, got {times} and {bands}'
        )
    if time < 1 or not 0 < share <= 1 or not 1 <= band <= mels:
        raise UsageError(f'spec_augment needs time >= 1, share in (0, 1] and band in 1 to mels, got {time}, {share}, '
                         f'{band} of {mels}')  # fmt: skip

    def hide(key: Array, clip: Mapping[str, Array]) -> dict[str, Array]:
        of_time, of_band = jax.random.split(key)
        count = clip['samples']
        widest = jnp.minimum(time, (share * count.astype(jnp.float32)).astype(jnp.int32))
        spans = [_spans(of_time, times, widest, count), _spans(of_band, bands, jnp.int32(band), jnp.int32(mels))]
        return {**clip, 'hidden': jnp.stack(spans).astype(clip['hidden'].dtype)}

    return _of_clip(hide)


def _spans(key: Array, number: int, widest: Array, length: Array) -> Array:
    """Starts and widths of `number` spans within `length`, and none in the place of the others. (SPANS, 2)"""
    of_width, of_start = jax.random.split(key)
    width = jnp.where(np.arange(SPANS) < number, jax.random.randint(of_width, (SPANS,), 0, widest + 1), 0)
    start = jax.random.randint(of_start, (SPANS,), 0, length - width + 1)
    return jnp.stack([start, width], axis=-1)


def _of_clip(change: Callable[[Array, Mapping[str, Array]], dict[str, Array]]) -> OfExample:
    """As an augmentation of the whole example."""

    def apply(key: Array, columns: Mapping[str, Tree]) -> Mapping[str, Tree]:
        if not isinstance(columns['inputs'], Mapping) or 'samples' not in columns['inputs']:
            raise UsageError('an augmentation of audio needs inputs made by audio.clips')
        return {**columns, 'inputs': change(key, columns['inputs'])}

    return OfExample(apply)
