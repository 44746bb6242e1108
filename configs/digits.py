"""Handwritten digits: when does a student of 1.2 k parameters gain from a teacher of 85 k?

The teacher saw all 1,000 training examples, moved by up to one pixel; students see 100, 250 or 1,000 of them, unmoved.

Command:  python run.py
Cost:     about a minute on 2 CPU cores
Expected: a gain of 1.5 to 2 points of accuracy with 100 examples, 1.4 with 250, and a loss of half a point with 1,000
Arguments: quick (3 seeds, few steps: a look at the machinery, not a result), student=small|tiny
"""

from ml_collections import ConfigDict

from configs import base
from kdjax.errors import unknown

STUDENTS = {'small': (16,), 'tiny': (8,)}


def get_config(arg: str = '') -> ConfigDict:
    """The main job, locked."""
    arguments = base.arguments(arg, quick=False, student='small')
    if arguments['student'] not in STUDENTS:
        raise unknown('student', arguments['student'], STUDENTS)
    config = base.config()
    config.title = 'Handwritten digits'
    config.student.args.widths = STUDENTS[arguments['student']]
    config.data.transfer_sizes = (100, 250, 1000)
    with config.ignore_type():
        config.teacher.augment = ConfigDict({'kind': 'augment.shift', 'pixels': 1})
    config.teacher.views = 64
    config.teacher.fit.steps = 3000
    config.teacher.fit.batch_size = 64
    config.teacher.fit.learning_rate = 3e-3
    config.teacher.fit.weight_decay = 1e-2
    for fit in config.fits.values():
        fit.steps = 1500
    config.fits.finetune.steps = 500
    config.search = base.Search(
        {
            'terms.soft.temperature': (2.0, 4.0, 8.0),
            'fits.*.learning_rate': (3e-3, 1e-2),  # the baseline is tuned as well as what is compared with it
            'fits.finetune.learning_rate': (3e-4, 1e-3),
        }
    )
    config.accept.transfer_size = 250
    config.accept.gap_recovered = 0.2
    config.retry.attempts = 3
    config.retry.temperature = (3.0, 6.0)
    config.retry.transfer_size = (500,)
    if arguments['quick']:
        _quick(config)
    return config.lock()


def _quick(config: ConfigDict) -> None:
    config.seeds = 3
    config.data.transfer_sizes = (100, 250)
    for fit in (config.teacher.fit, *config.fits.values()):
        fit.steps = 100
    config.run.validate_every = 50
    config.accept.gap_recovered = 0.0  # a look has nothing to fall short of, and so ends with exit code 0
    config.retry.attempts = 0
