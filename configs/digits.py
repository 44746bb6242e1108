"""Handwritten digits: when does a student of 1.2 k parameters gain from a teacher of 85 k?

Command:  python run.py
Cost:     about a minute on 2 CPU cores
Expected: some points of accuracy with 100 examples, fewer with 250, nothing significant with 1,000
Arguments: quick (3 seeds, few steps: a look at the machinery, not a result), student=small|tiny
"""

from ml_collections import ConfigDict

from configs import base
from kdjax.names import unknown

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
        config.data.augment = ConfigDict({'kind': 'augment.shift', 'pixels': 1})
    config.data.views = 8
    config.teacher.fit.steps = 3000
    config.teacher.fit.batch_size = 64
    config.terms.soft.temperature = (2.0, 4.0, 8.0)
    for fit in config.fits.values():
        fit.steps = 1500
        fit.batch_size = 32
        fit.learning_rate = (3e-3,)
    config.fits.finetune.steps = 500
    if arguments['quick']:
        _quick(config)
    return config.lock()


def _quick(config: ConfigDict) -> None:
    config.seeds = 3
    config.data.transfer_sizes = (100, 250)
    for fit in (config.teacher.fit, *config.fits.values()):
        fit.steps = 100
    config.run.validate_every = 50
