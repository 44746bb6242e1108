"""A short run on CIFAR-100 that two CPU cores can do: a small pair, one epoch, two ways to teach.

It shows that what the tables of the literature need works on the real images, from their original files to the report:
crops and mirror images, the step schedule, a bank of all 50,000 examples. It is no row of any table.

Command:  KDJAX_DATA=FOLDER python run.py --config=experiments/cifar100_short/config.py --mode=sweep
          where FOLDER has the original binary files of CIFAR-100, or a folder 'cifar100' that has them
Cost:     see README.md for what it took
Expected: no number of a paper; far above chance, which is 1 %
Arguments: epochs=N, seeds=N, quick (100 steps: a look at the machinery)
"""

from collections.abc import Sequence

from ml_collections import ConfigDict

from configs import base, cifar
from experiments.crd2020_cifar100.config import METHODS, RECIPE, changes
from kdjax.study.sweep import rows

PAIR = 'resnet14-resnet8'
TAUGHT = ('KD', 'CRD')
EPOCHS, SEEDS = 1.0, 2


def get_config(arg: str = '') -> ConfigDict:
    """The base that the rows change, locked."""
    arguments = _arguments(arg)
    methods = {name: METHODS[name] for name in TAUGHT}
    found = cifar.config('CIFAR-100, a short run', 'cifar100', methods, cifar.length(RECIPE, arguments), PAIR)
    with found.unlocked():
        found.data.source, found.seeds = 'originals.cifar100', arguments['seeds']
        # Convolutions of several students are fastest as a list.
        found.run.layout, found.run.chunk = 'unroll', 11
    return found


def sweep(arg: str = '') -> Sequence[rows.Row]:
    """Every method, from several seeds."""
    column = {name: changes(name, PAIR) for name in (cifar.BASELINE, *TAUGHT)}
    return cifar.table({PAIR: column}, _arguments(arg)['seeds'], RECIPE)


def _arguments(arg: str) -> dict:
    return base.arguments(arg, epochs=EPOCHS, seeds=SEEDS, quick=False)
