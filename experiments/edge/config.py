"""A camera, a home hub, an assistant: a network that teaches, and a student that is made small enough for a device.

camera: handwritten digits; voice: spoken digits by a speaker nobody heard; text: sentiment of sentences. In each the
student learns from soft labels, half of its weights become zero, and the rest numbers of 8 bits.

Command:  python experiments/edge/edge.py, which trains, exports, measures and writes the table
Cost:     seven minutes of a CPU core and a half: camera one, text one, voice five
Expected: see README.md
Arguments: quick (2 seeds, few steps: a look at the machinery, not a result), task=camera|voice|text
"""

from ml_collections import ConfigDict

from configs import base, fsdd, sst2
from kdjax.errors import unknown

TASKS = ('camera', 'voice', 'text')
SMALL = 'pruned, 8 bits'  # method
SEEDS = 5


def get_config(arg: str = '') -> ConfigDict:
    """A task's teacher, student and the steps between them, locked."""
    arguments = base.arguments(arg, quick=False, task='camera')
    if arguments['task'] not in TASKS:
        raise unknown('task', arguments['task'], TASKS)
    config = {'camera': _camera, 'voice': _voice, 'text': _text}[arguments['task']]()
    steps = config.fits.student.steps
    config.fits.baseline = _fit(config.fits.student, hard=1.0)
    config.fits.prune = _fit(config.fits.student, hard=0.1, soft=0.9)
    config.fits.quantize = _fit(config.fits.student, hard=0.1, soft=0.9)
    for name in ('prune', 'quantize'):
        config.fits[name].steps = steps // 2
        config.fits[name].learning_rate = config.fits.student.learning_rate / 2
    config.fits.prune.optim.pruning, config.fits.prune.sparsity = 'global', 0.5
    with config.ignore_type():
        config.fits.quantize.change = ConfigDict({'kind': 'quantize'})
        config.methods = ConfigDict({
            'hard labels': ('baseline',),
            'soft labels': ('student',),
            SMALL: ('student', 'prune', 'quantize'),
        })  # fmt: skip
    config.title, config.seeds, config.accept.method = f'Edge: {arguments["task"]}', SEEDS, SMALL
    config.accept.gap_recovered, config.accept.transfer_size, config.retry.attempts = 0.0, 0, 0
    if arguments['quick']:
        config.seeds = 2
        for fit in (config.teacher.fit, *config.fits.values()):
            fit.steps = 20
        config.run.validate_every = 20
    return config.lock()


def _fit(like: ConfigDict, **weights: float) -> ConfigDict:
    """A fit as another, with other terms."""
    fit = base.fit(**weights)
    for field in ('steps', 'batch_size', 'learning_rate', 'weight_decay'):
        fit[field] = like[field]
    return fit


def _student(config: ConfigDict, **fields: float) -> ConfigDict:
    """The config with the student's fit alone."""
    fit = base.fit(hard=0.1, soft=0.9)
    fit.update(fields)
    config.fits, config.search = ConfigDict({'student': fit}), base.Search()
    return config


def _camera() -> ConfigDict:
    config = base.config()
    config.data.transfer_sizes = (250,)
    config.teacher.args, config.student.args = {'widths': (256, 256)}, {'widths': (16,)}
    with config.ignore_type():
        config.teacher.augment = ConfigDict({'kind': 'augment.shift', 'pixels': 1})
    config.teacher.views = 64
    config.teacher.fit.update({'steps': 3000, 'batch_size': 64, 'learning_rate': 3e-3, 'weight_decay': 1e-2})
    return _student(config, steps=1500, batch_size=32, learning_rate=1e-2)


def _voice() -> ConfigDict:
    config = fsdd.get_config('student=tiny').unlock()
    config.teacher.args = ConfigDict({'widths': (16, 24, 32, 48), 'strides': (1, 2, 2), 'dropout': 0.2})
    config.teacher.views, config.data.views = 8, 2
    config.teacher.fit.update({'steps': 300, 'batch_size': 32})
    return _student(config, steps=300, batch_size=32, learning_rate=8e-3, weight_decay=1e-2)


def _text() -> ConfigDict:
    config = sst2.get_config().unlock()
    config.data.args, config.data.transfer_sizes = ConfigDict({'vocabulary': 3000}), (6920,)
    config.teacher.update({'net': 'textcnn.textcnn', 'inputs': 'inputs', 'folds': 0})
    config.teacher.args = ConfigDict({'width': 32, 'filters': 32})
    config.teacher.fit.update({'steps': 300, 'batch_size': 128, 'learning_rate': 5e-3})
    config.student.net, config.student.args = 'bag.bag', ConfigDict({'width': 16, 'hidden': 16, 'dropout': 0.3})
    return _student(config, steps=400, batch_size=128, learning_rate=5e-3, weight_decay=1e-2)
