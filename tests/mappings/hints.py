"""Neuron selectivity, flow, variational information, activation boundaries, factors, overhaul: see golden_map."""

from golden import Answer, batch_norm, counted, layer, nchw, peer_of, seen, stages, total

from kdjax.techniques.ab import ActivationBoundary
from kdjax.techniques.fsp import Flow
from kdjax.techniques.ft import Factor, Paraphrase
from kdjax.techniques.kdsvd import SingularVectors, right_vectors
from kdjax.techniques.nst import NeuronSelectivity, TokenSelectivity
from kdjax.techniques.ofd import Overhaul, normal_margin
from kdjax.techniques.vid import VariationalInformation


def hidden(x):
    """The token layers that a record pairs, in order."""
    return tuple(sorted(name.removeprefix('student_') for name in x if name.startswith('student_hidden')))


def nst(record, x):
    if peer_of(record) == 'TextBrewer/mmd_loss':
        return total({'nst': TokenSelectivity(layers=hidden(x), form='textbrewer')}, seen(x))
    return total({'nst': NeuronSelectivity(layers=stages(x))}, seen(x))


def fsp(record, x):
    form = 'torchdistill' if peer_of(record) == 'torchdistill/FSPLoss' else 'mean'
    return total({'fsp': Flow(layers=hidden(x) or stages(x), form=form)}, seen(x))


def vid(record, x):
    given = record['hyperparams']
    names = sorted(name.removesuffix('.weight').removeprefix('param/') for name in x if 'regressor' in name)
    params = {'mean': {f'Dense_{k}': dense(x, name) for k, name in enumerate(names)}}
    params['variance'] = x['param/log_scale']
    width = params['mean']['Dense_0']['kernel'].shape[-1]
    term = VariationalInformation(layer='feat', width=width, floor=given['eps'], form='mean')
    return total({'vid': term}, seen(x), {'vid': params})


def dense(x, name):
    """A 1x1 convolution without bias as flax has it on the last axis."""
    return {'kernel': layer(x, name)['kernel'][0, 0]}


def ab(record, x):
    peer, form = peer_of(record), 'paper'
    weight = 0.003 if peer in ('RepDistiller/ABLoss', 'mmrazor/ABLoss') else 1.0
    if peer == 'RepDistiller/ABLoss':
        form = 'halving'
    elif peer == 'Knowledge-Distillation-Zoo/AB':
        form = 'mean'
    elif peer == 'AB_distillation/criterion_alternative_L2':
        weight = float(x['student_feat0'].shape[0])
    margin = record['hyperparams']['margin']
    term = ActivationBoundary(layers=stages(x), connector=False, margin=margin, form=form, weight=weight)
    return total({'ab': term}, seen(x))


def ft(record, x):
    given = record['hyperparams']
    if 'student_factor' in x:
        return factors(record, given, x)
    paraphraser, translator = (coder(x, f'param/{name}.') for name in ('paraphraser.encoder', 'translator.encoder'))
    if not translator:
        params = {'encoder': paraphraser, 'decoder': coder(x, 'param/paraphraser.decoder.', 'ConvTranspose')}
        term, inputs = (
            Paraphrase(layer='feat', rate=given['k'], form='mean'),
            seen({**x, 'student_feat': x['teacher_feat']}),
        )
        outputs = zip(('factor', 'rec'), map(nchw, term.paraphrased(params, inputs)), strict=True)
        return total({'ft': term}, inputs, {'ft': params})._replace(outputs=dict(outputs))
    normed = given['translator_bn']
    term = Factor(layer='feat', rate=given['k'], paraphraser='paraphrase', batch_norm=normed, form='mean')
    params, inputs = {'translator': translator, 'paraphraser': paraphraser}, seen(x)
    outputs = zip(('factor_s', 'factor_t'), map(nchw, term.factors(params, inputs)), strict=True)
    return total({'ft': term}, inputs, {'ft': params})._replace(outputs=dict(outputs))


def factors(record, given, x):
    """Of records that give the factors themselves."""
    form, power, weight = 'mean', given.get('p2', given.get('p', 1)), 1.0
    if peer_of(record) == 'RepDistiller/FactorTransfer':
        form = 'repdistiller'
    elif power > 1:
        form, weight = 'paper', counted(given, x['student_factor'].shape[0])
    else:
        weight = counted(given, x['student_factor'].size)
    term = Factor(layer='feat', translator=False, power=power, moment=given.get('p1', 1), form=form, weight=weight)
    return total({'ft': term}, seen({'student_feat': x['student_factor'], 'teacher_feat': x['teacher_factor']}))


