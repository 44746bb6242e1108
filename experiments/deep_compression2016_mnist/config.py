"""Deep Compression (Han, Mao, Dally, ICLR 2016), its first table on MNIST: LeNet-300-100, 40 times smaller.

A perceptron of 300 and 100 units is trained, loses 92 % of its weights while it trains on, and shares what is left: 6
bits for each weight, codebooks trained on. The control trains on for as long and changes nothing.

Command:  KDJAX_DATA=FOLDER python run.py --config=experiments/deep_compression2016_mnist/config.py --mode=sweep
          where FOLDER has the four original files of MNIST, or a folder 'mnist' that has them
Cost:     about 13 TFLOP; see README.md for what it took
Expected: expected.json: an error of 1.64 % before and 1.58 % after
Arguments: quick (few steps, 2 seeds: a look at the machinery), seeds=N
"""

from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from configs import base
from kdjax.study.sweep import rows

EXPECTED = 'experiments/deep_compression2016_mnist/expected.json'
WIDTHS = (300, 100)
VALIDATION = 5000  # examples held out of 60,000; nothing is chosen on them
SPARSITY, BITS = 0.92, 6  # of the paper: 8 % of the weights stay, codes of 6 bits
STEPS = {'baseline': 3000, 'pruned': 2000, 'shared': 500}  # of 200 examples; the control has those of the last two
QUICK = 20
METHODS = {'dense': ('baseline',), 'longer': ('baseline', 'longer'), 'pruned': ('baseline', 'pruned'),
           'shared': ('baseline', 'pruned', 'shared')}  # fmt: skip


def get_config(arg: str = '') -> ConfigDict:
    """The base that the rows change, locked."""
    given = _arguments(arg)
    quick = given['quick']
    config = base.config()
    config.title, config.expected = 'Deep Compression of LeNet-300-100', EXPECTED
    config.seeds = 2 if quick else given['seeds']
    config.data.source, config.data.args = 'originals.mnist', ConfigDict({'validation': VALIDATION})
    config.data.transfer_sizes = (60_000 - VALIDATION,)
    with config.ignore_type():
        config.student.args.widths = WIDTHS
        # Of a method that is taught, if one is added: none is, and it is not trained.
        config.teacher.args = ConfigDict({'widths': WIDTHS})
        config.fits = ConfigDict({name: _fit(quick, steps) for name, steps in STEPS.items()})
        config.fits.longer = _fit(quick, STEPS['pruned'] + STEPS['shared'])
        config.fits.pruned.sparsity = SPARSITY
        config.fits.pruned.optim.update({'pruning': 'global', 'prune_until': 0.5, 'prune_every': 25})
        config.fits.shared.change, config.fits.shared.learning_rate = ConfigDict({'kind': 'share', 'bits': BITS}), 2e-4
        config.methods = ConfigDict(METHODS)
    config.teacher.fit = _fit(quick, STEPS['baseline'])
    config.baseline, config.accept.method = 'dense', 'shared'
    config.run.layout = 'map'
    config.run.chunk, config.run.validate_every, config.run.save_every = (10, 20, 20) if quick else (50, 1000, 1000)
    return config.lock()


def sweep(arg: str = '') -> Sequence[rows.Row]:
    """The network, the control, and what is left of it after each step."""
    _arguments(arg)
    return rows.axis('method', *METHODS)


def _fit(quick: bool, steps: int) -> ConfigDict:
    fit = base.fit(hard=1.0)
    fit.steps, fit.batch_size, fit.weight_decay = QUICK if quick else steps, 200, 0.1
    return fit


def _arguments(arg: str) -> dict[str, Any]:
    return base.arguments(arg, quick=False, seeds=5)
