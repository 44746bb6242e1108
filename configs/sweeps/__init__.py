"""Questions, as sweeps over handwritten digits: each file has a base config and the rows that change it."""

from ml_collections import ConfigDict

from configs import base

SIZE = 250  # examples that students see
SEEDS = 20


def digits(arg: str = '') -> ConfigDict:
    """The job that the sweeps over digits have in common, unlocked. Arguments: quick (2 seeds, few steps)."""
    quick = base.arguments(arg, quick=False)['quick']
    config = base.config()
    config.seeds = 2 if quick else SEEDS
    config.data.transfer_sizes = (SIZE,)
    with config.ignore_type():
        config.teacher.augment = ConfigDict({'kind': 'augment.shift', 'pixels': 1})
        config.fits = ConfigDict({})
    config.teacher.views = 64
    config.teacher.fit.steps, config.teacher.fit.batch_size = 100 if quick else 3000, 64
    config.teacher.fit.learning_rate, config.teacher.fit.weight_decay = 3e-3, 1e-2
    with config.ignore_type():
        config.fits.baseline = fit(arg, hard=1.0)
        config.fits.combined = fit(arg, hard=0.1, soft=0.9)
        config.methods = ConfigDict({'hard labels': ('baseline',), 'combined': ('combined',)})
    config.run.layout = 'auto'
    config.run.validate_every = 50 if quick else 250
    return config


def fit(arg: str = '', **weights: float) -> ConfigDict:
    """A fit of the job: term -> weight."""
    found = base.fit(**weights)
    found.steps = 100 if base.arguments(arg, quick=False)['quick'] else 1000
    found.learning_rate = found.terms_learning_rate = 1e-2
    return found
