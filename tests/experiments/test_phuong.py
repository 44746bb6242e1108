"""Linear students of a linear teacher: their points, their networks, the theorem, and the page of results."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.phuong2019_linear import angles, config, linear, publish
from kdjax.errors import UsageError

FOLDER = Path(config.__file__).parent
RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize('kappa', [0.5, 1.0, 4.0])
def test_angles_are_of_their_distribution(kappa):
    test = angles.polynomial(dimensions=5, kappa=kappa).splits['test']
    np.testing.assert_allclose(np.linalg.norm(test.inputs, axis=1), np.sqrt(5), rtol=1e-5)
    normal = np.linalg.lstsq(test.inputs, 2.0 * test.labels - 1, rcond=None)[0]
    cosine = test.inputs @ normal / np.sqrt(5) / np.linalg.norm(normal)
    assert np.mean((cosine > 0) == test.labels) > 0.95
    for bound in (0.4, 0.8, 1.2):
        share = np.mean(np.arccos(np.abs(cosine)) > bound)
        assert share == pytest.approx((1 - 2 * bound / np.pi) ** kappa, abs=0.05)


def test_what_a_network_says_is_of_the_product_of_its_layers():
    inputs = RANDOM.normal(size=(3, 4)).astype(np.float32)
    for depth in (1, 2, 3):
        net = linear.linear(classes=2, depth=depth, width=5)
        variables = net.init(jax.random.key(0), inputs)
        assert np.abs(publish.weights(variables)).max() <= (0 if depth == 1 else 0.01)
        grown = jax.tree.map(lambda leaf: RANDOM.normal(size=leaf.shape).astype(np.float32), variables)
        logits = net.apply(grown, inputs, train=False, key=None)[0].logits
        np.testing.assert_allclose(logits[:, 1] - logits[:, 0], inputs @ publish.weights(grown), rtol=1e-4)
    with pytest.raises(UsageError, match='classes=3'):
        linear.linear(classes=3)


def test_the_projection_says_of_examples_what_the_teacher_does_and_nothing_beside_them():
    teacher, few = RANDOM.normal(size=6), RANDOM.normal(size=(4, 6))
    found = publish.projected(teacher, few)
    np.testing.assert_allclose(few @ found, few @ teacher, atol=1e-9)
    across = np.linalg.svd(few)[2][4:]
    np.testing.assert_allclose(across @ found, 0, atol=1e-9)
    np.testing.assert_allclose(publish.projected(teacher, RANDOM.normal(size=(6, 6))), teacher, atol=1e-6)


def test_the_page_is_that_of_its_results():
    """Where it is not: python experiments/phuong2019_linear/publish.py"""
    found, readme = json.loads((FOLDER / 'results' / 'linear.json').read_text()), (FOLDER / 'README.md').read_text()
    assert publish.filled(readme, publish.BEGIN, publish.content(found)) == readme
    assert {len(arm['risk']) for arm in found['arms']} == {found['seeds']}
    assert len(found['arms']) == len(config.DATA) * len(config.DEPTHS) * len(config.SIZES) * 2
