"""Feature maps, second half: see golden_map."""

import dataclasses

import jax
import jax.numpy as jnp
from golden import batch_norm, counted, layer, nchw, nhwc, seen, stages, total

from kdjax.techniques.afd import AttentiveFeatures
from kdjax.techniques.base import apply_module
from kdjax.techniques.cross_entropy import CrossEntropy
from kdjax.techniques.cwd import ChannelDistribution
from kdjax.techniques.fbkd import AttentionGuided, Compared
from kdjax.techniques.hinton import SoftTargets
from kdjax.techniques.ickd import ChannelCorrelation
from kdjax.techniques.kta import Affinity, Translation
from kdjax.techniques.mgd import MaskedGeneration
from kdjax.techniques.pad import PrimeAware
from kdjax.techniques.pkd import PearsonFeatures
from kdjax.techniques.reviewkd import Fusion, Review
from kdjax.techniques.semckd import SemanticCalibration
from kdjax.techniques.simkd import ReusedClassifier
from kdjax.techniques.srd import LogPowerSum


def reviewkd(record, x):
    given = record['hyperparams']
    if 'epoch' in given:
        return reviewkd_full(given, x)
    if 'levels' in given:
        return total({'review': Review(layers=stages(x), fused=False, levels=tuple(given['levels']))}, seen(x))
    return reviewkd_fusion(given, x)


def reviewkd_full(given, x):
    weight = given['weight'] * min(given['epoch'] / given['warmup'], 1.0)
    terms = {'hard': CrossEntropy(), 'review': Review(layers=stages(x), weight=weight)}
    # Theirs count from the deepest layer too.
    params = {'review': {f'Fusion_{k}': fusion(x, f'abfs.{k}.') for k in range(len(stages(x)))}}
    parts = {name: total({name: term}, seen(x), params).loss for name, term in terms.items()}
    outputs = {'loss_ce': parts['hard'], 'loss_kd': parts['review']}
    return total(terms, seen(x), params)._replace(outputs=outputs)


def reviewkd_fusion(given, x):
    """One fusion: the loss is that of maps of one shape, the teacher's and what the fusion makes of the student's."""
    inputs = seen(x)
    module = Fusion(given['mid_channel'], given['out_channel'], (given['out_shape'],) * 2)
    maps = inputs.student.features['feat'], nhwc(x['student_residual']) if given['fuse'] else None
    guess, mixture = apply_module(module, fusion(x), *maps, inputs.batch['mask'])
    student = inputs.student._replace(features={'feat': guess})
    answer = total({'review': Review(layers=('feat',), fused=False)}, inputs._replace(student=student))
    return answer._replace(outputs={'y': nchw(guess), 'residual': nchw(mixture)})


def fusion(x, prefix=''):
    """A fusion of the peers': 'conv1', 'conv2' (convolution, batch norm), and 'att_conv' below the deepest level."""
    params = {f'Conv_{k}': kernel(x, f'{prefix}{name}.0') for k, name in enumerate(('conv1', 'conv2'))}
    params |= {f'BatchNorm_{k}': batch_norm(x, f'{prefix}{name}.1') for k, name in enumerate(('conv1', 'conv2'))}
    if f'param/{prefix}att_conv.0.weight' in x:
        gates = layer(x, f'{prefix}att_conv.0')
        params['Gates_0'] = {**gates, 'kernel': gates['kernel'][0, 0]}
    return params


def kernel(x, name):
    return {'kernel': layer(x, name)['kernel']}


def simkd(record, x):
    layers = {f'Conv_{k}': kernel(x, f'transfer.{3 * k}') for k in range(3)}
    layers |= {f'BatchNorm_{k}': batch_norm(x, f'transfer.{3 * k + 1}') for k in range(3)}
    classifier = {'kernel': x['teacher_fc.weight'].T, 'bias': x['teacher_fc.bias']}
    term = ReusedClassifier(layer='feat', factor=record['hyperparams']['factor'])
    params = term.adopt({'projector': layers}, {}, {'params': {'head': classifier}})
    memory = {'statistics': {name: {'mean': jnp.zeros_like(of['bias']), 'var': jnp.ones_like(of['bias'])}
                             for name, of in layers.items() if name.startswith('BatchNorm')},
              'map': jnp.zeros(term.features(seen(x))[1].shape[1:3])}  # fmt: skip
    answer = total({'simkd': term}, seen(x), {'simkd': params}, {'simkd': memory})
    # Theirs answers in training, by the statistics of the batch, which have a share of 0.1 in what is remembered.
    own = jax.tree.map(lambda old, new: (new - 0.9 * old) / 0.1, memory, answer.memory['simkd'])
    return answer._replace(outputs={'pred_logits': term.answer(params, own, seen(x).student)})


def cwd(record, x):
    given = record['hyperparams']
    term = ChannelDistribution(layer='feat', projected=False, temperature=given['tau'], weight=given['loss_weight'])
    return total({'cwd': term}, seen(x))


