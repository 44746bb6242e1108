"""Narrow tables are carried end to end, and changed so to the same numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import trees
from kdjax.train import grid, optim, rows

TABLE, WIDE, BIAS = (1024, 20), (1024, 64), (30,)
RATES = {group: {'learning_rate': jnp.float32(0.1), 'weight_decay': jnp.float32(0.01)} for group in optim.GROUPS}


def parameters(seed):
    random = np.random.default_rng(seed)
    student = {str(shape): jnp.asarray(random.normal(size=shape), jnp.float32) for shape in (TABLE, WIDE, BIAS)}
    return {'student': student, 'terms': {}}


def test_what_is_laid_end_to_end_is_made_whole_again():
    tree = parameters(0)
    laid = rows.laid(tree)
    assert [leaf.shape for leaf in jax.tree.leaves(laid)] == [(1, 1024 * 20), WIDE, BIAS]
    jax.tree.map(np.testing.assert_array_equal, rows.whole(laid), tree)
    few = jnp.zeros((8, 20))
    assert rows.laid(few) is few


@pytest.mark.parametrize('decay', ['all', 'kernels'])
@pytest.mark.parametrize('name', optim.OPTIMISERS)
def test_an_update_end_to_end_is_that_of_the_table(name, decay):
    given = {'momentum': 0.9, 'delta': 0.05} if name == 'dot' else {}
    tx = optim.build(name=name, schedule='constant', steps=10, decay=decay, **given)

    def moved(params, opt, grads):
        grads = optim.SplitGradients(grads, trees.add(grads, grads)) if name == 'dot' else grads
        return tx.update(grads, opt, params, knobs=RATES)

    def end_to_end(*arguments):
        with rows.carried():
            return moved(*arguments)

    params, opt = parameters(0), tx.init(parameters(0))
    assert 'f32[1,20480]' in str(jax.make_jaxpr(end_to_end)(params, opt, params))
    for seed in (1, 2):
        plain, flat = (jax.jit(change)(params, opt, parameters(seed)) for change in (moved, end_to_end))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), plain, flat)
        params, opt = trees.add(params, flat[0]), flat[1]
    assert jax.tree.map(jnp.shape, opt) == jax.tree.map(jnp.shape, tx.init(parameters(0)))


def test_a_list_of_cells_carries_its_narrow_tables_end_to_end():
    def step(state, teacher_vars, batch, knobs):
        return state + batch, {'loss': jnp.sum(state)}

    program = grid.gridded(step, 'unroll', own_batches=False, many=True)
    arguments = jnp.zeros((2, *TABLE)), {}, jnp.ones(4), {'seed': jnp.arange(2)}
    (scan,) = (one for one in jax.make_jaxpr(program)(*arguments).eqns if one.primitive.name == 'scan')
    carried = [one.aval.shape for one in scan.outvars[: scan.params['num_carry']]]
    assert carried == [(1, 1024 * 20)] * 2
    states, _ = jax.jit(program)(*arguments)
    np.testing.assert_array_equal(states, np.full((2, *TABLE), 4))
