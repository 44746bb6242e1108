"""Layers of the published networks: blocks by their formulas, initial weights by their distributions, limited norms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import published
import pytest
from flax import linen as nn

from kdjax.nets import deit, layers, maxout, mobilenetv2, resnet_cifar, shufflenet, vgg, wide_resnet

KEY = jax.random.key(0)


@pytest.mark.parametrize(('stride', 'width', 'channels', 'relu'), [(2, 3, 5, False), (1, 2, 8, True)])
def test_a_bottleneck_is_what_its_formula_says(stride, width, channels, relu):
    random = np.random.default_rng(0)
    images = random.normal(size=(2, 7, 7, channels)).astype(np.float32)
    module = layers.Bottleneck(jnp.float32, None, width, stride)
    shapes = jax.eval_shape(functools.partial(module.init, train=False, relu=relu), KEY, images)
    variables = jax.tree.map(lambda leaf: random.uniform(0.5, 1.5, leaf.shape).astype(np.float32), shapes)
    params, stats = variables['params'], variables['batch_stats']

    def layer(x, conv, norm, stride):
        x = published.convolved(x, params[conv]['kernel'].transpose(3, 2, 0, 1), stride)
        x = (x - stats[norm]['mean'][:, None, None]) / np.sqrt(stats[norm]['var'][:, None, None] + 1e-5)
        return x * params[norm]['scale'][:, None, None] + params[norm]['bias'][:, None, None]

    x = images.transpose(0, 3, 1, 2).astype(np.float64)
    y = np.maximum(layer(x, 'conv1', 'bn1', 1), 0)
    y = np.maximum(layer(y, 'conv2', 'bn2', stride), 0)
    y = layer(y, 'conv3', 'bn3', 1) + (layer(x, 'downsample_0', 'downsample_1', stride) if stride == 2 else x)
    y = np.maximum(y, 0) if relu else y
    assert ('downsample_0' in params) == (stride == 2)
    found = jax.jit(functools.partial(module.apply, train=False, relu=relu))(variables, images)
    np.testing.assert_allclose(found, y.transpose(0, 2, 3, 1), rtol=1e-4, atol=1e-3)


def test_normalisation_follows_the_batch_in_training_and_moves_a_tenth_towards_it():
    class Normed(layers.Layers):
        @nn.compact
        def __call__(self, x):
            return self.norm(x, 'bn', train=True)

    x = np.random.default_rng(0).normal(3, 2, size=(5, 4, 4, 2)).astype(np.float32)
    module = Normed(jnp.float32, None)
    stats = {'bn': {'mean': jnp.full(2, 10.0), 'var': jnp.full(2, 20.0)}}
    variables = {'params': {'bn': {'scale': jnp.ones(2), 'bias': jnp.zeros(2)}}, 'batch_stats': stats}
    found, written = module.apply(variables, x, mutable=['batch_stats'])
    mean, var = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))
    np.testing.assert_allclose(found, (x - mean) / np.sqrt(var + 1e-5), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(written['batch_stats']['bn']['mean'], 9 + 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(written['batch_stats']['bn']['var'], 18 + 0.1 * var, rtol=1e-5)


@pytest.mark.parametrize('more', [{}, {'relu': True}, {'bias': True, 'stride': 2}, {'groups': 2, 'relu': True}])
@pytest.mark.parametrize('added', [False, True])
def test_outside_training_a_normalised_convolution_is_one_with_running_statistics(more, added):
    class Layer(layers.Layers):
        folded: bool = True

        @nn.compact
        def __call__(self, x, after):
            if self.folded:
                return self.conv_norm(x, 6, 3, ('conv', 'norm'), train=False, after=after, **more)
            rest = {name: value for name, value in more.items() if name != 'relu'}
            y = self.norm(self.conv(x, 6, 3, 'conv', **rest), 'norm', train=False)
            y = y if after is None else y + after
            return nn.relu(y) if 'relu' in more else y

    random = np.random.default_rng(0)
    x = random.normal(size=(4, 8, 8, 2)).astype(np.float32)
    size = 4 if 'stride' in more else 8
    after = random.normal(size=(4, size, size, 6)).astype(np.float32) if added else None
    shapes = jax.eval_shape(Layer(jnp.float32, None).init, KEY, x, after)
    assert jax.tree.structure(shapes) == jax.tree.structure(
        jax.eval_shape(Layer(jnp.float32, None, folded=False).init, KEY, x, after)
    )
    variables = jax.tree.map(lambda leaf: random.uniform(0.5, 1.5, leaf.shape).astype(np.float32), shapes)
    found, wanted = (jax.jit(Layer(jnp.float32, None, folded=folded).apply)(variables, x, after)
                     for folded in (True, False))  # fmt: skip
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    assert np.ptp(wanted) > 1


def he(shape):
    """Deviation and bound of He's normal weights; a grouped convolution counts all its outputs."""
    return (2 / np.prod([*shape[:-2], shape[-1]])) ** 0.5, None


