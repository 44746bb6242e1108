"""Does knowledge distillation really work? (Stanton, Izmailov, Kirichenko, Alemi, Wilson, 2021): do students answer as
their teachers do, where they could?

A network of 128 and 128 units teaches one of the same kind. It has learned from 5,000 labels; the
student is asked on the same 5,000 images, on them moved or mixed, on more images that no label is known of, or for
longer. Each seed has labels, a teacher and students of its own.

Command:  KDJAX_DATA=FOLDER python run.py --config=experiments/stanton2021_fidelity/config.py --mode=sweep
          where FOLDER has the original files of Fashion-MNIST in a folder 'fashion_mnist'
Cost:     see README.md
Expected: more images to be asked on make students agree more with their teachers; higher scores do not follow
Arguments: quick (few steps, 2 seeds: a look at the machinery), seeds=N
"""

from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from configs import base
from kdjax.study.sweep import rows

SEEDS = 5
SOURCE = 'experiments.stanton2021_fidelity.unlabelled:images'
DATA = {'clothes': {'data': 'fashion_mnist'}}
LABELLED, MANY, EVERY = 5000, 20_000, 58_000
OWN = {'data.transfer_sizes': (EVERY,), 'data.classes': tuple(range(10))}  # those with a label
LONGER = 3  # times as many steps
# What a student is asked on.
ASKED: dict[str, dict[str, Any]] = {
    'its images': OWN,
    'its images, longer': OWN,
    'its images, moved': {**OWN, 'data.augment': {'kind': 'augment.shift', 'pixels': 2}, 'data.views': 64},
    'its images, mixed': {**OWN, 'data.mix': {'kind': 'mix.mixup', 'alpha': 1.0}},
    f'{LABELLED} of all': {'data.transfer_sizes': (LABELLED,)},
    f'{MANY} of all': {'data.transfer_sizes': (MANY,)},
    'all': {'data.transfer_sizes': (EVERY,)},
}
LABELS, TAUGHT = 'labels', 'taught'


def get_config(arg: str = '') -> ConfigDict:
    """The base that the rows change, locked."""
    quick = _arguments(arg)['quick']
    config = base.config()
    config.title = 'Do students answer as their teachers do?'
    config.seeds = 1  # rows name it, beside the data that its teacher learns from
    config.data.source, config.data.transfer_sizes = SOURCE, (EVERY,)
    with config.ignore_type():
        config.data.args = ConfigDict(DATA['clothes'])
        for net in (config.student, config.teacher):
            net.args = ConfigDict({'widths': (128, 128)})
        config.fits = ConfigDict({'labels': _fit(quick, hard=1.0), 'taught': _fit(quick, soft=1.0)})
        config.methods = ConfigDict({LABELS: ('labels',), TAUGHT: ('taught',)})
    config.teacher.fit = _fit(quick, hard=1.0)
    config.teacher.fit.batch_size = 512  # of which one in twelve has a label
    config.teacher.mode = 'online'
    config.baseline, config.accept.method = LABELS, TAUGHT
    config.run.layout, config.run.cells = 'vmap', 8
    config.run.chunk, config.run.validate_every, config.run.save_every = (10, 20, 20) if quick else (250, 10**6, 10**6)
    return config.lock()


def sweep(arg: str = '') -> Sequence[rows.Row]:
    """What students are asked on, and students of labels beside them."""
    given = _arguments(arg)
    seeds = range(2 if given['quick'] else given['seeds'])
    steps = _fit(given['quick']).steps
    data = [
        rows.Row({'data': name, 'of seed': seed}, {'data.args': {**args, 'draw': seed}, 'seed': seed})
        for name, args in DATA.items() for seed in seeds
    ]  # fmt: skip
    alone = [rows.Row({'method': LABELS, 'asked on': 'its images'}, {'method': LABELS, **OWN})]
    taught = [
        rows.Row({'method': TAUGHT, 'asked on': name}, {
            'method': TAUGHT, **changes, 'fits.taught.steps': steps * (LONGER if name.endswith('longer') else 1),
        }) for name, changes in ASKED.items()
    ]  # fmt: skip
    return rows.product(data, rows.chained(alone, taught))


def _fit(quick: bool, **weights: float) -> ConfigDict:
    fit = base.fit(**weights)
    fit.steps, fit.batch_size = 20 if quick else 2000, 128
    return fit


def _arguments(arg: str) -> dict[str, Any]:
    return base.arguments(arg, quick=False, seeds=SEEDS)
