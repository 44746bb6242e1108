"""From how much data on does a teacher stop helping? Hard labels and distillation over the size of the transfer set.

Command:  python run.py --config=configs/sweeps/data.py --mode=sweep
Cost:     about two minutes on 2 CPU cores
Expected: as in the main job: about two points with 100 examples, one with 250, none or a loss with 1,000
Arguments: quick (2 seeds, few steps)
"""

from collections.abc import Sequence

from ml_collections import ConfigDict

from configs import sweeps
from kdjax.study import rows


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
