"""The anatomy of a step: gradients by term as separate differentiation has them, the same over devices and in grids."""

import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import trees
from kdjax.nets.cnn import cnn
from kdjax.nets.mlp import mlp
from kdjax.techniques.cross_entropy import CrossEntropy
from kdjax.techniques.dkd import DecoupledTargets
from kdjax.techniques.fitnets import Hint
from kdjax.techniques.hinton import SoftTargets
from kdjax.techniques.similarity import SimilarityPreserving
from kdjax.train import anatomy, grid, optim, parallel, teachers
from kdjax.train.objective import Objective, term_key
from kdjax.train.step import gradients, init_state, init_student, train_step
from kdjax.types import TermInputs

BATCH, CLOSE = 8, {'rtol': 1e-4, 'atol': 1e-6}
HARD_SOFT = (('hard', CrossEntropy(weight=0.3)), ('soft', SoftTargets(temperature=2.0)))
TERMS = (
    ('hard', CrossEntropy(smoothing=0.1, weight=0.2)),
    ('soft', SoftTargets(temperature=3.0)),
    ('hint', Hint(form='repdistiller', layer='stage2', weight=0.5)),
    ('alike', SimilarityPreserving(layers=('stage1', 'stage2'), weight=3.0)),
)
# With a rate of 1 and no decay: an update is the gradient.
PLAIN = optim.build('sgd', steps=1, momentum=0.0)


class Setting(NamedTuple):
    parts: dict[str, Any]
    teacher_vars: Any
    batch: dict[str, jax.Array]
    knobs: Any
    state: Any


def setting(net=None, terms=TERMS, axis=None, average=False):
    """By default batch statistics, a regressor with its own, a relation, and a batch of which half is padding."""
    net = net or cnn(classes=5, widths=(4, 6), axis=axis)
    teaches = cnn(classes=5, widths=(4, 8))
    random = np.random.default_rng(0)
    batch = {
        'inputs': jnp.asarray(random.normal(size=(BATCH, 6, 6)), jnp.float32),
        'labels': jnp.asarray(random.integers(0, 5, BATCH), jnp.int32),
        'mask': jnp.asarray([0, 0, 1, 0, 0, 1, 1, 1], jnp.float32),  # over 4 devices the first has nothing real
        'id': jnp.arange(BATCH, dtype=jnp.int32),
        'view': jnp.zeros(BATCH, jnp.int32),
    }
    objective = Objective(terms)
    rates = {'learning_rate': 1.0, 'weight_decay': 0.0}
    knobs = {'terms': objective.knobs(), 'optim': {'student': rates, 'terms': rates}}
    knobs = {**jax.tree.map(jnp.float32, knobs), 'seed': jnp.uint32(3)}
    parts = {'net': net, 'teacher': teachers.frozen(net if average else teaches), 'objective': objective}
    tx = optim.build('sgd', steps=1, ema=0.9) if average else PLAIN
    alone = {**parts, 'net': net if axis is None else cnn(classes=5, widths=(4, 6))}  # nothing to reduce over yet

    @jax.jit
    def begin(knobs, variables):
        student = init_student(knobs['seed'], batch['inputs'], alone['net'])
        state = init_state(knobs, student if average else variables, batch, student, **alone, tx=tx)
        return state._replace(step=jnp.int32(4))

    variables = jax.jit(teaches.init)(jax.random.key(7), batch['inputs'])
    return Setting(parts, variables, batch, knobs, begin(knobs, variables))


def seen(given, **how):
    found = jax.jit(functools.partial(anatomy.anatomy, **given.parts, **how))
    return jax.device_get(found(given.state, given.teacher_vars, given.batch, given.knobs))


def flat(tree):
    return np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(tree)])


def compared(gradients_by_term, terms):
    """Norms and cosines as numpy has them, in float64; pairs in the order of the terms."""
    pairs = itertools.combinations(dict(terms), 2)
    vectors = {name: flat(tree) for name, tree in gradients_by_term.items()}
    norms = {name: np.linalg.norm(vector) for name, vector in vectors.items()}
    return {
        'norms': norms,
        'cosines': {f'{a}|{b}': vectors[a] @ vectors[b] / norms[a] / norms[b] for a, b in pairs},
    }


def close(found, wanted):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **CLOSE), found, wanted)


