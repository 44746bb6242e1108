"""Speech or silence taught by a table, as an experiment has it, on recordings of tones that are made up."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from kdjax.data import fsdd
from kdjax.errors import UsageError
from kdjax.study.recipe import plan
from kdjax.study.recipe.build import dataset
from kdjax.study.recipe.resolve import resolve
from kdjax.train import given

EXPERIMENT = runpy.run_path(str(Path(__file__).resolve().parents[2] / 'experiments' / 'silero_fsdd' / 'config.py'))


@pytest.fixture
def answers(tmp_path, monkeypatch):
    """A folder as ask.py writes it, of two short stretches of every speaker, and who says where recordings lie."""
    tone = (4000 * np.sin(np.arange(3000))).astype(np.int16)
    known = fsdd.Recordings([tone[: 2000 + 100 * place] for place in range(12)], np.zeros(12, int), np.arange(12) % 6,
                            np.arange(12) // 6)  # fmt: skip
    monkeypatch.setattr(fsdd, 'recordings', lambda folder: known)
    monkeypatch.setattr(fsdd, 'STRETCHES', 2)
    monkeypatch.setattr(fsdd, 'LONG', 40 * fsdd.MOMENT)
    stretches = [[fsdd.stretch(known, speaker, number) for number in range(2)] for speaker in range(6)]
    said = np.asarray([[one.spoken.reshape(-1, fsdd.MOMENT).mean(axis=1) for one in row] for row in stretches])
    np.savez(tmp_path / 'speech.npz', probability=said)
    data = fsdd.moments(speech=str(tmp_path / 'speech.npz'), fold=4)
    logits = {name: {'logits': np.eye(2, dtype=np.float32)[split.labels]} for name, split in data.splits.items()}
    given.save(tmp_path / 'teacher-4.npz', data, logits)
    return tmp_path, data, stretches, said


def test_moments_are_those_that_were_judged(answers):
    folder, data, stretches, said = answers
    split = data.splits['test']
    assert set(split.more['groups']) == {4}
    one, place = stretches[4][1], fsdd.BEFORE + 2 * fsdd.EVERY
    row = split.size // 2 + 2  # of the second stretch the third moment
    end = (place + 1) * fsdd.MOMENT
    np.testing.assert_array_equal(split.inputs['audio'][row], one.audio[end - 10 * fsdd.MOMENT : end])
    assert split.labels[row] == (said[4, 1, place] >= 0.5)
    assert 0 < data.splits['train'].labels.mean() < 1
    with pytest.raises(UsageError, match=r"data.args.speech='nothing' is no .npz with probability"):
        fsdd.moments(speech='nothing')
    np.savez(folder / 'other.npz', probability=said[:, :1])
    with pytest.raises(UsageError, match=r'must be \(6, 2, 40\), of 0 to 1, got \(6, 1, 40\)'):
        fsdd.moments(speech=str(folder / 'other.npz'))


def test_it_could_run(answers):
    recipe = resolve(EXPERIMENT['get_config'](f'answers={answers[0]},quick'))
    assert {'baseline', 'taught'} <= set(plan.check_shapes(recipe, dataset(recipe.data)))
