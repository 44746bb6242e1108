"""Networks by their formulas, and the seam that carries any JAX model through a step."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from scipy.signal import correlate2d

from kdjax import trees
from kdjax.errors import UsageError
from kdjax.nets.adapters import from_function, from_nnx
from kdjax.nets.base import from_linen, tap
from kdjax.nets.cnn import cnn
from kdjax.nets.mlp import mlp
from kdjax.techniques.cross_entropy import CrossEntropy
from kdjax.techniques.hinton import SoftTargets
from kdjax.train import optim, teachers
from kdjax.train.objective import Objective
from kdjax.train.step import init_state, init_student, train_step
from kdjax.types import Outputs

BATCH, CLASSES = 6, 3
KEY = jax.random.key(0)
IMAGES = np.random.default_rng(0).normal(size=(BATCH, 6, 6)).astype(np.float32)
BUILDERS = {
    'mlp': functools.partial(mlp, classes=CLASSES, widths=(7, 5)),
    'cnn': functools.partial(cnn, classes=CLASSES, widths=(4, 6, 8)),
}
TAPS = {
    'mlp': {'hidden1': (7,), 'hidden2': (5,)},
    'cnn': {
        **dict.fromkeys(('stem_pre', 'stem', 'stage1_pre', 'stage1'), (6, 6, 4)),
        **dict.fromkeys(('stage2_pre', 'stage2'), (3, 3, 6)),
        **dict.fromkeys(('stage3_pre', 'stage3'), (2, 2, 8)),
        'penult': (8,),
    },
}


@functools.cache
def variables(family):
    return jax.jit(BUILDERS[family]().init)(KEY, IMAGES)


def run(net, state, inputs=IMAGES, *, train=False, key=None):
    return jax.jit(functools.partial(net.apply, train=train))(state, inputs, key=key)


def shapes(net, inputs):
    """Shapes of outputs, without computing any."""
    state = jax.eval_shape(net.init, KEY, inputs)
    return jax.eval_shape(functools.partial(net.apply, train=False, key=None), state, inputs)[0]


@pytest.mark.parametrize('family', BUILDERS)
@pytest.mark.parametrize('channels', [(), (1,), (3,)])
def test_logits_and_taps_have_the_documented_shapes(family, channels):
    net = BUILDERS[family]()
    outputs = shapes(net, jax.ShapeDtypeStruct((BATCH, 6, 6, *channels), jnp.float32))
    assert outputs.logits.shape == (BATCH, CLASSES)
    assert {name: leaf.shape for name, leaf in outputs.features.items()} == {
        name: (BATCH, *shape) for name, shape in TAPS[family].items()
    }
    assert set(net.taps) == set(outputs.features)


def test_the_mlp_has_a_weight_per_pair_of_units_and_a_bias_per_unit():
    assert trees.count(variables('mlp')['params']) == (36 + 1) * 7 + (7 + 1) * 5 + (5 + 1) * CLASSES
    assert trees.count(variables('mlp')['stats']) == 0


def test_the_cnn_has_nine_weights_per_pair_of_channels_and_four_numbers_per_norm():
    channels = [1, 4, 4, 6, 8]
    kernels = sum(9 * into * out for into, out in itertools.pairwise(channels))
    norms, head = 2 * sum(channels[1:]), (8 + 1) * CLASSES
    assert trees.count(variables('cnn')['params']) == kernels + norms + head
    assert trees.count(variables('cnn')['stats']) == norms


def test_the_mlp_is_what_its_formula_says():
    params = jax.device_get(variables('mlp')['params'])
    outputs, _ = run(BUILDERS['mlp'](), variables('mlp'))
    x = IMAGES.reshape(BATCH, -1)
    for tapped, layer in (('hidden1', 'dense1'), ('hidden2', 'dense2')):
        x = np.maximum(x @ params[layer]['kernel'] + params[layer]['bias'], 0)
        np.testing.assert_allclose(outputs.features[tapped], x, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        outputs.logits, x @ params['head']['kernel'] + params['head']['bias'], rtol=1e-5, atol=1e-6
    )


def stem_maps():
    """What the stem's convolution gives, before it is normalised: (B, C, H, W)."""
    kernels = np.moveaxis(np.asarray(variables('cnn')['params']['stem_conv']['kernel'])[:, :, 0], -1, 0)
    return np.stack([[correlate2d(image, kernel, mode='same') for kernel in kernels] for image in IMAGES])