def term_by_term(given):
    """Each term's weighted mean over the real examples, differentiated by itself: no objective, no step."""
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(3), 4), 0)  # seed, step, the first micro-batch

    def loss(params, name, term):
        variables = {'params': params, 'stats': given.state.stats}
        student, _ = given.parts['net'].apply(variables, given.batch['inputs'], train=True, key=key)
        inputs = TermInputs(student, given.parts['teacher'](given.teacher_vars, given.batch), given.batch)
        own, knobs = given.state.params['terms'][name], given.knobs['terms'][name]
        out = term(own, given.state.memory[name], inputs, knobs, step=given.state.step, key=term_key(key, name))
        return knobs['weight'] * jnp.sum(out.values * given.batch['mask']) / 4

    student = given.state.params['student']
    terms = given.parts['objective'].terms
    return jax.jit(lambda: {name: jax.grad(loss)(student, name, term) for name, term in terms})()


@pytest.fixture(scope='module')
def wanted():
    return compared(term_by_term(setting()), TERMS)


def test_it_is_what_differentiating_each_term_by_itself_gives(wanted):
    found = seen(setting())
    close(found, wanted)
    assert all(norm > 1e-3 for norm in found['norms'].values())
    assert all(0.01 < abs(cosine) < 0.999 for cosine in found['cosines'].values())


@pytest.mark.parametrize('net', [None, mlp(classes=5, widths=(7,), dropout=0.5)], ids=['statistics', 'dropout'])
def test_the_gradients_of_the_terms_sum_to_that_of_the_step(net):
    """The step's own gradient is read off what it changes: with dropout, only the same masks give the same."""
    terms = TERMS if net is None else HARD_SOFT
    given = setting(net, terms)
    arguments = (given.state, given.teacher_vars, given.batch, given.knobs)
    after, _ = jax.jit(functools.partial(train_step, **given.parts, tx=PLAIN))(*arguments)
    moved = jax.tree.map(jnp.subtract, given.state.params, after.params)
    apart = jax.jit(lambda *a: gradients(*a, **given.parts, losses=lambda shares: shares.weighted).grads)(*arguments)
    close(functools.reduce(trees.add, apart.values()), moved)
    found = seen(given)
    close(found, compared({name: apart[name]['student'] for name in found['norms']}, terms))
    squares = sum(norm**2 for norm in found['norms'].values()) + sum(
        2 * found['norms'][a] * found['norms'][b] * cosine
        for (a, b), cosine in ((pair.split('|'), cosine) for pair, cosine in found['cosines'].items())
    )
    np.testing.assert_allclose(np.sqrt(squares), np.linalg.norm(flat(moved['student'])), rtol=1e-3)


@pytest.mark.parametrize('runner', ['single', 'pmap', 'sharded', 'shard_map'])
def test_runners_agree_on_four_devices_and_leave_the_state_as_it_is(runner, wanted):
    given = setting(axis=parallel.axis_of(runner))
    look = functools.partial(anatomy.look, **given.parts, axis=parallel.axis_of(runner))
    before = trees.fingerprint(given.state)
    state, found = parallel.wrap(look, runner, jax.devices())(given.state, given.teacher_vars, given.batch, given.knobs)
    assert trees.fingerprint(jax.device_get(state)) == before
    close(found, named(wanted))


def named(found):
    norms = {f'norm/{name}': value for name, value in found['norms'].items()}
    return norms | {f'cosine/{pair}': value for pair, value in found['cosines'].items()}


GRIDS = [
    # layout, runner, devices, batches of their own
    ('vmap', 'single', 1, True),
    ('unroll', 'single', 1, False),
    ('map', 'single', 1, True),
    ('vmap', 'pmap', 4, True),
    ('vmap', 'cells', 2, True),
    ('vmap', 'cells', 2, False),
]


@pytest.fixture(scope='module')
def small():
    """Two cells of a small network, their batches, and what each sees alone."""
    given = setting(mlp(classes=5, widths=(7,)), HARD_SOFT)
    knobs = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), given.knobs)
    knobs['terms']['soft']['weight'] = jnp.asarray([0.5, 2.0])
    batches = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf[::-1]]), given.batch)
    batches['inputs'] = batches['inputs'].at[1].multiply(2.0)
    states = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), given.state)
    alone = [
        [seen(given._replace(knobs=trees.take(knobs, k), batch=trees.take(batches, b))) for b in (0, k)] for k in (0, 1)
    ]
    return given, states, knobs, batches, alone


