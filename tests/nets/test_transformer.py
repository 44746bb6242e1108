"""Encoders against PyTorch's (golden/transformer.npz, see golden/make.py), and what a decoder will want of them."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.nets import blocks, layers, transformer

GOLDEN = pathlib.Path(__file__).parent / 'golden' / 'transformer.npz'
SHAPE = blocks.Shape(8, 2, 12, 0.0, 0.0, 1e-5, True, jnp.float32)


@functools.cache
def golden():
    with np.load(GOLDEN) as found:
        return dict(found)


def mask():
    return (np.arange(golden()['x'].shape[1]) < golden()['lengths'][:, None]).astype(np.float32)


def of_torch(kind):
    """PyTorch's weights, by our names."""

    def get(name):
        return golden()[f'{kind}/{name}']

    def dense(name):
        return {'kernel': get(f'{name}.weight').T, 'bias': get(f'{name}.bias')}

    def norm(name):
        return {'scale': get(f'{name}.weight'), 'bias': get(f'{name}.bias')}

    def layer(name):
        kernels, biases = (np.split(get(f'{name}.self_attn.in_proj_{part}'), 3) for part in ('weight', 'bias'))
        parts = zip(('query', 'key', 'value'), kernels, biases, strict=True)
        attention = {part: {'kernel': kernel.T, 'bias': bias} for part, kernel, bias in parts}
        return {
            'attention': {**attention, 'out': dense(f'{name}.self_attn.out_proj')},
            'mlp': {'into': dense(f'{name}.linear1'), 'back': dense(f'{name}.linear2')},
            'norm1': norm(f'{name}.norm1'), 'norm2': norm(f'{name}.norm2'),
        }  # fmt: skip

    last = {'norm': norm('norm')} if kind == 'pre' else {}
    return {'layer1': layer('layers.0'), 'layer2': layer('layers.1'), **last}


@pytest.mark.parametrize('kind', ['pre', 'post'])
def test_an_encoder_is_pytorchs(kind):
    module = blocks.Encoder(SHAPE._replace(pre_norm=kind == 'pre'), 2)
    run = jax.jit(lambda params, x: module.apply({'params': params}, x, mask(), False, mutable=['taps']))
    out, seen = run(of_torch(kind), golden()['x'])
    real = mask() > 0
    for found, want in ((seen['taps']['hidden1'], 'hidden1'), (out, 'out')):
        np.testing.assert_allclose(found[real], golden()[f'{kind}/{want}'][real], atol=2e-6)


def test_taps_are_what_attention_was_made_of():
    x, module = golden()['x'], blocks.Encoder(SHAPE, 1)
    params = of_torch('pre')
    _, seen = jax.jit(lambda x: module.apply({'params': params}, x, mask(), False, mutable=['taps', 'masks']))(x)
    taps = seen['taps']
    scores = layers.attention_scores(taps['query1'], taps['key1'], 2)
    np.testing.assert_allclose(taps['attention1'], scores, rtol=1e-6)
    weights = np.where(mask()[:, None, None] > 0, scores, -np.inf)
    weights = np.exp(weights - weights.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    values = np.asarray(taps['value1']).reshape(*x.shape[:2], 2, 4)
    mixed = np.einsum('bhnm,bmhd->bnhd', weights, values).reshape(x.shape)
    out = params['layer1']['attention']['out']
    x = x + mixed @ out['kernel'] + out['bias']
    centred = x - x.mean(axis=-1, keepdims=True)
    norm = params['layer1']['norm2']
    inner = centred / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5) * norm['scale'] + norm['bias']
    mlp = blocks.MLP(SHAPE).apply({'params': params['layer1']['mlp']}, inner)
    np.testing.assert_allclose(taps['hidden1'], x + mlp, rtol=1e-4, atol=1e-5)


def test_layers_of_one_shape_are_traced_once():
    module, x, real = blocks.Encoder(SHAPE, 4), golden()['x'], mask()
    params = jax.eval_shape(lambda key: module.init(key, x, real, False), jax.random.key(0))
    traced = jax.make_jaxpr(lambda params: module.apply(params, x, real, False))(params)
    layers = [equation.params['jaxpr'] for equation in traced.eqns if equation.primitive.name == 'jit'
              and len(equation.invars) > 10]  # fmt: skip
    assert len(layers) == 4
    assert len({id(layer.jaxpr) for layer in layers}) == 1


@pytest.mark.parametrize('reads', ['itself', 'another'])
def test_a_token_at_a_time_reads_kept_keys_as_all_at_once_do(reads):
    """What `start` and `extend` of a decoder will rest on."""
    module, params = blocks.Attention(SHAPE), {'params': of_torch('pre')['layer1']['attention']}
    x, count = jnp.asarray(golden()['x']), golden()['x'].shape[1]
    kept = module.apply(params, x if reads == 'itself' else x[::-1], method='keys')
    allowed = blocks.causal(count) if reads == 'itself' else blocks.readable(jnp.asarray(mask()))
    whole, _ = module.apply(params, x, kept, allowed, False)
    for place in range(count):
        may = allowed[:, :, place : place + 1] if reads == 'itself' else allowed
        one, _ = module.apply(params, x[:, place : place + 1], kept, may, False)
        np.testing.assert_allclose(one[:, 0], whole[:, place], rtol=1e-5, atol=1e-6)


def test_later_tokens_do_not_move_what_a_causal_one_reads():
    module, params = blocks.Attention(SHAPE), {'params': of_torch('pre')['layer1']['attention']}

    def read(x):
        kept = module.apply(params, x, method='keys')
        return module.apply(params, x, kept, blocks.causal(x.shape[1]), False)[0]

    x = golden()['x']
    changed = np.where(np.arange(x.shape[1])[:, None] < 3, x, 7).astype(np.float32)
    np.testing.assert_allclose(read(changed)[:, :3], read(x)[:, :3], rtol=1e-6)
    assert np.abs(read(changed) - read(x))[:, 3:].max() > 0.1


def test_positions_are_waves():
    found = transformer.waves(50, 6)
    for place, width in ((0, 0), (3, 1), (49, 4)):
        angle = place / 10_000 ** (width // 2 * 2 / 6)
        assert found[place, width] == pytest.approx(np.cos(angle) if width % 2 else np.sin(angle), abs=1e-6)
    assert transformer.waves(3, 5).shape == (3, 5)
