"""Does the temperature matter, and for which way to use soft labels?

Soft targets beside the hard labels (Hinton et al., 2015), and decoupled ones (Zhao et al., 2022), each at eight
temperatures, against hard labels alone. A student of 1.2 k parameters sees 250 digits; the teacher saw all 1,000.

Command:  python run.py --config=configs/sweeps/temperature.py --mode=sweep
Cost:     half a minute on 2 CPU cores
Expected: soft targets gain a point at temperatures of 2 to 6 and nothing at 1 or 16; decoupled ones do not gain
Arguments: quick (2 seeds, few steps: a look at the machinery, not a result)
"""

from collections.abc import Sequence

from ml_collections import ConfigDict

from configs import base, sweeps
from kdjax.study.sweep import rows

TEMPERATURES = (1, 1.5, 2, 3, 4, 6, 10, 16)


def get_config(arg: str = '') -> ConfigDict:
    """The base that the rows change, locked."""
    config = sweeps.digits(arg)
    config.title = 'Temperature'
    with config.ignore_type():
        config.terms.decoupled = ConfigDict(
            {'kind': 'dkd.DecoupledTargets', 'alpha': 1.0, 'beta': 2.0, 'temperature': 4.0}
        )
        config.fits.decoupled = sweeps.fit(arg, hard=1.0, decoupled=1.0)
        config.methods['decoupled'] = ('decoupled',)
    return config.lock()


def sweep(arg: str = '') -> Sequence[rows.Row]:
    """Two techniques at every temperature, and the baseline."""
    base.arguments(arg, quick=False)
    techniques = rows.product(
        rows.axis('method', 'combined', 'decoupled'), rows.axis('terms.*.temperature', *TEMPERATURES)
    )
    return rows.chained(rows.axis('method', 'hard labels'), techniques)
