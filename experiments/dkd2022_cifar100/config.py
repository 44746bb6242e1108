"""The CIFAR-100 tables of DKD (Zhao et al., 2022): eleven pairs of networks, soft targets as they are and decoupled.

Command:  python run.py --config=experiments/dkd2022_cifar100/config.py:table=same --mode=sweep
Cost:     not measured; --mode=plan says how many operations. 33 arms of 240 epochs, five seeds each: for a cluster
Expected: expected.json, best epoch: from resnet32x4 to resnet8x4 76.32 % against 73.33 % of soft targets
Arguments: table=same|cross|all, pair=TEACHER-STUDENT, method=KD|DKD (beside hard labels), epochs=N (all that is
    given in epochs shrinks alike), seeds=N, quick (100 steps, one seed: a look at the machinery)
"""

from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from configs import base, cifar, preset
from kdjax.study.sweep import rows

RECIPE = cifar.Recipe()
WARMUP = 20  # epochs
# By pair, beta: the weight of the classes that are not the label.
TABLES = {
    'same': {
        'resnet56-resnet20': 2.0, 'resnet110-resnet32': 2.0, 'resnet32x4-resnet8x4': 8.0, 'wrn_40_2-wrn_16_2': 6.0,
        'wrn_40_2-wrn_40_1': 6.0, 'vgg13-vgg8': 6.0,
    },
    'cross': {
        'resnet32x4-ShuffleV1': 8.0, 'wrn_40_2-ShuffleV1': 8.0, 'vgg13-MobileNetV2': 6.0, 'ResNet50-MobileNetV2': 8.0,
        'resnet32x4-ShuffleV2': 8.0,
    },
}  # fmt: skip
SEEDS = 5


def get_config(arg: str = '') -> ConfigDict:
    """The base that the rows change, locked."""
    arguments = _arguments(arg)
    span = cifar.length(RECIPE, arguments)
    methods = {
        'KD': preset.Preset({'soft': preset.SOFT}, ({'hard': 0.1, 'soft': 0.9},)),
        'DKD': preset.Preset({'decoupled': decoupled(span)}, ({'hard': 1.0, 'decoupled': 1.0},)),
    }
    expected = 'experiments/dkd2022_cifar100/expected.json'
    found = cifar.config(
        'DKD, tables 6 and 7', 'cifar100', methods, span, next(iter(_betas(arguments))), expected
    )  # fmt: skip
    with found.unlocked():
        found.seeds = _seeds(arguments)
    return found


def decoupled(span: cifar.Length) -> dict[str, Any]:
    """The term, with its weight growing over the first epochs."""
    warmup = (('weight', 0.0, 1.0, span.steps(WARMUP)),)
    return {
        'kind': 'dkd.DecoupledTargets', 'alpha': 1.0, 'beta': 8.0, 'temperature': 4.0, 'schedules': warmup,
    }  # fmt: skip


def sweep(arg: str = '') -> Sequence[rows.Row]:
    """Every method on every pair of the tables."""
    arguments = _arguments(arg)
    methods = (cifar.BASELINE, *cifar.chosen('method', arguments['method'], ['KD', 'DKD']))
    columns = {
        pair: {name: {'terms.decoupled.beta': beta} if name == 'DKD' else {} for name in methods}
        for pair, beta in _betas(arguments).items()
    }
    return cifar.table(columns, _seeds(arguments), RECIPE)


def _betas(arguments: dict[str, Any]) -> dict[str, float]:
    """Of the pairs that are wanted."""
    tables = cifar.chosen('table', arguments['table'], list(TABLES))
    known = {pair: beta for table in tables for pair, beta in TABLES[table].items()}
    return {pair: known[pair] for pair in cifar.chosen('pair', arguments['pair'], list(known))}


def _seeds(arguments: dict[str, Any]) -> int:
    return arguments['seeds'] or (1 if arguments['quick'] else SEEDS)


def _arguments(arg: str) -> dict[str, Any]:
    return base.arguments(arg, table='all', pair='all', method='all', epochs=0.0, seeds=0, quick=False)
