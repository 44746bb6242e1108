"""Soft targets, attention transfer, similarity, hints: see golden_map."""

from golden import batch_norm, counted, layer, nchw, peer_of, seen, stages, total

from kdjax.techniques.attention import AttentionTransfer
from kdjax.techniques.cross_entropy import CrossEntropy
from kdjax.techniques.fitnets import Hint
from kdjax.techniques.hinton import SoftTargets
from kdjax.techniques.similarity import SimilarityPreserving


def kd(record, x):
    given, count = record['hyperparams'], counted(record['hyperparams'], x['student_logits'].shape[0])
    form, soft, hard = kd_form(peer_of(record), given, 'labels' in x)
    terms = {'soft': SoftTargets(temperature=given['T'], form=form, weight=soft * count)}
    if hard:
        terms['hard'] = CrossEntropy(weight=hard * count)
    return total(terms, seen(x))


def kd_form(peer, given, labelled):
    """Form of the soft targets, their weight, and that of the hard labels."""
    if peer == 'attention-transfer/distillation':
        return 'kl', given['alpha'], 1 - given['alpha']
    if peer == 'torchdistill/KDLoss':
        if not (given['alpha'] and labelled):
            return 'kl_unscaled', 1.0, 0.0
        return 'kl', given.get('beta', 1 - given['alpha']), given['alpha']
    if peer == 'mmrazor/KDSoftCELoss':
        return ('paper' if given['mult_tem_square'] else 'paper_unscaled'), 1.0, 0.0
    if peer == 'mmrazor/KLDivergence' and given['reduction'] == 'mean':
        return 'kl_mean', 1.0, 0.0
    forms = {
        'cls_KD/KDLoss': 'paper',
        'TextBrewer/kd_ce_loss': 'paper_unscaled',
        'Pretrained-Language-Model/main.soft_cross_entropy': 'tinybert',
        'Knowledge-Distillation-Zoo/BSS': 'kl_unscaled',
    }
    return forms.get(peer, 'kl'), given.get('alpha', 1.0), 0.0


def at(record, x):
    given = record['hyperparams']
    form = 'kdzoo' if peer_of(record) == 'Knowledge-Distillation-Zoo/AT' else 'code'
    form = 'torchdistill' if given.get('mode') == 'paper' else form
    weights = given.get('stage_weights', [1] * len(stages(x)))
    terms = {
        stage: AttentionTransfer(layers=(stage,), power=given['p'], form=form, weight=weight)
        for stage, weight in zip(stages(x), weights, strict=True)
    }
    return total(terms, seen(x))


def sp(record, x):
    form = 'torchdistill' if peer_of(record) == 'torchdistill/SPKDLoss' else 'paper'
    return total({'sp': SimilarityPreserving(layers=stages(x), form=form)}, seen(x))


def fitnet(record, x):
    given, inputs = record['hyperparams'], seen(x)
    form, weight = fitnet_form(peer_of(record), given, x['student_feat'].size)
    params = fitnet_params(given.get('regressor', ''), x)
    unit_length = given.get('normalize', False)
    hint = Hint(layer='feat', regressor=bool(params), unit_length=unit_length, form=form, weight=weight)
    answer = total({'hint': hint}, inputs, {'hint': params})
    return answer._replace(outputs={'projected': nchw(hint.regressed(params, inputs))})


def fitnet_form(peer, given, size):
    """Form and weight; mmrazor sums squares without the half, and may scale unit features by `mult`."""
    if peer == 'mmrazor/L1Loss':
        return 'absolute', counted(given, size)
    if peer == 'mmrazor/L2Loss':
        mult = given.get('mult', 1.0) if given['normalize'] else 1.0
        if given.get('dist'):
            return 'distance', mult
        return ('mean', mult**2) if given.get('div_element') else ('paper', 2 * mult**2)
    if 'use_relu' in given:
        return ('repdistiller' if given['use_relu'] else 'repdistiller_linear'), 1.0
    return 'mean', 1.0


def fitnet_params(regressor, x):
    """The peer's regressor: one convolution, called 'conv' or 'transform', and a batch norm where there is one."""
    if not regressor:
        return {}
    kind = 'ConvTranspose_0' if regressor.startswith('convT') else 'Conv_0'
    params = {kind: layer(x, 'conv' if 'param/conv.weight' in x else 'transform')}
    return {**params, 'BatchNorm_0': batch_norm(x, 'bn')} if 'param/bn.weight' in x else params


MAPPINGS = {'kd': kd, 'at': at, 'sp': sp, 'fitnet': fitnet}
