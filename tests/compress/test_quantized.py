"""Laws of rounded networks: one program, the identity at 16 bits, ranges that are kept, errors instead of silence."""

import functools

import house_nets
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rotation
from house_nets import subject

from kdjax import trees
from kdjax.compress import quantized, rounding
from kdjax.compress.quantized import Rounding
from kdjax.errors import UsageError
from kdjax.nets.adapters import from_function
from kdjax.nets.mlp import mlp

BITS = (32.0, 16.0, 8.0, 4.0, 2.0)
LIGHT = ('mlp', 'cnn', 'maxout dense', 'vit', 'resnet8', 'bag', 'textcnn', 'windows', 'encoder', 'bert tagger')


@functools.cache
def passes(name, form='absmax'):
    """By numbers of bits: training, then outside, and the gradients; all by one program."""
    net, x, variables = subject(name)
    how = Rounding(form)
    whole, begun = quantized.quantized(net, how), quantized.begun(net, how, variables, x, (4.0, 4.0))

    @jax.jit
    def ask(variables):
        def loss(params):
            outputs, stats = whole.apply({**variables, 'params': params}, x, train=True, key=jax.random.key(0))
            return jnp.sum(jnp.square(outputs.logits)), (outputs, stats)

        slopes, (outputs, stats) = jax.grad(loss, has_aux=True)(variables['params'])
        after, _ = whole.apply({**variables, 'stats': stats}, x, train=False, key=None)
        return outputs, after, stats, slopes

    @jax.jit
    def dense(variables):
        outputs, stats = net.apply(variables, x, train=True, key=jax.random.key(0))
        return outputs, net.apply({**variables, 'stats': stats}, x, train=False, key=None)[0]

    found = {bits: jax.device_get(ask(quantized.with_bits(begun, jnp.full(2, bits)))) for bits in BITS}
    assert ask._cache_size() == 1
    return found, jax.device_get(dense(variables))


@pytest.mark.parametrize('name', rotation.params([('mlp',), ('cnn',)], 'nn'))
def test_at_16_bits_and_more_it_is_the_network_itself_bit_for_bit(name):
    net, x, variables = subject(name)
    whole, begun = quantized.quantized(net), quantized.begun(net, Rounding(), variables, x)
    ranges = begun['stats'][quantized.ROUNDING]['ranges']

    @jax.jit
    def ask(variables, begun):
        return [[one.apply(given, x, train=train, key=None)[0] for train in (True, False)]
                for one, given in ((net, variables), (whole, quantized.calibrated(begun, ranges)))]  # fmt: skip

    for bits in (32.0, 16.0):
        want, got = ask(variables, quantized.with_bits(begun, jnp.full(2, bits)))
        assert trees.fingerprint(got) == trees.fingerprint(want)


@pytest.mark.parametrize('name', rotation.params([('mlp',), ('cnn',)], 'nn'))
def test_fewer_bits_move_logits_further_and_gradients_reach_every_parameter(name):
    found, (inside, _) = passes(name)
    gaps = [np.abs(found[bits][0].logits - inside.logits).max() for bits in BITS[1:]]
    assert gaps == sorted(gaps)
    assert gaps[1] > 0
    for bits in BITS:
        slopes = found[bits][3]
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))
        assert all(np.any(leaf) for leaf in jax.tree.leaves({n: s for n, s in slopes.items() if n != 'stem_conv'}))


@pytest.mark.parametrize('form', rotation.params([('absmax',), ('lsq',)], 'ff'))
def test_normalisation_that_is_folded_in_does_not_change_what_is_rounded(form):
    """Of a residual network the kernels outside of training have their normalisation in them."""
    net, x, variables = subject('resnet8')
    how = Rounding(form)
    begun = quantized.begun(net, how, variables, x, (3.0, 32.0))
    steps = begun['params'].get(quantized.ROUNDING)

    def rounded(path, w):
        if w.ndim == 1:
            return w
        name = jax.tree_util.keystr(path, simple=True, separator='.')
        key = f'{name}:{"x".join(str(size) for size in w.shape if size > 1)}'
        return rounding.learned(w, steps[key], 3.0) if steps else rounding.symmetric(w, 3.0, range(w.ndim - 1))

    got, want = jax.jit(
        lambda begun, params: (
            quantized.quantized(net, how).apply(begun, x, train=False, key=None)[0].logits,
            net.apply({**variables, 'params': params}, x, train=False, key=None)[0].logits,
        )
    )(begun, jax.tree_util.tree_map_with_path(rounded, variables['params']))
    np.testing.assert_allclose(got, want, rtol=2e-3, atol=2e-3 * float(np.abs(want).max()))


