"""What is measured: pairs of networks, a technique, a number of students; and the data that every contender sees.

Neither PyTorch nor JAX is imported here: both sides read it. Networks and terms have kdjax's names. Weights, layers and
temperatures are those of configs/presets, but for three things: weights do not grow over the first steps, since a run
is only some steps long; CRD contrasts as in its CIFAR-100 tables; the hint is learned beside the labels in one fit, as
those tables have it (experiments/crd2020_cifar100), where the preset trains it alone and sums over the whole map.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kdjax.errors import UsageError, unknown

SEED = 0
POOL = 512  # images, which batches go round
EXAMPLES = 50_000  # of the training set that they stand for; what remembers examples has so many rows
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.05, 0.9, 5e-4
# Of whole sweeps on digits, by number of runs: temperatures, and seeds of each.
RUNS = {20: ((1, 2, 4, 8), 5), 100: ((1, 1.5, 2, 3, 4, 5, 6, 8, 10, 16), 10)}
TEMPERATURES = {  # by size of grid
    1: (4.0,), 4: (2.0, 4.0, 8.0, 16.0), 8: (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0),
    16: tuple(1.0 + step for step in range(16)), 64: tuple(1.0 + step / 4 for step in range(64)),
}  # fmt: skip
GRIDS = (1, 4, 8)  # students, on a CPU
LARGE_GRIDS = (1, 4, 16, 64)  # on an accelerator
UNROLLED = 8  # students up to which a list of them is tried there: each is compiled anew


class Network(NamedTuple):
    """A network as a config of kdjax names it."""

    net: str
    args: Mapping[str, Any]


class Term(NamedTuple):
    """A summand of the loss: a term of kdjax with its fields and knobs."""

    kind: str
    weight: float
    args: Mapping[str, Any] = {}


class Case(NamedTuple):
    """One comparison."""

    name: str  # 'PAIR:TECHNIQUE', and ':STUDENTS' of a grid
    teacher: Network
    student: Network
    classes: int
    shape: tuple[int, ...]  # of an image: (H, W, C) or (H, W)
    batch: int
    technique: str  # of OBJECTIVES
    students: int = 1  # trained on the same batches, each with its own temperature


class Pool(NamedTuple):
    """The images, which fill a whole number of batches."""

    images: np.ndarray  # (POOL, *shape), float32
    labels: np.ndarray  # (POOL,)
    ids: np.ndarray  # (POOL,) among EXAMPLES, spread evenly
    known: np.ndarray  # (EXAMPLES,) labels of the whole training set


HARD = Term('cross_entropy.CrossEntropy', 1.0)
OBJECTIVES = {
    'kd': (HARD._replace(weight=0.1), Term('hinton.SoftTargets', 0.9, {'temperature': 4.0})),
    'at': (HARD, Term('attention.AttentionTransfer', 1000.0, {'layers': ('stage1', 'stage2', 'stage3')})),
    'sp': (HARD, Term('similarity.SimilarityPreserving', 3000.0, {'layers': ('stage3',)})),
    'rkd': (
        HARD,
        Term('rkd.DistanceRelations', 25.0, {'layer': 'penult'}),
        Term('rkd.AngleRelations', 50.0, {'layer': 'penult'}),
    ),
    'crd': (
        HARD,
        Term('crd.ContrastiveRepresentation', 0.8, {
            'layer': 'penult', 'examples': EXAMPLES, 'negatives': 16384, 'width': 128, 'temperature': 0.07,
            'momentum': 0.5,
        }),
    ),
    'dkd': (HARD, Term('dkd.DecoupledTargets', 1.0, {'alpha': 1.0, 'beta': 8.0, 'temperature': 4.0})),
    'review': (HARD, Term('reviewkd.Review', 5.0, {'layers': ('stage1', 'stage2', 'stage3', 'penult')})),
    'fitnet': (HARD, Term('fitnets.Hint', 100.0, {'layer': 'stage2', 'form': 'repdistiller'})),
    'dist': (HARD, Term('dist.Correlations', 1.0, {'beta': 2.0, 'gamma': 2.0, 'temperature': 4.0})),
}  # fmt: skip
WITHOUT = 'without oneDNN'
VARIANTS = ('plain', WITHOUT, 'bfloat16 teacher', 'bfloat16', 'cached', 'bfloat16 cached')  # of kdjax
LAYOUTS = ('vmap', 'unroll', 'map')  # of its grids, which are variants too, and with 'bfloat16 ' before them
LOGITS_ONLY = ('kd', 'dkd', 'dist')  # of the teacher: for these a cache of logits is enough


def _resnet(depth: int, widths: tuple[int, ...]) -> Network:
    return Network('resnet_cifar.resnet', {'depth': depth, 'widths': widths})


def _wrn(depth: int, widen: int) -> Network:
    return Network('wide_resnet.wrn', {'depth': depth, 'widen': widen})


def _mlp(*widths: int) -> Network:
    return Network('mlp.mlp', {'widths': widths})


X4, THIN = (32, 64, 128, 256), (16, 16, 32, 64)
PAIRS = {
    'resnet32x4-resnet8x4': (_resnet(32, X4), _resnet(8, X4)),
    'wrn_40_2-wrn_16_2': (_wrn(40, 2), _wrn(16, 2)),
    'resnet56-resnet20': (_resnet(56, THIN), _resnet(20, THIN)),
}
DIGITS = 'mlp1200-mlp800'


def cases() -> list[Case]:
    """All comparisons, those of one pair together."""
    found = []
    for pair in PAIRS:
        found += [_images(pair, 'kd', students) for students in GRIDS]
        if pair == 'resnet32x4-resnet8x4':
            found += [_images(pair, technique, 1) for technique in OBJECTIVES if technique != 'kd']
    networks = _mlp(1200, 1200), _mlp(800, 800)
    found += [Case(_name(DIGITS, 'kd', size), *networks, 10, (28, 28), 128, 'kd', size) for size in GRIDS]
    return found


def accelerated() -> list[Case]:
    """What is compared on an accelerator."""
    return [_images(pair, 'kd', students) for pair in PAIRS for students in LARGE_GRIDS]


def objective(case: Case, student: int) -> tuple[Term, ...]:
    """The loss of a student of the grid: that of the technique, at the student's own temperature."""
    terms = OBJECTIVES[case.technique]
    if case.students == 1:
        return terms
    own = {'temperature': TEMPERATURES[case.students][student]}
    return tuple(term._replace(args={**term.args, **own}) if 'temperature' in term.args else term for term in terms)


