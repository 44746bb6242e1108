"""Optimisers by their formulas, in numpy and float64; learning rates are numbers, not programs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.errors import UsageError
from kdjax.train import optim

STEPS = 5
SHAPES = {'student': {'kernel': (3, 2), 'bias': (2,)}, 'terms': {'hint': {'kernel': (2, 2)}}}
KNOBS = {
    'student': {'learning_rate': 0.1, 'weight_decay': 0.03},
    'terms': {'learning_rate': 0.02, 'weight_decay': 0.5},
}
ONE = {group: {'learning_rate': 1.0, 'weight_decay': 0.0} for group in KNOBS}


def drawn(seed, *lead):
    """A tree of random numbers like the parameters, with leading axes."""
    random = np.random.default_rng(seed)
    return jax.tree.map(
        lambda shape: random.normal(size=(*lead, *shape)).astype(np.float32), SHAPES, is_leaf=lambda n: type(n) is tuple
    )


PARAMS, GRADS = drawn(0), drawn(1, STEPS)


@functools.partial(jax.jit, static_argnums=0)
def descend(tx, params, grads, knobs):
    """Parameters and optimiser state after each of the gradients."""

    def step(carry, grad):
        params, state = carry
        updates, state = tx.update(grad, state, params, knobs=knobs)
        carry = jax.tree.map(jnp.add, params, updates), state
        return carry, carry

    return jax.lax.scan(step, (params, tx.init(params)), grads)[1]


def run(name='sgd', *, params=PARAMS, grads=GRADS, knobs=KNOBS, steps=STEPS, **options):
    tx = optim.build(name, steps=steps, **options)
    return descend(tx, params, grads, jax.tree.map(jnp.float32, knobs))


def by_hand(rule, decayed=lambda leaf: True, scales=(1.0,) * STEPS):
    """Parameters after each step against `rule(memory, gradient, parameter, decay, k)`, leaf by leaf."""

    def leaf(path, param, grads):
        own, history, memory = KNOBS[path[0].key], [np.float64(param)], {}
        decay = own['weight_decay'] if decayed(param) else 0.0
        for k in range(STEPS):
            grad = np.float64(grads[k]) * scales[k]
            history.append(history[-1] - own['learning_rate'] * rule(memory, grad, history[-1], decay, k))
        return np.stack(history[1:])

    return jax.tree_util.tree_map_with_path(leaf, PARAMS, GRADS)


def sgd(momentum, nesterov=False):
    def rule(memory, grad, param, decay, k):
        grad = grad + decay * param
        memory['velocity'] = momentum * memory.get('velocity', 0) + grad
        return grad + momentum * memory['velocity'] if nesterov else memory['velocity']

    return rule


def adamw(b1, b2, eps):
    def rule(memory, grad, param, decay, k):
        memory['m'] = b1 * memory.get('m', 0) + (1 - b1) * grad
        memory['v'] = b2 * memory.get('v', 0) + (1 - b2) * grad**2
        m, v = memory['m'] / (1 - b1 ** (k + 1)), memory['v'] / (1 - b2 ** (k + 1))
        return m / (np.sqrt(v) + eps) + decay * param

    return rule


def adam_l2(b1, b2, eps):
    inner = adamw(b1, b2, eps)
    return lambda memory, grad, param, decay, k: inner(memory, grad + decay * param, param, 0.0, k)


def rmsprop(decay, eps):
    def rule(memory, grad, param, weight_decay, k):
        grad = grad + weight_decay * param
        memory['v'] = decay * memory.get('v', 0) + (1 - decay) * grad**2
        return grad / np.sqrt(memory['v'] + eps)

    return rule


def assert_close(got, want):
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=2e-5, atol=1e-6), got, want)


@pytest.mark.parametrize(
    ('name', 'options', 'rule'),
    [
        ('sgd', {'momentum': 0.0}, sgd(0.0)),
        ('sgd', {'momentum': 0.8}, sgd(0.8)),
        ('sgd', {'momentum': 0.8, 'nesterov': True}, sgd(0.8, nesterov=True)),
        ('adamw', {'b1': 0.8, 'b2': 0.95, 'eps': 1e-3}, adamw(0.8, 0.95, 1e-3)),
        ('adam_l2', {'b1': 0.8, 'b2': 0.95, 'eps': 1e-3}, adam_l2(0.8, 0.95, 1e-3)),
        ('rmsprop', {'b2': 0.8, 'eps': 1e-3}, rmsprop(0.8, 1e-3)),
    ],
)
def test_an_optimiser_does_what_its_formula_says_with_each_groups_knobs(name, options, rule):
    assert_close(run(name, **options)[0], by_hand(rule))


def test_the_last_checkpoints_are_averaged_and_before_them_there_is_no_average():
    moved, state = run('sgd', average_last=3, average_every=2)
    means = optim.averaged(moved, state)
    for step in range(STEPS):
        met = [place for place in (STEPS - 5, STEPS - 3, STEPS - 1) if place <= step]
        places = np.asarray(met or [step])
        want = jax.tree.map(lambda leaf, places=places: leaf[places].mean(axis=0), moved)
        assert_close(jax.tree.map(lambda leaf, step=step: leaf[step], means), want)
    for options, message in (
        ({'average_last': 3, 'average_every': STEPS}, f'lie within the {STEPS} steps'),
        ({'average_last': 2, 'ema': 0.9}, 'keeps one average'),
        ({'average_every': 0}, 'average_every of the optimiser must be >= 1'),
        ({'schedule': 'inverse_sqrt'}, "'inverse_sqrt' is .* set warmup >= 1"),
    ):
        with pytest.raises(UsageError, match=message):
            optim.build('sgd', steps=STEPS, **options)


def test_a_mean_trains_as_a_sum_does_with_less_decay():
    """Adam does not see the scale of what it is given, and the L2 that is added to it scales alike."""
    batch = 1024.0
    tx = [optim.build('adam_l2', steps=STEPS, eps=eps) for eps in (1e-8, 1e-8 / batch)]
    knobs = {group: {**own, 'weight_decay': own['weight_decay'] / batch} for group, own in KNOBS.items()}
    as_sum, _ = descend(tx[0], PARAMS, GRADS, jax.tree.map(jnp.float32, KNOBS))
    mean = jax.tree.map(lambda leaf: leaf / np.float32(batch), GRADS)
    as_mean, _ = descend(tx[1], PARAMS, mean, jax.tree.map(jnp.float32, knobs))
    assert_close(as_mean, as_sum)


def test_biases_are_not_decayed_where_only_kernels_are():
    assert_close(run(decay='kernels')[0], by_hand(sgd(0.9), decayed=lambda leaf: leaf.ndim > 1))


def test_clipping_bounds_the_norm_over_all_groups_and_leaves_small_gradients_alone():
    norms = [np.sqrt(sum((leaf[k] ** 2).sum() for leaf in jax.tree.leaves(GRADS))) for k in range(STEPS)]
    bound = np.median(norms)
    assert min(norms) < bound < max(norms)
    assert_close(run(clip=bound)[0], by_hand(sgd(0.9), scales=[min(1.0, bound / norm) for norm in norms]))


def test_the_average_follows_the_parameters_from_the_first_on():
    params, states = run(ema=0.7)
    assert_close(params, by_hand(sgd(0.9)))

    def follow(start, moved):
        average = np.float64(start)
        for param in np.float64(moved):
            average = 0.7 * average + 0.3 * param
        return average

    last = jax.tree.map(lambda leaf: leaf[-1], optim.averaged(None, states))
    assert_close(last, jax.tree.map(follow, PARAMS, by_hand(sgd(0.9))))


def halving(start, moved):
    """The last average of decay 0.5."""
    return sum(0.5 ** (STEPS - k) * moved[k] for k in range(STEPS)) + 0.5**STEPS * np.float64(start)


def test_weights_into_a_unit_of_the_student_are_bounded_after_every_update():
    limit = 1.0

    def bounded(path, param, grads):
        own, param, velocity, history = KNOBS[path[0].key], np.float64(param), 0.0, []
        for k in range(STEPS):
            velocity = 0.9 * velocity + np.float64(grads[k]) + own['weight_decay'] * param
            param = param - own['learning_rate'] * velocity
            if path[0].key == 'student' and path[-1].key == 'kernel':
                for unit in range(param.shape[1]):
                    norm = np.linalg.norm(param[:, unit])
                    param[:, unit] *= limit / norm if norm > limit else 1.0
            history.append(param.copy())
        return np.stack(history)

    wanted = jax.tree_util.tree_map_with_path(bounded, PARAMS, GRADS)
    norms = np.linalg.norm(wanted['student']['kernel'], axis=1)
    free = np.linalg.norm(by_hand(sgd(0.9))['student']['kernel'], axis=1)
    assert (free > limit).any()
    assert (norms < 0.99 * limit).any()
    assert norms.max() <= limit + 1e-9
    params, states = run(max_norm=limit, ema=0.5)
    assert_close(params, wanted)
    last = jax.tree.map(lambda leaf: leaf[-1], optim.averaged(None, states))
    assert_close(last, jax.tree.map(halving, PARAMS, wanted))


def test_other_rates_and_decays_are_the_same_program():
    tx, traces = optim.build('adamw', steps=STEPS), []

    @jax.jit
    def update(knobs):
        traces.append(1)
        return tx.update(PARAMS, tx.init(PARAMS), PARAMS, knobs=knobs)[0]

    once = update(jax.tree.map(jnp.float32, KNOBS))
    twice = update(jax.tree.map(lambda value: jnp.float32(2 * value), KNOBS))
    assert len(traces) == 1
    assert not np.allclose(once['terms']['hint']['kernel'], twice['terms']['hint']['kernel'])


def shape(name, steps=20, **options):
    """The height of a schedule at every step: how far a parameter goes against a gradient of 1."""
    one = {'student': {'w': np.ones((), np.float32)}, 'terms': {}}
    ones = jax.tree.map(lambda leaf: np.ones(steps, np.float32), one)
    params, _ = run(params=one, grads=ones, knobs=ONE, steps=steps, schedule=name, momentum=0.0, **options)
    return -np.diff(params['student']['w'], prepend=1)


FORMULAS = {
    'constant': np.ones_like,
    'linear': lambda done: 1 - done,
    'cosine': lambda done: (1 + np.cos(np.pi * done)) / 2,
    'step': lambda done: np.select([done >= 0.75, done >= 0.5], [0.04, 0.2], 1.0),
}


@pytest.mark.parametrize('warmup', [0, 4])
@pytest.mark.parametrize('name', FORMULAS)
def test_a_schedule_warms_up_linearly_and_then_has_its_shape(name, warmup):
    rising = np.arange(1, warmup + 1) / (warmup + 1)
    done = np.arange(20 - warmup) / (20 - warmup)
    wanted = np.concatenate([rising, FORMULAS[name](done)])
    found = shape(name, warmup=warmup, milestones=(0.5, 0.75), factor=0.2)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=2e-6)


def test_inverse_sqrt_falls_with_the_steps_since_the_start():
    found = shape('inverse_sqrt', warmup=4)
    np.testing.assert_allclose(found[:4], np.arange(1, 5) / 5, rtol=1e-5)
    np.testing.assert_allclose(found[4:], np.sqrt(4 / np.arange(4, 20)), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        ({'name': 'adam'}, "unknown optimiser 'adam'; there is: 'adamw', 'adam_l2', 'dot', 'sgd', 'rmsprop'"),
        ({'schedule': 'cosin'}, "unknown schedule 'cosin'; there is: 'cosine', "),
        ({'decay': 'kernel'}, "unknown weight decay mask 'kernel'; there is: 'kernels', 'all'"),
        ({'steps': 0}, 'steps of the optimiser must be >= 1, got 0'),
        ({'warmup': 5}, r'warmup of the optimiser must be >= 0 and < steps \(5\), got 5'),
        ({'clip': -1.0}, 'clip of the optimiser must be >= 0, got -1.0'),
        ({'max_norm': -1.0}, 'max_norm of the optimiser must be >= 0, got -1.0'),
        ({'ema': 1.0}, r'ema of the optimiser must be in \[0, 1\), got 1.0'),
        ({'factor': 0.0}, 'factor of the optimiser must be > 0, got 0.0'),
    ],
)
def test_a_wrong_choice_is_answered_with_the_right_ones(wrong, message):
    with pytest.raises(UsageError, match=message):
        optim.build(**{'steps': 5, **wrong})


def test_without_an_average_a_network_is_used_with_its_parameters():
    assert optim.averaged(PARAMS, optim.build(steps=1).init(PARAMS)) is PARAMS


# ---- two gradients, two momenta


def test_the_teachers_gradients_have_more_momentum_than_the_tasks():
    task, distill, momentum, delta = GRADS, drawn(2, STEPS), 0.9, 0.06
    found, _ = run('dot', grads=optim.SplitGradients(task, distill), momentum=momentum, delta=delta)

    def leaf(path, param, task, distill):
        own, history = KNOBS[path[0].key], []
        param, slow, fast = np.float64(param), 0.0, 0.0
        for k in range(STEPS):
            slow = (momentum - delta) * slow + np.float64(task[k]) + own['weight_decay'] * param
            fast = (momentum + delta) * fast + np.float64(distill[k])
            param = param - own['learning_rate'] * (slow + fast)
            history.append(param)
        return np.stack(history)

    wanted = jax.tree_util.tree_map_with_path(leaf, PARAMS, task, distill)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), found, wanted)


def test_without_a_difference_it_is_momentum_of_the_sum():
    half = jax.tree.map(lambda leaf: 0.5 * leaf, GRADS)
    found, _ = run('dot', grads=optim.SplitGradients(half, half), momentum=0.9, delta=0.0)
    wanted, _ = run('sgd', momentum=0.9)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), found, wanted)


@pytest.mark.parametrize('wrong', [{'delta': 0.2}, {'delta': -0.1}, {'clip': 1.0}, {'nesterov': True}])
def test_what_would_not_be_the_papers_is_refused(wrong):
    with pytest.raises(UsageError, match=r'dot needs delta in|delta of the optimiser must be in'):
        optim.build('dot', steps=STEPS, **wrong)
