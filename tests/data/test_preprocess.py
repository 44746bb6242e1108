"""What networks see: bytes as [0, 1], or standardised by the numbers that papers use."""

import jax
import numpy as np
import pytest

from kdjax.data import originals
from kdjax.data.preprocess import normalise, unit
from kdjax.errors import UsageError

BYTES = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3) * 2


def test_bytes_are_scaled_and_everything_else_is_left_to_the_bit():
    found = jax.jit(unit())(BYTES)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, BYTES / 255, rtol=1e-6)
    for other in (BYTES.astype(np.float32) / 3, BYTES.astype(np.int32)):
        np.testing.assert_array_equal(jax.jit(unit())(other), other)
        assert unit()(other).dtype == other.dtype


def test_each_channel_has_its_mean_and_deviation_taken_off():
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    found = jax.jit(normalise(mean=mean, std=std))(BYTES)
    np.testing.assert_allclose(found, (BYTES / 255 - np.array(mean)) / np.array(std), rtol=1e-5, atol=1e-6)
    plain = jax.jit(normalise(mean=(0.5,), std=(0.1,)))(BYTES[..., 0])
    np.testing.assert_allclose(plain, (BYTES[..., 0] / 255 - 0.5) / 0.1, rtol=1e-5, atol=1e-5)


def test_the_numbers_given_for_mnist_are_those_of_its_training_images(restored):
    images = originals.mnist(folder=str(restored('mnist')), validation='test').splits['train'].inputs
    found = np.asarray(jax.jit(normalise(mean=(0.1307,), std=(0.3081,)))(images), np.float64)
    assert abs(found.mean()) < 1e-3
    assert abs(found.std() - 1) < 1e-3


@pytest.mark.parametrize(('mean', 'std'), [((0.5, 0.5), (1.0,)), ((), ()), ((0.5,), (0.0,))])
def test_numbers_that_do_not_fit_are_refused(mean, std):
    with pytest.raises(UsageError, match='normalise needs a mean and a positive std per channel'):
        normalise(mean=mean, std=std)


def test_inputs_with_other_channels_are_refused():
    with pytest.raises(UsageError, match='normalise has 3 channels, but inputs are 2x4x4x1'):
        normalise(mean=(0.5,) * 3, std=(1.0,) * 3)(BYTES[..., :1])
