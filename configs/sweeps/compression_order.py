"""Distil, prune, quantize: does the order matter, and does the teacher have to stay?

A student of 1.2 k parameters has three fits of 500 steps: K is taught, P makes 80 % of its weights zero, Q rounds them
to 4 bits and what they are multiplied with to 8. What was done stays done, so at the end of every order it is as small.
The teacher speaks in K alone, or throughout. All are held against KPQ, on the same seeds. Controls have as many steps:
'longer' is never made smaller, 'never taught' has hard labels in the place of the teacher, 'at once' does all three in
one fit, 'narrow from scratch' is a dense student with as many weights as the others have left.

Command:  python run.py --config=configs/sweeps/compression_order.py --mode=sweep
Cost:     three to five minutes of CPU time, on 2 CPU cores
Expected: KPQ 91.4 %; KQP 1.4 points behind, the other orders -0.1 to +0.8; a teacher throughout +1.1 for KPQ, none at
          all +0.1; at once +1.9; never made smaller +2.7; narrow from scratch 57 %
Arguments: quick (2 seeds, few steps: a look at the machinery, not a result)
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from configs import base, sweeps
from kdjax.study.sweep import rows

ORDERS = tuple(''.join(order) for order in itertools.permutations('KPQ'))
THROUGHOUT = ', taught throughout'
HARD, TAUGHT = {'hard': 1.0}, {'hard': 0.1, 'soft': 0.9}
SPARSITY, BITS = 0.8, 4.0
NARROW = (3,)  # 64-3-10: 222 weights, and 20 % of 64-16-10 are 237
# What each does to the student, by field of its fit.
OPERATIONS: Mapping[str, Mapping[str, Any]] = {
    'K': {},
    'P': {'optim.pruning': 'global', 'sparsity': SPARSITY},
    'Q': {'change': {'kind': 'quantize'}, 'bits': BITS},
    'D': {},  # nothing
    'PQ': {'optim.pruning': 'global', 'sparsity': SPARSITY, 'change': {'kind': 'quantize'}, 'bits': BITS},
}


def get_config(arg: str = '') -> ConfigDict:
    """The base that the rows change, locked."""
    config = sweeps.digits(arg)
    config.title = 'Order of compression'
    with config.ignore_type():
        config.fits, config.methods = ConfigDict({}), ConfigDict({})
        for order in ORDERS:
            _method(config, arg, order, [(operation, operation == 'K') for operation in order])
            _method(config, arg, f'{order}{THROUGHOUT}', [(operation, True) for operation in order])
        _method(config, arg, 'KPQ, never taught', [(operation, False) for operation in 'KPQ'])
        _method(config, arg, 'longer, taught first', [('K', True), ('D', False), ('D', False)])
        _method(config, arg, 'longer, never taught', [('D', False)] * 3)
        _method(config, arg, 'at once', [('PQ', True)], parts=3)
        _method(config, arg, 'narrow from scratch', [('D', True)], parts=3)
    config.baseline, config.run.layout = 'KPQ', 'vmap'
    config.accept.method = 'KPQ'
    return config.lock()


def _method(config: ConfigDict, arg: str, name: str, operations: Sequence[tuple[str, bool]], parts: int = 1) -> None:
    """A method of several fits, each an operation and whether it is taught; a fit has so many parts of 500 steps."""
    quick, fits = base.arguments(arg, quick=False)['quick'], []
    for place, (operation, taught) in enumerate(operations):
        # A second of the same kind has a name of its own.
        fits.append(f'{operation}{place + 1}{" taught" if taught else ""}{" whole" if parts > 1 else ""}')
        fit = config.fits[fits[-1]] = sweeps.fit(arg, **(TAUGHT if taught else HARD))
        fit.steps, fit.learning_rate = parts * (30 if quick else 500), 5e-3 if place else 1e-2
        for field, value in OPERATIONS[operation].items():
            part, _, last = field.rpartition('.')
            (fit[part] if part else fit)[last] = value
    config.methods[name] = tuple(fits)


def sweep(arg: str = '') -> Sequence[rows.Row]:
    """Every order, taught once and throughout, and the controls."""
    base.arguments(arg, quick=False)
    return rows.chained(
        rows.axis('method', *ORDERS, *(f'{order}{THROUGHOUT}' for order in ORDERS), 'KPQ, never taught', 'at once'),
        rows.axis('method', 'longer, taught first', 'longer, never taught'),
        rows.product(
            rows.axis('method', 'narrow from scratch'), rows.axis('student.args.widths', NARROW, name='width')
        ),
    )
