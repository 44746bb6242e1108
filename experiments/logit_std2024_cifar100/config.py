"""The CIFAR-100 tables of logit standardisation (Sun et al., 2024): four ways to use logits, and the same of z-scores.

Command:  python run.py --config=experiments/logit_std2024_cifar100/config.py:table=same --mode=sweep
Cost:     not measured; --mode=plan says how many operations. 126 arms of 240 epochs, three seeds each: for a cluster
Expected: expected.json, best epoch: from resnet32x4 to resnet8x4 soft targets gain 3.29 points by it, 76.62 %
Arguments: table=same|cross|all, pair=TEACHER-STUDENT, method=NAME (beside hard labels), epochs=N (all that is given in
    epochs shrinks alike), seeds=N, quick (100 steps, one seed: a look at the machinery)
"""

from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from configs import base, cifar, preset
from kdjax.study.sweep import rows

RECIPE = cifar.Recipe()
WARMUP, CURRICULUM = 20, 10  # epochs
# By pair: beta of the decoupled targets, and the base temperature and weight of soft targets that are standardised.
TABLES = {
    'same': {
        'resnet32x4-resnet8x4': (8.0, 2.0, 9.0), 'vgg13-vgg8': (6.0, 3.0, 9.0), 'wrn_40_2-wrn_40_1': (6.0, 2.0, 9.0),
        'wrn_40_2-wrn_16_2': (6.0, 2.0, 9.0), 'resnet56-resnet20': (2.0, 2.0, 9.0),
        'resnet110-resnet32': (2.0, 2.0, 9.0), 'resnet110-resnet20': (2.0, 2.0, 9.0),
    },
    'cross': {
        'resnet32x4-ShuffleV2': (8.0, 2.0, 9.0), 'resnet32x4-wrn_16_2': (8.0, 3.0, 9.0),
        'resnet32x4-wrn_40_2': (8.0, 3.0, 9.0), 'wrn_40_2-resnet8x4': (6.0, 2.0, 9.0),
        'wrn_40_2-MobileNetV2': (6.0, 3.0, 9.0), 'vgg13-MobileNetV2': (6.0, 3.0, 9.0),
        'ResNet50-MobileNetV2': (8.0, 3.0, 1.0),
    },
}  # fmt: skip
SEEDS = 3
LEVELS = {'kind': 'mlkd.MultiLevel', 'others': (3.0, 5.0, 2.0, 6.0), 'form': 'repo'}
MULTI = {'hard': 0.1, 'strong': 0.1}
METHODS = ('KD', 'KD+LS', 'CTKD', 'CTKD+LS', 'DKD', 'DKD+LS', 'MLKD', 'MLKD+LS')


def get_config(arg: str = '') -> ConfigDict:
    """The base that the rows change, locked."""
    arguments = _arguments(arg)
    span, pair = cifar.length(RECIPE, arguments), next(iter(_settings(arguments)))
    expected = 'experiments/logit_std2024_cifar100/expected.json'
    found = cifar.config('Logit standardisation, tables 1 and 2', 'cifar100', _methods(span), span, pair, expected)
    with found.unlocked():
        found.seeds = _seeds(arguments)
    return found


def sweep(arg: str = '') -> Sequence[rows.Row]:
    """Every method on every pair of the tables."""
    arguments = _arguments(arg)
    methods = (cifar.BASELINE, *cifar.chosen('method', arguments['method'], METHODS))
    columns = {
        pair: {name: _changes(name, pair, *settings) for name in methods}
        for pair, settings in _settings(arguments).items()
    }
    return cifar.table(columns, _seeds(arguments), RECIPE)


def _methods(span: cifar.Length) -> dict[str, preset.Preset]:
    warmup, curriculum = (('weight', 0.0, 1.0, span.steps(WARMUP)),), span.steps(CURRICULUM)
    decoupled = {'kind': 'dkd.DecoupledTargets', 'alpha': 1.0, 'beta': 8.0, 'schedules': warmup}
    learned = {'kind': 'ctkd.CurriculumTemperature', 'steps': curriculum}
    strong = {'strong': {'kind': 'mlkd.StrongLabels'}}
    z_scores = {'standardized': True}
    return {
        'KD': preset.Preset({'soft': preset.SOFT}, ({'hard': 0.1, 'soft': 0.9},)),
        'KD+LS': preset.Preset(
            {'scores': {'kind': 'standardization.StandardizedTargets', 'temperature': 2.0}},
            ({'hard': 0.1, 'scores': 9.0},),
        ),
        'CTKD': preset.Preset({'learned': learned}, ({'hard': 0.1, 'learned': 0.9},)),
        'CTKD+LS': preset.Preset({'learned_scores': {**learned, **z_scores}}, ({'hard': 0.1, 'learned_scores': 9.0},)),
        'DKD': preset.Preset({'decoupled': {**decoupled, 'temperature': 4.0}}, ({'hard': 1.0, 'decoupled': 1.0},)),
        'DKD+LS': preset.Preset(
            {'decoupled_scores': {**decoupled, **z_scores, 'temperature': 2.0}},
            ({'hard': 1.0, 'decoupled_scores': 9.0},),
        ),
        'MLKD': preset.Preset(
            {**strong, 'levels': {**LEVELS, 'temperature': 4.0}}, ({**MULTI, 'levels': 9.0},)
        ),
        'MLKD+LS': preset.Preset(
            {**strong, 'level_scores': {**LEVELS, **z_scores, 'temperature': 2.0}}, ({**MULTI, 'level_scores': 9.0},)
        ),
    }  # fmt: skip


def _changes(method: str, pair: str, beta: float, temperature: float, weight: float) -> dict[str, Any]:
    """What a pair changes in a method. Multi-level distillation starts from half the rate."""
    rate = RECIPE.low_rate if cifar.sides(pair)[1].slow else RECIPE.rate
    return {
        'KD+LS': {'terms.scores.temperature': temperature, 'fits.KD_LS.weights.scores': weight},
        'DKD': {'terms.decoupled.beta': beta},
        'DKD+LS': {'terms.decoupled_scores.beta': beta},
        'MLKD': {'fits.MLKD.learning_rate': rate / 2},
        'MLKD+LS': {'fits.MLKD_LS.learning_rate': rate / 2},
    }.get(method, {})


def _settings(arguments: dict[str, Any]) -> dict[str, tuple[float, float, float]]:
    """Of the pairs that are wanted."""
    tables = cifar.chosen('table', arguments['table'], list(TABLES))
    known = {pair: found for table in tables for pair, found in TABLES[table].items()}
    return {pair: known[pair] for pair in cifar.chosen('pair', arguments['pair'], list(known))}


def _seeds(arguments: dict[str, Any]) -> int:
    return arguments['seeds'] or (1 if arguments['quick'] else SEEDS)


def _arguments(arg: str) -> dict[str, Any]:
    return base.arguments(arg, table='all', pair='all', method='all', epochs=0.0, seeds=0, quick=False)
