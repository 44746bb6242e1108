"""Ten ways to teach on CIFAR-100, as two programs: CRD, and all others, whose students have every other term.

Weights say which of the terms count. A grid of nine techniques, hard labels and all seeds shares its teacher, its
images and one compiled step, so that a large device trains the table at once. CRD stands apart, since a bank of all
examples for every student, of weight 0 in most, would slow all of them down.

Command:  KDJAX_DATA=FOLDER python run.py --config=experiments/cifar100_techniques/config.py --mode=sweep
          where FOLDER has the original binary files of CIFAR-100, or a folder 'cifar100' that has them
Cost:     see README.md for what it took
Expected: no number of a paper at this length; at 240 epochs those of the papers' tables
Arguments: pair=TEACHER-STUDENT, epochs=N (0: 240), teacher=N (epochs of the teacher; 0: as many as its students'),
    seeds=N, precision=float32|bfloat16, quick (100 steps, one seed)
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from configs import base, cifar, preset
from experiments.crd2020_cifar100 import config as crd
from kdjax.study.sweep import rows

RECIPE = cifar.Recipe()
PAIR, EPOCHS, TEACHER, SEEDS = 'resnet20-resnet8', 2.0, 10.0, 3  # what two cores of a CPU can pay
APART = 'CRD'  # the technique with a bank of all examples
TERMS = {
    'hard': preset.HARD,
    'smoothed': {'kind': 'cross_entropy.CrossEntropy', 'smoothing': 0.1},
    'soft': preset.SOFT,
    'attention': crd.METHODS['AT'].terms['attention'],
    'similarity': crd.METHODS['SP'].terms['similarity'],
    **crd.METHODS['RKD'].terms,
    'neighbours': crd.METHODS['PKT'].terms['neighbours'],
    'decoupled': {'kind': 'dkd.DecoupledTargets', 'alpha': 1.0, 'beta': 2.0, 'temperature': 4.0},
    'correlations': {'kind': 'dist.Correlations', 'beta': 2.0, 'gamma': 2.0, 'temperature': 4.0},
    'normalised': {'kind': 'nkd.NormalizedTargets', 'gamma': 1.5, 'temperature': 1.0},
}
WEIGHTS: dict[str, Mapping[str, float]] = {
    cifar.BASELINE: {'hard': 1.0},
    'LS': {'smoothed': 1.0},
    **{name: crd.METHODS[name].chain[0] for name in ('KD', 'AT', 'SP', 'RKD', 'PKT')},
    'DKD': {'hard': 1.0, 'decoupled': 1.0},
    'DIST': {'hard': 1.0, 'correlations': 1.0},
    'NKD': {'hard': 1.0, 'normalised': 1.0},
}


def get_config(arg: str = '') -> ConfigDict:
    """The base that the rows change, locked."""
    given = _arguments(arg)
    none = dict.fromkeys(TERMS, 0.0)
    methods = {name: preset.Preset(TERMS, ({**none, **weights},)) for name, weights in WEIGHTS.items()}
    taught = {name: method for name, method in methods.items() if name != cifar.BASELINE}
    span = cifar.length(RECIPE, given)
    taught[APART] = crd.METHODS[APART]
    found = cifar.config('CIFAR-100: ten techniques', 'cifar100', taught, span, given['pair'])
    with found.unlocked():
        found.data.source, found.seeds = 'originals.cifar100', given['seeds']
        found.fits.baseline.weights = ConfigDict(methods[cifar.BASELINE].chain[0])
        found.terms.attention.layers = cifar.stages(given['pair'])
        found.run.precision, found.run.layout = given['precision'], 'auto'
        if given['teacher']:
            cifar.teach_for(found, span._replace(epochs=given['teacher']))
    return found


def sweep(arg: str = '') -> Sequence[rows.Row]:
    """Every technique, from several seeds."""
    return rows.product(rows.axis('method', *WEIGHTS, APART), rows.axis('seed', *range(_arguments(arg)['seeds'])))


def _arguments(arg: str) -> dict[str, Any]:
    found = base.arguments(arg, pair=PAIR, epochs=EPOCHS, teacher=TEACHER, seeds=0, precision='float32', quick=False)
    return {**found, 'seeds': found['seeds'] or (1 if found['quick'] else SEEDS)}
