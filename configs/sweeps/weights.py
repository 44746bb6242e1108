"""How much should the teacher weigh, and does that depend on the temperature?

Weight of the soft targets x temperature; the hard labels have weight 1.

Command:  python run.py --config=configs/sweeps/weights.py --mode=sweep
Cost:     about two minutes on 2 CPU cores
Expected: not measured yet; asked is where the plateau begins, and whether it depends on the temperature
Arguments: quick (2 seeds, few steps)
"""

from collections.abc import Sequence

from ml_collections import ConfigDict

from configs import sweeps
from kdjax.study import rows


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