def contenders(case: Case) -> list[tuple[str, str]]:
    """Who takes part: (side, variant); the first is what the others are compared with."""
    if case.technique != 'kd':
        return [('torch', 'plain'), ('torch', 'tuned'), ('kdjax', 'plain')]
    if case.students > 4 and len(case.shape) == 3:  # takes long
        torch, kdjax = ['plain', 'shared'], ['plain']
    elif case.students > 1:
        torch, kdjax = ['plain', 'tuned', 'shared', 'tuned shared'], ['plain', 'bfloat16', 'cached']
    elif len(case.shape) == 3:
        torch, kdjax = ['plain', 'channels_last', 'tuned', 'cached', 'tuned cached'], [*VARIANTS]
    else:  # nothing to convolve
        torch, kdjax = ['plain', 'tuned', 'cached', 'tuned cached'], [name for name in VARIANTS if name != WITHOUT]
    return [*(('torch', variant) for variant in torch), *(('kdjax', variant) for variant in kdjax)]


def accelerated_contenders(case: Case) -> list[tuple[str, str]]:
    """Who takes part on an accelerator, likewise."""
    shared = ' shared' if case.students > 1 else ''
    torch = [f'compiled{shared}', f'compiled bfloat16{shared}']
    layouts = [layout for layout in LAYOUTS if layout != 'unroll' or case.students <= UNROLLED]
    kdjax = [f'{half}{layout}' for half in ('', 'bfloat16 ') for layout in layouts] if shared else ['plain', 'bfloat16']
    return [*(('torch', variant) for variant in torch), *(('kdjax', variant) for variant in kdjax)]


def variant(case: Case, name: str, known: Mapping[str, Any], side: str) -> Any:
    """The variant of that name among those of a side, which say whether they are `cached`.

    Raises:
      UsageError: there is none, or a cache of logits is not enough for the technique.
    """
    if name not in known:
        raise unknown('variant', name, known, f' of the {side} loop')
    if known[name].cached and case.technique not in LOGITS_ONLY:
        raise UsageError(f'variant {name!r} keeps logits, and technique {case.technique!r} reads features')
    return known[name]


def pool(case: Case) -> Pool:
    """The data of a case, the same for everybody."""
    random = np.random.default_rng(SEED)
    images = random.normal(size=(POOL, *case.shape)).astype(np.float32)
    known = random.integers(case.classes, size=EXAMPLES)
    ids = np.arange(POOL) * (EXAMPLES // POOL)
    return Pool(images, known[ids], ids, known)


def batches(case: Case) -> list[slice]:
    """The places of each batch in the pool; steps go round them."""
    return [slice(start, start + case.batch) for start in range(0, POOL, case.batch)]


def forward_flops(network: Network, shape: Sequence[int], classes: int) -> int:
    """Of one image through a network: two for each product in convolutions and dense layers, nothing for the rest."""
    return 2 * sum(PRODUCTS[network.net](shape, classes, **network.args))


def step_flops(case: Case) -> int:
    """The least that a step takes: the teacher forward once, every student forward and twice as much back."""
    teacher, student = (forward_flops(net, case.shape, case.classes) for net in (case.teacher, case.student))
    return case.batch * (teacher + 3 * case.students * student)


def _resnet_products(shape: Sequence[int], classes: int, depth: int, widths: Sequence[int]) -> Iterator[int]:
    side, into = shape[0], widths[0]
    yield 9 * shape[2] * into * side**2
    for stage, width in enumerate(widths[1:]):
        for place in range((depth - 2) // 6):
            halved = stage > 0 and place == 0
            side = -(-side // 2) if halved else side
            around = into * width if halved or into != width else 0
            yield (9 * into * width + 9 * width**2 + around) * side**2
            into = width
    yield into * classes


def _wrn_products(shape: Sequence[int], classes: int, depth: int, widen: int) -> Iterator[int]:
    side, into = shape[0], 16
    yield 9 * shape[2] * into * side**2
    for stage, width in enumerate((16 * widen, 32 * widen, 64 * widen)):
        for place in range((depth - 4) // 6):
            side = -(-side // 2) if stage > 0 and place == 0 else side
            around = into * width if into != width else 0
            yield (9 * into * width + 9 * width**2 + around) * side**2
            into = width
    yield into * classes


def _mlp_products(shape: Sequence[int], classes: int, widths: Sequence[int]) -> Iterator[int]:
    return (into * width for into, width in itertools.pairwise((math.prod(shape), *widths, classes)))


PRODUCTS = {'resnet_cifar.resnet': _resnet_products, 'wide_resnet.wrn': _wrn_products, 'mlp.mlp': _mlp_products}


def _images(pair: str, technique: str, students: int) -> Case:
    return Case(_name(pair, technique, students), *PAIRS[pair], 100, (32, 32, 3), 64, technique, students)


def _name(pair: str, technique: str, students: int) -> str:
    return f'{pair}:{technique}' + (f':{students}' if students > 1 else '')
