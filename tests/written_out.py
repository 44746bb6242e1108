"""Networks that are written out in whole numbers, with examples; each is made once."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.data import digits
from kdjax.export import bundle
from kdjax.export.c import code, integers, operators
from kdjax.nets import cnn, mlp, resnet_cifar, tcresnet

ABOUT = {
    'format': 1, 'network': {'net': 'mlp.mlp', 'args': {'classes': 10, 'widths': []}, 'told': []}, 'facts': {},
    'task': {'kind': 'classification.Classification', 'args': {}}, 'preprocess': {'kind': 'preprocess.unit'},
    'classes': list('0123456789'), 'text': None, 'method': 'combined', 'seed': 0, 'candidate': {}, 'transfer_size': 1,
    'step': 0, 'metrics': {}, 'data': {'source': 'digits.digits', 'args': {}, 'checksum': ''}, 'license': '',
    'inputs': {'shape': [8, 8], 'dtype': 'float32', 'padded': False},
}  # fmt: skip
NEEDS_CC = pytest.mark.skipif(code.compiler() is None, reason='no C compiler is here (cc, gcc or clang)')
SPEECH = {'frames': (16, 8), 'mask': (16,)}
NETS = {
    'mlp': (mlp.mlp(classes=5, widths=(8,)), {'inputs': (4, 4)}),
    'cnn': (cnn.cnn(classes=5, widths=(4, 6)), {'inputs': (6, 5)}),
    'resnet': (resnet_cifar.resnet(classes=5, depth=8, widths=(4, 4, 6, 8)), {'inputs': (8, 8, 3)}),
    'tcresnet': (tcresnet.tcresnet(classes=5, widths=(4, 6, 6), strides=(1, 2), size=3), SPEECH),
}


class Case(NamedTuple):
    """What is written, as in `export.program.Program`."""

    function: object
    inputs: dict
    examples: dict
    variables: object


@functools.cache
def case(name):
    """A network with random statistics, as it is exported, and examples."""
    net, shapes = NETS[name]
    rng = np.random.default_rng(0)
    examples = {key: np.ones((64, *shape), np.float32) if key == 'mask' else
                rng.normal(size=(64, *shape)).astype(np.float32) for key, shape in shapes.items()}  # fmt: skip
    inputs = examples if len(examples) > 1 else examples['inputs']
    variables = jax.tree.map(np.asarray, jax.jit(net.init)(jax.random.key(0), jax.tree.map(lambda x: x[:1], inputs)))
    stats = jax.tree_util.tree_map_with_path(
        lambda path, x: rng.uniform(0.5 if path[-1].key == 'var' else -0.3, 1.0, x.shape).astype(x.dtype),
        variables['stats'],
    )
    variables = {**variables, 'stats': stats}

    def function(given):
        read = given if len(given) > 1 else given['inputs']
        return net.apply(variables, read, train=False, key=None)[0].logits

    described = {key: jax.ShapeDtypeStruct(shape, jnp.float32) for key, shape in shapes.items()}
    return Case(function, described, examples, variables)


@functools.cache
def graph(name):
    return operators.graph(case(name).function, case(name).inputs)


@functools.cache
def whole(name):
    return integers.integers(graph(name), integers.ranges(graph(name), code.examples(case(name).examples)))


@functools.cache
def digits_network(width=16):
    """A student that knows digits: a hidden layer as it begins, and a head by least squares."""
    net, split = mlp.mlp(classes=10, widths=(width,)), digits.digits().splits['train']
    variables = jax.device_get(net.init(jax.random.key(0), split.inputs[:1]))
    hidden = np.asarray(net.apply(variables, split.inputs, train=False, key=None)[0].features['hidden1'])
    head = np.linalg.lstsq(np.pad(hidden, ((0, 0), (0, 1)), constant_values=1), np.eye(10)[split.labels], rcond=None)[0]
    variables['params']['head'] = {'kernel': head[:-1].astype(np.float32), 'bias': head[-1].astype(np.float32)}
    network = {**ABOUT['network'], 'args': {'classes': 10, 'widths': [width]}}
    return bundle.build({**ABOUT, 'network': network}, variables)
