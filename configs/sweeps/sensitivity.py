"""Which settings matter, and where are the good ones, if all of them move together?

Temperature, weight of the soft targets (the hard labels have weight 1) and learning rate, drawn from a box by a Sobol
sequence: 32 points say as much of each setting by itself as 32 values on its own axis, where a grid of 36 points
has three or four values of each.

Command:  python run.py --config=configs/sweeps/sensitivity.py --mode=sweep
Cost:     half a minute on 2 CPU cores
Expected: the learning rate decides: from 7e-3 to 5e-2, at temperatures of 2 to 9, students gain 0.5 to 1.7 points with
          any weight; below 2e-3 they lose 2 to 10
Arguments: quick (2 seeds, few steps)
"""

from collections.abc import Sequence

from ml_collections import ConfigDict

from configs import base, sweeps
from kdjax.study.sweep import rows

POINTS = 32
RANGES = {
    'terms.soft.temperature': rows.Range(1, 16, log=True),
    'fits.combined.weights.soft': rows.Range(0.1, 10, log=True),
    'fits.combined.learning_rate': rows.Range(1e-3, 1e-1, log=True),
}


def get_config(arg: str = '') -> ConfigDict:
    """The base that the rows change, locked."""
    config = sweeps.digits(arg)
    config.title = 'Temperature, weight and learning rate'
    config.seeds = min(config.seeds, 10)
    config.fits.combined = sweeps.fit(arg, hard=1.0, soft=1.0)
    return config.lock()


def sweep(arg: str = '') -> Sequence[rows.Row]:
    """The drawn points, and the baseline."""
    base.arguments(arg, quick=False)
    drawn = rows.product(rows.axis('method', 'combined'), rows.sampled(POINTS, RANGES))
    return rows.chained(rows.axis('method', 'hard labels'), drawn)
