"""The products of a network are found in its program: in training as outside, whatever it is made of."""

import functools
import math

import house_nets
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rotation
from flax import linen as nn
from flax import nnx

from kdjax import trees
from kdjax.compress import products
from kdjax.errors import UsageError
from kdjax.nets import bilstm
from kdjax.nets.adapters import from_function, from_nnx
from kdjax.nets.base import from_linen
from kdjax.nets.team import peers

X = jnp.zeros((2, 6))
FILTERS = ('frequency', 'last_filters')  # kernels of BC-ResNet


@pytest.mark.parametrize(
    'name', rotation.params([(name,) for name in house_nets.NETS], house_nets.kinds(house_nets.NETS))
)
def test_every_kernel_is_found_in_training_as_outside(name):
    net, inputs, variables = house_nets.built(name)
    inside, outside = (products.sites(net, variables, inputs, train=train) for train in (True, False))
    kernels = {jax.tree_util.keystr(path, simple=True, separator='/'): leaf.shape
               for path, leaf in jax.tree_util.tree_leaves_with_path(variables['params'])
               if path[-1].key == 'kernel' or path[-1].key in FILTERS}  # fmt: skip
    assert sorted((site.name, math.prod(site.shape)) for site in inside) == sorted(
        (site.name, math.prod(site.shape)) for site in outside
    )
    # What a network that writes knows words by also says which of them comes next.
    assert {site.path for site in outside} - {'words/table'} == set(kernels)
    assert all(math.prod(site.shape) == math.prod(kernels[site.path]) for site in outside if site.path in kernels)
    assert house_nets.NETS[name][2] in (None, len(kernels))
    assert all(site.same for site in inside if site.kind == products.DOT and len(kernels.get(site.path, ())) == 2)


def test_multiplications_are_counted_by_site():
    net, inputs, variables = house_nets.built('cnn')
    macs = {site.path: site.macs for site in products.sites(net, variables, inputs)}
    assert macs['stem_conv/kernel'] == 2 * 8 * 8 * 9 * 1 * 4
    assert macs['stage2_conv/kernel'] == 2 * 4 * 4 * 9 * 4 * 6
    assert macs['head/kernel'] == 2 * 8 * 3


def test_attention_has_two_more_products_a_layer_where_activations_are_asked_for():
    net, inputs, variables = house_nets.built('encoder')
    found = products.sites(net, variables, inputs, activations=True)
    assert [site.name for site in found if site.weight is None] == ['product1', 'product2', 'product3', 'product4']


def test_a_product_inside_of_a_loop_is_an_error_that_names_it():
    net = bilstm.bilstm(classes=3, vocabulary=9, width=3, units=2)
    ids = jax.ShapeDtypeStruct((2, 6), jnp.int32)
    with pytest.raises(UsageError, match=r"inside of 'scan' .*\(5, 8\).*neither rounded nor factored"):
        products.sites(net, jax.eval_shape(net.init, house_nets.KEY, ids), ids)


def branching(params, x):
    return jax.lax.cond(x[0, 0] > 0, lambda: x @ params['w'], lambda: x[:, :3])


@jax.custom_jvp
def times(x, w):
    return x @ w


times.defjvps(lambda t, out, x, w: t @ w, lambda t, out, x, w: x @ t)


def own_derivative(params, x):
    return times(x, params['w'])


@pytest.mark.parametrize(('apply', 'kind'), [(branching, 'cond'), (own_derivative, 'custom_jvp_call')])
def test_so_is_one_inside_of_a_branch_or_of_a_derivative_of_its_own(apply, kind):
    net = from_function(lambda key, x: {'w': jnp.zeros((6, 3))}, apply)
    with pytest.raises(UsageError, match=f"inside of '{kind}'"):
        products.sites(net, {'params': {'w': jnp.zeros((6, 3))}, 'stats': {}}, X)


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(nn.gelu(nn.remat(nn.Dense)(4)(x)))


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.first, self.last = nnx.Linear(6, 4, rngs=rngs), nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        return self.last(nnx.relu(self.first(x)))


def plain(params, x):
    tied = params['out'] @ params['in']  # of weights alone: no product of an input
    return (
        (x @ params['in'].T + jnp.mean(x) @ jnp.ones(())) @ tied.T[:4] if x.ndim == 0 else x @ params['in'].T @ tied.T
    )


@pytest.mark.parametrize(
    ('net', 'names'),
    [
        (from_linen(Linen()), ['CheckpointDense_0/kernel', 'Dense_0/kernel']),
        (from_nnx(Nnx), ['first/kernel', 'last/kernel']),
        (from_function(lambda key, x: {'in': jnp.ones((3, 6)), 'out': jnp.ones((2, 3))},
                       lambda params, x: x @ (params['out'] @ params['in']).T), ['in']),
    ],
    ids=['linen', 'nnx', 'a plain function, of a product of weights'],
)  # fmt: skip
def test_networks_of_other_makes_are_read_alike(net, names):
    variables = jax.eval_shape(net.init, house_nets.KEY, X)
    assert [site.name for site in products.sites(net, variables, X)] == names


def test_a_weight_that_is_used_twice_has_two_names():
    net = from_function(lambda key, x: {'w': jnp.ones((6, 6))}, lambda params, x: x @ params['w'] @ params['w'])
    assert [site.name for site in products.sites(net, net.init(None, X), X)] == ['w', 'w#2']


def test_peers_are_read_as_one():
    net, inputs, _ = house_nets.built('mlp')
    team = peers(net, 2)
    variables = jax.eval_shape(team.init, house_nets.KEY, inputs)
    shapes = [site.shape for site in products.sites(team, variables, inputs)]
    assert shapes == [(2, 64, 7), (2, 7, 5), (2, 5, 3)]


def test_what_is_run_one_by_one_is_what_the_network_says():
    net, inputs, shapes = house_nets.built('cnn')
    random = np.random.default_rng(0)
    x, variables = jax.tree.map(lambda leaf: jnp.asarray(random.normal(0, 0.3, leaf.shape) ** 2, leaf.dtype),
                                (inputs, shapes))  # fmt: skip

    @jax.jit
    def both(variables, x):
        ask = functools.partial(products.applied, net, variables, x, lambda site, operands, product: product(*operands))
        ours, theirs = ask(train=True, key=None), net.apply(variables, x, train=True, key=None)
        return ours, theirs

    ours, theirs = both(variables, x)
    assert trees.fingerprint(ours) == trees.fingerprint(theirs)
