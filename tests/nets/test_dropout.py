"""Which units are dropped is a matter of the step and of an example's place in the batch, not of the devices."""

import functools
import importlib
import inspect
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rotation
from flax import linen as nn
from jax.sharding import Mesh, PartitionSpec

from kdjax import resolve
from kdjax.nets.base import from_linen
from kdjax.nets.layers import Dropout

RATES = ('dropout', 'input_dropout', 'attention_dropout', 'drop_path')
TEXT = {'vocabulary': 7, 'width': 4}
LAYERS = {'depth': 2, 'heads': 2, 'inner': 4}
SMALL = {
    'mlp.mlp': {'widths': (8, 8)}, 'maxout.dense': {'widths': (8,)},
    'wide_resnet.wrn': {'depth': 10, 'widen': 1}, 'vit.vit': {'width': 4},
    'deit.deit': {'width': 4, 'depth': 3, 'heads': 2, 'patch': 2},
    'bag.bag': TEXT, 'textcnn.textcnn': TEXT, 'bilstm.bilstm': {**TEXT, 'units': 3},
    'bilstm.tagger': {**TEXT, 'units': 3}, 'windows.mlp': {**TEXT, 'words': tuple('abcdefg'), 'buckets': 3},
    'transformer.encoder': {**TEXT, **LAYERS}, 'transformer.tagger': {**TEXT, **LAYERS},
    'bert.bert': {**TEXT, **LAYERS, 'positions': 9}, 'bert.tagger': {**TEXT, **LAYERS, 'positions': 9},
}  # fmt: skip


def dropping():
    """Every network that drops anything, by name, and its arguments that say how much."""
    found = {}
    for module in resolve.modules('kdjax.nets'):
        for name, builder in resolve.public(f'kdjax.nets.{module}').items():
            arguments = inspect.signature(builder).parameters if inspect.isfunction(builder) else {}
            rates = [rate for rate in RATES if rate in arguments]
            if rates and 'classes' in arguments:
                found[f'{module}.{name}'] = rates
    return found


@functools.cache
def build(name, axis):
    module, _, function = name.partition('.')
    rates = dict.fromkeys(dropping()[name], 0.4)
    return getattr(importlib.import_module(f'kdjax.nets.{module}'), function)(
        classes=3, axis=axis, **SMALL.get(name, {}), **rates
    )


SPEECH = ('bcresnet', 'conv_bilstm', 'depthwise', 'tcresnet')


def inputs(name):
    random = np.random.default_rng(0)
    if name.partition('.')[0] in SPEECH:
        frames = random.normal(size=(4, 24, 40)).astype(np.float32)
        return {'frames': frames, 'mask': np.ones((4, 24), np.float32), 'hop_ms': np.full(4, 10, np.float32)}
    if 'vocabulary' in SMALL.get(name, {}):
        return random.integers(1, 7, (4, 6)).astype(np.int32)
    side = 16 if name.startswith('maxout.') and name != 'maxout.dense' else 8
    return random.normal(size=(4, side, side, 3)).astype(np.float32)


def split(net, variables, x, key):
    """What a network says in training of a batch over two devices, each of which has half."""

    def half(variables, part):
        return net.apply(variables, part, train=True, key=key)[0].logits

    over, all_ = PartitionSpec('data'), PartitionSpec()
    mesh = Mesh(np.array(jax.devices()[:2]), ('data',))
    return jax.jit(jax.shard_map(half, mesh=mesh, in_specs=(all_, over), out_specs=over, check_vma=False))(variables, x)


@pytest.mark.parametrize(
    'name', rotation.params([(name,) for name in dropping()], [place // 2 for place in range(len(dropping()))])
)
def test_halves_of_a_batch_have_the_masks_of_the_whole(name):
    whole, key, x = build(name, None), jax.random.key(1), inputs(name)
    variables = jax.jit(whole.init)(jax.random.key(0), x)
    train = jax.jit(lambda key: whole.apply(variables, x, train=True, key=key)[0].logits)
    wanted = train(key)
    scale = np.abs(wanted).max()
    np.testing.assert_allclose(split(build(name, 'data'), variables, x, key) / scale, wanted / scale, atol=1e-4)
    assert not np.allclose(train(jax.random.key(2)) / scale, wanted / scale, atol=1e-2)


def test_no_network_drops_in_another_way():
    rooms = Path(resolve.__file__).parent
    sources = {path.name: path.read_text() for room in ('nets', 'techniques') for path in (rooms / room).glob('*.py')}
    assert [name for name, source in sources.items() if 'nn.Dropout' in source] == []


@pytest.mark.parametrize('rate', [0.0, 0.3, 1.0])
@pytest.mark.parametrize('whole', [(), (1,), (1, 2)])
def test_what_is_kept_is_scaled_up_and_the_share_is_that_of_the_rate(rate, whole):
    x = jnp.ones((400, 20, 5))
    layer = Dropout(rate, None, whole)
    found = np.asarray(layer.apply({}, x, True, rngs={'rows': jax.random.key(0)}))
    assert set(np.unique(found)) <= {np.float32(0), np.float32(1 / (1 - rate)) if rate < 1 else np.float32(0)}
    assert np.mean(found == 0) == pytest.approx(rate, abs=0.08)
    for axis in whole:
        assert np.all(found == np.take(found, [0], axis))
    if not whole and 0 < rate < 1:  # rows, and units of a row, are dropped by themselves
        kept = found.reshape(400, -1) > 0
        assert abs(np.corrcoef(kept[:-1].ravel(), kept[1:].ravel())[0, 1]) < 0.02
        assert abs(np.corrcoef(kept[:, :-1].ravel(), kept[:, 1:].ravel())[0, 1]) < 0.02


def test_outside_training_nothing_is_dropped_and_no_key_is_needed():
    x = jnp.ones((3, 4))
    assert np.all(Dropout(0.5, 'data').apply({}, x, False) == x)


class _Own(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        return nn.Dropout(0.5, deterministic=not train)(x)


def test_flaxs_own_dropout_drops_different_units_on_each_device():
    x = jnp.ones((4, 64))
    found = np.asarray(split(from_linen(_Own(), axis='data'), {'params': {}, 'stats': {}}, x, jax.random.key(0)))
    assert not np.array_equal(found[:2], found[2:])
