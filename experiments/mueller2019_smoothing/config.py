"""When does label smoothing help? (Mueller, Kornblith, Hinton, 2019), section 4: smoothed teachers teach worse.

Teachers of 128 and 128 units with dropout learn digits or clothes from labels that are smoothed, or not; students of 32
and 32 units learn from each at several temperatures, or from labels alone, smoothed or not. Each seed has training
images, teachers and students of its own.

Command:  KDJAX_DATA=FOLDER python run.py --config=experiments/mueller2019_smoothing/config.py --mode=sweep
          where FOLDER has the original files of MNIST in a folder 'mnist', of Fashion-MNIST in 'fashion_mnist'
Cost:     see README.md
Expected: the paper's order: a smoothed teacher is at least as accurate, and its students are worse
Arguments: quick (few steps, 2 seeds: a look at the machinery), seeds=N
"""

from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from configs import base
from kdjax.study.sweep import rows

SEEDS = 5
SOURCE = 'experiments.transfer.pairs:images'
SMOOTHING = (0.0, 0.1)  # of a teacher's labels, or of a student's own
TEMPERATURES = (1.0, 2.0, 4.0, 8.0)
EXAMPLES = 50_000  # of 58,000, drawn anew for each seed
DATA = {'digits': {'data': 'mnist', 'train': EXAMPLES}, 'clothes': {'data': 'fashion_mnist', 'train': EXAMPLES}}
ALONE, DISTILLED = 'alone', 'distilled'


def get_config(arg: str = '') -> ConfigDict:
    """The base that the rows change, locked."""
    quick = _arguments(arg)['quick']
    config = base.config()
    config.title = 'Teachers of smoothed labels'
    config.seeds = 1  # rows name it, beside the data that its teacher learns from
    config.data.source, config.data.transfer_sizes = SOURCE, (EXAMPLES,)
    with config.ignore_type():
        config.data.args = ConfigDict(DATA['digits'])
        config.student.args = ConfigDict({'widths': (32, 32)})
        config.teacher.args = ConfigDict({'widths': (128, 128), 'dropout': 0.25})
        smoothed = {'kind': 'cross_entropy.CrossEntropy', 'smoothing': 0.0}
        config.terms.smoothed, config.terms.own = ConfigDict(smoothed), ConfigDict(smoothed)
        config.fits = ConfigDict({'alone': _fit(quick, own=1.0), 'distilled': _fit(quick, hard=0.1, soft=0.9)})
        config.methods = ConfigDict({ALONE: ('alone',), DISTILLED: ('distilled',)})
    config.teacher.fit = _fit(quick, smoothed=1.0)
    config.baseline, config.accept.method = ALONE, DISTILLED
    config.run.layout, config.run.cells = 'vmap', 8
    config.run.chunk, config.run.validate_every, config.run.save_every = (10, 20, 20) if quick else (250, 10**6, 10**6)
    return config.lock()


def sweep(arg: str = '') -> Sequence[rows.Row]:
    """Students of every teacher at every temperature, and students alone with their own smoothing."""
    given = _arguments(arg)
    seeds = range(2 if given['quick'] else given['seeds'])
    data = [
        rows.Row({'data': name, 'of seed': seed}, {'data.args': {**args, 'draw': seed}, 'seed': seed})
        for name, args in DATA.items() for seed in seeds
    ]  # fmt: skip
    alone = rows.product(rows.axis('method', ALONE), rows.axis('terms.own.smoothing', *SMOOTHING, name='own'))
    taught = rows.product(
        rows.axis('method', DISTILLED), rows.axis('terms.smoothed.smoothing', *SMOOTHING, name="teacher's"),
        rows.axis('terms.soft.temperature', *TEMPERATURES),
    )  # fmt: skip
    return rows.product(data, rows.chained(alone, taught))


def _fit(quick: bool, **weights: float) -> ConfigDict:
    fit = base.fit(**weights)
    fit.steps, fit.batch_size = 20 if quick else 2000, 128
    return fit


def _arguments(arg: str) -> dict[str, Any]:
    return base.arguments(arg, quick=False, seeds=SEEDS)
