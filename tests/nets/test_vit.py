"""The vision transformer by its formula, and what it must not care about."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import trees
from kdjax.errors import UsageError
from kdjax.nets.vit import vit

B, CLASSES, WIDTH, HEADS, TOKENS = 5, 3, 6, 2, 7
KEY = jax.random.key(0)
IMAGES = np.random.default_rng(0).normal(size=(B, 4, 6)).astype(np.float32)
build = functools.partial(vit, classes=CLASSES, width=WIDTH, depth=2, heads=HEADS, patch=2)


@functools.cache
def variables():
    """Nothing is 0 or 1: what starts so would hide a mistake."""
    state = jax.device_get(jax.jit(build().init)(KEY, IMAGES))
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: leaf + rng.normal(0, 0.3, leaf.shape).astype(np.float32), state)


def run(net, inputs=IMAGES, *, train=False, key=None):
    return jax.jit(functools.partial(net.apply, train=train))(variables(), inputs, key=key)[0]


@pytest.mark.parametrize('channels', [(), (1,), (3,)])
def test_logits_and_taps_have_the_documented_shapes(channels):
    net, images = build(), jax.ShapeDtypeStruct((B, 4, 6, *channels), jnp.float32)
    state = jax.eval_shape(net.init, KEY, images)
    outputs = jax.eval_shape(functools.partial(net.apply, train=False, key=None), state, images)[0]
    assert outputs.logits.shape == (B, CLASSES)
    tokens, scores = (B, TOKENS, WIDTH), (B, HEADS, TOKENS, TOKENS)
    layers = {f'{part}{layer}': tokens for part in ('query', 'key', 'value', 'hidden') for layer in (1, 2)}
    assert {name: leaf.shape for name, leaf in outputs.features.items()} == {
        'embedding': tokens, **layers, 'attention1': scores, 'attention2': scores, 'penult': (B, WIDTH),
    }  # fmt: skip
    assert set(net.taps) == set(outputs.features)


def normed(x, layer):
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-6) * layer['scale'] + layer['bias']


def dense(x, layer):
    return x @ layer['kernel'] + layer['bias']


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def block(x, params, layer):
    """What the taps of a layer should hold; heads are consecutive parts of the width."""
    inner = normed(x, params[f'norm{layer}a'])
    query, key, value = (dense(inner, params[f'to_{part}{layer}']) for part in ('query', 'key', 'value'))
    scores, mixed, part = [], [], WIDTH // HEADS
    for head in range(HEADS):
        own = slice(head * part, (head + 1) * part)
        scores.append(query[..., own] @ key[..., own].transpose(0, 2, 1) / np.sqrt(part))
        weights = np.exp(scores[-1])
        mixed.append(weights / weights.sum(axis=-1, keepdims=True) @ value[..., own])
    x = x + dense(np.concatenate(mixed, axis=-1), params[f'mix{layer}'])
    inner = gelu(dense(normed(x, params[f'norm{layer}b']), params[f'mlp{layer}a']))
    hidden = x + dense(inner, params[f'mlp{layer}b'])
    return {'query': query, 'key': key, 'value': value, 'attention': np.stack(scores, axis=1), 'hidden': hidden}


def test_it_is_what_its_formula_says():
    params, outputs = variables()['params'], run(build())
    cells = [IMAGES[:, r : r + 2, c : c + 2].reshape(B, 4) for r in (0, 2) for c in (0, 2, 4)]
    kernel = params['patches']['kernel'].reshape(4, WIDTH)
    patches = np.stack([cell @ kernel + params['patches']['bias'] for cell in cells], axis=1)
    x = np.concatenate([np.tile(params['class_token'], (B, 1, 1)), patches], axis=1) + params['positions']
    np.testing.assert_allclose(outputs.features['embedding'], x, rtol=1e-4, atol=1e-5)
    for layer in (1, 2):
        want = block(x, params, layer)
        for part, value in want.items():
            np.testing.assert_allclose(outputs.features[f'{part}{layer}'], value, rtol=1e-3, atol=1e-4)
        x = want['hidden']
    penult = normed(x[:, 0], params['norm'])
    np.testing.assert_allclose(outputs.features['penult'], penult, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(outputs.logits, dense(penult, params['head']), rtol=1e-3, atol=1e-4)


def test_without_positions_the_order_of_patches_does_not_matter():
    state = variables()
    state = {**state, 'params': {**state['params'], 'positions': np.zeros_like(state['params']['positions'])}}
    ask = jax.jit(lambda images: build().apply(state, images, train=False, key=None)[0].logits)
    swapped = np.concatenate([IMAGES[:, :, 2:], IMAGES[:, :, :2]], axis=2)
    np.testing.assert_allclose(ask(swapped), ask(IMAGES), rtol=1e-3, atol=1e-4)
    assert not np.allclose(run(build(), swapped).logits, run(build()).logits, atol=1e-3)


def test_an_example_does_not_depend_on_the_others():
    np.testing.assert_allclose(run(build(), IMAGES[:1]).logits, run(build()).logits[:1], rtol=1e-4, atol=1e-5)


def test_it_keeps_no_statistics():
    assert trees.count(variables()['stats']) == 0


def test_dropout_acts_in_training_alone_as_its_key_says():
    net = build(dropout=0.5)
    one, again, other = (run(net, train=True, key=jax.random.key(seed)).logits for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert not np.allclose(one, other)
    np.testing.assert_array_equal(run(net, key=KEY).logits, run(build()).logits)


def test_bfloat16_is_for_activations_alone_and_stays_near_float32():
    net = build(precision='bfloat16')
    with jax.numpy_dtype_promotion('standard'):  # flax's own normalisation mixes dtypes
        state, half = jax.eval_shape(net.init, KEY, IMAGES), run(net)
    full = run(build())
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype('float32')}
    assert half.logits.dtype == jnp.float32
    assert {leaf.dtype for leaf in half.features.values()} == {jnp.dtype('bfloat16')}
    error = np.linalg.norm(half.logits - full.logits) / np.linalg.norm(full.logits)
    assert 0 < error < 0.05


@pytest.mark.parametrize(
    ('changed', 'message'),
    [
        ({'heads': 4}, 'heads 4 of a vit must divide its width 6'),
        ({'depth': 0}, 'depth of a vit must be at least 1, got 0'),
        ({'patch': 0}, 'patch of a vit must be at least 1, got 0'),
        ({'precision': 'float16'}, "unknown precision 'float16'; there is: 'bfloat16', 'float32'"),
    ],
)
def test_a_wrong_size_is_named(changed, message):
    with pytest.raises(UsageError, match=message):
        build(**changed)


def test_patches_must_fill_the_map():
    with pytest.raises(UsageError, match='patch 4 of a vit must divide the map 4x6'):
        jax.eval_shape(build(patch=4).init, KEY, IMAGES)
