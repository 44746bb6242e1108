"""Distillation and transfer learning: the sweep, its images, and the page of its results."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.transfer import config, pairs
from experiments.transfer import publish as page
from kdjax.data import fsdd, originals
from kdjax.dataset import Dataset, Split
from kdjax.errors import UsageError
from kdjax.study.sweep import expand

ROOT = Path(__file__).resolve().parents[2]
RANDOM = np.random.default_rng(0)
AXES = ('pair', 'network', 'method', 'teacher')


@pytest.fixture
def small(monkeypatch):
    """Few images of noise in the place of the data sets, those of one class of one brightness; and sounds of noise."""

    def made(classes, shape):
        def of(*, folder='', validation=0):
            assert (folder, validation) == ('', 2000)
            splits = {}
            for name, size in (('train', 100 * classes), ('validation', 6 * classes), ('test', 20 * classes)):
                labels = RANDOM.permutation(np.arange(size, dtype=np.int32) % classes)
                images = RANDOM.integers(0, 2, (size, *shape)) + 2 * labels[:, None, None, None]
                splits[name] = Split(images.astype(np.uint8), labels)
            return Dataset(splits, tuple(f'class {one}' for one in range(classes)))

        return of

    def recordings(folder):
        digits, speakers, numbers = (grid.reshape(-1) for grid in np.indices((10, 6, 50)))
        samples = [np.full(400 + digit, 100 * speaker + number, np.int16)
                   for digit, speaker, number in zip(digits, speakers, numbers, strict=True)]  # fmt: skip
        return fsdd.Recordings(samples, digits.astype(np.int32), speakers, numbers)

    monkeypatch.setattr(pairs, 'SOURCES', {
        'mnist': made(10, (28, 28, 1)), 'fashion_mnist': made(10, (28, 28, 1)), 'cifar100': made(100, (32, 32, 3)),
    })  # fmt: skip
    monkeypatch.setattr(fsdd, 'recordings', recordings)


def test_images_are_halved_and_classes_renumbered(small):
    found = pairs.images(data='mnist', classes=(7, 2), train=20, test=10)
    assert found.classes == ('class 7', 'class 2')
    train, validation, test = (found.splits[name] for name in ('train', 'validation', 'test'))
    assert [np.bincount(split.labels).tolist() for split in (train, validation, test)] == [[10, 10], [6, 6], [5, 5]]
    assert train.inputs.shape == (20, 14, 14)
    assert train.inputs.dtype == np.uint8
    for split in (train, validation, test):
        for label, digit in enumerate((7, 2)):
            assert np.all(np.abs(split.inputs[split.labels == label] - (2.0 * digit + 0.5)) <= 0.5)
    assert pairs.images(data='cifar100').splits['test'].inputs.shape == (2000, 16, 16, 3)
    assert {*pairs.SOURCES} == {'mnist', 'fashion_mnist', 'cifar100'}
    assert all(hasattr(originals, name) for name in pairs.SOURCES)


@pytest.mark.slow
def test_classes_that_are_held_out_are_whole_superclasses(restored):
    """Of CIFAR-100's own files, which say of every image its superclass as well."""
    place = originals.located('cifar100', str(restored('cifar100')))
    rows = np.frombuffer(originals.content('cifar100', 'train.bin', place), np.uint8).reshape(-1, 2 + 3072)
    above = {int(fine): int(coarse) for coarse, fine in np.unique(rows[:, :2], axis=0)}
    assert {above[one] for one in config.HELD} == {0, 1, 2, 3}
    assert {above[one] for one in config.OTHERS} == {*range(4, 20)}
    assert len(config.HELD) == 20


def test_speakers_are_told_apart_and_no_recording_is_twice(small):
    found = pairs.digits(speakers=(4,), train=20)
    sizes = {name: split.size for name, split in found.splits.items()}
    assert sizes == {'train': 20, 'validation': 50, 'test': 200}
    seen = {name: {int(row[0]) for row in split.inputs['audio']} for name, split in found.splits.items()}
    assert {value // 100 for values in seen.values() for value in values} == {4}
    assert not seen['train'] & seen['test']
    assert not seen['train'] & seen['validation']
    assert np.bincount(found.splits['train'].labels).tolist() == [2] * 10
    assert np.array_equal(found.splits['test'].inputs['samples'], 400 + found.splits['test'].labels)
    others = pairs.digits(speakers=(0, 1, 2, 3, 5)).splits['train'].inputs['audio'][:, 0] // 100
    assert {*others.tolist()} == {0, 1, 2, 3, 5}


@pytest.mark.parametrize('kind', config.PAIRS)
def test_every_method_meets_the_same_seeds_and_sizes(small, kind):
    planned = expand.expand(config.get_config(f'pairs={kind}'), config.sweep(f'pairs={kind}'))
    for name, pair in config.PAIRS[kind].items():
        for network, method, teacher in page.ARMS:
            shown = name, network, method, tuple(config.teachers(pair))[teacher]
            runs = [run for run in planned.runs if tuple(run.point[axis] for axis in AXES) == shown]
            assert {run.seed for run in runs} == {*range(10)}
            assert {run.transfer_size for run in runs} == {pair.classes * count for count in pair.sizes}
            assert len(runs) == 10 * len(pair.sizes)
            assert {run.cells[-1].fit.steps for run in runs} == {300}
    upstream = [cell for cell in planned.cells.values() if cell.fit.upstream]
    assert len(upstream) == 20  # of both pairs, for all sizes together
    taught = [stage for stage in planned.stages.values() if stage.name == 'teacher']
    assert len(taught) == 6


def test_a_kind_of_pair_that_is_none_is_named():
    with pytest.raises(UsageError, match=r"unknown pairs 'texts'; there is: .*'perceptrons'"):
        config.get_config('pairs=texts')


@pytest.mark.parametrize('name', page.NAMES)
def test_the_page_is_that_of_its_results(name):
    """Where it is not: python experiments/transfer/publish.py NAME"""
    folder = ROOT / 'experiments' / name
    found, readme = json.loads((folder / 'results' / 'transfer.json').read_text()), (folder / 'README.md').read_text()
    assert page.filled(readme, page.BEGIN, page.content(found)) == readme
    assert found['seeds'] == 10
    assert found['runs']['finished'] == found['runs']['planned']
    assert {*page.pairs_of(found)} == {*config.PAIRS[page.NAMES[name]]}
    for pair in page.pairs_of(found):
        counts = {shown: page.counted(found, pair, shown) for shown in page.ARMS}
        assert all(one['student'] > 0 for one in counts.values())
        assert counts[page.ARMS[1]]['source'] == counts[page.ARMS[2]]['source'] > 0
        assert counts[page.ARMS[0]]['source'] == counts[page.ARMS[0]]['teacher'] == 0
        assert counts[page.ARMS[1]]['student'] < counts[page.ARMS[2]]['student']  # a head alone
