"""The networks of the literature: counts, names and logits are those published; taps are what the documents say."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import published
import pytest

from kdjax import trees
from kdjax.errors import UsageError
from kdjax.nets import torch_weights
from kdjax.study.recipe import build
from kdjax.study.recipe.recipe import NetSpec
from kdjax.train import parallel

X4 = (32, 64, 128, 256)
SMALL = ((40, 80, 160, 512), (3, 3, 3))
THIN = {'widths': (48, 96, 192), 'counts': (2, 2, 2)}
TINY = {'width': 12, 'depth': 2, 'heads': 3, 'patch': 8}


class Case(NamedTuple):
    net: str  # as a config names it
    args: dict[str, Any]
    table: dict[str, tuple[int, ...]]
    size: int = 32
    classes: int = 100


# With the number of parameters that is published: RepDistiller and mdistiller for CIFAR-100, torchvision and timm for
# ImageNet.
COUNTS = {
    'resnet20': (278_324, Case('resnet_cifar.resnet', {}, published.resnet_cifar(20, (16, 16, 32, 64), 100))),
    'resnet56': (
        861_620, Case('resnet_cifar.resnet', {'depth': 56}, published.resnet_cifar(56, (16, 16, 32, 64), 100)),
    ),
    'resnet110': (
        1_736_564, Case('resnet_cifar.resnet', {'depth': 110}, published.resnet_cifar(110, (16, 16, 32, 64), 100)),
    ),
    'resnet8x4': (
        1_233_540, Case('resnet_cifar.resnet', {'depth': 8, 'widths': X4}, published.resnet_cifar(8, X4, 100)),
    ),
    'resnet32x4': (
        7_433_860, Case('resnet_cifar.resnet', {'depth': 32, 'widths': X4}, published.resnet_cifar(32, X4, 100)),
    ),
    'wrn_40_2': (2_255_156, Case('wide_resnet.wrn', {}, published.wrn(40, 2, 100))),
    'wrn_16_2': (703_284, Case('wide_resnet.wrn', {'depth': 16}, published.wrn(16, 2, 100))),
    'VGG8': (3_965_028, Case('vgg.vgg', {}, published.vgg((1, 1, 1, 1, 1), 100))),
    'VGG13': (9_462_180, Case('vgg.vgg', {'depth': 13}, published.vgg((2, 2, 2, 2, 2), 100))),
    'MobileNetV2': (812_836, Case('mobilenetv2.mobilenetv2', {}, published.mobilenetv2(6, 0.5, 100))),
    'ShuffleNetV1': (
        949_258, Case('shufflenet.shufflenetv1', {}, published.shufflenetv1((240, 480, 960), (4, 8, 4), 100)),
    ),
    'ShuffleNetV2': (
        1_355_528,
        Case('shufflenet.shufflenetv2', {}, published.shufflenetv2((116, 232, 464, 1024), (3, 7, 3), 100)),
    ),
    'ResNet50 for CIFAR': (
        23_705_252, Case('resnet.resnet', {'depth': 50, 'stem': 'cifar'}, published.resnet(50, 100, stem=3)),
    ),
    'ResNet18': (11_689_512, Case('resnet.resnet', {}, published.resnet(18, 1000), 224, 1000)),
    'ResNet34': (21_797_672, Case('resnet.resnet', {'depth': 34}, published.resnet(34, 1000), 224, 1000)),
    'ResNet50': (25_557_032, Case('resnet.resnet', {'depth': 50}, published.resnet(50, 1000), 224, 1000)),
    'ViT-Ti/16': (5_717_416, Case('deit.deit', {}, published.deit(192, 12, 16, 196, 1000, False), 224, 1000)),
    'ViT-S/16': (
        22_050_664,
        Case('deit.deit', {'width': 384, 'heads': 6}, published.deit(384, 12, 16, 196, 1000, False), 224, 1000),
    ),
    'DeiT-Ti distilled': (
        5_910_800, Case('deit.deit', {'distilled': True}, published.deit(192, 12, 16, 196, 1000, True), 224, 1000),
    ),
    'DeiT-S distilled': (
        22_436_432,
        Case('deit.deit', {'width': 384, 'heads': 6, 'distilled': True}, published.deit(384, 12, 16, 196, 1000, True),
             224, 1000),
    ),
}  # fmt: skip

# The smallest of each family, with the shapes of its taps.
SMALLEST = {
    'resnet8': Case('resnet_cifar.resnet', {'depth': 8}, published.resnet_cifar(8, (16, 16, 32, 64), 5), 32, 5),
    'wrn_10_1': Case('wide_resnet.wrn', {'depth': 10, 'widen': 1}, published.wrn(10, 1, 5), 32, 5),
    'vgg8': Case('vgg.vgg', {'depth': 8}, published.vgg((1, 1, 1, 1, 1), 5), 32, 5),
    'mobilenetv2': Case('mobilenetv2.mobilenetv2', {'width': 0.5}, published.mobilenetv2(6, 0.5, 5), 32, 5),
    'shufflenetv1': Case('shufflenet.shufflenetv1', THIN, published.shufflenetv1(*THIN.values(), 5), 32, 5),
    'shufflenetv2': Case('shufflenet.shufflenetv2', {'size': 0.2}, published.shufflenetv2(*SMALL, 5), 32, 5),
    'resnet18': Case('resnet.resnet', {'depth': 18}, published.resnet(18, 5), 32, 5),
    'vit': Case('deit.deit', TINY, published.deit(12, 2, 8, 4, 5, False), 16, 5),
    'deit': Case('deit.deit', {**TINY, 'distilled': True}, published.deit(12, 2, 8, 4, 5, True), 16, 5),
}
# One family after the other, so that its compiled programs are there.
FAMILIES = [pytest.param(name, marks=pytest.mark.xdist_group(f'published {name}')) for name in SMALLEST]
CONVOLUTIONAL = [family for family in FAMILIES if family.values[0] not in ('vit', 'deit')]
# resnet18 and vit are made of the blocks of resnet8 and deit.
DIFFERENT = [family for family in FAMILIES if family.values[0] not in ('resnet18', 'vit')]
NORMALISED = [family for family in DIFFERENT if family.values[0] != 'deit']
RESIDUAL = [family for family in FAMILIES if family.values[0] in ('resnet8', 'vgg8', 'shufflenetv1', 'resnet18')]


def maps(*shapes, before=True):
    """Taps of stages 1, 2, ... of sides and channels, with those before the ReLU."""
    ends = ('', '_pre') if before else ('',)
    return {f'stage{k}{end}': (side, side, width) for k, (side, width) in enumerate(shapes, start=1) for end in ends}


def layers(tokens):
    names = [f'{part}{layer}' for part in ('query', 'key', 'value', 'hidden') for layer in (1, 2)]
    return {
        **dict.fromkeys(names, (tokens, 12)), 'embedding': (tokens, 12), 'penult': (12,),
        'attention1': (3, tokens, tokens), 'attention2': (3, tokens, tokens),
    }  # fmt: skip


TAPS = {
    'resnet8': {'stem': (32, 32, 16), **maps((32, 16), (16, 32), (8, 64)), 'penult': (64,)},
    'wrn_10_1': {'stem': (32, 32, 16), **maps((32, 16), (16, 32), (8, 64)), 'penult': (64,)},
    'vgg8': {'stem': (32, 32, 64), **maps((16, 128), (8, 256), (4, 512), (4, 512)), 'penult': (512,)},
    'mobilenetv2': {
        'stem': (16, 16, 16), **maps((16, 12), (8, 16), (4, 48), (2, 160), before=False), 'penult': (1280,),
    },
    'shufflenetv1': {'stem': (32, 32, 24), **maps((16, 48), (8, 96), (4, 192)), 'penult': (192,)},
    'shufflenetv2': {'stem': (32, 32, 24), **maps((16, 40), (8, 80), (4, 160)), 'penult': (512,)},
    'resnet18': {'stem': (16, 16, 64), **maps((8, 64), (4, 128), (2, 256), (1, 512)), 'penult': (512,)},
    'vit': layers(5),
    'deit': {**layers(6), 'penult_dist': (12,), 'distill_logits': (5,)},
}  # fmt: skip


def net(case, precision='float32', runner='single'):
    """The network as a config names it."""
    return build.net(NetSpec(case.net, case.args), {'classes': case.classes}, precision, parallel.axis_of(runner))


def shapes(case):
    inputs = jax.ShapeDtypeStruct((2, case.size, case.size, 3), jnp.float32)
    return jax.eval_shape(net(case).init, jax.random.key(0), inputs)


@functools.cache
def like(name):
    return shapes(SMALLEST.get(name) or COUNTS[name][1])


@functools.cache
def variables(name):
    return torch_weights.variables(published.state(SMALLEST[name].table), like(name))


def inputs(name):
    return published.images(SMALLEST[name].size).transpose(0, 2, 3, 1)


@functools.cache
def run(name, train=False, precision='float32'):
    case = SMALLEST[name]
    apply = jax.jit(functools.partial(net(case, precision).apply, train=train, key=None))
    return jax.device_get(apply(variables(name), inputs(name)))


@pytest.mark.parametrize('name', COUNTS)
def test_a_network_has_the_published_number_of_parameters(name):
    count, case = COUNTS[name]
    assert published.count(case.table) == count
    assert trees.count(like(name)['params']) == count


@pytest.mark.parametrize('name', COUNTS)
def test_layers_have_the_published_names_and_shapes(name):
    _, case = COUNTS[name]
    zeros = {key: np.broadcast_to(np.float32(0), shape) for key, shape in case.table.items()}
    torch_weights.variables(zeros, like(name))  # raises unless every weight has its place
    dropped = next(iter(zeros))
    del zeros[dropped]
    with pytest.raises(UsageError, match='missing'):
        torch_weights.variables(zeros, like(name))


@pytest.mark.parametrize('name', FAMILIES)
def test_logits_are_those_of_pytorch(name):
    want = np.asarray(published.LOGITS[name])
    np.testing.assert_allclose(run(name)[0].logits, want, rtol=1e-4, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize('name', FAMILIES)
def test_taps_have_the_documented_shapes(name):
    features = run(name)[0].features
    assert {tap: leaf.shape for tap, leaf in features.items()} == {
        tap: (2, *shape) for tap, shape in TAPS[name].items()
    }
    assert set(net(SMALLEST[name]).taps) == set(features)


@pytest.mark.parametrize('name', RESIDUAL)
def test_a_stage_is_the_relu_of_its_pre_activation(name):
    features = run(name)[0].features
    before = [tap for tap in features if tap.endswith('_pre')]
    for tap in before:
        assert np.any(features[tap] < 0)
        np.testing.assert_array_equal(features[tap.removesuffix('_pre')], np.maximum(features[tap], 0))


@pytest.mark.xdist_group('published shufflenetv2')
def test_a_stage_of_shufflenetv2_is_the_shuffled_relu_of_its_pre_activation():
    features = run('shufflenetv2')[0].features
    for stage in ('stage1', 'stage2', 'stage3'):
        halves = np.split(np.maximum(features[f'{stage}_pre'], 0), 2, axis=-1)
        np.testing.assert_array_equal(features[stage], np.stack(halves, axis=-1).reshape(features[stage].shape))


@pytest.mark.xdist_group('published wrn_10_1')
def test_a_pre_activation_of_a_wrn_is_its_stage_normalised_and_the_mean_of_the_last_leads_to_the_logits():
    state, (outputs, _) = variables('wrn_10_1'), run('wrn_10_1')
    paths = {'stage1': ('block2_layer_0', 'bn1'), 'stage2': ('block3_layer_0', 'bn1'), 'stage3': ('bn1',)}
    for stage, path in paths.items():
        norm, stats = (functools.reduce(dict.__getitem__, path, state[part]) for part in ('params', 'stats'))
        scale = norm['scale'] / np.sqrt(stats['var'] + 1e-5)
        want = (outputs.features[stage] - stats['mean']) * scale + norm['bias']
        np.testing.assert_allclose(outputs.features[f'{stage}_pre'], want, rtol=1e-4, atol=1e-4)
    penult = np.maximum(outputs.features['stage3_pre'], 0).mean(axis=(1, 2))
    np.testing.assert_allclose(outputs.features['penult'], penult, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('name', CONVOLUTIONAL)
def test_the_head_reads_penult(name):
    head, (outputs, _) = variables(name)['params']['head'], run(name)
    logits = outputs.features['penult'] @ head['kernel'] + head['bias']
    np.testing.assert_allclose(outputs.logits, logits, rtol=1e-4, atol=1e-5 * np.abs(logits).max())


@pytest.mark.parametrize('name', NORMALISED)
def test_training_alone_changes_batch_statistics_and_all_of_them(name):
    before = variables(name)['stats']
    assert trees.fingerprint(run(name)[1]) == trees.fingerprint(before)
    after = run(name, train=True)[1]
    assert jax.tree.structure(after) == jax.tree.structure(before)
    assert all(np.any(old != new) for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True))


def sums_over_devices(program):
    """How many there are, those of called programs as often as they are called."""
    return sum(
        sums_over_devices(equation.params['jaxpr'].jaxpr)
        if equation.primitive.name == 'jit'
        else equation.primitive.name.startswith('psum')
        for equation in program.eqns
    )


@pytest.mark.parametrize('name', NORMALISED)
def test_every_normalisation_takes_its_statistics_over_the_device_axis(name):
    case = SMALLEST[name]
    step = functools.partial(net(case, runner='pmap').apply, train=True, key=None)
    program = jax.make_jaxpr(step, axis_env=[('data', 2)])(variables(name), inputs(name))
    norms = sum(key.endswith('running_var') for key in case.table)
    assert sums_over_devices(program.jaxpr) == norms > 0


@pytest.mark.xdist_group('published resnet8')
def test_two_devices_normalise_as_one():
    images = np.random.default_rng(0).normal(size=(4, 32, 32, 3)).astype(np.float32)
    apart = functools.partial(net(SMALLEST['resnet8'], runner='pmap').apply, train=True, key=None)
    whole = functools.partial(net(SMALLEST['resnet8']).apply, train=True, key=None)
    halves, stats = jax.jit(jax.vmap(apart, (None, 0), axis_name='data'))(
        variables('resnet8'), images.reshape(2, 2, 32, 32, 3)
    )
    outputs, want = jax.jit(whole)(variables('resnet8'), images)
    np.testing.assert_allclose(halves.logits.reshape(4, 5), outputs.logits, rtol=1e-3, atol=1e-4)
    jax.tree.map(lambda pair, one: np.testing.assert_allclose(pair[1], one, rtol=1e-3, atol=1e-4), stats, want)


@pytest.mark.parametrize('name', DIFFERENT)
def test_bfloat16_is_for_activations_alone_and_stays_near_float32(name):
    with jax.numpy_dtype_promotion('standard'):  # flax's own normalisation mixes dtypes
        half, _ = run(name, precision='bfloat16')
    assert half.logits.dtype == np.float32
    assert {leaf.dtype for leaf in half.features.values()} == {jnp.dtype('bfloat16')}
    full, _ = run(name)
    error = np.linalg.norm(half.logits - full.logits) / np.linalg.norm(full.logits)
    assert 0 < error < 0.03


def test_grey_images_need_no_channel_axis():
    case = SMALLEST['resnet8']
    grey = jax.ShapeDtypeStruct((2, 28, 28), jnp.float32)
    state = jax.eval_shape(net(case).init, jax.random.key(0), grey)
    assert state['params']['conv1']['kernel'].shape == (3, 3, 1, 16)


@pytest.mark.parametrize(
    ('network', 'args', 'message'),
    [
        ('resnet_cifar.resnet', {'depth': 18}, r'depth of a CIFAR resnet must be 6n \+ 2 \(8, .*\), got 18'),
        ('resnet_cifar.resnet', {'widths': (16, 32, 64)}, r'must be tuple\[int, int, int, int\], got \(16, 32, 64\)'),
        ('wide_resnet.wrn', {'depth': 20}, r'depth of a wrn must be 6n \+ 4 \(10, .*\), got 20'),
        ('vgg.vgg', {'depth': 9}, 'depth of a vgg must be one of 8, 11, 13, 16, 19, got 9'),
        ('resnet.resnet', {'depth': 20}, 'depth of a resnet must be one of 18, 34, 50, got 20'),
        ('resnet.resnet', {'stem': 'cifa'}, "unknown stem 'cifa' of a resnet; there is: 'cifar', 'imagenet'"),
        ('shufflenet.shufflenetv2', {'size': 3}, 'size of a shufflenetv2 must be one of 0.2, .*, got 3'),
        ('shufflenet.shufflenetv1', {'groups': 4}, 'groups 4 of a shufflenetv1 must divide 216 and a quarter'),
        ('deit.deit', {'heads': 5}, 'heads 5 of a deit must divide its width 192'),
        ('deit.deit', {'depth': 0}, 'depth of a deit must be at least 1, got 0'),
        ('maxout.dense', {'pieces': 0}, 'pieces of a maxout network must be at least 1, got 0'),
        ('maxout.fitnet', {'pieces': 0}, 'pieces of a maxout network must be at least 1, got 0'),
    ],
)
def test_a_wrong_size_is_named(network, args, message):
    with pytest.raises(UsageError, match=message):
        net(Case(network, args, {}))


@pytest.mark.parametrize(
    ('case', 'message'),
    [
        (Case('vgg.vgg', {}, {}, size=7), 'a vgg halves the map three times; 7x7 is too small'),
        (Case('deit.deit', {'patch': 5}, {}), 'patch 5 of a deit must divide the map 32x32'),
    ],
)
def test_images_that_do_not_fit_are_named(case, message):
    with pytest.raises(UsageError, match=message):
        shapes(case)
