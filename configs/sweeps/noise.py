"""Does a teacher protect a student from wrong labels? Hard labels and distillation over the share of wrong ones.

A share of the student's hard labels is replaced by other classes, the same ones for all methods; the teacher learned
from right ones. 'combined' still gives the hard labels a tenth of the weight, 'equal' half of it.

Command:  python run.py --config=configs/sweeps/noise.py --mode=sweep
Cost:     half a minute on 2 CPU cores
Expected: with 40 % wrong labels hard labels fall from 94 to 65 %, combined stays at 95 %, equal falls to 93.5 %
Arguments: quick (2 seeds, few steps)
"""

from collections.abc import Sequence

from ml_collections import ConfigDict

from configs import sweeps
from kdjax.study.sweep import rows


def get_config(arg: str = '') -> ConfigDict:
    """The base that the rows change, locked."""
    config = sweeps.digits(arg)
    config.title = 'Wrong labels'
    with config.ignore_type():
        config.fits.equal = sweeps.fit(arg, hard=0.5, soft=0.5)
        config.methods['equal'] = ('equal',)
    return config.lock()


def sweep(arg: str = '') -> Sequence[rows.Row]:
    """Every method at every share."""
    return rows.product(
        rows.axis('method', 'hard labels', 'combined', 'equal'),
        rows.axis('data.label_noise', 0.0, 0.1, 0.2, 0.4, name='wrong labels'),
    )
