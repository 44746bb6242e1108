"""Convolutions with gradients of their own: every derivative is that of `lax`, and none is written in another order."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.cpu.convolution import ORDER, convolved, finished

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
    assert len(orders) >= 2
    assert 'dot_general' in text  # of the kernel: a product for each position
    assert {order.partition(', window')[0] for order in orders} == {'[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]'}


FINISHES = {'bias': (False, False, 1), 'bias, ReLU': (False, True, 1), 'bias, sum': (True, False, 1),
            'bias, sum, ReLU': (True, True, 1), 'groups': (True, True, 3)}  # fmt: skip


def finish(after, relu, groups, dtype=np.float32):
    """What follows a convolution, in two ways, with its operands."""
    random = np.random.default_rng(1)
    fixed = {'strides': (2, 1), 'pads': ((1, 1), (0, 1))}
    w = random.normal(size=(3, 3, 3 // groups, 6)).astype(dtype)
    operands = [MAPS.astype(dtype), w, random.normal(size=6).astype(np.float32)]
    operands += [random.normal(size=(4, 5, 7, 6)).astype(dtype)] if after else []

    def ours(x, w, bias, after=None):
        return finished(x, w, bias, after, relu=relu, groups=groups, **fixed)

    def wanted(x, w, bias, *after):
        sums = jax.lax.conv_general_dilated(
            x, w, fixed['strides'], fixed['pads'], dimension_numbers=ORDER, feature_group_count=groups
        )
        sums = sum((each.astype(np.float32) for each in after), sums.astype(np.float32) + bias)
        return (jnp.maximum(sums, 0) if relu else sums).astype(dtype)

    return ours, wanted, operands


@pytest.mark.parametrize('kind', FINISHES)
def test_a_finished_convolution_is_its_parts_in_all_derivatives(kind):
    ours, wanted, operands = finish(*FINISHES[kind])
    places = tuple(range(len(operands)))
    ways = {
        'values': lambda f: f(*operands),
        'reverse': lambda f: jax.grad(lambda *each: jnp.sum(jnp.sin(f(*each))), places)(*operands),
        'forward': lambda f: jax.jvp(f, tuple(operands), tuple(np.cos(each) for each in operands))[1],
        'forward by inputs': lambda f: jax.jvp(lambda x: f(x, *operands[1:]), operands[:1], [np.cos(MAPS)])[1],
        'second': lambda f: jax.grad(
            lambda w: jnp.sum(jax.grad(lambda x: jnp.sum(jnp.sin(f(x, w, *operands[2:]))))(operands[0]) ** 2)
        )(operands[1]),
        'by example': lambda f: jax.vmap(lambda x: f(x, *(each[:1] if each.ndim == 4 and each is not operands[1]
                                                          else each for each in operands[1:])))(MAPS[:, None]),
        'by kernel': lambda f: jax.vmap(lambda w: f(operands[0], w, *operands[2:]))(np.stack([operands[1]] * 2)),
    }  # fmt: skip
    for name, way in ways.items():
        found, right = jax.jit(lambda way=way: way(ours))(), jax.jit(lambda way=way: way(wanted))()
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(right), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * float(np.abs(b).max()), err_msg=name)


def test_a_finished_convolution_keeps_the_dtype_of_its_maps():
    ours, _, operands = finish(after=True, relu=True, groups=1, dtype=jnp.bfloat16)
    _, wanted, _ = finish(after=True, relu=True, groups=1)
    found, right = ours(*operands), wanted(*(each.astype(np.float32) for each in operands))
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(found.astype(np.float32), right, rtol=0, atol=0.01 * float(np.abs(right).max()))
