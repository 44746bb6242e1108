"""FitNets (Romero et al., 2015), table 4: MNIST, a thin student that is twice as deep as its teacher.

The teacher is a maxout network of three convolutions with dropout and bounded weights; the student has six, 8 % of its
weights, and learns from labels, from them and the teacher's soft targets (KD), or from a hint first: its fourth layer
learns to predict the teacher's second one, then all of it from labels and soft targets.

Command:  KDJAX_DATA=FOLDER python run.py --config=experiments/fitnets2015_mnist/config.py --mode=sweep
          where FOLDER has the four original files of MNIST, or a folder 'mnist' that has them
Cost:     see README.md
Expected: expected.json
Arguments: quick (few steps, 2 seeds: a look at the machinery), seeds=N, teacher_epochs=N, epochs=N (of students),
    hint_epochs=N
"""

from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from configs import base
from kdjax.study.sweep import rows

FOLDER = 'experiments/fitnets2015_mnist'
VALIDATION = 1000  # examples held out of 60,000; nothing is chosen on them
BATCH = 128
START = 0.1  # within which a student's weights begin; with the authors' 0.005 labels alone teach it nothing in time
METHODS = {
    'hard labels': ('alone',),
    'KD': ('taught',),
    'FitNet': ('hint', 'taught'),
}


def get_config(arg: str = '') -> ConfigDict:
    """The base that the rows change, locked."""
    given = _arguments(arg)
    quick = given['quick']
    teacher, steps, hint = (
        (40, 40, 20) if quick else (_steps(given[f'{name}epochs']) for name in ('teacher_', '', 'hint_'))
    )
    config = base.config()
    config.title = 'FitNets on MNIST'
    config.expected = f'{FOLDER}/expected.json'
    config.seeds = 2 if quick else given['seeds']
    config.data.source, config.data.args = 'originals.mnist', ConfigDict({'validation': VALIDATION})
    config.data.transfer_sizes = (60_000 - VALIDATION,)
    config.teacher.net, config.student.net = 'maxout.teacher', 'maxout.fitnet'
    with config.ignore_type():
        config.teacher.args = ConfigDict({'dropout': 0.5, 'input_dropout': 0.2})
        config.student.args = ConfigDict({'start': START})
        config.terms.hint = ConfigDict({'kind': 'fitnets.Hint', 'layer': 'hidden4:hidden2'})
        # The authors' form, whose weight falls from 4 to 0
        config.terms.soft = ConfigDict({
            'kind': 'hinton.SoftTargets', 'form': 'paper_unscaled', 'temperature': 3.0,
            'schedules': (('weight', 1.0, 0.0, steps),),
        })  # fmt: skip
        config.fits = ConfigDict({
            'hint': _fit(hint, hint=1.0),
            'alone': _fit(steps, hard=1.0),
            'taught': _fit(steps, hard=1.0, soft=4.0),
        })  # fmt: skip
        config.methods = ConfigDict(METHODS)
    config.teacher.fit = _fit(teacher, hard=1.0)
    config.baseline, config.accept.method = 'hard labels', 'FitNet'
    config.run.layout, config.run.cells = 'map', given['seeds']
    config.run.chunk, config.run.validate_every, config.run.save_every = (20, 20, 20) if quick else (50, 1000, 500)
    return config.lock()


def sweep(arg: str = '') -> Sequence[rows.Row]:
    """Every method."""
    return rows.axis('method', *METHODS)


def _steps(epochs: float) -> int:
    return round(epochs * (60_000 - VALIDATION) / BATCH)


def _fit(steps: int, **weights: float) -> ConfigDict:
    fit = base.fit(**weights)
    fit.steps, fit.batch_size = steps, BATCH
    fit.learning_rate = fit.terms_learning_rate = 5e-4
    fit.optim = ConfigDict({'name': 'rmsprop', 'b2': 0.9, 'schedule': 'cosine', 'warmup': 0, 'max_norm': 1.9365})
    return fit


def _arguments(arg: str) -> dict[str, Any]:
    return base.arguments(arg, quick=False, seeds=3, teacher_epochs=6, epochs=4, hint_epochs=1)