def coder(x, prefix, kind='Conv'):
    """A chain of convolutions, and batch normalisations where there are any, in their order."""
    names = sorted(name.removesuffix('.weight') for name in x if name.startswith(prefix) and name.endswith('.weight'))
    names = [name.removeprefix('param/') for name in sorted(names, key=lambda name: int(name.rsplit('.', 1)[1]))]
    kernels = [name for name in names if x[f'param/{name}.weight'].ndim == 4]
    norms = [name for name in names if name not in kernels]
    params = {f'{kind}_{k}': layer(x, name) for k, name in enumerate(kernels)}
    return {**params, **{f'BatchNorm_{k}': batch_norm(x, name) for k, name in enumerate(norms)}}


def ofd(record, x):
    given, peer = record['hyperparams'], peer_of(record)
    if peer == 'overhaul-distillation/get_margin_from_BN':
        margin = normal_margin(x['bn_weight'], x['bn_bias'])
        return Answer(margin.sum(), {'margin': margin}, {})
    weights = {
        'overhaul-distillation/distillation_loss': float(x[f'student_{stages(x)[0]}'].shape[0]),
        'mmrazor/OFDLoss + OFDTeacherConnector': 1 / given.get('mul_factor', 1.0),
    }
    weight, form = weights.get(peer, given.get('feat_weight', 1.0)), 'paper'
    if peer == 'Knowledge-Distillation-Zoo/OFD':
        form = 'mean'
    elif peer == 'mdistiller/OFD.ofd_loss':
        form = 'halving'
    params, norms = overhaul_params(x), () if peer == 'Knowledge-Distillation-Zoo/OFD' else stages(x)
    size = {'kernel_size': given.get('kernel_size', 1), 'connector': 'connector' in params}
    term = Overhaul(layers=stages(x), norms=norms, floor=given.get('eps', 1e-6), form=form, weight=weight, **size)
    answer, margins = total({'ofd': term}, seen(x), {'ofd': params}), term.margins(params, seen(x))
    outputs = {f'margin{k}': margin[None, :, None, None] for k, margin in enumerate(margins)}
    return answer._replace(outputs={**outputs, 'margin': outputs['margin0'], 'unweighted': answer.loss / weight})


def overhaul_params(x):
    """Connectors 'connector.<part>' or 'connectors.connectors.<layer>.<part>'; margins or what gives them."""
    names = sorted(name.removesuffix('.0.weight').removeprefix('param/') for name in x if name.endswith('.0.weight'))
    params = {}
    if names:
        convolutions = {f'Conv_{k}': {'kernel': layer(x, f'{name}.0')['kernel']} for k, name in enumerate(names)}
        norms = {f'BatchNorm_{k}': batch_norm(x, f'{name}.1') for k, name in enumerate(names)}
        params['connector'] = {**convolutions, **norms}
    given = [x[name].reshape(-1) for name in sorted(x) if name.startswith('margin')]
    scales = sorted(name for name in x if name.startswith('bn_weight'))
    params['margins'] = given or [normal_margin(x[name], x[name.replace('weight', 'bias')]) for name in scales]
    return params


class Unoriented(SingularVectors):
    """With the signs of the teacher's vectors that LAPACK happens to choose, as the peers have them."""

    def oriented(self, vectors):
        return vectors


def kdsvd(record, x):
    form = 'mdistiller' if peer_of(record) == 'mdistiller/kdsvd_loss' else 'paper'
    term, inputs = Unoriented(layers=stages(x), count=record['hyperparams']['k'], form=form), seen(x)
    teachers = [right_vectors(term._matrix(inputs.teacher.features[stage]))[1] for stage in stages(x)]
    outputs = {f'teacher_v{k}': vectors[..., : term.count] for k, vectors in enumerate(teachers)}
    return total({'kdsvd': term}, inputs)._replace(outputs=outputs)


MAPPINGS = {'nst': nst, 'fsp': fsp, 'vid': vid, 'ab': ab, 'ft': ft, 'ofd': ofd, 'kdsvd': kdsvd}
