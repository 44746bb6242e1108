"""What exporters are given: a student's program with its weights inside, and nothing that follows from them left."""

import functools

import exported
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax
from jax.extend.core import jaxpr_as_fun, jaxprs_in_params

from kdjax.cpu import convolution
from kdjax.export.program import evaluated, named, program, unnamed


def operations(jaxpr):
    """Names of all operations of a program."""
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for inner in jaxprs_in_params(equation.params):
            yield from operations(inner)


def traced(made, seen, **how):
    return jax.make_jaxpr(functools.partial(made.function, **how))(named(seen))


def test_normalisation_is_part_of_kernels_and_convolutions_are_of_lax():
    seen = exported.inputs(exported.IMAGES)[:, :8, :8]
    student = exported.student('resnet_cifar.resnet', {'classes': 3, 'depth': 8}, seen)
    want = student.net.apply(student.variables, seen, train=False, key=None)[0].logits  # also what JAX then keeps
    made = program(student, seen)
    found = list(operations(traced(made, seen).jaxpr))
    assert found.count('conv_general_dilated') == 9
    assert not {'rsqrt', 'mul', 'sub', 'jit', 'pjit'} & set(found)
    assert not [name for name in found if name.startswith('kdjax')]
    np.testing.assert_allclose(jax.jit(made.function)(named(seen)), want, rtol=1e-5, atol=1e-5)


def test_in_plain_convolutions_are_those_of_lax_alone():
    x, kernel = jnp.ones((1, 4, 4, 2)), jnp.ones((1, 1, 2, 3))

    def both(x):
        one = convolution.convolved(x, kernel, (1, 1), 'SAME', dimension_numbers=convolution.ORDER)
        how = {'strides': (1, 1), 'pads': ((0, 0), (0, 0)), 'groups': 1, 'relu': False}
        return one + convolution.finished(x, kernel, jnp.zeros(3), None, **how)

    with convolution.plain():
        assert list(operations(jax.make_jaxpr(both)(x).jaxpr)).count('conv_general_dilated') == 2
    assert 'kdjax_convolution_finished' in operations(jax.make_jaxpr(lambda x: both(x))(x).jaxpr)


def test_loops_stay_where_they_may_and_are_unrolled_where_not():
    _, seen, made, want = exported.family('bilstm.tagger')
    assert 'scan' in operations(traced(made, seen, loops=True).jaxpr)
    assert 'scan' not in operations(traced(made, seen).jaxpr)
    np.testing.assert_allclose(jax.jit(made.function)(named(seen)), want, atol=1e-6)


@pytest.mark.parametrize('reverse', [False, True])
def test_steps_of_a_loop_are_those_of_scan(reverse):
    def looped(x):
        return lax.scan(lambda sum, row: (sum + row, sum * row), jnp.zeros(2), x, reverse=reverse)

    x = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
    closed = jax.make_jaxpr(looped)(x)
    found = jax.make_jaxpr(lambda x: evaluated(closed, [x], loops=False))(x)
    assert 'scan' not in operations(found.jaxpr)
    for one, other in zip(jaxpr_as_fun(found)(x), jax.tree.leaves(looped(x)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_what_follows_from_constants_is_computed_and_alike_numbers_are_one():
    table = np.arange(40, dtype=np.float32)

    def function(x):
        return x + jnp.where(jnp.sum(table) > 0, jnp.exp(table), 0) + jnp.zeros(40) * table

    closed = jax.make_jaxpr(function)(table)
    found = jax.make_jaxpr(lambda x: evaluated(closed, [x], loops=False))(table)
    assert sorted(operations(found.jaxpr)) == ['add', 'add', 'broadcast_in_dim']
    np.testing.assert_allclose(jaxpr_as_fun(found)(table)[0], table + np.exp(table), rtol=1e-6)


def test_a_switch_that_is_known_is_not_in_the_program():
    def function(x):
        return jnp.where(jnp.float32(32) >= 16, x, jnp.round(x))

    (size,) = export.symbolic_shape('batch')
    shape = jax.ShapeDtypeStruct((size, 2), np.float32)
    closed = jax.make_jaxpr(function)(shape)
    assert 'select_n' in operations(closed.jaxpr)
    found = jax.make_jaxpr(lambda x: evaluated(closed, [x], loops=False))(shape)
    assert found.jaxpr.outvars == found.jaxpr.invars


@pytest.mark.parametrize('tree', [np.zeros(3), {'frames': np.zeros(3), 'mask': np.ones(2)}])
def test_inputs_have_names(tree):
    names = named(tree)
    assert list(names) == (['inputs'] if isinstance(tree, np.ndarray) else ['frames', 'mask'])
    jax.tree.map(np.testing.assert_array_equal, unnamed(names), tree)
