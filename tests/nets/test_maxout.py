"""Maxout networks by their formulas, with the sizes of the MNIST tables; inputs that are dropped."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import published
import pytest

from kdjax import trees
from kdjax.nets import maxout, mlp

KEY = jax.random.key(0)
DIGITS = np.random.default_rng(0).uniform(size=(2, 28, 28)).astype(np.float32)
# Units, pieces, kernel, zeros around, pooling and its stride, as in the papers' configurations.
TEACHER = ((48, 2, 8, 0, 4, 2), (48, 2, 8, 3, 4, 2), (24, 2, 5, 3, 2, 2))
STUDENT = ((16, 2, 5, 0, 1, 1), (16, 2, 3, 0, 4, 2), (16, 2, 5, 3, 1, 1), (16, 2, 3, 0, 4, 2), (12, 2, 3, 3, 1, 1),
           (12, 2, 3, 0, 2, 2))  # fmt: skip
NETS = {'teacher': (maxout.teacher, TEACHER), 'fitnet': (maxout.fitnet, STUDENT)}


def drawn(net, scale):
    """Variables of a network, of which biases and weights are no two the same."""
    random = np.random.default_rng(1)
    shapes = jax.eval_shape(net.init, KEY, DIGITS)
    return jax.tree.map(lambda leaf: random.normal(0, scale, leaf.shape).astype(np.float32), shapes)


def run(net, variables, inputs=DIGITS, train=False, key=None):
    return jax.device_get(jax.jit(functools.partial(net.apply, train=train))(variables, inputs, key=key)[0])


def pooled(x, size, stride):
    """The largest of each window, the last of which may reach over the edge."""
    starts = range(0, x.shape[-1] - size + stride, stride)
    rows = [[x[..., r : r + size, c : c + size].max(axis=(-2, -1)) for c in starts] for r in starts]
    return np.moveaxis(np.asarray(rows), (0, 1), (-2, -1))


@pytest.mark.parametrize('name', NETS)
def test_the_convolutional_network_is_what_its_formula_says(name):
    build, table = NETS[name]
    net = build(classes=10)
    variables = drawn(net, 0.1)
    outputs, x = run(net, variables), DIGITS[:, None].astype(np.float64)
    for depth, (units, pieces, _, zeros, size, stride) in enumerate(table, start=1):
        layer = variables['params'][f'conv{depth}']
        x = published.convolved(x, layer['linear']['kernel'].transpose(3, 2, 0, 1), edge=zeros)
        x = x + layer['bias'].transpose(2, 0, 1)
        x = pooled(np.max([x[:, piece::pieces] for piece in range(pieces)], axis=0), size, stride)
        assert x.shape[1] == units
        tapped = outputs.features[f'hidden{depth}'].transpose(0, 3, 1, 2)
        np.testing.assert_allclose(tapped, x, rtol=1e-4, atol=1e-4 * np.abs(x).max())
    head = variables['params']['head']
    logits = x.transpose(0, 2, 3, 1).reshape(2, -1) @ head['kernel'] + head['bias']
    np.testing.assert_allclose(outputs.logits, logits, rtol=1e-4, atol=1e-4 * np.abs(logits).max())


def weights(net):
    """Number of weights without biases, as the papers count."""
    leaves = jax.tree_util.tree_leaves_with_path(jax.eval_shape(net.init, KEY, DIGITS)['params'])
    return trees.count([leaf for path, leaf in leaves if path[-1].key == 'kernel'])


def counted(table, pieces, side=28):
    total, into = 0, 1
    for units, own, kernel, zeros, size, stride in table:
        own = pieces if units in (24, 12) else own
        total += into * kernel**2 * units * own
        side = -(-(side + 2 * zeros - kernel + 1 - size) // stride) + 1
        into = units
    return total + side**2 * into * 10


@pytest.mark.parametrize(
    ('name', 'pieces', 'published'),
    [('teacher', 2, 360_816), ('fitnet', 2, 29_944), ('teacher', 4, 418_416), ('fitnet', 4, 35_992)],
)
def test_the_convolutional_networks_have_361_and_30_thousand_weights(name, pieces, published):
    build, table = NETS[name]
    assert counted(table, pieces) == published
    assert weights(build(classes=10, pieces=pieces)) == published


def test_the_hint_and_what_it_guides_have_maps_of_one_size():
    teacher, student = (
        jax.eval_shape(lambda net=net: net.apply(net.init(KEY, DIGITS), DIGITS, train=False, key=None)[0].features)
        for net in (maxout.teacher(classes=10), maxout.fitnet(classes=10))
    )
    assert teacher['hidden2'].shape == (2, 4, 4, 48)
    assert student['hidden4'].shape == (2, 4, 4, 16)


def test_the_dense_network_is_what_its_formula_says():
    net = maxout.dense(classes=3, widths=(4, 5), pieces=3)
    variables = drawn(net, 0.1)
    outputs, x = run(net, variables), DIGITS.reshape(2, -1)
    for depth, width in ((1, 4), (2, 5)):
        layer = variables['params'][f'dense{depth}']
        x = (x @ layer['kernel'] + layer['bias']).reshape(2, width, 3).max(axis=2)
        np.testing.assert_allclose(outputs.features[f'hidden{depth}'], x, rtol=1e-4, atol=1e-5)
    head = variables['params']['head']
    np.testing.assert_allclose(outputs.logits, x @ head['kernel'] + head['bias'], rtol=1e-4, atol=1e-5)


def test_the_dense_network_has_five_planes_for_each_of_its_240_units():
    net = maxout.dense(classes=10)
    shapes = jax.eval_shape(net.init, KEY, DIGITS)['params']
    assert trees.count(shapes) == (784 + 1) * 5 * 240 + (240 + 1) * 5 * 240 + (240 + 1) * 10


def summed(net):
    """What the first unit of a network whose weights are ones gives for inputs of ones, in training."""
    inputs = np.ones((40, 28, 28), np.float32)
    ones = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), jax.eval_shape(net.init, KEY, inputs))
    ones['params']['dense1']['bias'] *= 0
    return [run(net, ones, inputs, train, KEY).features['hidden1'][:, 0] for train in (False, True)]


@pytest.mark.parametrize(('build', 'scaled'), [(maxout.dense, 1), (mlp.mlp, 1 / 0.8)])
def test_a_fifth_of_the_inputs_is_dropped_in_training_and_the_rest_scaled_as_documented(build, scaled):
    extra = {'pieces': 2} if build is maxout.dense else {}
    used, trained = summed(build(classes=3, widths=(4,), input_dropout=0.2, **extra))
    np.testing.assert_allclose(used, 784)
    kept = trained / scaled
    np.testing.assert_allclose(kept, np.round(kept), atol=1e-3)
    assert len(set(np.round(kept))) > 5
    np.testing.assert_allclose(kept.mean(), 0.8 * 784, atol=5 * (784 * 0.16 / 40) ** 0.5)


def test_bfloat16_stays_near_float32():
    half, full = maxout.fitnet(classes=10, precision='bfloat16'), maxout.fitnet(classes=10)
    variables = drawn(full, 0.1)
    half, full = run(half, variables), run(full, variables)
    assert {leaf.dtype for leaf in half.features.values()} == {jnp.dtype('bfloat16')}
    error = np.linalg.norm(half.logits - full.logits) / np.linalg.norm(full.logits)
    assert 0 < error < 0.03
