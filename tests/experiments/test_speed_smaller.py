"""What is measured of steps that make students smaller is that: every arm can be traced, and goals are held."""

import jax
import pytest

from experiments.speed import smaller
from kdjax.compress.quantized import ROUNDING
from kdjax.train import optim


@pytest.mark.parametrize(('called', 'name'), [pytest.param('cnn', 'layer', marks=pytest.mark.slow), ('mlp', 'LSQ')])
def test_steps_make_students_smaller(called, name):
    arm, students = smaller.ARMS[name], smaller.STUDENTS[called]
    begin, step = smaller.functions(arm, students)
    knobs, batches = smaller.knobs(arm, students.cells), smaller.batches(students)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), students.cells))
    state = jax.eval_shape(begin, keys, knobs, {column: leaf[0] for column, leaf in batches.items()})
    after, logs = jax.eval_shape(step, state, {}, batches, knobs)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert logs['loss'].shape == (students.steps, students.cells)
    assert ('sparsity' in knobs['optim']['student']) == optim.takes_sparsity(arm.optim)
    assert (ROUNDING in after.stats) == (arm.rounding is not None)


def test_arms_are_held_against_their_goals():
    plain = {'says': 'nothing', 'median': 2e-4, 'ratio': 1.0, 'quartiles': [1.0, 1.0], 'cpu_ratio': 1.0, 'goal': None}
    layer = {'says': 'zeros', 'median': 2.4e-4, 'ratio': 1.2, 'quartiles': [1.1, 1.3], 'cpu_ratio': 1.4, 'goal': 1.1}
    arms = {'plain': plain, 'layer': layer, 'keep': {**layer, 'goal': 1.3}}
    students = {'few': {'says': 'of them', 'cells': 2, 'layout': 'map', 'arms': arms}}
    found = {'students': students, 'batch': 3, 'rounds': 4, 'versions': {'jax': '7'},
             'machine': {'processor': 'fast', 'cores': 6}}  # fmt: skip
    plain, layer, keep = smaller.table(found).rows
    assert plain[:2] == ('few', 'plain')
    assert plain[3:] == ('200', '1.00', '1.00 to 1.00', '', '1.00')
    assert layer[3:] == ('240', '1.20', '1.10 to 1.30', '1.1, not met', '1.40')
    assert keep[-2] == '1.3, met'