def torch_default(shape):
    bound = np.prod(shape[:-1]) ** -0.5
    return bound / 3**0.5, bound


def normal(deviation):
    return lambda shape: (deviation, None)


def within(bound):
    return lambda shape: (bound / 3**0.5, bound)


# Of each family: a network, what convolutions and other layers start with, what the head starts with, and whether
# biases do not start at zero.
STARTS = {
    'resnet_cifar': (resnet_cifar.resnet(classes=50, depth=8), he, torch_default, {'head'}),
    'wide_resnet': (wide_resnet.wrn(classes=50, depth=10, widen=1), he, torch_default, set()),
    'vgg': (vgg.vgg(classes=50), he, normal(0.01), set()),
    'mobilenetv2': (mobilenetv2.mobilenetv2(classes=50), he, normal(0.01), set()),
    'shufflenetv1': (
        shufflenet.shufflenetv1(classes=50, widths=(48, 96, 192), counts=(1, 1, 1)), torch_default, torch_default,
        {'head'},
    ),
    'shufflenetv2': (shufflenet.shufflenetv2(classes=50, size=0.2), torch_default, torch_default, {'head'}),
    'deit': (
        deit.deit(classes=50, width=96, depth=1, patch=8, distilled=True), normal(0.02), normal(0.02),
        {'patch_embed_proj'},
    ),
    'maxout': (maxout.dense(classes=50, widths=(20,)), within(0.005), within(0.005), set()),
    'maxout teacher': (maxout.teacher(classes=50), within(0.005), within(0.005), set()),
}  # fmt: skip


def started(net):
    """Initial weights of some layers, the head's among them; all would take long to compile."""

    def init(key, images):
        params = net.init(key, images)['params']
        names = sorted(params)
        return {name: params[name] for name in {*names[:3], *names[-4:], 'head'}}

    return jax.device_get(jax.jit(init)(KEY, jnp.zeros((1, 32, 32, 3))))


@pytest.mark.parametrize('family', STARTS)
def test_weights_start_as_published(family):
    net, start, head, biased = STARTS[family]
    params = started(net)
    assert 'kernel' in params['head']
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        *layer, name = (part.key for part in path)
        if name == 'kernel':
            rule = torch_default if 'patch_embed_proj' in layer else head if 'head' in layer else start
            deviation, bound = rule(leaf.shape)
            np.testing.assert_allclose(leaf.std(), deviation, rtol=5 / (2 * leaf.size) ** 0.5, err_msg=str(layer))
            np.testing.assert_allclose(leaf.mean(), 0, atol=5 * deviation / leaf.size**0.5, err_msg=str(layer))
            assert bound is None or np.abs(leaf).max() <= bound
        elif name == 'scale':
            np.testing.assert_array_equal(leaf, 1)
        elif name == 'bias' and layer and layer[-1] in biased:
            bound = np.prod(params[layer[-1]]['kernel'].shape[:-1]) ** -0.5
            assert bound / 2 < np.abs(leaf).max() <= bound
        elif name == 'bias':
            np.testing.assert_array_equal(leaf, 0)
        else:  # tokens and positions
            np.testing.assert_allclose(leaf.std(), 0.02, rtol=5 / (2 * leaf.size) ** 0.5)


def test_weights_into_a_unit_are_kept_to_a_norm_and_only_those():
    random = np.random.default_rng(0)
    params = {
        'conv': {'kernel': random.normal(size=(3, 3, 2, 40)).astype(np.float32), 'bias': np.full(40, 9, np.float32)},
        'head': {'kernel': random.normal(size=(18, 40)).astype(np.float32), 'scale': np.full(18, 9, np.float32)},
    }
    limited = jax.jit(layers.max_norm)(params, 4.0)
    for layer in params:
        kernel = params[layer]['kernel'].reshape(-1, 40)
        norms = np.sqrt((kernel**2).sum(axis=0))
        assert 0 < (norms > 4).sum() < 40
        want = kernel * np.where(norms > 4, 4 / norms, 1)
        np.testing.assert_allclose(limited[layer]['kernel'].reshape(-1, 40), want, rtol=1e-5)
    np.testing.assert_array_equal(limited['conv']['bias'], 9)
    np.testing.assert_array_equal(limited['head']['scale'], 9)


def test_a_unit_without_weights_has_a_norm_without_trouble():
    zeros = {'head': {'kernel': jnp.zeros((3, 2))}}
    np.testing.assert_array_equal(layers.max_norm(zeros, 1.0)['head']['kernel'], 0)
