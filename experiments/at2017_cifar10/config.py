"""The CIFAR-10 table of attention transfer (Zagoruyko, Komodakis, 2017): wide residual networks, five ways to teach.

Command:  python run.py --config=experiments/at2017_cifar10/config.py --mode=sweep
Cost:     not measured; --mode=plan says how many operations. 15 arms of 200 epochs, five seeds each
Expected: expected.json, last epoch: WRN-16-1 at 91.23 %, taught by WRN-16-2 through attention at 92.07 %
Arguments: pair=TEACHER-STUDENT, method=NAME (beside hard labels), epochs=N (all that is given in epochs shrinks alike),
    seeds=N, quick (100 steps, one seed: a look at the machinery)
"""

from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from configs import base, cifar, preset
from kdjax.study.sweep import rows

RECIPE = cifar.Recipe(
    epochs=200, batch_size=128, rate=0.1, drops=(60, 120, 160), factor=0.2, border='reflect',
    mean=(0.4914, 0.4824, 0.4467), std=(0.2471, 0.2435, 0.2616),
)  # fmt: skip
PAIRS = ('wrn_16_2-wrn_16_1', 'wrn_40_1-wrn_16_1', 'wrn_40_2-wrn_16_2')
SEEDS = 5
GROUPS = ('stage1', 'stage2', 'stage3')
ATTENTION = {'kind': 'attention.AttentionTransfer', 'layers': GROUPS, 'form': 'code'}
WHOLE = {f'whole_{group}': {'kind': 'fitnets.Hint', 'layer': group, 'form': 'mean'} for group in GROUPS}
METHODS = {
    'AT': preset.Preset({'attention': ATTENTION}, ({'hard': 1.0, 'attention': 1000.0},)),
    'F-ActT': preset.Preset(WHOLE, ({'hard': 1.0, **dict.fromkeys(WHOLE, 1.0)},)),
    'KD': preset.Preset({'soft': preset.SOFT}, ({'hard': 0.1, 'soft': 0.9},)),
    'AT+KD': preset.Preset(
        {'attention': ATTENTION, 'soft': preset.SOFT}, ({'hard': 0.1, 'soft': 0.9, 'attention': 1000.0},)
    ),
}


def get_config(arg: str = '') -> ConfigDict:
    """The base that the rows change, locked."""
    arguments = _arguments(arg)
    span, pair = cifar.length(RECIPE, arguments), cifar.chosen('pair', arguments['pair'], PAIRS)[0]
    expected = 'experiments/at2017_cifar10/expected.json'
    found = cifar.config('Attention transfer, table 1', 'cifar10', METHODS, span, pair, expected)
    with found.unlocked():
        found.seeds = _seeds(arguments)
    return found


def sweep(arg: str = '') -> Sequence[rows.Row]:
    """Every method on every pair of the table."""
    arguments = _arguments(arg)
    methods = (cifar.BASELINE, *cifar.chosen('method', arguments['method'], list(METHODS)))
    columns = {pair: {name: {} for name in methods} for pair in cifar.chosen('pair', arguments['pair'], PAIRS)}
    return cifar.table(columns, _seeds(arguments), RECIPE)


def _seeds(arguments: dict[str, Any]) -> int:
    return arguments['seeds'] or (1 if arguments['quick'] else SEEDS)


def _arguments(arg: str) -> dict[str, Any]:
    return base.arguments(arg, pair='all', method='all', epochs=0.0, seeds=0, quick=False)
