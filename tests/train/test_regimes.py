"""Steps that are not taught by a network: peers, the student's own average; and gradients kept apart."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from kdjax import trees
from kdjax.nets.mlp import mlp
from kdjax.nets.team import peers
from kdjax.techniques.cross_entropy import CrossEntropy
from kdjax.techniques.hinton import SoftTargets
from kdjax.techniques.mutual import MutualLearning
from kdjax.train import optim, teachers
from kdjax.train.objective import Objective
from kdjax.train.step import init_state, init_student, train_step

BATCH, CLASSES, STEPS = 8, 4, 5
NET = mlp(classes=CLASSES, widths=(6,))
RANDOM = np.random.default_rng(0)
BATCHES = {
    'inputs': RANDOM.normal(size=(STEPS, BATCH, 3, 3)).astype(np.float32),
    'labels': RANDOM.integers(0, CLASSES, (STEPS, BATCH)).astype(np.int32),
    'mask': np.ones((STEPS, BATCH), np.float32),
    'id': np.arange(STEPS * BATCH, dtype=np.int32).reshape(STEPS, BATCH),
    'view': np.zeros((STEPS, BATCH), np.int32),
}
OBJECTIVE = Objective((('hard', CrossEntropy(weight=0.3)), ('soft', SoftTargets(temperature=2.0))))
RATES = {'learning_rate': 0.1, 'weight_decay': 1e-2}
KNOBS = jax.tree.map(jnp.float32, {'terms': OBJECTIVE.knobs(), 'optim': {'student': RATES, 'terms': RATES}})
KNOBS['seed'] = jnp.uint32(1)


def trained(tx, net=NET, objective=OBJECTIVE, teacher=None, variables=None, **how):
    """States after each step, and their logs."""
    first = trees.take(BATCHES, 0)
    student = jax.jit(functools.partial(init_student, net=net))(KNOBS['seed'], first['inputs'])
    variables = student if variables is None else variables
    parts = {'net': net, 'teacher': teacher or teachers.frozen(net), 'objective': objective, 'tx': tx}
    knobs = {**KNOBS, 'terms': jax.tree.map(jnp.float32, objective.knobs())}

    @jax.jit
    def run(variables, student):
        def step(state, batch):
            state, logs = train_step(state, variables, batch, knobs, **parts, **how)
            return state, (state, logs)

        return jax.lax.scan(step, init_state(knobs, variables, first, student, **parts), BATCHES)[1]

    return run(variables, student)


def other():
    return jax.jit(functools.partial(init_student, net=NET))(jnp.uint32(9), BATCHES['inputs'][0])


def close(found, wanted, **how):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **{'rtol': 1e-4, 'atol': 1e-6, **how}), found, wanted)


def test_gradients_kept_apart_sum_to_the_gradient():
    whole, logs = trained(optim.build('sgd', steps=STEPS), variables=other())
    apart, same = trained(optim.build('dot', steps=STEPS, delta=0.0), variables=other(), split_gradients=True)
    close(apart.params, whole.params)
    close(same, logs)
    kept = trees.take(jax.tree.leaves(apart.opt, is_leaf=lambda node: isinstance(node, optim.SplitGradients))[0], -1)
    assert all(trees.norm(part) > 0 for part in kept)


def test_more_momentum_for_the_teacher_is_another_student():
    even, _ = trained(optim.build('dot', steps=STEPS, delta=0.0), variables=other(), split_gradients=True)
    more, _ = trained(optim.build('dot', steps=STEPS, delta=0.05), variables=other(), split_gradients=True)
    assert trees.norm(jax.tree.map(jnp.subtract, trees.take(even.params, -1), trees.take(more.params, -1))) > 1e-3


def test_a_mean_teacher_is_the_average_of_the_student_so_far():
    """The first step has a teacher equal to the student, so the soft targets weigh nothing; later ones do."""
    states, logs = trained(optim.build('sgd', steps=STEPS, ema=0.9), source=teachers.average)
    np.testing.assert_allclose(logs['term/soft'][0], 0, atol=1e-6)
    assert np.all(logs['term/soft'][1:] > 0)
    # Step 2 is as if the average after step 1 had been given as a teacher's variables.
    now = trees.take(states.params, 0)['student']
    average = trees.take(optim.averaged(states.params, states.opt), 0)['student']
    log_p, log_q = (
        jax.nn.log_softmax(NET.apply(variables, BATCHES['inputs'][1], train=False, key=None)[0].logits / 2)
        for variables in ({'params': average, 'stats': {}}, {'params': now, 'stats': {}})
    )
    wanted = 4 * jnp.mean(jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1))
    np.testing.assert_allclose(logs['term/soft'][1], wanted, rtol=1e-3)


def test_peers_learn_in_one_step_and_the_labels_alone_teach_each_as_it_would_learn_alone():
    def own_labels(logits_BMK, labels_B):
        return jnp.sum(-jnp.take_along_axis(jax.nn.log_softmax(logits_BMK), labels_B[:, None, None], -1)[..., 0], 1)

    first, team = trees.take(BATCHES, 0), peers(NET, 3)
    student = jax.jit(functools.partial(init_student, net=team))(KNOBS['seed'], first['inputs'])
    objective = Objective((('mutual', MutualLearning()),))
    states, _ = trained(optim.build('sgd', steps=STEPS), team, objective, teachers.none(), {})

    def loss(params, divergence):
        outputs, _ = team.apply({'params': params, 'stats': {}}, first['inputs'], train=True, key=None)
        logits = outputs.features['peers']
        pairs = [(k, j) for k in range(3) for j in range(3) if k != j]
        log_p = jax.nn.log_softmax(logits)
        kl = sum(
            jnp.sum(jnp.exp(teach) * (teach - log_p[:, j]), -1) / 2
            for k, j in pairs
            for teach in [jax.lax.stop_gradient(log_p[:, k])]
        )
        return jnp.mean(own_labels(logits, first['labels']) + divergence * kl)

    gradient = jax.jit(jax.grad(loss))(student['params'], 1.0)
    rate, decay = RATES['learning_rate'], RATES['weight_decay']
    wanted = jax.tree.map(lambda p, g: p - rate * (g + decay * p), student['params'], gradient)
    close(trees.take(states.params, 0)['student'], wanted)
    alone = jax.jit(jax.grad(loss))(student['params'], 0.0)
    assert trees.norm(jax.tree.map(jnp.subtract, gradient, alone)) > 1e-3 * trees.norm(gradient)
