"""Soft labels first and hard ones after, or both at once? Two steps against the weighted sum, and ways between them.

Every method has as many updates: 1,000. 'soft, then hard' spends the last 250 on the hard labels; 'fading' moves the
weight from the soft to the hard labels during training.

Command:  python run.py --config=configs/sweeps/schedule.py --mode=sweep
Cost:     half a minute on 2 CPU cores
Expected: 0.5 to 0.9 points for all but soft, then hard at T = 2; the last steps on hard labels take some back
Arguments: quick (2 seeds, few steps)
"""

from collections.abc import Sequence

from ml_collections import ConfigDict

from configs import sweeps
from kdjax.study.sweep import rows

METHODS = ('soft', 'soft, then hard', 'combined', 'fading')


def get_config(arg: str = '') -> ConfigDict:
    """The base that the rows change, locked."""
    config = sweeps.digits(arg)
    config.title = 'Two steps or one'
    steps = config.fits.combined.steps
    with config.ignore_type():
        config.terms.fading_soft = ConfigDict({**config.terms.soft, 'schedules': (('weight', 1.0, 0.1, steps),)})
        config.terms.growing_hard = ConfigDict({**config.terms.hard, 'schedules': (('weight', 0.1, 1.0, steps),)})
        config.fits.soft = sweeps.fit(arg, soft=1.0)
        config.fits.distill, config.fits.finetune = sweeps.fit(arg, soft=1.0), sweeps.fit(arg, hard=1.0)
        config.fits.fading = sweeps.fit(arg, growing_hard=1.0, fading_soft=1.0)
        config.fits.finetune.learning_rate = 1e-3
        for method, fits in zip(METHODS, (('soft',), ('distill', 'finetune'), ('combined',), ('fading',)), strict=True):
            config.methods[method] = fits
    config.fits.distill.steps, config.fits.finetune.steps = 3 * steps // 4, steps // 4
    return config.lock()


def sweep(arg: str = '') -> Sequence[rows.Row]:
    """Every method at two temperatures, and the baseline."""
    methods = rows.product(rows.axis('method', *METHODS), rows.axis('terms.*.temperature', 2, 6))
    return rows.chained(rows.axis('method', 'hard labels'), methods)
