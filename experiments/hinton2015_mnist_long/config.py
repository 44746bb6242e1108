"""Hinton et al.'s MNIST (`experiments/hinton2015_mnist`), trained for longer: the same students at four lengths.

Students of 800 units from hard labels and from the teacher at T = 20, and of 30 units at eight temperatures (four after
150 epochs and more), after 8.5, 40, 150 and 500 epochs. The teacher is that of the other experiment, and so is all but
the length.

Command:  KDJAX_DATA=FOLDER python run.py --config=experiments/hinton2015_mnist_long/config.py --mode=sweep
          where FOLDER has the four original files of MNIST, or a folder 'mnist' that has them
Cost:     see README.md
Arguments: quick (few steps, 2 seeds: a look at the machinery), seeds=N, units=800+30 and epochs=8.5+40+150+500 (or some
    of them)
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from configs import base
from experiments.hinton2015_mnist import config as short
from kdjax.errors import unknown
from kdjax.study.sweep import rows

STEPS = {'8.5': 2000, '40': 9440, '150': 35_400, '500': 118_000}  # of 250 of 59,000 examples, by epochs
UNITS = ('800', '30')
FEW = {'150': (1, 2.5, 4, 20), '500': (1, 2.5, 4, 20)}  # temperatures at 30 units, by epochs, where not all


def get_config(arg: str = '') -> ConfigDict:
    """The config of the other experiment with a few fields changed, locked."""
    given = _arguments(arg)
    config = short.get_config('quick' if given['quick'] else '').unlock()
    config.title = 'Distillation on MNIST, by length of training'
    config.expected = ''
    if not given['quick']:
        config.seeds = config.run.cells = given['seeds']
        config.run.validate_every = config.run.save_every = 2000
    return config.lock()


def sweep(arg: str = '') -> Sequence[rows.Row]:
    """Every method at every length."""
    given = _arguments(arg)
    return rows.chained(
        *(
            rows.product(_width(units), _length(epochs, given['quick']), _methods(units, epochs))
            for units in _some('units', given, UNITS) for epochs in _some('epochs', given, STEPS)
        )
    )  # fmt: skip


def _length(epochs: str, quick: bool) -> list[rows.Row]:
    steps = 40 if quick else STEPS[epochs]
    return [rows.Row({'epochs': float(epochs)}, {f'fits.{fit}.steps': steps for fit in ('baseline', 'distilled')})]


def _width(units: str) -> list[rows.Row]:
    return [rows.Row({'units': int(units)}, {'student.args.widths': (int(units), int(units))})]


def _methods(units: str, epochs: str) -> list[rows.Row]:
    temperatures = FEW.get(epochs, short.TEMPERATURES[30]) if units == '30' else (short.TEMPERATURE,)
    taught = rows.product(rows.axis('method', 'distilled'), rows.axis('terms.soft.temperature', *temperatures))
    return rows.chained(taught, rows.axis('method', 'hard labels'))


def _some(name: str, given: Mapping[str, Any], known: Iterable[str]) -> list[str]:
    chosen = given[name].split('+')
    for one in chosen:
        if one not in known:
            raise unknown(name, one, known)
    return chosen


def _arguments(arg: str) -> dict[str, Any]:
    return base.arguments(arg, quick=False, seeds=short.SEEDS, units='+'.join(UNITS), epochs='+'.join(STEPS))
