"""Privileged information: data sets drawn anew, networks that do not know of each other, and the page of results."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.lopez_paz2016 import apart, config, publish, sets
from kdjax.data import originals
from kdjax.dataset import Dataset, Split
from kdjax.errors import UsageError
from kdjax.study.sweep import expand

FOLDER = Path(config.__file__).parent
RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize('setting', sets.SETTINGS)
def test_every_draw_is_a_data_set_of_its_own_that_its_teacher_sees_better(setting):
    found = sets.synthetic(setting=setting, draws=3)
    train, test = found.splits['train'], found.splits['test']
    privileged = train.column('teacher_inputs')
    assert train.inputs.shape == (200, 3, 50)
    assert test.labels.shape == (1000, 3)
    assert privileged.shape[:2] == (200, 3)
    for inputs in (train.inputs, privileged):
        np.testing.assert_allclose(inputs.mean(axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(inputs.std(axis=0), 1, atol=1e-5)
    assert abs(np.corrcoef(train.inputs[:, 0].ravel(), train.inputs[:, 1].ravel())[0, 1]) < 0.05
    assert 0.2 < train.labels.mean() < 0.8
    same = sets.synthetic(setting=setting, draws=2).splits['train']
    np.testing.assert_array_equal(same.inputs, train.inputs[:, :2])
    with pytest.raises(UsageError, match="unknown setting 'clean'"):
        sets.synthetic(setting='clean')


def test_labels_are_of_what_the_teacher_sees():
    normal = RANDOM.normal(size=50)
    distance, points, labels = sets.clean_labels(RANDOM, normal, 4000)
    np.testing.assert_allclose(distance[:, 0], points @ normal)
    assert 0.93 < np.mean((distance[:, 0] > 0) == labels) < 0.98
    clean, noisy, labels = sets.clean_features(RANDOM, normal, 4000)
    np.testing.assert_array_equal(clean @ normal > 0, labels)
    assert np.std(noisy - clean) == pytest.approx(1, abs=0.02)
    few, points, labels = sets.relevant_features(RANDOM, normal, 50)
    np.testing.assert_array_equal(few @ normal[:3] > 0, labels)
    few, points, labels = sets.own_features(RANDOM, normal, 50)
    for seen, point, label in zip(few, points, labels, strict=True):
        which = [int(np.flatnonzero(point == value)[0]) for value in seen]
        assert len(set(which)) == 3
        assert (seen @ normal[which] > 0) == label
    few, points, labels = sets.own_features_code(RANDOM, normal, 50)
    assert labels.sum() == 25
    assert len({tuple(np.flatnonzero(np.isin(point, seen))) for seen, point in zip(few, points, strict=True)}) == 1


def test_pixels_are_made_as_bilinear_shrinking_makes_them():
    image = RANDOM.random((28, 28)).astype(np.float32)
    want = jax.image.resize(image, (7, 7), 'linear', antialias=True)
    np.testing.assert_allclose(sets.shrinking() @ image @ sets.shrinking().T, want, rtol=1e-4)


@pytest.fixture
def digits(monkeypatch):
    """Images of noise in the place of MNIST."""

    def made(*, folder='', validation=0):
        sizes = {'train': 600, 'validation': 600, 'test': 40}
        splits = {name: Split(RANDOM.integers(0, 256, (size, 28, 28, 1)).astype(np.uint8),
                              np.arange(size, dtype=np.int32) % 10) for name, size in sizes.items()}  # fmt: skip
        return Dataset(splits, tuple('0123456789'))

    monkeypatch.setattr(originals, 'mnist', made)


def test_draws_of_digits_share_their_test_images(digits):
    found = sets.digits(examples=300, draws=2)
    train, test = found.splits['train'], found.splits['test']
    assert train.inputs.shape == (300, 2, 49)
    assert train.column('teacher_inputs').shape == (300, 2, 784)
    assert not np.array_equal(train.inputs[:, 0], train.inputs[:, 1])
    np.testing.assert_array_equal(test.inputs[:, 0], test.inputs[:, 1])
    np.testing.assert_allclose(train.inputs.mean(), train.column('teacher_inputs').mean() / 255, rtol=0.01)


def test_networks_do_not_know_of_each_other():
    inputs = RANDOM.normal(size=(4, 3, 5)).astype(np.float32)
    net = apart.networks(classes=2, widths=(6,))
    variables = net.init(jax.random.key(0), inputs)
    params = variables['params']
    assert not np.allclose(params['kernel0'][0], params['kernel0'][1])
    assert np.abs(params['kernel0']).max() <= np.sqrt(6 / 11)
    logits = net.apply(variables, inputs, train=False, key=None)[0].logits
    for draw in range(3):
        hidden = np.maximum(inputs[:, draw] @ params['kernel0'][draw], 0)
        np.testing.assert_allclose(logits[:, draw], hidden @ params['kernel1'][draw], rtol=1e-4, atol=1e-5)


def test_every_draw_of_an_example_counts():
    task, labels = apart.Draws(), jnp.array([[0, 1], [1, 1], [0, 0]])
    batch = {'inputs': jnp.zeros((3, 2, 5)), 'labels': labels, 'mask': jnp.array([1.0, 1.0, 0.0])}
    logits = jax.nn.one_hot(jnp.array([[0, 0], [1, 1], [1, 1]]), 2)
    outputs = type('', (), {'logits': logits})
    meters = task.sums(outputs, task.prepare(batch), logits)
    assert {name: float(meter.compute()) for name, meter in meters.items()} == {'accuracy': 0.75, 'agreement': 1.0}
    flat = Dataset({'train': Split(np.zeros((3, 2), np.float32), np.zeros((3, 2), np.int32))}, ('a', 'b'))
    with pytest.raises(UsageError, match=r"split 'train' has \(3, 2\)"):
        task.check(flat)


def test_every_setting_and_every_form_is_run(digits):
    planned = expand.expand(config.get_config('quick'), config.sweep('quick'))
    assert len(planned.runs) == 2 * len(sets.SETTINGS) + len(config.EXAMPLES) * (6 + 3 * 6 * 10)
    for run in planned.runs:
        weights = run.cells[-1].drawn.candidate
        if run.method == config.DISTILLED and 'imitation' in run.point:
            assert weights['soft.weight'] == pytest.approx(2 * run.point['imitation'])
            assert weights['hard.weight'] == pytest.approx(2 - 2 * run.point['imitation'])
    assert len({run.teacher.key for run in planned.runs}) == len(sets.SETTINGS) + len(config.EXAMPLES)


def test_the_page_is_that_of_its_results():
    """Where it is not: python experiments/lopez_paz2016/publish.py"""
    found, readme = json.loads((FOLDER / 'results' / 'privileged.json').read_text()), (FOLDER / 'README.md').read_text()
    assert publish.filled(readme, publish.BEGIN, publish.content(found)) == readme
    assert {len(each) for of in found['points'].values() for each in of.values()} == {100}
    for examples in config.EXAMPLES:
        assert publish.theirs(examples).shape == (10, 6, 11)
        for form in config.FORMS:
            assert publish.ours(found, examples, form).shape == (10, 6, 10)
