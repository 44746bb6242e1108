"""Distillation and transfer learning: the same small network, the same few labels, and what each of them brings.

A small network learns to tell classes from 1, 5, 20 or 100 examples of each: from their labels alone; after another
data set (whole, or its last layer alone); from a large teacher; from both. The teacher has seen all examples with their
labels, or few of each class, alone or after the other data set. Beside it the large network itself learns from the
same few. Networks are perceptrons, of digits; or convolutions, of photographs and of speech.

Command:  KDJAX_DATA=FOLDER python run.py --config=experiments/transfer/config.py --mode=sweep
          where FOLDER has the original files of MNIST in a folder 'mnist', of Fashion-MNIST in 'fashion_mnist'
          KDJAX_DATA=FOLDER python run.py --config=experiments/transfer/config.py:pairs=convolutions --mode=sweep
          where it has those of CIFAR-100 in 'cifar100' and fsdd/recordings
Cost:     see README.md, and that of experiments/transfer_convolutions
Expected: a teacher that knows all labels helps where there are few of them; what was learned first helps convolutions,
          most between speakers, and not perceptrons
Arguments: pairs=perceptrons|convolutions, quick (few steps, 2 seeds: a look at the machinery), seeds=N
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from configs import base
from experiments.transfer.pairs import Pair
from kdjax.errors import unknown
from kdjax.study.config import fields
from kdjax.study.sweep import rows

SEEDS = 10
IMAGES, SPOKEN = 'experiments.transfer.pairs:images', 'experiments.transfer.pairs:digits'
MLPS = {name: {'net': 'mlp.mlp', 'args': {'widths': (width, width)}} for name, width in (('small', 64), ('large', 256))}
LOW, HIGH = (0, 1, 2, 3, 4), (5, 6, 7, 8, 9)
# Of CIFAR-100's 20 superclasses four: aquatic mammals, fish, flowers, food containers; and the classes of all others.
HELD = (4, 30, 55, 72, 95, 1, 32, 67, 73, 91, 54, 62, 70, 82, 92, 9, 10, 16, 28, 61)
OTHERS = tuple(one for one in range(100) if one not in HELD)
PAIRS: Mapping[str, Mapping[str, Pair]] = {
    'perceptrons': {
        'clothes, then digits': Pair(
            IMAGES, {'data': 'fashion_mnist'}, {'data': 'mnist'}, 10, **MLPS, layer='hidden2', sizes=(1, 5, 20, 100),
            few=100, new=('head',), preprocess={'kind': 'preprocess.unit'},
        ),
        'digits 5-9, then 0-4': Pair(
            IMAGES, {'data': 'mnist', 'classes': HIGH}, {'data': 'mnist', 'classes': LOW}, 5, **MLPS, layer='hidden2',
            sizes=(1, 5, 20, 100), few=100, new=('head',), preprocess={'kind': 'preprocess.unit'},
        ),
    },
    'convolutions': {
        '80 classes of photographs, then 20 others': Pair(
            IMAGES, {'data': 'cifar100', 'classes': OTHERS}, {'data': 'cifar100', 'classes': HELD}, 20,
            small={'net': 'cnn.cnn', 'args': {'widths': (8, 16, 32)}},
            large={'net': 'cnn.cnn', 'args': {'widths': (32, 64, 128)}},
            layer='penult', sizes=(1, 5, 20, 100), few=100, new=('head',), preprocess={'kind': 'preprocess.unit'},
        ),
        'digits of five speakers, then of a sixth': Pair(
            SPOKEN, {'speakers': (0, 1, 2, 3, 5)}, {'speakers': (4,)}, 10,
            small={'net': 'depthwise.keyword', 'args': {'first': 12, 'stride': 1, 'widths': (16, 16, 16),
                                                        'strides': (2, 1, 2)}},
            large={'net': 'tcresnet.tcresnet', 'args': {'widths': (24, 36, 48, 72), 'strides': (1, 2, 2),
                                                        'dropout': 0.2}},
            layer='penult', sizes=(1, 5, 20), few=20, new=(), preprocess={'kind': 'audio.log_mel', 'window': 240,
                                                                          'hop': 160},
        ),
    },
}  # fmt: skip
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


def teachers(pair: Pair) -> dict[str, tuple[int, str]]:
    """Who teaches: from how many labels of each class (0 for all), and whether after the other data set."""
    few = f'{pair.few} a class'
    return {'all labels': (0, ''), few: (pair.few, ''), f'{few}, pretrained': (pair.few, 'base')}


def get_config(arg: str = '') -> ConfigDict:
    """The base that the rows change, locked."""
    given = _arguments(arg)
    quick = given['quick']
    config = base.config()
    config.title = 'Distillation and transfer learning'
    config.seeds = 2 if quick else given['seeds']
    with config.ignore_type():
        # Neighbours within a batch, of which the teacher knows the likelihood: no label is read
        config.terms.near = ConfigDict({'kind': 'pkt.ProbabilisticTransfer', 'form': 'paper'})
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
    # Convolutions of many cells in one program are slow on a CPU
    config.run.layout = 'vmap' if given['pairs'] == 'perceptrons' else 'map'
    config.run.cells = 4 * SEEDS
    config.run.chunk, config.run.validate_every, config.run.save_every = (10, 20, 20) if quick else (50, 1000, 1000)
    first = next(iter(PAIRS[given['pairs']].values()))
    return fields.changed(config, {**_fields(first), 'data.args': first.then, **_network('student', first.small)})


def sweep(arg: str = '') -> Sequence[rows.Row]:
    """Every method at every size, for every pair; of those that are taught, every teacher; and the large network."""
    given = _arguments(arg)
    pairs = PAIRS[given['pairs']].items()
    return rows.chained(*(_rows(name, pair, pair.sizes[:2] if given['quick'] else pair.sizes) for name, pair in pairs))


def _rows(name: str, pair: Pair, sizes: Sequence[int]) -> list[rows.Row]:
    data = rows.choice('pair', {name: _fields(pair)})
    size = [rows.Row({'labels a class': count}, {'data.transfer_sizes': (count * pair.classes,)}) for count in sizes]
    small, large = (rows.choice('network', {called: _network('student', network)})
                    for called, network in (('small', pair.small), ('large', pair.large)))  # fmt: skip
    plain = (method for method in METHODS if method not in (*TAUGHT, 'pretrained once'))
    known, *others = _teachers(pair)
    alone = rows.product(data, small, size, [known], rows.axis('method', *plain))
    taught = rows.product(data, small, size, [known, *others], rows.axis('method', *TAUGHT))
    begun = rows.choice('method', {
        'from scratch': {'method': 'from scratch'},
        'pretrained once': {'method': 'pretrained once', 'student.pretrained': 'base'},
    })  # fmt: skip
    return rows.chained(alone, taught, rows.product(data, large, size, [known], begun))


def _teachers(pair: Pair) -> list[rows.Row]:
    """The data that the teacher sees are those that there are."""
    return rows.choice('teacher', {
        name: {'data.args': {**pair.then, 'train': count * pair.classes}, 'teacher.pretrained': start}
        for name, (count, start) in teachers(pair).items()
    })  # fmt: skip


def _fields(pair: Pair) -> dict[str, Any]:
    """What a pair changes, beside its small network and the data that its teacher sees."""
    return {
        'upstream.source': pair.source, 'upstream.args': pair.first, 'upstream.new': pair.new,
        'data.source': pair.source, 'data.preprocess': pair.preprocess, 'terms.near.layer': pair.layer,
        **_network('teacher', pair.large), **_network('assistants.base', pair.large),
    }  # fmt: skip


def _network(part: str, network: Mapping[str, Any]) -> dict[str, Any]:
    return {f'{part}.{name}': value for name, value in network.items()}


def _fit(quick: bool, steps: int, **weights: float) -> ConfigDict:
    fit = base.fit(**weights)
    fit.steps, fit.learning_rate = 20 if quick else steps, 2e-3
    return fit


def _arguments(arg: str) -> dict[str, Any]:
    given = base.arguments(arg, pairs='perceptrons', quick=False, seeds=SEEDS)
    if given['pairs'] not in PAIRS:
        raise unknown('pairs', given['pairs'], PAIRS)
    return given
