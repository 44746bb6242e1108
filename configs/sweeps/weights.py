"""How much should the teacher weigh, and does that depend on the temperature?

Weight of the soft targets x temperature; the hard labels have weight 1.

Command:  python run.py --config=configs/sweeps/weights.py --mode=sweep
Cost:     half a minute on 2 CPU cores
Expected: the temperature matters more: at T = 4 every weight from 0.1 to 10 gains 0.9 to 1.0 points, at T = 1 none
Arguments: quick (2 seeds, few steps)
"""

from collections.abc import Sequence

from ml_collections import ConfigDict

from configs import sweeps
from kdjax.study.sweep import rows


def get_config(arg: str = '') -> ConfigDict:
    """The base that the rows change, locked."""
    config = sweeps.digits(arg)
    config.title = 'Weight of the soft targets'
    config.fits.combined = sweeps.fit(arg, hard=1.0, soft=1.0)
    return config.lock()


def sweep(arg: str = '') -> Sequence[rows.Row]:
    """The grid of weights and temperatures, and the baseline."""
    grid = rows.product(
        rows.axis('method', 'combined'),
        rows.axis('fits.combined.weights.soft', 0.1, 0.3, 1, 3, 10, name='weight'),
        rows.axis('terms.soft.temperature', 1, 2, 4, 8),
    )
    return rows.chained(rows.axis('method', 'hard labels'), grid)
