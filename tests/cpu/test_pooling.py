"""Max-pooling with a gradient of its own: values and every derivative are those of `lax`, ties and all."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from kdjax.cpu.pooling import max_pool

RANDOM = np.random.default_rng(0)
# Many values are equal, as after a ReLU.
MAPS = np.maximum(np.round(RANDOM.normal(size=(4, 9, 8, 3)), 1), 0).astype(np.float32)
DIRECTIONS = RANDOM.normal(size=MAPS.shape).astype(np.float32)
WINDOWS = {
    'halves': ((2, 2), (2, 2), ((0, 0), (0, 0))),
    'overlap': ((3, 3), (2, 2), ((1, 1), (1, 1))),
    'far over the edge': ((4, 4), (2, 2), ((0, 1), (1, 3))),
    'every place': ((3, 2), (1, 1), ((1, 1), (1, 0))),
    'gaps': ((2, 1), (3, 2), ((0, 0), (0, 0))),
    'unlike sides': ((4, 3), (3, 1), ((2, 0), (0, 2))),
    'whole': ((9, 8), (1, 1), ((0, 0), (0, 0))),
}


def gradient(f, x):
    return jax.grad(lambda x: jnp.sum(jnp.sin(f(x) + jnp.arange(f(x).size, dtype=x.dtype).reshape(f(x).shape))))(x)


DERIVATIVES = {
    'values': lambda f: f(MAPS),
    'reverse': lambda f: gradient(f, MAPS),
    'forward': lambda f: jax.jvp(f, (MAPS,), (DIRECTIONS,)),
    'linearised': lambda f: jax.linearize(f, MAPS)[1](DIRECTIONS),
    'second': lambda f: jax.grad(lambda x: jnp.sum(gradient(f, x) ** 2))(MAPS),
    'by example': lambda f: jax.vmap(lambda x: gradient(f, x[None]))(MAPS),
    'by cotangent': lambda f: jax.vmap(jax.vjp(f, MAPS)[1])(jnp.stack([f(DIRECTIONS), jnp.cos(f(MAPS))])),
    'by direction': lambda f: jax.vmap(jax.linearize(f, MAPS)[1])(jnp.stack([DIRECTIONS, MAPS])),
    'recomputed': lambda f: gradient(jax.checkpoint(f), MAPS),
}


@pytest.mark.parametrize('kind', DERIVATIVES)
@pytest.mark.parametrize('windows', ['halves', 'overlap', 'unlike sides'])
def test_all_derivatives_are_those_of_lax(kind, windows):
    shape, strides, padding = WINDOWS[windows]
    ours, wanted = (
        jax.jit(functools.partial(DERIVATIVES[kind], functools.partial(
            f, window_shape=shape, strides=strides, padding=padding)))()
        for f in (max_pool, nn.max_pool)
    )  # fmt: skip
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('windows', WINDOWS)
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_values_and_gradients_have_the_bits_of_lax(windows, dtype):
    shape, strides, padding = WINDOWS[windows]
    x = MAPS.astype(jnp.dtype(dtype))
    (ours, back), (wanted, wanted_back) = (
        jax.vjp(functools.partial(f, window_shape=shape, strides=strides, padding=padding), x)
        for f in (max_pool, nn.max_pool)
    )
    assert ours.dtype == wanted.dtype
    np.testing.assert_array_equal(ours, wanted)
    sent = jnp.asarray(RANDOM.normal(size=ours.shape), dtype)
    np.testing.assert_array_equal(back(sent)[0], wanted_back(sent)[0])


def test_a_gradient_goes_to_the_first_of_equal_values():
    x = np.array([[0, 2, 2], [2, 1, 0], [0, 2, 0]], np.float32)[None, :, :, None]
    found = jax.grad(lambda x: max_pool(x, (2, 2), (1, 1)).sum())(x)[0, :, :, 0]
    np.testing.assert_array_equal(found, [[0, 2, 0], [1, 0, 0], [0, 1, 0]])


def test_sequences_are_pooled_by_length():
    x = MAPS[:, :, 0]
    ours, wanted = (jax.vjp(lambda x, f=f: f(x, (3,), (2,), ((1, 1),)), x) for f in (max_pool, nn.max_pool))
    np.testing.assert_array_equal(ours[0], wanted[0])
    np.testing.assert_array_equal(ours[1](ours[0])[0], wanted[1](wanted[0])[0])
    np.testing.assert_array_equal(max_pool(x, (2,), (2,)), nn.max_pool(x, (2,), (2,)))


def test_where_nothing_is_derived_it_is_the_operation_that_exporters_know():
    assert 'reduce_window_max' in str(jax.make_jaxpr(lambda x: max_pool(x, (2, 2), (2, 2)))(MAPS))


def test_a_gradient_scatters_nothing():
    """That is what it is for."""
    text = jax.jit(jax.grad(lambda x: max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1))).sum())).lower(MAPS).as_text()
    assert 'scatter' not in text
    assert 'reduce_window' not in text
