"""Handwritten digits: what do zeros, few bits, few channels and low ranks cost a student, and what gives KD back?

Every student of 1.2 k parameters is trained for 1,000 steps on 250 digits, and then for 500 more after it was made
smaller, with hard labels alone or with a teacher; the control row trains longer and changes nothing. Shares of zeros
and numbers of bits are cells of one compiled program each.

Command:  python run.py --config=configs/compress.py --mode=sweep
Cost:     a minute, on 2 CPU cores
Expected: against 94.1 % dense, with hard labels 8 and 4 bits and half of the weights zero change nothing that could be
          told, rank 8 costs half a point, 2:4 and half of the channels 1.6 and 1.7, 80 % of zeros 3.5, 2 bits 6.1, 90 %
          16; with KD all are 0.8 to 1.9 better, and so is the control row (+0.95)
Arguments: quick (2 seeds, few steps: a look at the machinery, not a result)
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from configs import base, sweeps
from kdjax.study.sweep import rows

TEACHERS = {'hard': {'hard': 1.0}, 'KD': {'hard': 0.1, 'soft': 0.9}}
# What is done in the fit after the first, by the name that its method has.
AFTER: Mapping[str, Mapping[str, Any]] = {
    'longer': {},
    'pruned': {'optim.pruning': 'global'},
    '2:4': {'optim.pruning': '2:4'},
    'rounded': {'change': {'kind': 'quantize'}},
    'pruned and rounded': {'optim.pruning': 'global', 'change': {'kind': 'quantize'}},
    'narrowed': {'change': {'kind': 'narrow', 'keep': 0.5}},
    'rank 8': {'change': {'kind': 'factor', 'ranks': {'dense1/kernel': 8}}},
}


def get_config(arg: str = '') -> ConfigDict:
    """The base that the rows change, locked."""
    config = sweeps.digits(arg)
    config.title = 'Smaller students'
    quick = base.arguments(arg, quick=False)['quick']
    with config.ignore_type():
        del config.fits['combined']
        config.methods = ConfigDict({'dense': ('baseline',)})
        for taught, weights in TEACHERS.items():
            for name, settings in AFTER.items():
                fit = config.fits[f'{name} {taught}'.replace(':', ' of ')] = sweeps.fit(arg, **weights)
                fit.steps, fit.learning_rate = 50 if quick else 500, 5e-3
                for field, value in settings.items():
                    part, _, last = field.rpartition('.')
                    (fit[part] if part else fit)[last] = value
                config.methods[f'{name}, {taught}'] = ('baseline', f'{name} {taught}'.replace(':', ' of '))
            narrow = config.fits[f'scratch {taught}'] = sweeps.fit(arg, **weights)
            narrow.steps = 150 if quick else 1500
            config.methods[f'narrow from scratch, {taught}'] = (f'scratch {taught}',)
    config.baseline, config.run.layout = 'dense', 'vmap'
    config.accept.method = 'pruned and rounded, KD'
    return config.lock()


def sweep(arg: str = '') -> Sequence[rows.Row]:
    """Every way to make the student smaller, with hard labels and with KD."""
    base.arguments(arg, quick=False)
    found = rows.axis('method', 'dense')
    for taught in TEACHERS:
        pruned, rounded, both = (f'fits.{name} {taught}' for name in ('pruned', 'rounded', 'pruned and rounded'))
        found += rows.chained(
            rows.axis('method', *(f'{name}, {taught}' for name in ('longer', '2:4', 'narrowed', 'rank 8'))),
            rows.product(rows.axis('method', f'pruned, {taught}'), rows.axis(f'{pruned}.sparsity', 0.5, 0.8, 0.9)),
            rows.product(rows.axis('method', f'rounded, {taught}'), rows.axis(f'{rounded}.bits', 8.0, 4.0, 3.0, 2.0)),
            rows.product(
                rows.axis('method', f'pruned and rounded, {taught}'),
                rows.axis(f'{both}.sparsity', 0.8),
                rows.axis(f'{both}.bits', 4.0),
            ),
            rows.product(
                rows.axis('method', f'narrow from scratch, {taught}'),
                rows.axis('student.args.widths', (8,), name='width'),
            ),
        )
    return found
