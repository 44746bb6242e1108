"""Distillation and transfer learning: the sweep, its images, and the page of its results."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.transfer import config, pairs
from experiments.transfer import publish as page
from kdjax.data import originals
from kdjax.dataset import Dataset, Split
from kdjax.study.sweep import expand

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / 'experiments' / 'transfer'
RANDOM = np.random.default_rng(0)


@pytest.fixture
def small(monkeypatch):
    """Few images of noise in the place of both data sets; those of one class have one brightness."""

    def made(*, folder='', validation=0):
        assert (folder, validation) == ('', 2000)
        splits = {}
        for name, size in (('train', 2000), ('validation', 60), ('test', 200)):
            labels = RANDOM.permutation(np.arange(size, dtype=np.int32) % 10)
            images = RANDOM.integers(0, 4, (size, 28, 28, 1)) + 20 * labels[:, None, None, None]
            splits[name] = Split(images.astype(np.uint8), labels)
        return Dataset(splits, tuple('abcdefghij'))

    monkeypatch.setattr(pairs, 'SOURCES', {'mnist': made, 'fashion_mnist': made})


def test_images_are_halved_and_classes_renumbered(small):
    found = pairs.images(data='mnist', classes=(7, 2), train=20, test=10)
    assert found.classes == ('h', 'c')
    train, validation, test = (found.splits[name] for name in ('train', 'validation', 'test'))
    assert [np.bincount(split.labels).tolist() for split in (train, validation, test)] == [[10, 10], [6, 6], [5, 5]]
    assert train.inputs.shape == (20, 14, 14)
    assert train.inputs.dtype == np.uint8
    for split in (train, validation, test):
        for label, digit in enumerate((7, 2)):
            assert np.all(split.inputs[split.labels == label] // 20 == digit)
    assert {*pairs.SOURCES} == {'mnist', 'fashion_mnist'}
    assert all(hasattr(originals, name) for name in pairs.SOURCES)


def test_every_method_meets_the_same_seeds_and_sizes(small):
    planned = expand.expand(config.get_config(), config.sweep())
    shown = {(run.point['network'], run.point['method'], run.point['teacher']) for run in planned.runs}
    assert {*page.ARMS} <= shown
    for pair, (_, _, classes) in config.PAIRS.items():
        for each in page.ARMS:
            runs = [run for run in planned.runs if run.point['pair'] == pair
                    and (run.point['network'], run.point['method'], run.point['teacher']) == each]  # fmt: skip
            assert {run.seed for run in runs} == {*range(10)}
            assert {run.transfer_size for run in runs} == {classes * count for count in config.PER_CLASS}
            assert len(runs) == 40
            assert {run.cells[-1].fit.steps for run in runs} == {300}
    upstream = [cell for cell in planned.cells.values() if cell.fit.upstream]
    assert len(upstream) == 20  # of both pairs, for all sizes together
    taught = [stage for stage in planned.stages.values() if stage.name == 'teacher']
    assert len(taught) == 6


def test_the_page_is_that_of_its_results():
    """Where it is not: python experiments/transfer/publish.py"""
    found, readme = json.loads((FOLDER / 'results' / 'transfer.json').read_text()), (FOLDER / 'README.md').read_text()
    assert page.filled(readme, page.BEGIN, page.content(found)) == readme
    assert found['seeds'] == 10
    assert found['runs']['finished'] == found['runs']['planned']
    assert 'python run.py --config=experiments/transfer/config.py' in config.__doc__
    for pair in config.PAIRS:
        counts = {shown: page.counted(found, pair, shown) for shown in page.ARMS}
        assert all(one['student'] > 0 for one in counts.values())
        assert counts[page.ARMS[1]]['source'] == counts[page.ARMS[2]]['source'] > 0
        assert counts[page.ARMS[0]]['source'] == counts[page.ARMS[0]]['teacher'] == 0
        assert counts[page.ARMS[1]]['student'] < counts[page.ARMS[2]]['student']  # a head alone
