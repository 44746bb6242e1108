"""How small may the student be? Hard labels and distillation over students of 4 to 64 hidden units.

Command:  python run.py --config=configs/sweeps/capacity.py --mode=sweep
Cost:     about a minute on 2 CPU cores
Expected: no gain that could be told from nothing at 4 and 8 units, where seeds differ most; a point from 16 on
Arguments: quick (2 seeds, few steps)
"""

from collections.abc import Sequence

from ml_collections import ConfigDict

from configs import sweeps
from kdjax.study.sweep import rows


def get_config(arg: str = '') -> ConfigDict:
    """The base that the rows change, locked."""
    config = sweeps.digits(arg)
    config.title = 'Size of the student'
    return config.lock()


def sweep(arg: str = '') -> Sequence[rows.Row]:
    """Both methods at every width."""
    return rows.product(
        rows.axis('method', 'hard labels', 'combined'),
        rows.axis('student.args.widths', (4,), (8,), (16,), (32,), (64,), name='width'),
    )
