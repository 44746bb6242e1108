"""Other soft labels of one student: see golden_map."""

import jax.numpy as jnp
from golden import Answer, peer_of, seen, total

from kdjax.techniques.bkd import BinaryTargets
from kdjax.techniques.cross_entropy import CrossEntropy
from kdjax.techniques.dist import Correlations
from kdjax.techniques.dist_plus import MapCorrelations
from kdjax.techniques.dkd import DecoupledTargets
from kdjax.techniques.hinton import SoftTargets
from kdjax.techniques.logits import LogitMatching
from kdjax.techniques.mlkd import MultiLevel, StrongLabels
from kdjax.techniques.nkd import NormalizedTargets
from kdjax.techniques.standardization import StandardizedTargets


def dkd(record, x):
    given, inputs = record['hyperparams'], seen(x)
    standardized = given.get('logit_stand', peer_of(record).startswith('logit-standardization-KD/'))
    # mmrazor: every reduction but 'batchmean' ends as a sum.
    weight = float(x['labels'].size) if given.get('reduction', 'batchmean') != 'batchmean' else 1.0

    def answer(alpha, beta):
        term = DecoupledTargets(
            alpha=alpha, beta=beta, temperature=given['T'], standardized=standardized, weight=weight
        )
        return total({'dkd': term}, inputs)

    parts = {'tckd': answer(1.0, 0.0).loss, 'nckd': answer(0.0, 1.0).loss}
    whole = answer(given['alpha'], given['beta'])
    return whole._replace(outputs={**whole.outputs, **parts})


def dist(record, x):
    given = record['hyperparams']
    terms = {
        'dist': Correlations(
            beta=given['beta'],
            gamma=given['gamma'],
            temperature=given.get('T', 1.0),
            form='torchdistill' if peer_of(record).startswith('torchdistill/') else 'code',
        )
    }
    if 'student_feat' in x:
        terms['maps'] = MapCorrelations(
            layer='feat', channel=given['iota'], spatial=given['kappa'], form='torchdistill'
        )
    return total(terms, seen({name: pixels(value) if name.endswith('_logits') else value for name, value in x.items()}))


def pixels(logits):
    """Logits (B, C, H, W) as (B, H W, C)."""
    if logits.ndim == 2:
        return logits
    return jnp.moveaxis(logits.reshape(*logits.shape[:2], -1), 1, 2)


def logit_std(record, x):
    given = record['hyperparams']
    if not given.get('logit_stand', True):
        return total({'soft': SoftTargets(temperature=given['T'])}, seen(x))
    labelled = bool(given.get('alpha')) and 'labels' in x
    scaled = labelled or not peer_of(record).startswith('torchdistill/')
    weight = given.get('beta') if labelled else 1.0
    soft = StandardizedTargets(
        temperature=given['T'],
        epsilon=given.get('eps', 1e-7),
        form='paper' if scaled else 'unscaled',
        weight=1 - given['alpha'] if weight is None else weight,
    )
    hard = {'hard': CrossEntropy(weight=given['alpha'])} if labelled else {}
    return total({'soft': soft, **hard}, seen(x))


def nkd(record, x):
    given = record['hyperparams']
    if 'labels_soft' in x:
        x = {**x, 'labels': jnp.argmax(x['labels_soft'], axis=-1)}
    return total({'nkd': NormalizedTargets(gamma=given['gamma'], temperature=given['T'])}, seen(x))


def logit_mse(record, x):
    return total({'logits': LogitMatching(form='mean', weight=record['hyperparams'].get('T', 1.0) ** -2)}, seen(x))


def bkd(record, x):
    return total({'bkd': BinaryTargets(form='ofakd')}, seen(x))


def mlld(record, x):
    given, level = record['hyperparams'], peer_of(record).split('/')[1]
    single = {'kd_loss': 'instance', 'bc_loss': 'batch', 'cc_loss': 'class'}
    if level in single:
        standardized = given.get('logit_stand', False)
        term = MultiLevel(
            temperature=given['T'], others=(), levels=(single[level],), strong='', standardized=standardized
        )
        return total({'levels': term}, seen(x))
    inputs = seen({name.replace('logits_weak', 'logits').replace('logits_', ''): value for name, value in x.items()})
    levels = MultiLevel(
        temperature=given['T'],
        standardized=given.get('logit_stand', False),
        weight=given['kd_weight'],
        form='repo',
    )
    hard = {'hard': CrossEntropy(weight=given['ce_weight']), 'strong': StrongLabels(weight=given['ce_weight'])}
    soft, hard = total({'levels': levels}, inputs), total(hard, inputs)
    named = {'loss_kd': 'instance', 'loss_bc': 'batch', 'loss_cc': 'class'}
    outputs = {name: given['kd_weight'] * soft.outputs[level] for name, level in named.items()}
    return Answer(soft.loss + hard.loss, {**outputs, 'loss_ce': hard.loss}, soft.memory)


MAPPINGS = {
    'dkd': dkd,
    'dist': dist,
    'dist_plus': dist,
    'logit_std': logit_std,
    'nkd': nkd,
    'logit_mse': logit_mse,
    'bkd': bkd,
    'mlld': mlld,
}
