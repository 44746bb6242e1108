"""Distilling the Knowledge in a Neural Network (Hinton, Vinyals, Dean, 2015), section 3: MNIST.

A teacher with two hidden layers of 1,200 units, dropout, bounded weights and images moved by up to two pixels; students
without any regularisation, from hard labels and from the teacher, at several widths, temperatures and transfer sets.

Command:  KDJAX_DATA=FOLDER python run.py --config=experiments/hinton2015_mnist/config.py --mode=sweep
          where FOLDER has the four original files of MNIST, or a folder 'mnist' that has them
Cost:     about 130 TFLOP; see README.md for what it took
Expected: expected.json
Arguments: quick (few steps, 2 seeds: a look at the machinery), part=main|small|wide (some of the rows)
"""

from collections.abc import Sequence

from ml_collections import ConfigDict

from configs import base
from kdjax.errors import unknown
from kdjax.study.sweep import rows

FOLDER = 'experiments/hinton2015_mnist'
SEEDS = 5
VALIDATION = 1000  # examples held out of 60,000; nothing is chosen on them
TEMPERATURE = 20
TEMPERATURES = {800: (1, 8), 300: (1, 2, 4, 8, 20), 100: (1, 2, 4, 8, 20), 30: (1, 2, 2.5, 3, 4, 6, 8, 20)}
TRANSFER = {
    'without 3': {'data.classes': tuple(digit for digit in range(10) if digit != 3)},
    '7 and 8': {'data.classes': (7, 8), 'fits.distilled.steps': 1000},
}


def get_config(arg: str = '') -> ConfigDict:
    """The base that the rows change, locked."""
    quick = _arguments(arg)['quick']
    config = base.config()
    config.title = 'Distillation on MNIST'
    config.expected = f'{FOLDER}/expected.json'
    config.seeds = 2 if quick else SEEDS
    config.data.source, config.data.args = 'originals.mnist', ConfigDict({'validation': VALIDATION})
    config.data.transfer_sizes = (60_000 - VALIDATION,)
    with config.ignore_type():
        config.teacher.args = ConfigDict({'widths': (1200, 1200), 'dropout': 0.25})
        config.teacher.augment = ConfigDict({'kind': 'augment.shift', 'pixels': 2})
        config.fits = ConfigDict({'baseline': _fit(quick, hard=1.0), 'distilled': _fit(quick, hard=0.1, soft=0.9)})
        config.methods = ConfigDict({'hard labels': ('baseline',), 'distilled': ('distilled',)})
    config.teacher.views = 64
    config.teacher.fit = _fit(quick, hard=1.0)
    config.teacher.fit.steps = 40 if quick else 10_000
    config.teacher.fit.optim.max_norm = 3.0
    config.accept.method = 'distilled'
    config.terms.soft.temperature = float(TEMPERATURE)
    config.run.layout, config.run.cells = 'map', SEEDS
    config.run.chunk, config.run.validate_every, config.run.save_every = (20, 20, 20) if quick else (50, 250, 500)
    return config.lock()


def sweep(arg: str = '') -> Sequence[rows.Row]:
    """The comparison and the transfer sets at 800 units; temperatures at 30, 100 and 300; some of them at 800."""
    parts = {'main': _main, 'small': _small, 'wide': _wide}
    chosen = _arguments(arg)['part']
    if chosen and chosen not in parts:
        raise unknown('part', chosen, parts)
    return rows.chained(*(part() for name, part in parts.items() if chosen in ('', name)))


def _main() -> list[rows.Row]:
    taught = rows.product(rows.axis('method', 'distilled'), rows.axis('terms.soft.temperature', TEMPERATURE))
    transfer = rows.choice('transfer set', {'all': {}, **TRANSFER})
    return rows.product(_width(800), rows.chained(rows.axis('method', 'hard labels'), rows.product(taught, transfer)))


def _small() -> list[rows.Row]:
    return rows.chained(
        *(
            rows.product(_width(units), rows.chained(rows.axis('method', 'hard labels'), _tempered(units)))
            for units in (300, 100, 30)
        )
    )


def _wide() -> list[rows.Row]:
    return rows.product(_width(800), _tempered(800))


def _tempered(units: int) -> list[rows.Row]:
    temperatures = rows.axis('terms.soft.temperature', *TEMPERATURES[units])
    return rows.product(rows.axis('method', 'distilled'), temperatures, rows.choice('transfer set', {'all': {}}))


def _width(units: int) -> list[rows.Row]:
    return [rows.Row({'units': units}, {'student.args.widths': (units, units)})]


def _fit(quick: bool, **weights: float) -> ConfigDict:
    fit = base.fit(**weights)
    fit.steps, fit.batch_size = 40 if quick else 2000, 250
    return fit


def _arguments(arg: str) -> dict:
    return base.arguments(arg, quick=False, part='')
