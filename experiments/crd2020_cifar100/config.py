"""The CIFAR-100 tables of CRD (Tian, Krishnan, Isola, 2020): thirteen pairs of networks, fourteen ways to teach.

Command:  python run.py --config=experiments/crd2020_cifar100/config.py:table=same --mode=sweep
Cost:     not measured; --mode=plan says how many operations. Hundreds of trainings of 240 epochs: for a cluster
Expected: expected.json, last epoch: CRD two points above KD from resnet32x4 to resnet8x4, 75.51 % against 73.33 %
Arguments: table=same|cross|all, pair=TEACHER-STUDENT, method=NAME (beside hard labels), epochs=N (all that is given in
    epochs shrinks alike), seeds=N (0: as the paper), quick (100 steps, one seed: a look at the machinery)
"""

from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from configs import base, cifar, preset
from kdjax.study.sweep import rows

RECIPE = cifar.Recipe(start_epochs=30)
TABLES = {
    'same': (
        'wrn_40_2-wrn_16_2', 'wrn_40_2-wrn_40_1', 'resnet56-resnet20', 'resnet110-resnet20', 'resnet110-resnet32',
        'resnet32x4-resnet8x4', 'vgg13-vgg8',
    ),
    'cross': (
        'vgg13-MobileNetV2', 'ResNet50-MobileNetV2', 'ResNet50-vgg8', 'resnet32x4-ShuffleV1', 'resnet32x4-ShuffleV2',
        'wrn_40_2-ShuffleV1',
    ),
}  # fmt: skip
SEEDS = {'same': 5, 'cross': 3}
# FSP needs as many channels on both sides.
WITHOUT_FSP = ('wrn_40_2-wrn_40_1', *TABLES['cross'])
MAPS = ('stage1', 'stage2', 'stage3')  # of most pairs; those of four stages have one more
VID = {f'vid_{layer}': {'kind': 'vid.VariationalInformation', 'layer': layer, 'form': 'mean'}
       for layer in (*MAPS, 'stage4')}  # fmt: skip
CRD = {'kind': 'crd.ContrastiveRepresentation', 'examples': cifar.IMAGES}
CONTRAST = {**CRD, 'negatives': 16384, 'width': 128, 'temperature': 0.07, 'momentum': 0.5}


def _method(term: str, spec: dict[str, Any], weight: float) -> preset.Preset:
    """One term beside the hard labels."""
    return preset.Preset({term: spec}, ({'hard': 1.0, term: weight},))


METHODS = {
    'KD': preset.Preset({'soft': preset.SOFT}, ({'hard': 0.1, 'soft': 0.9},)),
    'FitNet': _method('hint', {'kind': 'fitnets.Hint', 'layer': 'stage2', 'form': 'repdistiller'}, 100.0),
    'AT': _method('attention', {'kind': 'attention.AttentionTransfer', 'layers': MAPS, 'form': 'code'}, 1000.0),
    'SP': _method('similarity', {'kind': 'similarity.SimilarityPreserving', 'layers': ('stage3',)}, 3000.0),
    'CC': _method('congruence', {'kind': 'cc.NeighbourCongruence', 'layer': 'penult', 'width': 128}, 0.02),
    'VID': preset.Preset(VID, ({'hard': 1.0, **{f'vid_{layer}': 1.0 for layer in MAPS}},)),
    'RKD': preset.Preset(
        {'distance': {'kind': 'rkd.DistanceRelations'}, 'angle': {'kind': 'rkd.AngleRelations'}},
        ({'hard': 1.0, 'distance': 25.0, 'angle': 50.0},),
    ),
    'PKT': _method('neighbours', {'kind': 'pkt.ProbabilisticTransfer', 'layer': 'penult', 'form': 'code'}, 30000.0),
    'AB': preset.Preset(
        {'boundary': {'kind': 'ab.ActivationBoundary', 'layers': MAPS, 'form': 'halving', 'margin': 1.0}},
        ({'boundary': 0.003}, {'hard': 1.0}),
    ),
    'FT': preset.Preset(
        {
            'paraphrase': {'kind': 'ft.Paraphrase', 'layer': 'stage3', 'form': 'mean'},
            'factor': {'kind': 'ft.Factor', 'layer': 'stage3', 'paraphraser': 'paraphrase', 'form': 'repdistiller'},
        },
        ({'paraphrase': 1.0}, {'hard': 1.0, 'factor': 200.0}),
    ),
    'FSP': preset.Preset(
        {'flow': {'kind': 'fsp.Flow', 'layers': ('stem', *MAPS), 'form': 'mean'}}, ({'flow': 1.0}, {'hard': 1.0})
    ),
    'NST': _method('selectivity', {'kind': 'nst.NeuronSelectivity', 'layers': MAPS}, 50.0),
    'CRD': _method('contrast', CONTRAST, 0.8),
    'CRD+KD': preset.Preset(
        {'contrast': CONTRAST, 'soft': preset.SOFT}, ({'hard': 1.0, 'soft': 1.0, 'contrast': 0.8},)
    ),
}  # fmt: skip


