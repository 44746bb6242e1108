"""Linear students of a linear teacher: theory says exactly what they learn, and here they are held against it.

Phuong and Lampert (2019) prove that a linear or deep linear student that begins at zero and follows the gradient of
cross-entropy with a linear teacher's soft labels ends at the teacher's weights, projected on the span of its examples;
so that of as many examples as dimensions it *is* the teacher. Students of hard labels alone stand beside.

Command:  KDJAX_DATA=FOLDER python run.py --config=experiments/phuong2019_linear/config.py --mode=sweep
          where FOLDER has the original files of MNIST in a folder 'mnist'
Cost:     see README.md
Expected: students of soft labels disagree with their teacher as often as the projection does; next to 40 examples,
          where it takes them longest to get there, more often
Arguments: quick (few steps, 2 seeds: a look at the machinery), seeds=N
"""

from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from configs import base
from kdjax.study.sweep import rows

HERE = 'experiments.phuong2019_linear'
DIMENSIONS = 40
SIZES = (4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 52, 60, 80)
# What points are like: the source, and its arguments.
DATA: dict[str, tuple[str, dict[str, Any]]] = {
    **{f'angles, {kappa:g}': (f'{HERE}.angles:polynomial', {'dimensions': DIMENSIONS, 'kappa': kappa})
       for kappa in (0.5, 1.0)},
    'digits 0 and 1': ('experiments.transfer.pairs:images', {'data': 'mnist', 'classes': (0, 1)}),
}  # fmt: skip
DEPTHS = (1, 2)
SOFT, HARD = 'soft labels', 'hard labels'


def get_config(arg: str = '') -> ConfigDict:
    """The base that the rows change, locked."""
    given = _arguments(arg)
    quick = given['quick']
    config = base.config()
    config.title = 'Linear students of a linear teacher'
    config.seeds = 2 if quick else given['seeds']
    with config.ignore_type():
        config.data.source, args = DATA['angles, 1']
        config.data.args = ConfigDict(args)
        config.data.transfer_sizes = (DIMENSIONS,)
        for net in (config.student, config.teacher):
            net.net, net.args = f'{HERE}.linear:linear', ConfigDict({'depth': 1, 'width': DIMENSIONS})
        config.terms = ConfigDict({name: config.terms[name] for name in ('hard', 'soft')})
        config.terms.soft.temperature = 1.0
        config.fits = ConfigDict({'hard': _fit(quick, hard=1.0), 'soft': _fit(quick, soft=1.0)})
        config.methods = ConfigDict({HARD: ('hard',), SOFT: ('soft',)})
    # Decay keeps a teacher of points that can be divided from growing, and its labels soft: of harder ones a student
    # learns the last bit ever more slowly
    config.teacher.fit = _fit(quick, hard=1.0)
    config.teacher.fit.steps, config.teacher.fit.weight_decay = 20 if quick else 500, 1.0
    config.baseline, config.accept.method = HARD, SOFT
    config.run.layout, config.run.cells = 'vmap', given['seeds'] * len(SIZES)
    config.run.chunk, config.run.validate_every, config.run.save_every = (10, 20, 20) if quick else (500, 10**6, 10**6)
    return config.lock()


def sweep(arg: str = '') -> Sequence[rows.Row]:
    """Every size of every kind of data, learned by both depths from both kinds of labels."""
    sizes = SIZES[:3] if _arguments(arg)['quick'] else SIZES
    data = rows.choice('data', {name: {'data.source': source, 'data.args': args}
                                for name, (source, args) in DATA.items()})  # fmt: skip
    return rows.product(
        data,
        rows.axis('student.args.depth', *DEPTHS, name='layers'),
        [rows.Row({'examples': size}, {'data.transfer_sizes': (size,)}) for size in sizes],
        rows.axis('method', SOFT, HARD),
    )


def _fit(quick: bool, **weights: float) -> ConfigDict:
    """Plain gradient descent, whose steps stay in the span of the examples, as Adam's do not."""
    fit = base.fit(**weights)
    fit.steps, fit.batch_size, fit.learning_rate = 20 if quick else 4000, 16, 0.05
    fit.optim = ConfigDict({'name': 'sgd', 'schedule': 'constant', 'momentum': 0.9})
    return fit


def _arguments(arg: str) -> dict[str, Any]:
    return base.arguments(arg, quick=False, seeds=10)
