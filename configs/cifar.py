"""CIFAR as in the tables of the literature: networks, pairs of them, the usual recipe, and how a table becomes rows.

The recipe is that of RepDistiller, which mdistiller and its successors inherited: 240 epochs in batches of 64, SGD with
momentum 0.9, rate 0.05 (0.01 for the small mobile networks) times 0.1 after 150, 180 and 210 epochs, decay 5e-4, random
crops of the image padded by 4 and mirror images.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from configs import base, preset
from kdjax.errors import UsageError, unknown
from kdjax.study.sweep import rows

IMAGES = 50000  # of the training split, all of which train
BASELINE = 'hard labels'


class Network(NamedTuple):
    """A network under the name that tables give it."""

    net: str
    args: Mapping[str, Any]
    channels: tuple[int, ...]  # of the stages
    slow: bool = False  # trained with the low rate
    before: bool = True  # whether its stages have pre-activations


def _resnet(depth: int, times: int = 1) -> Network:
    widths = (16, 16, 32, 64) if times == 1 else tuple(times * width for width in (8, 16, 32, 64))
    return Network('resnet_cifar.resnet', {'depth': depth, 'widths': widths}, widths[1:])


def _wrn(depth: int, widen: int) -> Network:
    return Network('wide_resnet.wrn', {'depth': depth, 'widen': widen}, (16 * widen, 32 * widen, 64 * widen))


def _vgg(depth: int) -> Network:
    return Network('vgg.vgg', {'depth': depth}, (128, 256, 512, 512))


NETWORKS = {
    **{f'resnet{depth}': _resnet(depth) for depth in (8, 14, 20, 32, 56, 110)},
    **{f'resnet{depth}x4': _resnet(depth, 4) for depth in (8, 32)},
    **{f'wrn_{depth}_{widen}': _wrn(depth, widen) for depth in (16, 40) for widen in (1, 2)},
    **{f'vgg{depth}': _vgg(depth) for depth in (8, 13)},
    'ResNet50': Network('resnet.resnet', {'depth': 50, 'stem': 'cifar'}, (256, 512, 1024, 2048)),
    'MobileNetV2': Network('mobilenetv2.mobilenetv2', {'width': 0.5}, (12, 16, 48, 160), slow=True, before=False),
    'ShuffleV1': Network('shufflenet.shufflenetv1', {}, (240, 480, 960), slow=True),
    'ShuffleV2': Network('shufflenet.shufflenetv2', {'size': 1.0}, (116, 232, 464), slow=True),
}


class Recipe(NamedTuple):
    """How all networks of a table are trained."""

    epochs: int = 240
    start_epochs: int = 0  # of fits that only prepare
    batch_size: int = 64
    rate: float = 0.05
    low_rate: float = 0.01  # of the small mobile networks
    drops: tuple[int, ...] = (150, 180, 210)  # after these epochs
    factor: float = 0.1
    weight_decay: float = 5e-4
    mean: tuple[float, ...] = (0.5071, 0.4867, 0.4408)
    std: tuple[float, ...] = (0.2675, 0.2565, 0.2761)
    border: str = 'zero'  # around the image, where it is cropped

    def schedule(self) -> dict[str, Any]:
        """Arguments of the optimiser."""
        drops = tuple(epoch / self.epochs for epoch in self.drops)
        return {'name': 'sgd', 'momentum': 0.9, 'schedule': 'step', 'milestones': drops, 'factor': self.factor}


class Length(NamedTuple):
    """How long a run is in fact: everything that the recipe gives in epochs shrinks alike."""

    recipe: Recipe
    epochs: float
    quick: bool

    def steps(self, epochs: float) -> int:
        """Steps that stand for `epochs` of the recipe."""
        share = epochs / self.recipe.epochs
        whole = 100 if self.quick else self.epochs * IMAGES / self.recipe.batch_size
        return max(int(share * whole), 1)


def length(recipe: Recipe, arguments: Mapping[str, Any]) -> Length:
    """From the arguments `epochs` (0: as the recipe says) and `quick` (100 steps).

    Raises:
      UsageError: a negative number of epochs.
    """
    if arguments['epochs'] < 0:
        raise UsageError(f'epochs must be > 0 (0: those of the paper), got {arguments["epochs"]}')
    return Length(recipe, arguments['epochs'] or recipe.epochs, arguments['quick'])


def config(
    title: str, data: str, methods: Mapping[str, preset.Preset], span: Length, pair: str, expected: str = ''
) -> ConfigDict:
    """The base that rows change, locked.

    Args:
      title: of the report.
      data: name of the data set in TFDS.
      methods: by name in the table; hard labels are added.
      span: how long everything is.
      pair: of networks that the base has.
      expected: file with the numbers of the paper.
    """
    found, recipe = base.config(), span.recipe
    found.title, found.expected = title, expected
    with found.ignore_type():
        _see(found, data, span)
        found.terms = ConfigDict({'hard': preset.HARD})
        found.fits = ConfigDict({'baseline': fit(span, {'hard': 1.0})})
        found.methods = ConfigDict({BASELINE: ('baseline',)})
        teach_for(found, span)
        for name, method in methods.items():
            _add(found, name, method, span)
    found.teacher.mode = 'online'  # a teacher's answers to every view of every image would fill a disk
    found.accept.method = BASELINE
    found.run.layout = 'map' if span.quick else 'auto'
    epoch = IMAGES // recipe.batch_size
    found.run.chunk = max(steps for steps in range(1, 101) if epoch % steps == 0)
    found.run.validate_every, found.run.save_every = epoch, 10 * epoch
    return rows.applied(found, networks(pair, recipe))


def teach_for(found: ConfigDict, span: Length) -> None:
    """The teacher's fit, by the recipe: as long as its students', or of a length of its own."""
    with found.ignore_type():
        found.teacher.fit, found.teacher.views = fit(span, {'hard': 1.0}), _views(span)


def fit(span: Length, weights: Mapping[str, float], epochs: float = 0) -> ConfigDict:
    """A fit by the recipe; `epochs` of it at the full rate, where given: one that only prepares."""
    found, recipe = base.fit(**weights), span.recipe
    found.steps, found.batch_size = span.steps(epochs or recipe.epochs), recipe.batch_size
    found.learning_rate = found.terms_learning_rate = recipe.rate
    found.weight_decay = found.terms_weight_decay = recipe.weight_decay
    found.optim = ConfigDict({'name': 'sgd', 'momentum': 0.9} if epochs else recipe.schedule())
    return found


def networks(pair: str, recipe: Recipe) -> dict[str, Any]:
    """What a pair 'teacher-student' changes, by field.

    Raises:
      UsageError: an unknown network.
    """
    teacher, student = sides(pair)
    rate = recipe.low_rate if student.slow else recipe.rate
    return {
        'teacher.net': teacher.net, 'teacher.args': dict(teacher.args),
        'student.net': student.net, 'student.args': dict(student.args),
        'fits.*.learning_rate': rate, 'fits.*.terms_learning_rate': rate,
    }  # fmt: skip


def sides(pair: str) -> tuple[Network, Network]:
    """Teacher and student of 'teacher-student'.

    Raises:
      UsageError: an unknown network.
    """
    found = []
    for name in pair.split('-'):
        if name not in NETWORKS:
            raise unknown('network', name, NETWORKS, f' in pair {pair!r}')
        found.append(NETWORKS[name])
    if len(found) != 2:
        raise UsageError(f"pair must be 'teacher-student', got {pair!r}")
    return found[0], found[1]


def stages(pair: str) -> tuple[str, ...]:
    """Taps of the stages, which both networks have."""
    return tuple(f'stage{number}' for number in range(1, len(sides(pair)[1].channels) + 1))


def table(pairs: Mapping[str, Mapping[str, Mapping[str, Any]]], seeds: int, recipe: Recipe) -> list[rows.Row]:
    """Rows of a table: pairs x methods x seeds.

    Args:
      pairs: by pair, the changes of every method of its column; hard labels are added.
      seeds: runs of each.
      recipe: of the table.
    """
    return rows.chained(*(
        rows.product(
            rows.choice('pair', {pair: networks(pair, recipe)}),
            rows.choice('method', {name: {'method': name, **changes} for name, changes in column.items()}),
            rows.axis('seed', *range(seeds)),
        )
        for pair, column in pairs.items()
    ))  # fmt: skip


def chosen(name: str, wanted: str, known: Sequence[str]) -> Sequence[str]:
    """All of `known` for 'all', or the one that is wanted.

    Raises:
      UsageError: another one.
    """
    if wanted == 'all':
        return known
    if wanted not in known:
        raise unknown(name, wanted, ['all', *known])
    return (wanted,)


def _see(found: ConfigDict, data: str, span: Length) -> None:
    """Which images, in which order of changes; the test split is also what validation looks at."""
    recipe = span.recipe
    moved = ({'kind': 'augment.crop', 'padding': 4, 'border': recipe.border}, {'kind': 'augment.flip'})
    found.data.source, found.data.args = f'tfds:{data}', ConfigDict({'validation': 'test'})
    found.data.preprocess = ConfigDict({'kind': 'preprocess.normalise', 'mean': recipe.mean, 'std': recipe.std})
    found.data.augment = found.teacher.augment = moved
    found.data.views = _views(span)
    found.data.transfer_sizes = (IMAGES,)


def _views(span: Length) -> int:
    """One per epoch."""
    return max(int(span.epochs + 1), 2)


def _add(found: ConfigDict, name: str, method: preset.Preset, span: Length) -> None:
    """A method with its terms; fits before its last one prepare, for the recipe's `start_epochs`."""
    own = name.replace('+', '_')  # a chain of fits is written with '+'
    fits = [f'{own}_start', own][-len(method.chain) :]
    for term, spec in method.terms.items():
        found.terms[term] = ConfigDict(spec)
    for place, (called, weights) in enumerate(zip(fits, method.chain, strict=True)):
        prepares = place < len(method.chain) - 1
        found.fits[called] = fit(span, weights, span.recipe.start_epochs if prepares else 0)
        found.fits[called].update(method.fit)
    found.methods[name] = tuple(fits)
