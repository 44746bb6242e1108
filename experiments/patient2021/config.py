"""Is a good teacher patient and consistent? (Beyer et al., 2021), asked on CIFAR-100.

Soft targets alone, at temperature 1, with three kinds of teaching: of other crops than the student's ('independent'),
of the same pixels ('consistent'), and of the same pixels of mixed images ('function matching'); each for three lengths.

Command:  python run.py --config=experiments/patient2021/config.py --mode=sweep
Cost:     not measured; --mode=plan says how many operations. 12 arms of 30, 120 or 480 epochs, three seeds each
Expected: the order in which the paper's figure puts them, not its numbers, which are of ImageNet: consistent above
    independent, function matching above both once it is long, and every longer run above the shorter one
Arguments: pair=TEACHER-STUDENT, epochs=N (of the longest runs; the others have a quarter and a sixteenth of it),
    seeds=N, quick (100 steps, one seed: a look at the machinery)
"""

from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from configs import base, cifar, preset
from kdjax.study.sweep import rows

RECIPE = cifar.Recipe(epochs=480, batch_size=512, rate=0.003, low_rate=0.003, weight_decay=0.1)
SHARES = (1 / 16, 1 / 4, 1)  # of the longest run
TEACHING = {
    'independent': {'data.consistent': False},
    'consistent': {},
    'function matching': {'data.mix': {'kind': 'mix.mixup', 'alpha': 1.0}},
}
METHODS = {'soft labels': preset.Preset({'soft': {**preset.SOFT, 'temperature': 1.0}}, ({'soft': 1.0},))}
SEEDS = 3


def get_config(arg: str = '') -> ConfigDict:
    """The base that the rows change, locked."""
    arguments = _arguments(arg)
    span = cifar.length(RECIPE, arguments)
    found = cifar.config('A patient and consistent teacher', 'cifar100', METHODS, span, arguments['pair'])
    usual = cifar.length(cifar.Recipe(), {'epochs': 0, 'quick': arguments['quick']})
    with found.unlocked(), found.ignore_type():
        found.teacher.fit = cifar.fit(usual, {'hard': 1.0})
        found.teacher.views = usual.recipe.epochs
        for fit in found.fits.values():
            fit.optim = ConfigDict({'name': 'adamw', 'schedule': 'cosine', 'clip': 1.0, 'warmup': 0})
        found.seeds = _seeds(arguments)
    return found


def sweep(arg: str = '') -> Sequence[rows.Row]:
    """Every kind of teaching at every length, and hard labels."""
    arguments = _arguments(arg)
    span = cifar.length(RECIPE, arguments)
    lengths = [rows.Row({'epochs': share * span.epochs}, _length(span, share)) for share in SHARES]
    taught = rows.product(rows.axis('method', *METHODS), rows.choice('teaching', TEACHING), lengths)
    return rows.chained(rows.product(rows.axis('method', cifar.BASELINE), lengths), taught)


def _length(span: cifar.Length, share: float) -> dict[str, Any]:
    """Of all fits; a twentieth of it is warm-up."""
    steps = span.steps(share * RECIPE.epochs)
    return {'fits.*.steps': steps, 'fits.*.optim.warmup': steps // 20}


def _seeds(arguments: dict[str, Any]) -> int:
    return arguments['seeds'] or (1 if arguments['quick'] else SEEDS)


def _arguments(arg: str) -> dict[str, Any]:
    return base.arguments(arg, pair='resnet56-resnet20', epochs=0.0, seeds=0, quick=False)
