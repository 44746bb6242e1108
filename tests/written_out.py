"""Networks that are written out in whole numbers, with examples; each is made once."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.export import c, integers, operators
from kdjax.nets import cnn, mlp, resnet_cifar, tcresnet

NEEDS_CC = pytest.mark.skipif(c.compiler() is None, reason='no C compiler is here (cc, gcc or clang)')
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
    return integers.integers(graph(name), integers.ranges(graph(name), c.examples(case(name).examples)))
