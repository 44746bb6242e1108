"""From how much data on does a teacher stop helping? Hard labels and distillation over the size of the transfer set.

Command:  python run.py --config=configs/sweeps/data.py --mode=sweep
Cost:     half a minute on 2 CPU cores
Expected: a gain of 3.1 points with 50 examples, 2.4 with 100, 1.0 with 250; none with 500; a loss of 0.5 with 1,000
Arguments: quick (2 seeds, few steps)
"""

from collections.abc import Sequence

from ml_collections import ConfigDict

from configs import sweeps
from kdjax.study.sweep import rows


def get_config(arg: str = '') -> ConfigDict:
    """The base that the rows change, locked."""
    config = sweeps.digits(arg)
    config.title = 'Size of the transfer set'
    return config.lock()


def sweep(arg: str = '') -> Sequence[rows.Row]:
    """Both methods at every size."""
    return rows.product(
        rows.axis('method', 'hard labels', 'combined'),
        rows.axis('data.transfer_sizes', (50,), (100,), (250,), (500,), (1000,), name='examples'),
    )
