"""Laws of rounding, in one program for all numbers of bits."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.compress import rounding
from kdjax.errors import UsageError

BITS = (2, 3, 4, 6, 8, 12, 15, 16, 32)
W = np.random.default_rng(0).normal(0, 1, (3, 3, 5, 7)).astype(np.float32)


@pytest.fixture(scope='module')
def rounded():
    """Weights and activations at all numbers of bits, and the sum of gradients of each."""

    @jax.jit
    def at(bits):
        def loss(w):
            forms = (
                rounding.symmetric(w, bits, (0, 1, 2)),
                rounding.asymmetric(w, bits, w.min(), w.max()),
                rounding.learned(w, rounding.learned_start(w, bits, (0, 1, 2)), bits),
            )
            return sum(map(jnp.sum, forms)), forms

        (_, forms), slope = jax.value_and_grad(loss, has_aux=True)(jnp.asarray(W))
        return *forms, slope

    found = {bits: [np.asarray(leaf) for leaf in at(np.float32(bits))] for bits in BITS}
    assert at._cache_size() == 1
    return found


@pytest.mark.parametrize('bits', [bits for bits in BITS if bits >= rounding.FLOAT])
def test_at_16_bits_and_more_it_is_the_identity_bit_for_bit(rounded, bits):
    for found in rounded[bits][:3]:
        np.testing.assert_array_equal(found.view(np.int32), W.view(np.int32))
    np.testing.assert_array_equal(rounded[bits][3], np.full_like(W, 3))


@pytest.mark.parametrize('bits', [bits for bits in BITS if bits <= 12])
def test_codes_are_whole_as_many_as_bits_can_say_and_as_near_as_can_be(rounded, bits):
    weights, inputs, _, slope = rounded[bits]
    scale = np.abs(W).max(axis=(0, 1, 2)) / (2 ** (bits - 1) - 1)
    codes = weights / scale
    np.testing.assert_allclose(codes, np.round(codes), atol=1e-3)
    assert np.abs(np.round(codes)).max() == 2 ** (bits - 1) - 1
    assert np.all(np.abs(weights - W) <= scale * 0.501)
    assert len(np.unique(inputs)) <= 2**bits
    assert 0.0 in inputs or bits > 8  # zero is exact
    assert np.all(slope >= 0)


def test_more_bits_never_move_a_weight_further(rounded):
    worst = [np.abs(rounded[bits][0] - W).max(axis=(0, 1, 2)) for bits in BITS]
    assert all(np.all(more <= fewer) for fewer, more in itertools.pairwise(worst))


@pytest.mark.parametrize('shape', [(4, 3), (1, 1)])
def test_a_channel_of_zeros_stays_zero_and_has_a_finite_gradient(shape):
    value, slope = jax.value_and_grad(lambda w: jnp.sum(rounding.symmetric(w, 4.0, (0,))))(jnp.zeros(shape))
    assert (float(value), np.isfinite(slope).all()) == (0.0, True)
    low = high = jnp.zeros(())
    assert not rounding.asymmetric(jnp.zeros(shape), 8.0, low, high).any()


def test_bfloat16_is_rounded_in_float32():
    w = jnp.asarray(W[0, 0], jnp.bfloat16)
    found = rounding.symmetric(w, 8.0, (0,))
    wide = rounding.symmetric(w.astype(jnp.float32), 8.0, (0,))
    assert found.dtype == jnp.bfloat16
    np.testing.assert_array_equal(found, wide.astype(jnp.bfloat16))


def test_a_learned_step_at_its_papers_gradient():
    """Eq. 3 and sec. 2.2, in numpy: what is clipped says its bound, what is not says how far it was moved."""
    w, step, bits = W.ravel()[:40], 0.7, 3
    high = 2 ** (bits - 1) - 1
    ratio = w / step
    said = np.where(ratio <= -high, -high, np.where(ratio >= high, high, np.round(ratio) - ratio))
    slopes = jax.grad(lambda w, s: jnp.sum(rounding.learned(w, s, float(bits))), (0, 1))(
        jnp.asarray(w), jnp.float32(step)
    )
    np.testing.assert_allclose(slopes[1], said.sum() / np.sqrt(w.size * high), rtol=1e-4)
    np.testing.assert_array_equal(slopes[0], (np.abs(ratio) < high).astype(np.float32))


def test_an_unknown_form_is_an_error():
    with pytest.raises(UsageError, match="unknown form 'papers'; there is: 'paper'"):
        rounding.learned(jnp.ones(2), jnp.ones(()), 4.0, form='papers')
