"""To prune, or not to prune (Zhu, Gupta, 2017), its claim on MNIST: is wide and sparse better than narrow and dense?

A perceptron of 96 and 96 units loses weights while it trains, until as many parameters are left as a dense one has that
is 2, 4 or 8 times narrower; both train for as many steps, with hard labels alone or with a teacher.

Command:  KDJAX_DATA=FOLDER python run.py --config=experiments/wide_sparse/config.py --mode=sweep
          where FOLDER has the four original files of MNIST, or a folder 'mnist' that has them
Cost:     about 8 TFLOP; see README.md for what it took
Expected: wide and sparse is better than narrow and dense at every budget
Arguments: quick (few steps, 2 seeds: a look at the machinery), seeds=N
"""

import itertools
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from configs import base
from kdjax.study.sweep import rows

INPUTS, CLASSES = 28 * 28, 10
WIDE = (96, 96)
NARROW = ((48, 48), (24, 24), (12, 12))
SEEDS = 5
VALIDATION = 5000  # examples held out of 60,000; nothing is chosen on them
TEACHERS = {'hard labels': {'hard': 1.0}, 'KD': {'hard': 0.1, 'soft': 0.9}}


def get_config(arg: str = '') -> ConfigDict:
    """The base that the rows change, locked."""
    given = _arguments(arg)
    quick = given['quick']
    config = base.config()
    config.title = 'Wide and sparse, or narrow and dense'
    config.seeds = 2 if quick else given['seeds']
    config.data.source, config.data.args = 'originals.mnist', ConfigDict({'validation': VALIDATION})
    config.data.transfer_sizes = (60_000 - VALIDATION,)
    with config.ignore_type():
        config.student.args.widths = WIDE
        config.teacher.args = ConfigDict({'widths': (400, 400), 'dropout': 0.25})
        config.teacher.augment = ConfigDict({'kind': 'augment.shift', 'pixels': 2})
        config.fits = ConfigDict({})
        for taught, weights in TEACHERS.items():
            config.fits[f'dense {taught}'] = _fit(quick, **weights)
            config.fits[f'sparse {taught}'] = sparse = _fit(quick, **weights)
            sparse.optim.update({'pruning': 'global', 'prune_from': 0.1, 'prune_until': 0.7, 'prune_every': 25})
        config.methods = ConfigDict({name.replace(' ', ', ', 1): (name,) for name in config.fits})
    config.teacher.views = 64
    config.teacher.fit = _fit(quick, hard=1.0)
    config.teacher.fit.steps, config.teacher.fit.batch_size = 40 if quick else 3000, 250
    config.baseline, config.accept.method = 'dense, hard labels', 'sparse, KD'
    config.terms.soft.temperature = 4.0
    config.run.layout, config.run.cells = 'vmap', SEEDS  # more would not stay in the caches of a small machine
    config.run.chunk, config.run.validate_every, config.run.save_every = (20, 40, 40) if quick else (50, 1500, 1500)
    return config.lock()


def sweep(arg: str = '') -> Sequence[rows.Row]:
    """At every budget the narrow dense network and the wide sparse one; the wide dense one above them."""
    _arguments(arg)
    wide = [rows.Row({'nonzeros': parameters(WIDE)}, {'student.args.widths': WIDE})]
    narrow = [rows.Row({'nonzeros': parameters(widths)}, {'student.args.widths': widths}) for widths in NARROW]
    return rows.chained(
        *(
            rows.chained(
                rows.product(rows.axis('method', f'dense, {taught}'), wide + narrow),
                rows.product(rows.axis('method', f'sparse, {taught}'), [_sparse(taught, one) for one in NARROW]),
            )
            for taught in TEACHERS
        )
    )


def _sparse(taught: str, widths: Sequence[int]) -> rows.Row:
    share = sparsity(parameters(widths))
    return rows.Row({'nonzeros': parameters(widths)}, {f'fits.sparse {taught}.sparsity': share})


def kernels(widths: Sequence[int]) -> int:
    """Weights of the kernels of a perceptron for MNIST."""
    sides = (INPUTS, *widths, CLASSES)
    return sum(before * after for before, after in itertools.pairwise(sides))


def parameters(widths: Sequence[int]) -> int:
    """All its parameters."""
    return kernels(widths) + sum(widths) + CLASSES


def sparsity(budget: int) -> float:
    """Share of the weights of the wide network that are zero where so many of its parameters are not."""
    return 1 - (budget - sum(WIDE) - CLASSES) / kernels(WIDE)


def _fit(quick: bool, **weights: float) -> ConfigDict:
    fit = base.fit(**weights)
    fit.steps, fit.batch_size, fit.learning_rate = 40 if quick else 3000, 100, 3e-3
    return fit


def _arguments(arg: str) -> dict[str, Any]:
    return base.arguments(arg, quick=False, seeds=SEEDS)