def test_training_moves_batch_statistics_a_tenth_towards_the_batch_and_normalises_with_the_batch():
    outputs, stats = run(BUILDERS['cnn'](), variables('cnn'), train=True)
    maps = stem_maps()
    mean, variance = maps.mean(axis=(0, 2, 3)), maps.var(axis=(0, 2, 3))
    np.testing.assert_allclose(stats['stem_norm']['mean'], 0.1 * mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(stats['stem_norm']['var'], 0.9 + 0.1 * variance, rtol=1e-4)
    normal = (maps - mean[:, None, None]) / np.sqrt(variance[:, None, None] + 1e-5)
    stem = np.maximum(np.moveaxis(normal, 1, -1), 0)
    np.testing.assert_allclose(outputs.features['stem'], stem, rtol=1e-3, atol=1e-4)


def test_inference_leaves_batch_statistics_alone_and_reads_them():
    net, state = BUILDERS['cnn'](), variables('cnn')
    outputs, stats = run(net, state)
    assert trees.fingerprint(stats) == trees.fingerprint(state['stats'])
    alone, _ = run(net, state, IMAGES[:1])
    np.testing.assert_allclose(alone.logits, outputs.logits[:1], rtol=1e-4, atol=1e-5)
    moved = {**state, 'stats': jax.tree.map(lambda leaf: leaf + 1, state['stats'])}
    assert not np.allclose(run(net, moved)[0].logits, outputs.logits, atol=1e-3)


def test_dropout_acts_in_training_alone_as_its_key_says():
    net, state = BUILDERS['mlp'](dropout=0.5), variables('mlp')
    train = jax.jit(lambda key: net.apply(state, IMAGES, train=True, key=key)[0].logits)
    one, again, other = (train(jax.random.key(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert not np.allclose(one, other)
    plain, _ = run(BUILDERS['mlp'](), state)
    np.testing.assert_array_equal(run(net, variables('mlp'), key=KEY)[0].logits, plain.logits)


@pytest.mark.parametrize('family', BUILDERS)
def test_bfloat16_is_for_activations_alone_and_stays_near_float32(family):
    net = BUILDERS[family](precision='bfloat16')
    with jax.numpy_dtype_promotion('standard'):  # flax's own normalisation mixes dtypes
        state = jax.eval_shape(net.init, KEY, IMAGES)
        half, _ = run(net, variables(family))
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype('float32')}
    full, _ = run(BUILDERS[family](), variables(family))
    assert half.logits.dtype == jnp.float32
    assert {leaf.dtype for leaf in half.features.values()} == {jnp.dtype('bfloat16')}
    error = np.linalg.norm(half.logits - full.logits) / np.linalg.norm(full.logits)
    assert 0 < error < 0.03


@pytest.mark.parametrize('family', BUILDERS)
def test_an_unknown_precision_is_answered_with_the_known_ones(family):
    with pytest.raises(UsageError, match="unknown precision 'float16'; there is: 'bfloat16', 'float32'"):
        BUILDERS[family](precision='float16')


class Inner(nn.Module):
    name_of_tap: str = ''

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(4, name='wide')(x)
        return tap(self, self.name_of_tap, x) if self.name_of_tap else x


class Outer(nn.Module):
    """A user's module: two blocks and a head."""

    name_of_tap: str = ''

    @nn.compact
    def __call__(self, inputs, *, train):
        x = Inner(self.name_of_tap, name='block1')(inputs.reshape(len(inputs), -1))
        x = Inner(self.name_of_tap, name='block2')(nn.relu(x))
        return nn.Dense(CLASSES, name='head')(x)


def test_a_module_without_taps_is_read_by_path():
    net = from_linen(Outer(), capture={'first': 'block1/wide', 'second': 'block2'})
    state = jax.jit(net.init)(KEY, IMAGES)
    outputs, _ = run(net, state)
    assert net.taps == tuple(outputs.features) == ('first', 'second')
    block1, block2 = (state['params'][block]['wide'] for block in ('block1', 'block2'))
    first = IMAGES.reshape(BATCH, -1) @ block1['kernel'] + block1['bias']
    np.testing.assert_allclose(outputs.features['first'], first, rtol=1e-5, atol=1e-6)
    second = np.maximum(first, 0) @ block2['kernel'] + block2['bias']
    np.testing.assert_allclose(outputs.features['second'], second, rtol=1e-5, atol=1e-6)


def test_a_wrong_path_is_answered_with_the_parts_that_are_read():
    with pytest.raises(UsageError, match="unknown submodule 'wader' in path 'block1/wader'; there is: 'wide'"):
        shapes(from_linen(Outer(), capture={'first': 'block1/wader', 'second': 'block1/wide'}), IMAGES)


def test_two_layers_cannot_give_one_tap():
    with pytest.raises(UsageError, match="two layers give the tap 'hidden'; give each its own name"):
        shapes(from_linen(Outer('hidden'), ('hidden',)), IMAGES)


class NnxModel(nnx.Module):
    """Another library's network, with batch statistics."""

    def __init__(self, rngs):
        self.hidden = nnx.Linear(36, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.head = nnx.Linear(8, CLASSES, rngs=rngs)

    def __call__(self, inputs):
        hidden = nnx.relu(self.norm(self.hidden(inputs.reshape(len(inputs), -1))))
        return Outputs(self.head(hidden), {'hidden': hidden})


def weights(key, inputs):
    del inputs
    return {'w': 0.1 * jax.random.normal(key, (36, CLASSES)), 'b': jnp.zeros(CLASSES)}


def product(params, inputs):
    return inputs.reshape(len(inputs), -1) @ params['w'] + params['b']


LIBRARIES = {
    'linen': BUILDERS['mlp'],
    'nnx': lambda: from_nnx(NnxModel, ('hidden',)),
    'function': lambda: from_function(weights, product),
}


def states_and_losses(net, taught_by, steps):
    """The first state and that after each step; the loss of each step."""
    objective = Objective((('hard', CrossEntropy()), ('soft', SoftTargets())))
    parts = {'net': net, 'teacher': teachers.frozen(taught_by), 'objective': objective, 'tx': optim.build(steps=steps)}
    rates = {'learning_rate': 0.1, 'weight_decay': 1e-3}
    knobs = jax.tree.map(jnp.float32, {'terms': objective.knobs(), 'optim': {'student': rates, 'terms': rates}})
    knobs['seed'] = jnp.uint32(0)
    batch = {'inputs': jnp.asarray(IMAGES), 'labels': jnp.arange(BATCH) % CLASSES, 'mask': jnp.ones(BATCH)}
    teacher_vars = jax.jit(taught_by.init)(KEY, IMAGES)
    student_vars = jax.jit(functools.partial(init_student, net=net))(knobs['seed'], IMAGES)
    states, losses = [jax.jit(functools.partial(init_state, **parts))(knobs, teacher_vars, batch, student_vars)], []
    step = jax.jit(functools.partial(train_step, **parts))
    for _ in range(steps):
        state, logs = step(states[-1], teacher_vars, batch, knobs)
        states, losses = [*states, state], [*losses, float(logs['loss'])]
    return states, losses


@pytest.mark.parametrize(('student', 'teacher'), [('nnx', 'linen'), ('function', 'nnx')])
def test_a_model_of_any_library_learns_from_one_of_another(student, teacher):
    states, losses = states_and_losses(LIBRARIES[student](), LIBRARIES[teacher](), steps=2)
    assert np.isfinite(losses).all()
    assert losses[1] < losses[0]
    assert jax.tree.structure(states[2]) == jax.tree.structure(states[0])
    first, last = (jax.tree.leaves((state.params, state.stats)) for state in (states[0], states[2]))
    assert all(np.any(new != old) for new, old in zip(last, first, strict=True))


TOLD = {  # functions that say what they were told, each by a word of its own
    'train': lambda params, inputs, train, key=None: ({}, train, key),
    'training': lambda params, inputs, training, rng=None: ({}, training, rng),
    'is_training': lambda params, inputs, *, is_training, key=None: ({}, is_training, key),
    'deterministic': lambda params, inputs, deterministic=True, rng=None: ({}, not deterministic, rng),
    'use_running_average': lambda params, inputs, *, use_running_average, key: ({}, not use_running_average, key),
}


@pytest.mark.parametrize('word', TOLD)
def test_a_function_is_told_whether_it_trains_by_its_own_word(word):
    told = []

    @functools.wraps(TOLD[word])
    def apply(*given, **modes):
        told.append(TOLD[word](*given, **modes)[1:])
        return jnp.zeros((len(IMAGES), CLASSES))

    net = from_function(weights, apply)
    for train in (True, False):
        net.apply(net.init(KEY, IMAGES), IMAGES, train=train, key=KEY)
    assert told == [(True, KEY), (False, None)]


def test_a_function_that_asks_for_more_is_refused():
    with pytest.raises(UsageError, match='it asks for temperature too'):
        from_function(weights, lambda params, inputs, temperature: inputs)