def get_config(arg: str = '') -> ConfigDict:
    """The base that the rows change, locked."""
    arguments = _arguments(arg)
    span, pair = cifar.length(RECIPE, arguments), next(iter(_columns(arguments)))
    expected = 'experiments/crd2020_cifar100/expected.json'
    found = cifar.config('CRD, tables 1 and 2', 'cifar100', METHODS, span, pair, expected)
    with found.unlocked():
        # The paraphraser alone is trained first, and nothing shrinks the student meanwhile; it is then kept as it is.
        found.fits.FT_start.weight_decay = found.fits.FT.terms_weight_decay = 0.0
        found.seeds = arguments['seeds'] or max(SEEDS.values())
    return found


def sweep(arg: str = '') -> Sequence[rows.Row]:
    """Every method on every pair of the tables."""
    arguments = _arguments(arg)
    columns = _columns(arguments)
    return rows.chained(*(
        cifar.table({pair: columns[pair] for pair in pairs if pair in columns}, _seeds(table, arguments), RECIPE)
        for table, pairs in TABLES.items()
    ))  # fmt: skip


def changes(method: str, pair: str) -> dict[str, Any]:
    """What a pair changes in a method: how many stages there are, and whether channels have to be matched."""
    (teacher, student), maps = cifar.sides(pair), cifar.stages(pair)
    before = 'stage{0}_pre:stage{0}_pre' if student.before else 'stage{0}:stage{0}_pre'
    return {
        'AT': {'terms.attention.layers': maps},
        'NST': {'terms.selectivity.layers': maps},
        'SP': {'terms.similarity.layers': maps[-1:]},
        'VID': {f'fits.VID.weights.vid_{layer}': 1.0 for layer in maps},
        'AB': {
            'terms.boundary.layers': tuple(before.format(number) for number in range(1, len(maps) + 1)),
            'terms.boundary.connector': teacher.channels != student.channels,
        },
        'FT': {
            'terms.paraphrase.layer': maps[-1],
            'terms.factor.layer': maps[-1],
            **({} if student.slow or student.net == 'vgg.vgg' else {'fits.FT_start.terms_learning_rate': 0.01}),
        },
        'FSP': {'terms.flow.layers': ('stem', *maps)},
    }.get(method, {})


def _columns(arguments: dict[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """By pair, the methods that are wanted of those that the table has, with their changes."""
    tables = cifar.chosen('table', arguments['table'], list(TABLES))
    pairs = cifar.chosen('pair', arguments['pair'], [pair for table in tables for pair in TABLES[table]])
    methods = (cifar.BASELINE, *cifar.chosen('method', arguments['method'], list(METHODS)))
    return {
        pair: {name: changes(name, pair) for name in methods if name != 'FSP' or pair not in WITHOUT_FSP}
        for pair in pairs
    }


def _seeds(table: str, arguments: dict[str, Any]) -> int:
    return arguments['seeds'] or (1 if arguments['quick'] else SEEDS[table])


def _arguments(arg: str) -> dict[str, Any]:
    return base.arguments(arg, table='all', pair='all', method='all', epochs=0.0, seeds=0, quick=False)
