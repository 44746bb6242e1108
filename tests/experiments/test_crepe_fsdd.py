"""Pitch taught by a table, from config to report, on recordings of noise and tones that are made up."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from kdjax.data import fsdd
from kdjax.study import run
from kdjax.study.recipe import plan
from kdjax.study.recipe.build import dataset
from kdjax.study.recipe.resolve import resolve
from kdjax.tasks.pitch import LOWEST, pitches
from kdjax.train import given

EXPERIMENT = runpy.run_path(str(Path(__file__).resolve().parents[2] / 'experiments' / 'crepe_fsdd' / 'config.py'))


@pytest.fixture
def answers(tmp_path, monkeypatch):
    """A folder as ask.py writes it: tones of six speakers, and a teacher that hears them."""
    random = np.random.default_rng(0)
    cents = random.uniform(LOWEST + 2000, LOWEST + 3500, 120)
    time = np.arange(1200) / 8000
    sounds = [sum(np.sin(2 * np.pi * 10 * 2 ** (pitch / 1200) * h * time) / h for h in (1, 2, 3)) for pitch in cents]
    known = fsdd.Recordings(
        [(4000 * sound + random.normal(0, 50, 1200)).astype(np.int16) for sound in sounds],
        np.zeros(120, int), np.arange(120) % 6, np.arange(120) // 6,
    )  # fmt: skip
    monkeypatch.setattr(fsdd, 'recordings', lambda folder: known)
    np.savez(tmp_path / 'pitch.npz', recordings=np.arange(120), cents=cents, confidence=np.ones(120))
    data = fsdd.frames(pitch=str(tmp_path / 'pitch.npz'), fold=4)
    gap = {name: (pitches() - split.labels[:, None]) / 25 for name, split in data.splits.items()}
    says = {name: {'logits': 4 - np.square(own).clip(0, 12)} for name, own in gap.items()}
    given.save(tmp_path / 'teacher-4.npz', data, says)
    return tmp_path


def test_it_could_run(answers):
    recipe = resolve(EXPERIMENT['get_config'](f'answers={answers},quick'))
    assert {'baseline', 'taught'} <= set(plan.check_shapes(recipe, dataset(recipe.data)))


@pytest.mark.slow
def test_a_student_learns_to_hear(answers):
    run.run(EXPERIMENT['get_config'](f'answers={answers},quick'), answers / 'run', 'python run.py')
    summary = json.loads((answers / 'run' / 'report' / 'summary.json').read_text())
    (teacher,) = summary['teachers'].values()
    assert teacher['metrics']['rpa'] == 1
    found = {row['method']: row['last']['rpa']['mean'] for row in summary['rows']}
    assert set(found) == {'its answer', 'its doubt'}
    assert min(found.values()) > 0.2  # of 360 pitches 5 are near enough
