"""Pitch: what is asked, what is answered, which of it is right; and frames of recordings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.data import fsdd
from kdjax.dataset import Dataset, Split
from kdjax.errors import UsageError
from kdjax.tasks.pitch import LOWEST, Pitch, answered, blurred, pitches
from kdjax.types import Outputs

RANDOM = np.random.default_rng(4)


def test_answers_are_the_mean_about_the_likeliest():
    logits = RANDOM.normal(size=(20, 360)).astype(np.float32)
    for row, found in zip(logits, np.asarray(answered(jnp.asarray(logits))), strict=True):
        best = row.argmax()
        near = slice(max(0, best - 4), best + 5)
        weight = 1 / (1 + np.exp(-row[near].astype(np.float64)))
        np.testing.assert_allclose(found, (weight * pitches()[near]).sum() / weight.sum(), rtol=1e-6)
    unsure = np.full((1, 360), -300, np.float32)
    unsure[0, 7] = -200
    np.testing.assert_allclose(answered(jnp.asarray(unsure)), pitches()[7])
    assert np.isnan(answered(jnp.full((1, 360), np.nan))).all()


def test_what_is_asked_is_answered():
    cents = np.asarray([LOWEST + 200, 4321.0, 6000.5], np.float32)
    asked = np.asarray(blurred(jnp.asarray(cents)))
    np.testing.assert_allclose(asked[1], np.exp(-(((pitches() - 4321) / 25) ** 2) / 2), atol=1e-6)
    asked = asked.clip(1e-6, 1 - 1e-6)
    logits = np.log(asked) - np.log1p(-asked)
    np.testing.assert_allclose(answered(jnp.asarray(logits)), cents, atol=0.5)


@pytest.mark.parametrize(('score', 'right'), [('rpa', [1, 0, 0, 1]), ('rca', [1, 0, 1, 1])])
def test_accuracies_within_fifty_cents(score, right):
    """By frame as kept for tests, and as meters: the third is an octave off, the second half of one."""
    task, peaks = Pitch(score=score), np.asarray([100, 130, 160, 200])
    logits = np.where(np.arange(360) == peaks[:, None], 4.0, -9.0).astype(np.float32)
    labels = pitches()[np.asarray([102, 100, 100, 198])]
    batch = task.prepare({'inputs': jnp.zeros((4, 1)), 'labels': jnp.asarray(labels), 'mask': jnp.ones(4)})
    outputs = Outputs(jnp.asarray(logits), {})
    split = Split(np.zeros((4, 1)), labels, {})
    rows = task.statistics(np.asarray(task.predict(outputs, batch)), split)
    np.testing.assert_array_equal(rows[:, 0], right)
    meters = task.sums(outputs, batch, jnp.asarray(np.roll(logits, 1, axis=1)))
    np.testing.assert_allclose(meters[score].compute(), task.score_of(rows.sum(axis=0)))
    assert meters['like'].compute() == 1
    assert batch['labels'].shape == (4, 360)


def test_labels_that_are_no_pitch_are_refused():
    for labels, said in ((np.zeros(3, int), 'pitch needs labels'), (np.zeros(3), 'must be in 1997 to 9177 cents')):
        with pytest.raises(UsageError, match=said):
            Pitch().check(Dataset({'train': Split(np.zeros((3, 4)), labels, {})}, ()))


def test_the_loudest_part_at_twice_the_rate():
    time = np.arange(2000) / 8000
    sound = np.round(9000 * np.sin(2 * np.pi * 200 * time) * ((time > 0.1) & (time < 0.19))).astype(np.int16)
    found = fsdd.loudest(sound)
    assert (found.shape, found.dtype) == ((1024,), np.float32)
    found = found * 2**15
    spectrum = np.abs(np.fft.rfft(found * np.hanning(1024)))
    assert abs(spectrum.argmax() * 16000 / 1024 - 200) < 16
    assert 8000 < np.abs(found).max() < 10000
    assert np.count_nonzero(np.abs(found) > 100) > 900
    assert not fsdd.loudest(np.zeros(300, np.int16)).any()


def test_frames_have_a_pitch_that_is_sure_enough(tmp_path, monkeypatch):
    sounds = [RANDOM.integers(-99, 99, 900).astype(np.int16) for _ in range(12)]
    speakers = np.repeat(np.arange(6), 2)
    known = fsdd.Recordings(sounds, np.zeros(12, int), speakers, np.tile([0, 1], 6))
    monkeypatch.setattr(fsdd, 'recordings', lambda folder: known)
    path = tmp_path / 'pitch.npz'
    sure = np.ones(12)
    sure[5] = 0.4
    np.savez(path, recordings=np.arange(12), cents=np.linspace(3000, 4000, 12), confidence=sure)
    found = fsdd.frames(pitch=str(path), fold=1)
    assert {name: split.size for name, split in found.splits.items()} == {'train': 8, 'validation': 1, 'test': 2}
    np.testing.assert_array_equal(found.splits['test'].inputs[0], fsdd.loudest(sounds[2]))
    np.testing.assert_allclose(found.splits['test'].labels, np.linspace(3000, 4000, 12)[2:4], rtol=1e-6)
    Pitch().check(found)
    with pytest.raises(UsageError, match="split 'train' of fsdd has no frame with confidence >= 2"):
        fsdd.frames(pitch=str(path), confidence=2.0)
    with pytest.raises(UsageError, match=r'is no \.npz with recordings, cents and confidence'):
        fsdd.frames(pitch=str(tmp_path / 'none.npz'))


def test_the_device_is_asked_once():
    """Under jit, of several cells at once."""
    logits = jnp.asarray(RANDOM.normal(size=(2, 5, 360)), jnp.float32)
    np.testing.assert_allclose(jax.jit(jax.vmap(answered))(logits)[1], answered(logits[1]), rtol=1e-6)
