"""Modules by name: what is frozen has no gradient and does not move, and what is carried over is what was learned."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kdjax.errors import UsageError
from kdjax.nets.cnn import cnn
from kdjax.train import frozen, optim
from kdjax.train.inherit import carried
from kdjax.types import Net, Outputs

INPUTS = np.random.default_rng(0).normal(size=(6, 4, 4)).astype(np.float32)
KNOBS = {group: {'learning_rate': jnp.float32(0.1), 'weight_decay': jnp.float32(0.5)} for group in optim.GROUPS}


def dense(classes=3):
    """Two layers, of which the first has statistics: how often it was used in training."""

    def init(key, inputs):
        sizes = {'dense': (16, 5), 'head': (5, classes)}
        params = {name: {'kernel': jax.random.normal(key, shape), 'bias': jnp.ones(shape[1])}
                  for name, shape in sizes.items()}  # fmt: skip
        return {'params': params, 'stats': {'dense': {'used': jnp.zeros(())}}}

    def apply(variables, inputs, *, train, key):
        params, x = variables['params'], inputs.reshape(len(inputs), -1)
        for name in ('dense', 'head'):
            x = jnp.tanh(x @ params[name]['kernel'] + params[name]['bias'])
        return Outputs(x, {}), jax.tree.map(lambda used: used + float(train), variables['stats'])

    return Net(init, apply, ())


def loss(net, variables, params):
    outputs, stats = net.apply({**variables, 'params': params}, INPUTS, train=True, key=None)
    return jnp.sum(jnp.square(outputs.logits - 0.3)), stats


@pytest.mark.parametrize(
    ('trains', 'moved', 'used'),
    [
        (('head',), ('head',), 0),
        (('d*',), ('dense',), 1),
        (('head', 'dense/bias'), ('head', 'dense/bias'), 0),
    ],
)
def test_what_is_frozen_neither_moves_nor_shrinks(trains, moved, used):
    net = dense()
    variables = net.init(jax.random.key(0), INPUTS)
    grads, stats = jax.grad(functools.partial(loss, frozen.frozen(net, trains), variables), has_aux=True)(
        variables['params']
    )
    plain, _ = jax.grad(functools.partial(loss, net, variables), has_aux=True)(variables['params'])
    tx = frozen.optimiser(optim.build('adamw', steps=3), trains)
    params = {'student': variables['params'], 'terms': {'hint': jnp.ones(2)}}
    state = tx.init(params)
    updates, _ = tx.update({'student': grads, 'terms': {'hint': jnp.ones(2)}}, state, params, knobs=KNOBS)
    after = optax.apply_updates(params, updates)
    assert float(stats['dense']['used']) == used
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables['params']):
        name = jax.tree_util.keystr(path, simple=True, separator='/')
        learns = any(name.startswith(one) for one in moved)
        new, slope = (functools.reduce(lambda tree, key: tree[key.key], path, t) for t in (after['student'], grads))
        true = functools.reduce(lambda tree, key: tree[key.key], path, plain)
        np.testing.assert_array_equal(slope, true if learns else 0)
        assert np.any(new != leaf) == learns
    assert np.all(after['terms']['hint'] != 1)
    kept = sum(leaf.size for leaf in jax.tree.leaves(state))
    assert kept < sum(leaf.size for leaf in jax.tree.leaves(optim.build('adamw', steps=3).init(params)))


def test_a_frozen_network_normalises_by_what_it_has_learned():
    net = cnn(classes=3, widths=(2, 2))
    variables = net.init(jax.random.key(0), INPUTS)
    used = net.apply(variables, INPUTS, train=False, key=None)[0].logits
    for trains, alike in ((('head',), True), (('stage2_*', 'head'), False)):
        outputs, stats = frozen.frozen(net, trains).apply(variables, INPUTS, train=True, key=None)
        assert np.array_equal(outputs.logits, used) == alike
        same = jax.tree.map(np.array_equal, stats, variables['stats'])
        assert all(jax.tree.leaves(same)) == alike


def test_what_is_carried_over_is_what_was_learned_but_for_what_is_new():
    first, second = (dense(classes).init(jax.random.key(seed), INPUTS) for seed, classes in enumerate((3, 7)))
    found = carried(second, first, ('head',))
    np.testing.assert_array_equal(found['params']['dense']['kernel'], first['params']['dense']['kernel'])
    np.testing.assert_array_equal(found['params']['head']['kernel'], second['params']['head']['kernel'])
    cells = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), second)
    many = carried(cells, first, ('head',), cells=True)
    assert many['params']['dense']['kernel'].shape == (2, 16, 5)
    np.testing.assert_array_equal(many['params']['dense']['kernel'][1], first['params']['dense']['kernel'])
    np.testing.assert_array_equal(carried(first, first)['params']['head']['bias'], first['params']['head']['bias'])


def test_what_cannot_be_carried_over_is_named():
    first, second = (dense(classes).init(jax.random.key(0), INPUTS) for classes in (3, 7))
    with pytest.raises(UsageError, match=r'head/bias has the shape \(7,\), .* \(3,\): take networks of one kind'):
        carried(second, first)
    with pytest.raises(UsageError, match="unknown module 'haed' that begins anew; there is: 'head', 'dense'"):
        carried(second, first, ('haed',))
    with pytest.raises(UsageError, match="unknown module 'haed' that is trained"):
        frozen.optimiser(optim.build('sgd', steps=3), ('haed',)).init({'student': first['params'], 'terms': {}})
