"""Networks of speech: parameters as published, padding that changes nothing, through strides and in training too."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from kdjax import trees
from kdjax.errors import UsageError
from kdjax.nets import bcresnet, depthwise, frames, tcresnet
from kdjax.tasks import speech
from kdjax.tasks.keywords import Keywords

RANDOM = np.random.default_rng(0)
SMALL = {
    'tcresnet': tcresnet.tcresnet(classes=3, widths=(4, 6), strides=(4,), size=3),
    'depthwise': depthwise.keyword(classes=3, first=4, widths=(6, 6), strides=(2, 1), size=3),
    'transcriber': depthwise.transcriber(classes=3, first=4, widths=(6, 6), strides=(2, 1), size=3),
}  # fmt: skip


def inputs(lengths, longest, bands=8):
    x = RANDOM.normal(size=(len(lengths), longest, bands)).astype(np.float32)
    mask = (np.arange(longest) < np.asarray(lengths)[:, None]).astype(np.float32)
    return {'frames': x, 'mask': mask, 'hop_ms': np.full(len(lengths), 10, np.float32)}


@pytest.mark.parametrize(
    ('net', 'parameters'),
    [
        (tcresnet.tcresnet(classes=12), 65148),  # 66 k
        (bcresnet.bcresnet(classes=12), 9232),  # 9.2 k
        (depthwise.keyword(classes=10), 10914),
        (depthwise.keyword(classes=10, first=12, widths=(16, 16, 16), strides=(2, 1, 2)), 2934),
        (depthwise.transcriber(classes=11), 10467),
    ],
)
def test_networks_have_the_parameters_of_their_papers(net, parameters):
    assert trees.count(jax.eval_shape(net.init, jax.random.key(0), inputs([20], 20, 40))['params']) == parameters


@pytest.mark.parametrize('name', ['tcresnet', 'transcriber'])
def test_padding_changes_nothing(name):
    net = SMALL[name]
    short = inputs([20, 13, 1], 20)
    # What lies behind the end may be anything.
    long = {**inputs([20, 13, 1], 27), 'mask': np.pad(short['mask'], [(0, 0), (0, 7)])}
    long['frames'][:, :20] = np.where(short['mask'][..., None] > 0, short['frames'], 9)

    @functools.partial(jax.jit, static_argnames='train')
    def ask(variables, x, train):
        return net.apply(variables, x, train=train, key=jax.random.key(1) if train else None)

    variables = jax.jit(net.init)(jax.random.key(0), short)
    for train in (False, True):
        if train and name == 'tcresnet':
            variables = {**variables, 'stats': ask(variables, short, True)[1]}
        (one, stats), (other, others) = (ask(variables, x, train) for x in (short, long))
        if train:
            for a, b in zip(jax.tree.leaves(stats), jax.tree.leaves(others), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
        else:
            states = one.features['states']
            mask = one.masks['states'][0]
            np.testing.assert_array_equal(mask.sum(axis=1), [5, 4, 1])  # a fourth of 20, 13 and 1, rounded up
            np.testing.assert_allclose(states, other.features['states'][:, :5], atol=1e-5)
            assert not np.any(np.asarray(states)[np.asarray(mask) == 0])
            got = other.logits[:, :5] if name == 'transcriber' else other.logits
            np.testing.assert_allclose(one.logits, got, atol=1e-5)


def test_layers_over_time_are_the_convolutions_of_flax():
    x = RANDOM.normal(size=(2, 11, 4)).astype(np.float32)
    for size, stride, dilation in ((3, 1, 1), (9, 2, 1), (3, 1, 4), (5, 3, 1)):
        kernel = RANDOM.normal(size=(size, 1, 4)).astype(np.float32)
        before = dilation * ((size - 1) // 2)
        conv = nn.Conv(4, (size,), (stride,), [(before, dilation * (size - 1) - before)], kernel_dilation=dilation,
                       feature_group_count=4, use_bias=False)  # fmt: skip
        wanted = conv.apply({'params': {'kernel': kernel}}, x)
        layer = frames.Depthwise(size, stride, jnp.float32, dilation, bias=False)
        np.testing.assert_allclose(layer.apply({'params': {'kernel': kernel[:, 0]}}, x), wanted, atol=1e-5)
    whole = RANDOM.normal(size=(9, 4, 5)).astype(np.float32)
    wanted = nn.Conv(5, (9,), (2,), [(4, 4)], use_bias=False).apply({'params': {'kernel': whole}}, x)
    layer = frames.Temporal(5, 9, 2, jnp.float32)
    got = layer.apply({'params': {'taps': {'kernel': whole.reshape(36, 5)}}}, x)
    np.testing.assert_allclose(got, wanted, atol=1e-4)


def test_batch_normalisation_is_over_real_frames():
    x, mask = RANDOM.normal(3, 2, (2, 6, 4)).astype(np.float32), inputs([6, 2], 6)['mask']
    layer = frames.BatchNorm(None, jnp.float32)
    start = {'params': {'scale': np.ones(4, np.float32), 'bias': np.zeros(4, np.float32)},
             'batch_stats': {'mean': np.zeros(4, np.float32), 'var': np.ones(4, np.float32)}}  # fmt: skip
    got, written = layer.apply(start, x, mask, True, mutable=['batch_stats'])
    real = x[mask > 0].astype(np.float64)
    np.testing.assert_allclose(got[mask > 0], (real - real.mean(0)) / np.sqrt(real.var(0) + 1e-5), atol=1e-5)
    np.testing.assert_allclose(written['batch_stats']['mean'], 0.1 * real.mean(0), rtol=1e-5)
    np.testing.assert_allclose(written['batch_stats']['var'], 0.9 + 0.1 * real.var(0), rtol=1e-5)


def test_costs_are_by_the_second_and_say_what_is_read():
    net = SMALL['depthwise']
    example = jax.tree.map(lambda leaf: leaf[0], inputs([20], 20))
    variables = jax.jit(net.init)(jax.random.key(0), inputs([20], 20))
    found = Keywords().costs_in_use(net, variables, example, 4000, {'1': 1.0, '10': 5.0})
    # 3 frames, then 2 more of stride 2, then 2 more of stride 4, half of them later.
    assert (found['field_ms'], found['ahead_ms']) == (150, 70)
    assert found['mmac_per_second'] == pytest.approx(0.01)
    assert (found['ms_per_second'], found['ms_per_second_batch']) == (pytest.approx(5), pytest.approx(2.5))
    assert found['int8_kb'] == trees.count(variables['params']) / 1e3
    assert set(found) == {metric.name for metric in speech.COSTS}


@pytest.mark.slow
def test_a_bcresnet_ignores_padding():
    net, short = bcresnet.bcresnet(classes=3, width=0.5), inputs([9, 4], 9, 40)
    long = {name: np.pad(leaf, [(0, 0), (0, 3), *[(0, 0)] * (leaf.ndim - 2)]) if leaf.ndim > 1 else leaf
            for name, leaf in short.items()}  # fmt: skip
    variables = jax.jit(net.init)(jax.random.key(0), short)
    one, other = (net.apply(variables, x, train=False, key=None)[0] for x in (short, long))
    np.testing.assert_allclose(one.logits, other.logits, atol=1e-5)


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda: tcresnet.tcresnet(classes=2, widths=(4, 4), strides=()), 'strides of a tcresnet must be at least 1'),
        (lambda: depthwise.keyword(classes=2, widths=(4,)), 'a stride for each of its blocks, got 4 for 1'),
        (lambda: bcresnet.bcresnet(classes=2, width=0.1), 'width of a bcresnet'),
        (lambda: SMALL['depthwise'].init(jax.random.key(0), np.zeros((1, 4, 8))), 'reads frames and their mask'),
        (lambda: bcresnet.bcresnet(classes=2).init(jax.random.key(0), inputs([4], 4)), 'multiple of 40 mel bands'),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()
