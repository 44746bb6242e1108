"""What terms may ask beyond outputs: derivatives against finite differences, views that all sides share."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.data.augment import erase
from kdjax.errors import UsageError
from kdjax.nets.cnn import cnn
from kdjax.nets.mlp import mlp
from kdjax.train.probes import probed

CLASSES = 4
IMAGES = np.random.default_rng(0).normal(size=(5, 6, 6)).astype(np.float32)
NET = cnn(classes=CLASSES, widths=(4, 6))


@functools.cache
def variables():
    return jax.jit(NET.init)(jax.random.key(0), IMAGES)


def ask(net, inputs=IMAGES, **how):
    return jax.jit(lambda v, x: net.apply(v, x, **{'train': False, 'key': None, **how}))(variables(), inputs)


def test_who_asks_nothing_gets_the_network_itself():
    assert probed(NET, ('stage1', 'penult')) is NET


@pytest.mark.parametrize('train', [False, True])
def test_the_jacobian_is_the_slope_of_each_logit_of_the_network_as_used(train):
    net = probed(NET, ('jacobian',))
    found = ask(net, train=train)[0].features['jacobian']
    assert found.shape == (5, CLASSES, 6, 6, 1)
    step, example, row, column = 1e-2, 2, 3, 4
    moved = [IMAGES.copy(), IMAGES.copy()]
    for image, sign in zip(moved, (1, -1), strict=True):
        image[example, row, column] += sign * step
    above, below = (ask(NET, image)[0].logits for image in moved)
    np.testing.assert_allclose(found[example, :, row, column, 0], (above - below)[example] / (2 * step), atol=1e-3)
    np.testing.assert_array_equal((above - below)[3], 0)


def test_tangents_are_projections_of_the_jacobian_on_directions_of_length_1():
    outputs, _ = ask(probed(NET, ('tangents', 'jacobian')))
    tangents, jacobian = outputs.features['tangents'], outputs.features['jacobian']
    assert tangents.shape == (5, 4, CLASSES)
    for k in range(5):  # the direction is not shown, but the tangents lie in the range of J, no longer than J allows
        rows = np.float64(jacobian[k]).reshape(CLASSES, -1)
        direction, *_ = np.linalg.lstsq(rows, np.float64(tangents[k]).T, rcond=None)
        assert np.all(np.linalg.norm(direction, axis=0) <= 1 + 1e-4)
        assert np.linalg.norm(tangents[k]) > 0


@pytest.mark.parametrize('tap', ['tangents', 'strong'])
def test_draws_follow_the_example_and_not_its_place(tap):
    net, order = probed(NET, (tap,)), np.array([3, 0, 4, 1, 2])
    straight, shuffled = (ask(net, inputs)[0].features[tap] for inputs in (IMAGES, IMAGES[order]))
    np.testing.assert_allclose(shuffled, straight[order], rtol=1e-5, atol=1e-6)
    assert not np.allclose(straight[0], straight[1])


def test_a_strong_view_is_another_view():
    outputs, _ = ask(probed(NET, ('strong',)))
    assert np.all(np.any(np.abs(outputs.features['strong'] - outputs.logits) > 1e-4, axis=1))


def test_rotations_are_the_networks_answers_to_turned_images():
    outputs, _ = ask(probed(NET, ('rotated',)))
    for turns in range(4):
        turned, _ = ask(NET, np.rot90(IMAGES, turns, axes=(1, 2)))
        np.testing.assert_allclose(outputs.features['rotated'][:, turns], turned.logits, rtol=1e-4, atol=1e-5)
        penult = outputs.features['rotated_penult'][:, turns]
        np.testing.assert_allclose(penult, turned.features['penult'], rtol=1e-4, atol=1e-5)


def test_what_cannot_be_turned_is_named():
    with pytest.raises(UsageError, match=r'needs square images, got \(6, 5\)'):
        jax.eval_shape(lambda v, x: probed(NET, ('rotated',)).apply(v, x, train=False, key=None),
                       variables(), IMAGES[:, :, :5])  # fmt: skip
    dense = mlp(classes=CLASSES, widths=(4,))
    own = jax.jit(dense.init)(jax.random.key(0), IMAGES)
    with pytest.raises(UsageError, match="needs a network with the tap 'penult'"):
        probed(dense, ('rotated',)).apply(own, jnp.asarray(IMAGES), train=False, key=None)


def test_erasing_sets_a_square_of_the_asked_area_to_0():
    image = np.ones((8, 8, 2), np.float32)
    erased = jax.vmap(lambda key: erase(share=0.25)(key, jnp.asarray(image)))(jax.random.split(jax.random.key(1), 20))
    assert np.all(np.sum(erased == 0, axis=(1, 2, 3)) == 2 * 16)
    assert len({tuple(np.argwhere(np.asarray(one)[..., 0] == 0)[0]) for one in erased}) > 3
    with pytest.raises(UsageError, match=r'share of erase must be in \(0, 1\), got 1'):
        erase(share=1.0)