def mgd(record, x):
    given = record['hyperparams']
    # Both compare the noise with lambda, from below or from above.
    noise = nhwc(x['noise'] if given['mask'] == 'channel' else 1 - x['noise'])

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Drawn(MaskedGeneration):
        def draw(self, key, inputs, shape):
            assert noise.shape[1:] == shape
            return noise

    names = {'align': 'align', 'first': 'generation.0', 'second': 'generation.2'}
    params = {ours: layer(x, theirs) for ours, theirs in names.items() if f'param/{theirs}.weight' in x}
    term = Drawn(layer='feat', mask=given['mask'], masked=given['lambda_'], weight=given['alpha'])
    return total({'mgd': term}, seen(x), {'mgd': params})


def ickd(record, x):
    """The peer divides by the batch once more than a mean does."""
    weight = 1 / x['student_feat'].shape[0]
    return total({'ickd': ChannelCorrelation(layer='feat', projected=False, form='code', weight=weight)}, seen(x))


def afd(record, x):
    names = {'squeeze': 'attention.0', 'excite': 'attention.2'}  # 1x1 convolutions of a pooled map
    attention = {
        ours: {'kernel': layer(x, theirs)['kernel'][0, 0], 'bias': x[f'param/{theirs}.bias']}
        for ours, theirs in names.items()
    }
    term = AttentiveFeatures(layer='feat', projected=False, reduction=record['hyperparams']['att_f'])
    return total({'afd': term}, seen(x), {'afd': {'attention': attention, 'projection': {}}})


def pad(record, x):
    """The record has the variance, not the branch that it comes from."""

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Given(PrimeAware):
        def log_variance(self, params, inputs):
            return x['log_variance']

    given = record['hyperparams']
    term = Given(layer='emb', projected=False, eps=given['eps'], weight=counted(given, x['student_emb'].shape[0]))
    return total({'pad': term}, seen(x), {'pad': {'projection': {}}})


def pkd_pearson(record, x):
    weight = record['hyperparams']['loss_weight']
    terms = {stage: PearsonFeatures(layer=stage, projected=False, form='mmrazor', weight=weight) for stage in stages(x)}
    return total(terms, seen(x))


def semckd(record, x):
    given = record['hyperparams']
    params = {f'{part}{k}': embedding(x, f'{part}_{k}') for part in ('query', 'key') for k in range(2)}
    params |= {f'projector{s}_{t}': projector(x, f'regressor{s}{t}.regressor') for s in range(2) for t in range(2)}
    term = SemanticCalibration(
        students=stages(x),
        teachers=stages(x),
        width=given['feat_dim'] // given['factor'],
        temperature=given['soft'],
        form='paper',
    )
    answer = total({'semckd': term}, seen(x), {'semckd': params})
    return answer._replace(outputs={'attention': term.calibrated(params, seen(x), term.knobs())[0]})


def embedding(x, name):
    return {f'Dense_{k}': layer(x, f'{name}.linear{k + 1}') for k in range(2)}


def projector(x, name):
    convolutions = {f'Conv_{k}': kernel(x, f'{name}.{3 * k}') for k in range(3)}
    return convolutions | {f'BatchNorm_{k}': batch_norm(x, f'{name}.{3 * k + 1}') for k in range(2)}


def srd(record, x):
    given = record['hyperparams']
    terms = {
        'srd': LogPowerSum(layer='feat', projected=False, power=given['exponent'], weight=2.0),
        'soft': SoftTargets(temperature=given['temperature'], form='kl_unscaled'),
    }
    return total(terms, seen(x))


def kta(record, x):
    given = record['hyperparams']
    common = {'layer': 'feat', 'projected': False, 'form': 'torchdistill'}
    if 'p' in given:
        term = Translation(p=given['p'], q=given['q'], **common)
    else:
        term = Affinity(weight=counted(given, x['student_feat'].shape[0]), **common)
    return total({'kta': term}, seen(x))


def fbkd(record, x):
    """The record has what is compared and the masks, not the layers that they come from."""

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Given(AttentionGuided):
        def compared(self, params, inputs):
            names = {'feature': 'feat', 'spatial': 'spatial_pool', 'relation': 'relation'}
            pairs = {ours: tuple(nhwc(x[f'{side}_{name}']) for side in SIDES) for ours, name in names.items()}
            return Compared(channel=(x['student_channel_pool'], x['teacher_feat'].mean(axis=(2, 3))), **pairs)

        def mask(self, inputs, temperature):
            return nhwc(sum(x[f'{side}_spatial_mask'] for side in SIDES) / 2)

    given = record['hyperparams']
    names = {'feature': 'mask_l2', 'channel': 'channel', 'spatial': 'spatial', 'relation': 'nonlocal_'}
    weights = {ours: given[theirs] for ours, theirs in names.items()}
    return total({'fbkd': Given(layer='feat', form='code', **weights)}, seen(x))


SIDES = ('student', 'teacher')
MAPPINGS = {
    'reviewkd': reviewkd,
    'simkd': simkd,
    'cwd': cwd,
    'mgd': mgd,
    'ickd': ickd,
    'afd': afd,
    'pad': pad,
    'srd': srd,
    'kta': kta,
    'fbkd': fbkd,
    'pkd_pearson': pkd_pearson,
    'semckd': semckd,
}
