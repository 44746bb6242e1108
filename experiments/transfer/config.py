"""Distillation and transfer learning: the same small network, the same few labels, and what each of them brings.

A perceptron of 64 and 64 units learns to tell digits from 1, 5, 20 or 100 examples of each: from their labels alone;
after another data set (whole, or its last layer alone); from a teacher of 256 and 256 units; from both. The teacher has
seen all digits with their labels, or 100 of each, alone or after the other data set. Beside it the large network itself
learns from the same few.

Command:  KDJAX_DATA=FOLDER python run.py --config=experiments/transfer/config.py --mode=sweep
          where FOLDER has the original files of MNIST in a folder 'mnist', of Fashion-MNIST in 'fashion_mnist'
Cost:     see README.md
Expected: pretraining helps the more the fewer labels there are, and more from 5 ... 9 than from clothes; a teacher that
          knows all labels helps at every size
Arguments: quick (few steps, 2 seeds: a look at the machinery), seeds=N
"""

from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from configs import base
from kdjax.study.sweep import rows

SEEDS = 10
PER_CLASS = (1, 5, 20, 100)
SMALL, LARGE = (64, 64), (256, 256)
SOURCE = 'experiments.transfer.pairs:images'
LOW, HIGH = (0, 1, 2, 3, 4), (5, 6, 7, 8, 9)
# What is learned first, and then: its name -> fields of both, and how many classes there are then.
PAIRS: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    'clothes, then digits': ({'data': 'fashion_mnist'}, {'data': 'mnist'}, 10),
    'digits 5-9, then 0-4': ({'data': 'mnist', 'classes': HIGH}, {'data': 'mnist', 'classes': LOW}, 5),
}
METHODS = {
    'from scratch': ('labels',),
    'pretrained, head': ('pretraining', 'head'),
    'pretrained': ('pretraining', 'labels'),
    'distilled': ('taught',),
    'pretrained, distilled': ('pretraining', 'taught'),
    'label-free features, head': ('features', 'head'),
    'pretrained once': ('labels',),  # as the one large network upstream, whatever the seed
}
TAUGHT = ('distilled', 'pretrained, distilled')
# Who teaches: from how many labels of each class (0 for all), and whether after the other data set.
TEACHERS = {'all labels': (0, ''), '100 a class': (100, ''), '100 a class, pretrained': (100, 'base')}


def get_config(arg: str = '') -> ConfigDict:
    """The base that the rows change, locked."""
    given = _arguments(arg)
    quick = given['quick']
    config = base.config()
    config.title = 'Distillation and transfer learning'
    config.seeds = 2 if quick else given['seeds']
    with config.ignore_type():
        config.data.source = config.upstream.source = SOURCE
        config.student.args, config.teacher.args = ConfigDict({'widths': SMALL}), ConfigDict({'widths': LARGE})
        # Neighbours within a batch, of which the teacher knows the likelihood: no label is read
        config.terms.near = ConfigDict({'kind': 'pkt.ProbabilisticTransfer', 'layer': 'hidden2', 'form': 'paper'})
        config.fits = ConfigDict({
            'labels': _fit(quick, 300, hard=1.0),
            'taught': _fit(quick, 300, hard=0.1, soft=0.9),
            'head': _fit(quick, 300, hard=1.0),
            'pretraining': _fit(quick, 1000, hard=1.0),
            'features': _fit(quick, 400, near=1.0),
        })  # fmt: skip
        config.methods = ConfigDict(METHODS)
    config.fits.head.trains = ('head',)
    config.fits.head.learning_rate = 1e-2
    config.fits.pretraining.examples, config.fits.features.examples = 'upstream', 'all'
    config.fits.features.batch_size, config.fits.pretraining.batch_size = 64, 128
    config.teacher.fit = _fit(quick, 1000, hard=1.0)
    config.teacher.fit.batch_size = 128
    config.assistants.base = ConfigDict(config.teacher.to_dict())
    config.assistants.base.fit.examples = 'upstream'
    config.baseline, config.accept.method = 'from scratch', 'pretrained, distilled'
    config.run.layout, config.run.cells = 'vmap', 4 * SEEDS
    config.run.chunk, config.run.validate_every, config.run.save_every = (10, 20, 20) if quick else (50, 1000, 1000)
    return config.lock()


def sweep(arg: str = '') -> Sequence[rows.Row]:
    """Every method at every size, for both pairs; of those that are taught, every teacher; and the large network."""
    quick = _arguments(arg)['quick']
    return rows.chained(*(_pair(pair, PER_CLASS[:2] if quick else PER_CLASS) for pair in PAIRS))


def _pair(pair: str, sizes: Sequence[int]) -> list[rows.Row]:
    first, then, classes = PAIRS[pair]
    data = rows.choice('pair', {pair: {'upstream.args': first, 'data.args': {**then, 'train': 0}}})
    size = [rows.Row({'labels a class': count}, {'data.transfer_sizes': (count * classes,)}) for count in sizes]
    student = rows.choice('network', {'small': {}})
    plain = (name for name in METHODS if name not in (*TAUGHT, 'pretrained once'))
    alone = rows.product(data, student, size, rows.choice('teacher', {'all labels': {}}), rows.axis('method', *plain))
    taught = rows.product(
        rows.choice('pair', {pair: {'upstream.args': first}}), student, size, _teachers(then, classes),
        rows.axis('method', *TAUGHT),
    )  # fmt: skip
    large = rows.choice('network', {'large': {'student.args.widths': LARGE}})
    begun = rows.choice('method', {
        'from scratch': {'method': 'from scratch'},
        'pretrained once': {'method': 'pretrained once', 'student.pretrained': 'base'},
    })  # fmt: skip
    whole = rows.product(data, large, size, rows.choice('teacher', {'all labels': {}}), begun)
    return rows.chained(alone, taught, whole)


def _teachers(then: dict[str, Any], classes: int) -> list[rows.Row]:
    """The data that the teacher sees are those that there are."""
    return rows.choice('teacher', {
        name: {'data.args': {**then, 'train': count * classes}, 'teacher.pretrained': start}
        for name, (count, start) in TEACHERS.items()
    })  # fmt: skip


def _fit(quick: bool, steps: int, **weights: float) -> ConfigDict:
    fit = base.fit(**weights)
    fit.steps, fit.learning_rate = 20 if quick else steps, 2e-3
    return fit


def _arguments(arg: str) -> dict[str, Any]:
    return base.arguments(arg, quick=False, seeds=SEEDS)
