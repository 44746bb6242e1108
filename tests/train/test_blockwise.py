"""Blocks of a student learn on what the teacher has before them, each as if it were alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from kdjax.errors import UsageError
from kdjax.nets.base import from_linen, tap
from kdjax.nets.cnn import cnn
from kdjax.nets.decoder_only import transformer
from kdjax.techniques.cross_entropy import CrossEntropy
from kdjax.techniques.fitnets import Hint
from kdjax.train import optim, teachers
from kdjax.train.blockwise import blockwise
from kdjax.train.objective import Objective
from kdjax.train.step import init_state, train_step

SIZE, WIDTH, RATE = 6, 5, 0.5
RANDOM = np.random.default_rng(0)
BATCH = {
    'inputs': RANDOM.normal(size=(SIZE, 4)).astype(np.float32),
    'labels': np.arange(SIZE, dtype=np.int32) % 3,
    'mask': np.ones(SIZE, np.float32),
    'id': np.arange(SIZE, dtype=np.int32),
    'view': np.zeros(SIZE, np.int32),
}
HINTS = {name: Hint(layer=name, regressor=False, form='mean') for name in ('first', 'second')}


class Inner(nn.Module):
    """A block, whose tap is not at the top of the network."""

    name_of: str

    @nn.compact
    def __call__(self, x):
        return tap(self, self.name_of, jnp.tanh(nn.Dense(WIDTH, name='dense')(x)))


class Three(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = Inner('first', name='block1')(x)
        x = Inner('second', name='block2')(x)
        return nn.Dense(3, name='head')(x)


def block(params, x):
    return jnp.tanh(x @ params['dense']['kernel'] + params['dense']['bias'])


def stepped(cuts, accumulate=1):
    """Parameters before and after a step of gradient descent, and the teacher's variables."""
    net = from_linen(Three(), ('first', 'second'))
    student, teacher = (net.init(jax.random.key(seed), BATCH['inputs']) for seed in (1, 2))
    objective = Objective((('hard', CrossEntropy()), *HINTS.items()))
    tx = optim.build('sgd', steps=1, schedule='constant')
    parts = {'net': blockwise(net, cuts, tuple(HINTS)) if cuts else net, 'teacher': teachers.frozen(net),
             'objective': objective, 'tx': tx}  # fmt: skip
    rates = {'learning_rate': jnp.float32(RATE), 'weight_decay': jnp.float32(0)}
    knobs = {'seed': jnp.uint32(0), 'optim': {'student': rates, 'terms': rates},
             'terms': {name: jax.tree.map(jnp.float32, own) for name, own in objective.knobs().items()}}  # fmt: skip
    state = init_state(knobs, teacher, BATCH, student, **parts)
    state, _ = jax.jit(functools.partial(train_step, **parts, accumulate=accumulate))(state, teacher, BATCH, knobs)
    return student['params'], state.params['student'], teacher['params']


@pytest.mark.parametrize('accumulate', [1, 2])
def test_each_block_learns_as_if_it_were_alone(accumulate):
    before, after, teacher = stepped((('first', 'first'), ('second', 'second')), accumulate)
    one = block(teacher['block1'], BATCH['inputs'])
    two = block(teacher['block2'], one)

    def first(params):
        return jnp.mean(jnp.square(block(params, BATCH['inputs']) - one))

    def second(params):
        return jnp.mean(jnp.square(block(params, one) - two))

    def head(params):
        logits = two @ params['kernel'] + params['bias']
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), BATCH['labels'][:, None], axis=1))

    for name, loss in (('block1', first), ('block2', second), ('head', head)):
        wanted = jax.tree.map(lambda p, g: p - RATE * g, before[name], jax.grad(loss)(before[name]))
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), after[name], wanted)


def test_where_it_is_not_cut_gradients_go_on():
    cut, whole = stepped((('first', 'first'),))[1], stepped(())[1]
    joined = stepped((('first', 'first'), ('second', 'second')))[1]
    assert not np.allclose(cut['block1']['dense']['kernel'], whole['block1']['dense']['kernel'])
    assert not np.allclose(cut['block2']['dense']['kernel'], joined['block2']['dense']['kernel'])
    np.testing.assert_allclose(cut['block1']['dense']['kernel'], joined['block1']['dense']['kernel'], rtol=1e-6)


def test_another_tap_of_the_teacher_may_be_read():
    before, after, teacher = stepped((('second', 'first'),))
    one = block(teacher['block1'], BATCH['inputs'])

    def head(params):
        logits = one @ params['kernel'] + params['bias']
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), BATCH['labels'][:, None], axis=1))

    moved = before['head']['kernel'] - RATE * jax.grad(head)(before['head'])['kernel']
    np.testing.assert_allclose(after['head']['kernel'], moved, rtol=1e-5, atol=1e-6)


def test_what_cannot_be_cut_is_refused():
    net = from_linen(Three(), ('first', 'second'))
    with pytest.raises(UsageError, match=r"unknown tap 'frist' of the student in blockwise; there is: 'first'"):
        blockwise(net, (('frist', 'first'),), ('first',))
    with pytest.raises(UsageError, match=r"no term of the fit reads the tap 'first'.*Terms read \['second'\]"):
        blockwise(net, (('first', 'first'),), ('second',))
    with pytest.raises(UsageError, match=r'is of students that are modules of linen'):
        blockwise(net._replace(fed=None), (('first', 'first'),), ('first',))


def fed(net, inputs, name, value):
    variables = net.init(jax.random.key(0), inputs)
    return net.apply({**variables, 'fed': {name: value}}, inputs, train=False, key=None)[0]


def test_a_tap_that_the_teacher_lacks_is_refused():
    with pytest.raises(UsageError, match=r"unknown tap 'third' of the teacher in blockwise; there is: 'first'"):
        stepped((('first', 'third'),))


def test_features_of_another_shape_are_refused():
    with pytest.raises(UsageError, match=r"'stage1' is \(2, 8, 8, 4\) and would be fed \(2, 8, 8, 16\)"):
        fed(cnn(classes=3, widths=(4, 8)), np.zeros((2, 8, 8), np.float32), 'stage1', np.zeros((2, 8, 8, 16)))


def test_a_tap_that_nothing_reads_is_refused():
    """Transformers show their layers, and go on from what those were."""
    net, ids = transformer(vocabulary=7, width=8, heads=2, depth=2), np.ones((2, 5), np.int32)
    with pytest.raises(UsageError, match="nothing of the network is behind the tap 'hidden1'"):
        fed(net, ids, 'hidden1', np.zeros((2, 5, 8), np.float32))
