"""Gradient-boosted trees teach a small network, as a table of their answers: as well as a large network does?

Cells of breast tissue, 30 numbers each, a table that comes with scikit-learn. Trees answer as they were fitted, or to
each training example as trees that have not met it; so does a network of 256 and 256 units.

Command:  python run.py --config=experiments/boosted_cells/config.py --mode=sweep
Cost:     see README.md
Expected: answers of teachers that have not met the example are worth more than those of trees that are sure of it
Arguments: quick (few steps, 3 seeds: a look at the machinery)
"""

from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from configs import base
from kdjax.study.sweep import rows

HERE = 'experiments/boosted_cells'
SOURCE = 'experiments.boosted_cells.cancer:cells'
SIZES = (50, 300)
FOLDS = 5
# Who teaches: what a table of the page calls it -> fields.
TEACHERS: dict[str, dict[str, Any]] = {
    'trees': {'teacher.outputs': f'{HERE}/answers/trees.npz'},
    'trees, out of fold': {'teacher.outputs': f'{HERE}/answers/trees-folds.npz'},
    'network': {},
    'network, out of fold': {'teacher.folds': FOLDS},
}
LABELS, TAUGHT = 'labels', 'taught'


def get_config(arg: str = '') -> ConfigDict:
    """The base that the rows change, locked."""
    quick = base.arguments(arg, quick=False)['quick']
    config = base.config()
    config.title = 'Boosted trees as teachers'
    config.seeds = 3 if quick else 20
    config.data.source, config.data.transfer_sizes = SOURCE, SIZES[:1]
    with config.ignore_type():
        config.fits = ConfigDict({'labels': _fit(quick, hard=1.0), 'taught': _fit(quick, hard=0.1, soft=0.9)})
        config.methods = ConfigDict({LABELS: ('labels',), TAUGHT: ('taught',)})
    config.teacher.fit = _fit(quick, hard=1.0)
    config.terms.soft.temperature = 2.0
    config.baseline, config.accept.method = LABELS, TAUGHT
    config.run.cells = 40
    config.run.chunk, config.run.validate_every, config.run.save_every = 50, 10**6, 10**6
    return config.lock()


def sweep(arg: str = '') -> Sequence[rows.Row]:
    """Students of labels alone and of each teacher, of both sizes."""
    del arg
    sizes = [rows.Row({'labels': size}, {'data.transfer_sizes': (size,)}) for size in SIZES]
    taught = rows.product(rows.axis('method', TAUGHT), rows.choice('teacher', TEACHERS))
    return rows.product(sizes, rows.chained(rows.axis('method', LABELS), taught))


def _fit(quick: bool, **weights: float) -> ConfigDict:
    fit = base.fit(**weights)
    fit.steps, fit.learning_rate = 50 if quick else 1000, 3e-3
    return fit
