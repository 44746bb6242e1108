"""Metrics merge as sums: uneven, masked batches give what the whole gives."""

import functools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdjax import metrics, trees

SIZE, CLASSES = 8, 4
mean, calibration = jax.jit(metrics.mean), jax.jit(metrics.calibration)


def padded(column, filler):
    """`column` with as many fillers as make it a batch."""
    return np.concatenate([column, np.full((SIZE - len(column), *column.shape[1:]), filler, column.dtype)])


def masked(count):
    return padded(np.ones(count, np.float32), 0)


def merged(parts):
    return functools.reduce(trees.add, parts)


def cut(column, sizes):
    return np.split(column, np.cumsum(sizes)[:-1])


def expected_calibration_error(probabilities, labels):
    """Guo et al. 2017, eq. (3): sum over bins of |B| / n * |accuracy(B) - confidence(B)|."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    error = 0.0
    for low in range(15):
        inside = (confidence >= low / 15) & ((confidence < (low + 1) / 15) | (low == 14))
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return error


sizes = st.lists(st.integers(0, SIZE), min_size=1, max_size=5).filter(sum)


@settings(deadline=None, max_examples=30)
@given(sizes, st.integers(0, 2**32 - 1))
def test_a_mean_over_uneven_masked_batches_is_the_mean_of_the_whole(sizes, seed):
    values = np.random.default_rng(seed).normal(size=sum(sizes)).astype(np.float32)
    whole = merged([mean(padded(part, np.nan), masked(len(part))) for part in cut(values, sizes)])
    assert whole.number == len(values)
    np.testing.assert_allclose(whole.compute(), values.mean(dtype=np.float64), rtol=1e-5, atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(sizes, st.integers(0, 2**32 - 1))
def test_the_calibration_error_of_uneven_masked_batches_is_that_of_the_whole(sizes, seed):
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.full(CLASSES, 0.5), sum(sizes)).astype(np.float32)
    labels = random.integers(0, CLASSES, sum(sizes)).astype(np.int32)
    parts = zip(cut(probabilities, sizes), cut(labels, sizes), strict=True)
    whole = merged([calibration(padded(p, 0.7), padded(y, 0), masked(len(y))) for p, y in parts])
    np.testing.assert_allclose(whole.compute(), expected_calibration_error(probabilities, labels), rtol=1e-4, atol=1e-6)


def test_values_may_have_more_axes_than_examples():
    values, mask = np.arange(6, dtype=np.float32).reshape(2, 3), np.float32([[1, 1, 0], [0, 1, 0]])
    assert metrics.mean(values, mask).compute() == (0 + 1 + 4) / 3


@pytest.mark.parametrize(('label', 'error'), [(2, 0.0), (1, 1.0)])
def test_certainty_is_calibrated_when_right_and_wholly_wrong_otherwise(label, error):
    certain = np.eye(CLASSES, dtype=np.float32)[np.full(SIZE, 2)]
    measured = calibration(certain, np.full(SIZE, label, np.int32), masked(SIZE))
    assert measured.compute() == error
    np.testing.assert_array_equal(measured.number, [0] * 14 + [SIZE])


def test_nothing_counted_is_not_a_number():
    nothing = np.zeros(SIZE, np.float32)
    assert np.isnan(mean(nothing, nothing).compute())
    assert np.isnan(
        calibration(np.full((SIZE, CLASSES), 0.25, np.float32), nothing.astype(np.int32), nothing).compute()
    )
