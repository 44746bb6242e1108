"""What the program of a grid carries from step to step."""

import jax
import jax.numpy as jnp
import pytest

from kdjax.train import grid


@pytest.mark.parametrize(('layout', 'shapes'), [('unroll', [(3, 5), (3, 5)]), ('vmap', [(2, 3, 5)])])
def test_cells_in_a_list_are_carried_without_an_axis_of_cells(layout, shapes):
    def step(state, teacher_vars, batch, knobs):
        return state + batch, {'loss': jnp.sum(state)}

    program = grid.gridded(step, layout, own_batches=False, many=True)
    traced = jax.make_jaxpr(program)(jnp.zeros((2, 3, 5)), {}, jnp.ones(4), {'seed': jnp.arange(2)})
    (scan,) = (one for one in traced.eqns if one.primitive.name == 'scan')
    assert [carried.aval.shape for carried in scan.outvars[: scan.params['num_carry']]] == shapes
