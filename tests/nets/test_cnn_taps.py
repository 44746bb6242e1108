"""The convolutional network before its ReLUs."""

import functools

import jax
import numpy as np
import pytest

from kdjax.nets.cnn import cnn

IMAGES = np.random.default_rng(0).normal(size=(5, 6, 6)).astype(np.float32)
NET = cnn(classes=3, widths=(4, 6, 8))


@functools.cache
def features():
    state = jax.jit(NET.init)(jax.random.key(0), IMAGES)
    return jax.jit(functools.partial(NET.apply, train=True))(state, IMAGES, key=None)[0].features


@pytest.mark.parametrize('block', ['stem', 'stage1', 'stage2', 'stage3'])
def test_a_block_is_the_relu_of_its_pre_activation(block):
    before = features()[f'{block}_pre']
    assert np.any(before < 0)
    np.testing.assert_array_equal(features()[block], np.maximum(before, 0))


def test_pre_activations_are_normalised():
    before = np.asarray(features()['stage3_pre'])
    np.testing.assert_allclose(before.mean(axis=(0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(before.std(axis=(0, 1, 2)), 1, atol=1e-2)


def test_all_taps_are_named():
    assert set(NET.taps) == set(features())