@pytest.mark.parametrize(('layout', 'runner', 'devices', 'own'), GRIDS)
def test_a_cell_of_a_grid_sees_what_it_sees_alone(layout, runner, devices, own, small):
    given, states, knobs, batches, alone = small
    states = jax.tree.map(jnp.copy, states)  # which are donated
    look = functools.partial(anatomy.look, **given.parts, axis=parallel.axis_of(runner))
    run = parallel.wrap(
        grid.gridded(look, layout, own), runner, jax.devices()[:devices],
        batch_axis=int(own), cell_axis=0 if own else None,
    )  # fmt: skip
    _, found = run(states, given.teacher_vars, batches if own else given.batch, knobs)
    for k in (0, 1):
        close(trees.take(found, k), named(alone[k][int(own)]))
    assert abs(found['norm/soft'][0] - found['norm/soft'][1]) > 1e-3


def test_micro_batches_are_summed():
    given = setting(mlp(classes=5, widths=(7,)), HARD_SOFT)
    close(seen(given, accumulate=2), seen(given))


def test_a_gradient_of_zero_has_no_direction():
    given = setting(mlp(classes=5, widths=(7,)), (*HARD_SOFT, ('off', CrossEntropy(weight=0.0))))
    found = seen(given)
    assert found['norms']['off'] == 0
    assert found['cosines']['hard|off'] == found['cosines']['soft|off'] == 0
    assert found['cosines']['hard|soft'] != 0


def test_norms_are_of_weighted_gradients_and_a_term_is_parallel_to_itself():
    given = setting(mlp(classes=5, widths=(7,)), (('b', CrossEntropy(weight=3.0)), ('a', CrossEntropy(weight=1e-15))))
    found = seen(given)
    assert list(found['cosines']) == ['b|a']
    np.testing.assert_allclose(found['norms']['b'] / found['norms']['a'], 3e15, rtol=1e-4)
    np.testing.assert_allclose(found['cosines']['b|a'], 1, rtol=1e-5)
    assert seen(setting(mlp(classes=5, widths=(7,)), HARD_SOFT[:1]))['cosines'] == {}


def test_it_sees_the_teacher_that_the_step_has():
    """Where the teacher is the student's own average and that is the student, what it says is known: no gradient."""
    net = mlp(classes=5, widths=(7,))
    given = setting(net, HARD_SOFT, average=True)
    found = seen(given._replace(teacher_vars={}), source=teachers.average)
    assert found['norms']['soft'] < 1e-6 < 1e-2 < found['norms']['hard']


def test_a_term_that_never_pulls_is_named():
    looks = [{'step': step, 'norm/soft': [0.0, 0.1 * step], 'norm/cwd': [0.0, 0.0], 'cosine/soft|cwd': [0.0, 0.0]}
             for step in (1, 2)]  # fmt: skip
    assert anatomy.silent(looks) == ['cwd']
    assert anatomy.silent([{**looks[0], 'norm/cwd': [float('nan'), 0.0]}]) == []
    assert anatomy.silent([]) == []


NOTHING = DecoupledTargets(alpha=0.0, beta=0.0)
REACHING = (
    *HARD_SOFT,
    ('off', CrossEntropy(weight=0.0)),
    ('later', SoftTargets(schedules=(('weight', 0.0, 1.0, 100), ('temperature', 2.0, 1.0, 10)))),
    ('nothing', NOTHING),
)


def reached(given, batch=None, **how):
    look = jax.jit(functools.partial(anatomy.reach, **given.parts, **how))
    return jax.device_get(look(given.state, given.teacher_vars, batch or given.batch, given.knobs))


def test_what_can_move_nothing_is_told_from_what_is_off_or_comes_later():
    """Also where the student is its own teacher, and where no example has a label."""
    given = setting(mlp(classes=5, widths=(7,)), REACHING)
    found = reached(given)
    assert [name for name, reach in found.items() if not reach] == ['nothing']
    unlabelled = reached(given, {**given.batch, 'labels': jnp.full(BATCH, -1)})
    assert {name for name, reach in unlabelled.items() if not reach} == {'hard', 'off', 'nothing'}
    assert anatomy.unreached(iter([unlabelled, found])) == ['nothing']


def test_no_further_batch_is_looked_at_where_all_terms_reach_the_student():
    looks = iter([{'soft': True}, {'soft': False}])
    assert anatomy.unreached(looks) == []
    assert next(looks) == {'soft': False}


@pytest.mark.rotating(0, 3)
def test_a_student_that_is_its_own_teacher_is_reached():
    given = setting(mlp(classes=5, widths=(7,)), HARD_SOFT, average=True)
    assert all(reached(given._replace(teacher_vars={}), source=teachers.average).values())
