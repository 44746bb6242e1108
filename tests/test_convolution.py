"""Convolutions with gradients of their own: every derivative is that of `lax`, and none is written in another order."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.convolution import ORDER, convolved

RANDOM = np.random.default_rng(0)
MAPS = RANDOM.normal(size=(4, 9, 8, 3)).astype(np.float32)


def kernel(size):
    return np.random.default_rng(size).normal(size=(size, size, 3, 5)).astype(np.float32)


def gradient(f, x, w):
    return jax.grad(lambda x, w: jnp.sum(jnp.sin(f(x, w))), (0, 1))(x, w)


DERIVATIVES = {
    'values': lambda f, x, w: f(x, w),
    'reverse': gradient,
    'forward': lambda f, x, w: jax.jvp(f, (x, w), (w.mean() + x, w))[1],
    'linearised': lambda f, x, w: jax.linearize(lambda x: f(x, w), x)[1](x),
    'second': lambda f, x, w: jax.grad(
        lambda x, w: sum(jnp.sum(jnp.square(g)) for g in gradient(f, x, w)), (0, 1)
    )(x, w),
    'by example': lambda f, x, w: jax.vmap(lambda x: gradient(f, x[None], w)[1])(x),
    'by kernel': lambda f, x, w: jax.vmap(lambda w: gradient(f, x, w)[0])(jnp.stack([w, 2 * w])),
    'by cotangent': lambda f, x, w: jax.vmap(jax.vjp(f, x, w)[1])(jnp.stack([f(x, w), jnp.cos(f(x, w))])),
    'pulled back by kernel': lambda f, x, w: jax.vmap(lambda v: jax.vjp(f, x, v)[1](f(x, w))[0])(
        jnp.stack([w, jnp.cos(w)])
    ),
    'pulled back by inputs': lambda f, x, w: jax.vmap(lambda v: jax.vjp(f, v, w)[1](f(x, w))[1])(
        jnp.stack([x, jnp.cos(x)])
    ),
    'recomputed': lambda f, x, w: gradient(jax.checkpoint(f), x, w),
}  # fmt: skip


@pytest.mark.parametrize('kind', DERIVATIVES)
@pytest.mark.parametrize('size', [1, 3, 4])
@pytest.mark.parametrize(
    ('strides', 'padding', 'dilation'),
    [((1, 1), 'SAME', (1, 1)), ((2, 2), 'SAME', (1, 1)), ((2, 1), 'VALID', (1, 1)),
     ((2, 2), ((0, 2), (1, 0)), (1, 1)), ((1, 1), ((1, 1), (1, 1)), (1, 2)), ((2, 2), 'VALID', (2, 2))],
)  # fmt: skip
def test_all_derivatives_are_those_of_lax(kind, size, strides, padding, dilation):
    fixed = {'window_strides': strides, 'padding': padding, 'rhs_dilation': dilation, 'dimension_numbers': ORDER}
    ours, wanted = (
        DERIVATIVES[kind](functools.partial(f, **fixed), MAPS, kernel(size))
        for f in (convolved, jax.lax.conv_general_dilated)
    )
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * float(np.abs(b).max()))


def test_groups_and_other_orders_go_to_lax():
    grouped = functools.partial(
        convolved, window_strides=(1, 1), padding='SAME', dimension_numbers=ORDER, feature_group_count=3
    )
    w = np.ones((3, 3, 1, 6), np.float32)
    wanted = jax.lax.conv_general_dilated(MAPS, w, (1, 1), 'SAME', dimension_numbers=ORDER, feature_group_count=3)
    np.testing.assert_array_equal(grouped(MAPS, w), wanted)
    channels_first = ('NCHW', 'OIHW', 'NCHW')
    x, w = MAPS.transpose(0, 3, 1, 2), kernel(3).transpose(3, 2, 0, 1)
    np.testing.assert_array_equal(
        convolved(x, w, (1, 1), 'SAME', dimension_numbers=channels_first),
        jax.lax.conv_general_dilated(x, w, (1, 1), 'SAME', dimension_numbers=channels_first),
    )


def test_a_step_inside_a_loop_has_no_convolution_in_an_order_that_xla_does_not_know():
    """Those would be nested loops there, which is what this module is for."""
    convolution = functools.partial(convolved, window_strides=(2, 2), padding='SAME', dimension_numbers=ORDER)

    def looped(w):
        return jax.lax.scan(lambda w, x: (w - sum(g.sum() for g in gradient(convolution, x, w)), None), w, MAPS[None])

    text = jax.jit(looped).lower(kernel(3)).as_text()
    orders = [line.partition('dim_numbers = ')[2].partition(',  window')[0] for line in text.splitlines()
              if 'stablehlo.convolution' in line]  # fmt: skip
    assert len(orders) >= 3
    assert {order.partition(', window')[0] for order in orders} == {'[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]'}
