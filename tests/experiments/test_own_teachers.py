"""Smoothed teachers, and students held against their teachers: the sweeps, and the pages of their results."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments import own_teachers
from experiments.mueller2019_smoothing import config as smoothing
from experiments.mueller2019_smoothing import publish as smoothing_page
from experiments.stanton2021_fidelity import config as fidelity
from experiments.stanton2021_fidelity import publish as fidelity_page
from experiments.stanton2021_fidelity import unlabelled
from experiments.transfer import pairs
from kdjax.dataset import Dataset, Split
from kdjax.study.sweep import expand

RANDOM = np.random.default_rng(0)
PAGES = [(smoothing_page, 'smoothing.json'), (fidelity_page, 'fidelity.json')]


@pytest.fixture
def small(monkeypatch):
    """Images of noise in the place of both data sets."""

    def made(*, data, folder='', train=0, draw=0):
        splits = {name: Split(np.full((size, 14, 14), len(data) + draw, np.uint8),
                              np.arange(size, dtype=np.int32) % 10)
                  for name, size in (('train', train or 58_000), ('validation', 60), ('test', 60))}  # fmt: skip
        return Dataset(splits, tuple('abcdefghij'))

    monkeypatch.setattr(pairs, 'images', made)


def test_few_images_keep_their_label(small):
    labels = [unlabelled.images(data='mnist', labelled=50, draw=draw).splits['train'].labels for draw in (0, 1)]
    assert [np.bincount(each + 1).tolist() for each in labels] == [[57_950, *[5] * 10]] * 2
    assert not np.array_equal(*labels)


def test_every_seed_has_its_teachers(small):
    planned = expand.expand(smoothing.get_config('seeds=2'), smoothing.sweep('seeds=2'))
    assert len(planned.runs) == 2 * 2 * (2 + 2 * 4)
    taught = [run for run in planned.runs if run.method == smoothing.DISTILLED]
    assert len({run.teacher.key for run in taught}) == 2 * 2 * 2
    assert all(run.seed == run.point[own_teachers.SEED] for run in planned.runs)


def test_students_are_asked_on_what_is_said(small):
    planned = expand.expand(fidelity.get_config('seeds=1'), fidelity.sweep('seeds=1'))
    assert len({run.teacher.key for run in planned.runs}) == 1
    steps = {run.point['asked on']: run.cells[-1].fit.steps for run in planned.runs}
    assert {*steps} == {*fidelity.ASKED}
    assert steps['its images, longer'] == 3 * steps['its images']
    assert all(run.cells[-1].inputs.classes == tuple(range(10)) for run in planned.runs
               if run.point['asked on'].startswith('its images'))  # fmt: skip


def test_likeness_is_of_answers_and_of_probabilities():
    same = np.log([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]])
    other = np.log([[0.25, 0.5, 0.25], [0.1, 0.8, 0.1]])
    assert fidelity_page.likeness(same, same) == {'agreement': 1.0, 'kl': 0.0}
    found = fidelity_page.likeness(other, same)
    assert found['agreement'] == 0.5
    assert found['kl'] == pytest.approx((0.5 * np.log(2) + 0.25 * np.log(0.5)) / 2)


def test_a_claim_holds_where_its_test_says_so():
    def arm(name, scores):
        seeds = {str(seed): {'student': {'accuracy': score}, 'teacher': {'accuracy': 0.9}}
                 for seed, score in enumerate(scores)}  # fmt: skip
        return {'point': {'method': name}, 'seeds': seeds}

    noise = 0.001 * RANDOM.normal(size=(3, 6))
    found = {'arms': [arm('low', 0.5 + noise[0]), arm('high', 0.6 + noise[1]), arm('same', 0.5 + noise[2])]}
    low, high, same = ({'method': name} for name in ('low', 'high', 'same'))
    asked = [own_teachers.Question('up', high, low), own_teachers.Question('down', high, low, sign=-1),
             own_teachers.Question('none', same, low)]  # fmt: skip
    table = own_teachers.asked(found, 'Claims', {'all': asked})
    assert [row[2] for row in table.rows] == ['holds', 'the contrary', '–']
    assert own_teachers.values(found, low, of='teacher') == dict.fromkeys(range(6), 90.0)


@pytest.mark.parametrize(('page', 'file'), PAGES)
def test_the_pages_are_those_of_their_results(page, file):
    """Where one is not: its publish.py"""
    folder = Path(page.__file__).parent
    found, readme = json.loads((folder / 'results' / file).read_text()), (folder / 'README.md').read_text()
    assert page.filled(readme, page.BEGIN, page.content(found)) == readme
    assert found['seeds'] >= 5
