"""Exported weights have the names and the layout of the published PyTorch implementations."""

import jax
import numpy as np
import pytest

from kdjax.export import weights
from kdjax.nets import torch_weights
from kdjax.resolve import construct

NETS = [
    ('resnet_cifar.resnet', {'depth': 8}),
    ('vgg.vgg', {}),
    ('wide_resnet.wrn', {}),
    ('deit.deit', {'width': 24, 'depth': 1, 'heads': 2}),
]


@pytest.mark.parametrize(('name', 'arguments'), NETS, ids=[name for name, _ in NETS])
def test_what_is_exported_is_what_is_read(name, arguments):
    net = construct('kdjax.nets', name, {'classes': 3, **arguments}, 'network')
    shapes = jax.eval_shape(net.init, jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))
    random = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: random.normal(size=leaf.shape).astype(np.float32), shapes)
    leaves = weights.paths(variables)
    names = {path: weights.name(path, name, net.names) for path in leaves}
    state = {names[path]: weights.laid_out(leaf, path) for path, leaf in leaves.items()}
    assert len(state) == len(leaves)
    again = torch_weights.variables(state, shapes, net.names)
    jax.tree.map(np.testing.assert_array_equal, again, variables)
    back = weights.tree({path: weights.taken_in(state[named], path) for path, named in names.items()})
    jax.tree.map(np.testing.assert_array_equal, back['params'], variables['params'])


def test_names_are_those_of_the_implementations():
    def named(net, path):
        return weights.name(path, net, None)

    assert named('resnet_cifar.resnet', 'params/layer1_0/conv1/kernel') == 'layer1.0.conv1.weight'
    assert named('resnet_cifar.resnet', 'stats/layer2_0/downsample_1/mean') == 'layer2.0.downsample.1.running_mean'
    assert named('resnet_cifar.resnet', 'params/head/bias') == 'fc.bias'
    assert named('deit.deit', 'params/blocks_0_attn_qkv/kernel') == 'blocks.0.attn.qkv.weight'
    assert named('deit.deit', 'params/patch_embed_proj/bias') == 'patch_embed.proj.bias'
    assert named('deit.deit', 'params/pos_embed') == 'pos_embed'
    assert named('wide_resnet.wrn', 'params/block1_layer_0/conv1/kernel') == 'block1.layer.0.conv1.weight'
    assert named('mlp.mlp', 'params/head/kernel') == 'head.weight'
