"""Channels that are chosen by the gradients of their fit, at the student as it comes in, of each cell its own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compressed import chain, config

from kdjax import trees
from kdjax.compress import narrowed
from kdjax.errors import UsageError
from kdjax.nets import mlp
from kdjax.study.recipe import changed, changes, grid_program, plan
from kdjax.study.recipe.context import Context, Datasets
from kdjax.study.recipe.resolve import resolve
from kdjax.study.recipe.teaching import TeacherSource
from kdjax.train import teachers
from kdjax.train.screen import Screen
from kdjax.train.step import init_student
from kdjax.train.stop import StopSignals

BATCHES = 2
SCORED = {'kind': 'narrow', 'keep': 0.5, 'score': 'taylor', 'batches': BATCHES}
BY_GRADIENTS = {'fits__narrow__change': SCORED}


def by_hand(variables, batch, logits, temperature):
    """0.1 cross-entropy + 0.9 T^2 KL, its gradient by the weights, and what the channels are worth by it."""

    def loss(params):
        hidden = jnp.maximum(batch['inputs'].reshape(-1, 64) @ params['dense1']['kernel'] + params['dense1']['bias'], 0)
        found = hidden @ params['head']['kernel'] + params['head']['bias']
        hard = -jax.nn.log_softmax(found)[np.arange(len(found)), batch['labels']]
        told, own = (jax.nn.log_softmax(both / temperature) for both in (logits, found))
        soft = temperature**2 * (jnp.exp(told) * (told - own)).sum(axis=1)
        return jnp.mean(0.1 * hard + 0.9 * soft)

    params = variables['params']
    moves = jax.tree.map(lambda weight, slope: np.asarray(weight * slope, np.float64), params, jax.grad(loss)(params))
    into, out = moves['dense1']['kernel'].sum(axis=0) + moves['dense1']['bias'], moves['head']['kernel'].sum(axis=1)
    return np.square(into + out)


def test_the_channels_that_stay_are_those_by_which_the_loss_of_the_fit_moves_most():
    recipe = resolve(config({'method': ('narrow',)}, search={'terms.soft.temperature': (2.0, 8.0)}, **BY_GRADIENTS))
    inputs = plan.stages_of(recipe)['narrow'].inputs
    context = Context(recipe.execution, Screen(quiet=True), StopSignals()).training(4, 32)
    wide, teaching = mlp.mlp(classes=10, widths=(8,)), mlp.mlp(classes=10, widths=(16,))
    example = np.zeros((1, 8, 8, 1), np.float32)
    teacher = teaching.init(jax.random.key(7), example)
    cells = inputs.fit.cells(inputs.transfer_sizes, inputs.seeds)
    data = grid_program.students_data(context, inputs, cells)
    source = TeacherSource(teachers.frozen(teaching), teacher, {})
    program = grid_program.grid_program(context, inputs, cells, data, source)
    batches, found, stayed = program.batches(0, BATCHES), program.state.params['student']['dense1']['kernel'], set()
    for place, cell in enumerate(cells):
        own = init_student(np.uint32(inputs.seed + cell.seed), example, wide)
        score = np.zeros(8)
        for step in range(BATCHES):
            batch = trees.take(trees.take(dict(batches), step), place)
            logits = teaching.apply(teacher, batch['inputs'], train=False, key=None)[0].logits
            score += by_hand(own, batch, logits, cell.candidate['soft.temperature'])
        kept = np.sort(np.argsort(-score)[:4])
        np.testing.assert_allclose(found[place], own['params']['dense1']['kernel'][:, kept], rtol=1e-6)
        stayed.add(tuple(kept))
    assert len(stayed) > 1  # cells have channels of their own


def test_where_no_gradient_reaches_a_student_its_channels_are_not_chosen_by_it():
    group = narrowed.Group((0,), 2, {'params/head/kernel': ((0, 1),)})
    own = {'params': {'head': {'kernel': np.ones((2, 3), np.float32)}}, 'stats': {}}
    still = {'head': {'kernel': np.zeros((1, 2, 3), np.float32)}}
    with pytest.raises(UsageError, match="score 'taylor' asks gradients, and none reaches"):
        changed._by_gradients([group], [own], [still])


def test_a_student_that_teaches_itself_has_no_gradients():
    inputs = chain('baseline', 'narrow', fits__narrow__teacher='before', **BY_GRADIENTS)
    assert changes.scored_on(inputs) == BATCHES
    alone = chain('baseline', 'narrow', fits__narrow__teacher='before', fits__narrow__weights={'soft': 1.0},
                  **BY_GRADIENTS)  # fmt: skip
    with pytest.raises(UsageError, match="fit 'narrow' has none where it begins: its teacher 'before' is the student"):
        changes.scored_on(alone)


def test_a_term_that_cannot_read_the_student_as_it_comes_in_is_met_before_training():
    """Features are compared of 4 channels, which the student has only once it is narrower."""
    fields = {'terms__same': {'kind': 'fitnets.Hint', 'layer': 'hidden1', 'regressor': False},
              'fits__narrow__weights': {'hard': 1.0, 'same': 1.0}, 'teacher__args__widths': (4,)}  # fmt: skip
    recipe = resolve(config({'method': ('baseline', 'narrow')}, **fields))
    plan.check_shapes(recipe, Datasets()(recipe.data))
    scored = resolve(config({'method': ('baseline', 'narrow')}, **fields, **BY_GRADIENTS))
    with pytest.raises(UsageError, match=r'asks gradients at the student as it comes in, and .*; take group_norm'):
        plan.check_shapes(scored, Datasets()(scored.data))