@pytest.mark.parametrize('name', rotation.params([(name,) for name in LIGHT], house_nets.kinds(LIGHT)))
def test_a_rounded_network_has_the_shapes_of_the_network_in_training_as_outside(name):
    net, inputs, variables = house_nets.built(name)
    whole = quantized.quantized(net, Rounding(activations=True))
    begun = jax.eval_shape(whole.init, house_nets.KEY, inputs)
    assert jax.tree.structure(quantized.plain(begun)) == jax.tree.structure(variables)
    for train in (True, False):
        ask = functools.partial(whole.apply, train=train)
        plain = jax.eval_shape(functools.partial(net.apply, train=train), variables, inputs, key=house_nets.KEY)
        outputs, stats = jax.eval_shape(ask, begun, inputs, key=house_nets.KEY)
        assert jax.tree.map(lambda leaf: leaf.shape, outputs) == jax.tree.map(lambda leaf: leaf.shape, plain[0])
        assert jax.tree.structure(stats) == jax.tree.structure(begun['stats'])


def test_ranges_are_those_of_the_first_batch_and_then_move_a_tenth():
    x = jnp.asarray([[-1.0, 3.0]])
    net = from_function(lambda key, x: {'w': jnp.eye(2)}, lambda params, x: x @ params['w'])
    whole = quantized.quantized(net)
    variables = whole.init(None, x)
    for given, want in ((x, [-1, 3]), (x * 2, [-1.1, 3.3])):
        _, stats = whole.apply(variables, given, train=True, key=None)
        variables = {**variables, 'stats': stats}
        np.testing.assert_allclose(stats[quantized.ROUNDING]['ranges']['w:2x2'], want, rtol=1e-6)
    assert float(stats[quantized.ROUNDING]['seen']) == 2


def test_calibration_takes_the_ranges_of_all_batches_outside_of_training():
    net, x, variables = subject('mlp')
    how = Rounding()
    begun = quantized.with_bits(quantized.begun(net, how, variables, x), jnp.asarray([8.0, 8.0]))
    watch = jax.jit(functools.partial(quantized.observed, net, how))
    parts = [watch(begun, part) for part in (x[:1], x[1:])]
    whole = watch(begun, x)
    for got, want in zip(jax.tree.leaves(quantized.joined(*parts)), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5)
    done = quantized.calibrated(begun, whole)
    ask = jax.jit(lambda v: quantized.quantized(net, how).apply(v, x, train=False, key=None)[0].logits)
    plain, rounded = ask(begun), ask(done)
    gap = np.abs(plain - rounded).max()
    assert 0 < gap < 0.05 * np.abs(plain).max()


def test_the_first_and_the_last_product_keep_as_many_bits_as_they_are_to_have_at_least():
    net, x = mlp(classes=3, widths=(7, 5)), jnp.asarray(np.random.default_rng(0).normal(size=(2, 6)), jnp.float32)
    how = Rounding(edges=8)
    variables = quantized.begun(net, how, net.init(jax.random.key(0), x), x, (2.0, 32.0))
    params = dict(quantized.plain(variables)['params'])
    for name, bits in (('dense1', 8), ('dense2', 2), ('head', 8)):
        params[name] = {**params[name], 'kernel': rounding.symmetric(params[name]['kernel'], bits, (0,))}
    whole = quantized.quantized(net, how)
    got, want = jax.jit(lambda v, p: (whole.apply(v, x, train=False, key=None)[0].logits,
                                      net.apply({'params': p, 'stats': {}}, x, train=False, key=None)[0].logits))(
        variables, params
    )  # fmt: skip
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_learned_steps_are_parameters_that_learn():
    found, _ = passes('mlp', 'lsq')
    slopes = found[4.0][3][quantized.ROUNDING]
    assert set(slopes) == {'dense1.kernel:64x7', 'dense2.kernel:7x5', 'head.kernel:5x3'}
    assert all(np.any(leaf) for leaf in jax.tree.leaves(slopes))


def other_in_training(params, x, train):
    return x @ params['w'] if train else x @ params['w'] @ params['v']


def test_a_network_with_other_products_in_training_than_outside_is_an_error():
    net = from_function(lambda key, x: {'w': jnp.eye(2), 'v': jnp.eye(2)}, other_in_training)
    whole, x = quantized.quantized(net), jnp.ones((1, 2))
    with pytest.raises(UsageError, match=r"no product 'v:2x2', which its variables know of"):
        whole.apply(whole.init(None, x), x, train=True, key=None)


def test_what_cannot_be_rounded_is_an_error():
    build, (shape, dtype) = house_nets.NOTHING['ngrams']
    net, inputs = build(), jnp.zeros(shape, dtype)
    with pytest.raises(UsageError, match='nothing to round'):
        quantized.begun(net, Rounding(), net.init(jax.random.key(0), inputs), inputs)
    with pytest.raises(UsageError, match="unknown form 'minmax' of rounding; there is: 'absmax', 'lsq'"):
        Rounding('minmax')
