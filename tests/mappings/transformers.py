"""Attention, hidden states and class tokens of transformers: see golden_map."""

import jax.numpy as jnp
from golden import Answer, layer, seen, total

from kdjax.techniques.distilbert import HiddenDirections
from kdjax.techniques.pkd_bert import PatientTeacher
from kdjax.techniques.textbrewer import AttentionMatch
from kdjax.techniques.tinybert import AttentionScores, HiddenStates
from kdjax.techniques.tokens import layer_map
from kdjax.techniques.vitkd import Generation, Mimicking


def tinybert(record, x):
    """The peer counts attention from layer 0 and the embeddings as state 0; its states are projected already."""
    given = record['hyperparams']
    one_based = layer_map('skip', given['student_layers'], given['teacher_layers'], '')
    counts = [tuple(map(int, pair.split(':'))) for pair in one_based]
    attention = tuple(f'att{own - 1}:att{other - 1}' for own, other in counts)
    states = tuple(f'rep{own}:rep{other}' for own, other in [(0, 0), *counts])
    parts = {
        'att_loss': total({'attention': AttentionScores(layers=attention)}, seen(x)).loss,
        'rep_loss': total({'hidden': HiddenStates(layers=states, projection='none')}, seen(x)).loss,
    }
    return Answer(sum(parts.values()), parts, {})


def attention_match(record, x):
    forms = {'att_mse_loss': 'mse', 'att_mse_sum_loss': 'mse_sum', 'att_ce_loss': 'ce', 'att_ce_mean_loss': 'ce_mean'}
    form, masked = forms[record['peer']['object']], 'mask' in x
    term = AttentionMatch(layers=('att',), form=form, padded_columns=form.startswith('ce'))
    if not masked:
        term = AttentionMatch(layers=('att',), form=form, cut=-1e-3)
    return total({'attention': term}, seen(x))


def hidden_match(record, x):
    """TextBrewer compares one pair of layers; DistillKit takes the mean over those that it maps."""
    given = record['hyperparams']
    layers = tuple(f'hidden{own}:hidden{other}' for own, other in given.get('layer_mapping', ())) or ('hidden',)
    matrices = [layer(x, f'proj{index}')['kernel'] for index in range(len(layers)) if given.get('projection')]
    params = {pair: {'kernel': matrix} for pair, matrix in zip(layers, matrices, strict=False)}
    weight = 1 / len(layers)
    if 'cos' in record['peer']['object']:
        term = HiddenDirections(layers=layers, projection=bool(params), weight=weight)
    else:
        term = HiddenStates(layers=layers, projection='own' if params else 'none', weight=weight)
    return total({'hidden': term}, seen(x), {'hidden': params})


def bert_pkd(record, x):
    return total({'patient': PatientTeacher(layers=('hidden',))}, seen(x))


def vitkd(record, x):
    given, aligned = record['hyperparams'], 'param/align.weight' in x

    class Drawn(Generation):
        """With the noise of the peer."""

        def noise(self, key, inputs, patches):
            return x['noise']

    lows = {
        f'{side}_low{index}': x[f'{side}_low'][:, index]
        for side in ('student', 'teacher')
        for index in range(x['student_low'].shape[1])
    }
    layers = tuple(f'low{index}' for index in range(x['student_low'].shape[1]))
    terms = {
        'low': Mimicking(layers=layers, projection=aligned, weight=given['alpha']),
        'high': Drawn(layer='high', projection=aligned, ratio=given['lambda_'], weight=given['beta']),
    }
    align = {'align': layer(x, 'align')} if aligned else {}
    params = {
        'low': {name: layer(x, f'align2.{index}') for index, name in enumerate(layers)} if aligned else {},
        'high': {
            **align,
            'token': jnp.reshape(x['param/mask_token'], -1),
            'first': layer(x, 'generation.0'),
            'second': layer(x, 'generation.2'),
        },
    }
    return total(terms, seen({**x, **lows}), params)


MAPPINGS = {
    'tinybert': tinybert,
    'attention_match': attention_match,
    'hidden_match': hidden_match,
    'bert_pkd': bert_pkd,
    'vitkd': vitkd,
}
