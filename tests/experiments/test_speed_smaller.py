"""What is measured of steps that make students smaller is that: every arm can be traced, and goals are held."""

import jax
import pytest

from experiments.speed import publish, smaller
from kdjax.compress.quantized import ROUNDING
from kdjax.train import optim


@pytest.mark.parametrize('name', [pytest.param('layer', marks=pytest.mark.slow), 'LSQ'])
def test_steps_make_students_smaller(name):
    arm = smaller.ARMS[name]
    begin, step = smaller.functions(arm)
    knobs, batches = smaller.knobs(arm), smaller.batches()
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), smaller.CELLS))
    state = jax.eval_shape(begin, keys, knobs, {column: leaf[0] for column, leaf in batches.items()})
    after, logs = jax.eval_shape(step, state, {}, batches, knobs)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert logs['loss'].shape == (smaller.STEPS, smaller.CELLS)
    assert ('sparsity' in knobs['optim']['student']) == optim.takes_sparsity(arm.optim)
    assert (ROUNDING in after.stats) == (arm.rounding is not None)


def test_arms_are_held_against_their_goals():
    own = {'says': 'zeros', 'median': 2e-4, 'ratio': 1.12, 'cpu_ratio': 1.1, 'quartiles': [1.0, 1.2], 'goal': 1.1}
    found = {'arms': {'layer': own, 'RigL': {**own, 'goal': None}}, 'cells': 2, 'batch': 3, 'rounds': 4, 'steps': 5,
             'machine': {'processor': 'fast', 'cores': 6}, 'versions': {'jax': '7'}}  # fmt: skip
    rows = publish.smaller(found).rows
    assert [row[0] for row in rows] == ['layer', 'RigL']
    assert rows[0][2:] == ('200', '1.12', '1.00 to 1.20', '1.10', '1.1, not met')
    assert rows[1][-1] == ''
