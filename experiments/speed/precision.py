"""What a teacher that computes in bfloat16 does to its students: twice the same teacher, teaching in either precision.

A small convolutional network sees 250 digits; a larger one, trained in float32, saw all 1,000.

Command:  python run.py --config=experiments/speed/precision.py
          with --config.run.precision=bfloat16 everything is trained in it too
"""

import copy

from ml_collections import ConfigDict

from configs import base, sweeps


def get_config(arg: str = '') -> ConfigDict:
    """The job, locked. Arguments: quick (2 seeds, few steps)."""
    base.arguments(arg, quick=False)
    config = sweeps.digits(arg)
    config.title = 'Precision of the teacher'
    with config.ignore_type(), config.unlocked():
        config.teacher.net, config.teacher.args = 'cnn.cnn', ConfigDict({'widths': (16, 32, 64)})
        config.teacher.precision = 'float32'
        config.student.net, config.student.args = 'cnn.cnn', ConfigDict({'widths': (4, 8, 16)})
        config.assistants.half = copy.deepcopy(config.teacher)  # of the same seed: the same weights
        config.assistants.half.precision = 'bfloat16'
        config.fits = ConfigDict({'float32': sweeps.fit(arg, hard=0.1, soft=0.9)})
        config.fits.bfloat16 = copy.deepcopy(config.fits['float32'])
        config.fits.bfloat16.teacher = 'half'
        config.methods = ConfigDict({'float32': ('float32',), 'bfloat16': ('bfloat16',)})
        config.baseline = 'float32'
        config.accept.method = 'bfloat16'
    return config.lock()
