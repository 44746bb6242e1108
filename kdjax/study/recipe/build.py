"""From the typed parts of a recipe to plain objects: data sets, networks, optimisers, and what flows through a grid."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import FrozenConfigDict

from kdjax.compress import factored, quantized
from kdjax.compress import shared as sharing
from kdjax.data.augment import Augment, OfExample, chain
from kdjax.data.base import checked
from kdjax.data.feed import TEACHER_INPUTS, TeacherView
from kdjax.data.preprocess import Preprocess
from kdjax.dataset import Dataset
from kdjax.errors import UsageError, shown
from kdjax.jit_cache import bound, shared
from kdjax.nets import team
from kdjax.resolve import called, construct, resolve, signature_of
from kdjax.study.recipe.inputs import CachedTeacher, TrainedStudents, TrainedTeacher, plain
from kdjax.study.recipe.recipe import (
    AVERAGE,
    BEFORE,
    DENSE,
    DataSource,
    Fit,
    GridCell,
    NetSpec,
    TaskSpec,
)
from kdjax.tasks.base import Task
from kdjax.train import anatomy, blockwise, frozen, optim, probes
from kdjax.train import teachers as training
from kdjax.train.step import train_step
from kdjax.types import Net

Trained = TrainedTeacher | TrainedStudents


def task(spec: TaskSpec) -> Task:
    """What the data are used for.

    Raises:
      UsageError: the name of none, or arguments that it does not take.
    """
    result = _constructed('kdjax.tasks', spec.kind, FrozenConfigDict(dict(spec.args)), 'task')
    if not isinstance(result, Task):
        raise UsageError(f'{spec.kind!r} is not a task')
    return result


def fitted_task(spec: TaskSpec, own: Mapping[str, Any]) -> Task:
    """The task of a fit, some of whose attributes may be its own."""
    return task(TaskSpec(spec.kind, {**spec.args, **own}))


def dataset(data: DataSource) -> Dataset:
    """The data set of a source, checked; 'tfds:mnist' is one that TFDS has prepared."""
    source, arguments = data.source, dict(data.args)
    if source.startswith('tfds:'):
        source, arguments = 'tfds.prepared', {**arguments, 'name': source.removeprefix('tfds:')}
    return checked(construct('kdjax.data', source, arguments, 'data set'))


def augment(spec: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> Augment:
    """The augmentation that `spec` (with 'kind') names; of several, one after the other."""
    if not isinstance(spec, Mapping):
        return _chain(tuple(augment(one) for one in spec))
    return _of_data(spec, 'augmentation')


def preprocess(data: DataSource) -> Preprocess:
    """From inputs as stored to what networks see."""
    return _of_data(data.preprocess, 'preprocessing')


def presentation(inputs: Trained, beside: bool = False) -> dict[str, Any]:
    """How a fit is shown its examples, beside its augmentation: arguments of `data.feed.feed`.

    With `beside` its batches have what a teacher of other words reads.
    """
    views = inputs.presented
    return {
        'preprocess': preprocess(inputs.data),
        'mix': _of_data(views.mix, 'mixing') if views.mix else None,
        'consistent': views.consistent,
        'task': fitted_task(inputs.task, inputs.fit.spec.task),
        'teacher': TeacherView(TEACHER_INPUTS, preprocess(inputs.data)) if beside else teacher_view(inputs),
    }


def teacher_view(inputs: Trained) -> TeacherView | None:
    """What the teacher of a fit sees, where it is asked in every step and does not see what the student sees."""
    who = inputs.source
    if who is None or isinstance(who, CachedTeacher):
        return None
    if (who.column, plain(who.data)) == (inputs.column, plain(inputs.data)):
        return None
    return TeacherView(who.column, preprocess(who.data))


def _of_data(spec: Mapping[str, Any], kind: str) -> Any:
    arguments = dict(spec)
    name = arguments.pop('kind', '')
    result = _constructed('kdjax.data', name, FrozenConfigDict(arguments), kind)
    if not (callable(result) or isinstance(result, OfExample)):
        raise UsageError(f'{kind} {shown(name)} must return a function, got {shown(result)}')
    return result


_chain = shared(chain)
ensemble = shared(team.ensemble)
peers = shared(team.peers)
answered = shared(team.answered)
probed = shared(probes.probed)
frozen_net = shared(frozen.frozen)
in_blocks = shared(blockwise.blockwise)
_of_part = shared(frozen.optimiser)
rounded = shared(quantized.quantized)


@shared
def _optimiser(arguments: FrozenConfigDict) -> Any:
    return called(optim.build, 'the optimiser', dict(arguments.items()))


@shared
def _constructed(package: str, name: str, arguments: FrozenConfigDict, kind: str) -> Any:
    return construct(package, name, dict(arguments.items()), kind)


@shared
def factored_net(one: Net, ranks: tuple[tuple[str, int | tuple[int, int]], ...]) -> Net:
    """A network with factors for some of its kernels."""
    return factored.factored(one, dict(ranks))


@shared
def shared_net(one: Net, bits: int | tuple[tuple[str, int], ...]) -> Net:
    """A network whose weights are shared."""
    return sharing.shared(one, bits if isinstance(bits, int) else dict(bits))


def net(spec: NetSpec, told: Mapping[str, Any], precision: str, axis: str | None) -> Net:
    """A network that is told `told` of the data, in a precision, its batch statistics synchronised over an axis."""
    arguments = {**told, **spec.args, 'precision': precision, 'axis': axis}
    result = _constructed('kdjax.nets', spec.net, FrozenConfigDict(arguments), 'network')
    if not isinstance(result, Net):
        raise UsageError(f'network {shown(spec.net)} must return a Net, got {shown(result)}')
    return result


def told(spec: NetSpec, task: Task, dataset: Dataset, column: str = 'inputs') -> dict[str, Any]:
    """What a network is told: by the task what every one is, of the data set's facts those that it has arguments for.

    Raises:
      UsageError: the data are tokens, and the network does not ask how many there are.
    """
    accepted = signature_of(resolve('kdjax.nets', spec.net, 'network'), f'network {shown(spec.net)}').parameters
    facts = {name: fact for name, fact in dataset.facts.items() if name in accepted}
    if column == 'inputs' and 'vocabulary' in dataset.facts and 'vocabulary' not in accepted:
        raise UsageError(f"network {spec.net!r} does not read tokens, and the data are such: it has no 'vocabulary'")
    return {**told_by_task(spec.net, task, dataset), **facts}


def told_by_task(net: str, task: Task, dataset: Dataset) -> dict[str, Any]:
    """What a task tells the network called `net`: what it tells every one, and of its offers those that fit."""
    accepted = signature_of(resolve('kdjax.nets', net, 'network'), f'network {shown(net)}').parameters
    offers = {name: value for name, value in task.net_offers(dataset).items() if name in accepted}
    return {**task.net_arguments(dataset), **offers}


def classes(task: Task, dataset: Dataset) -> int:
    """How many numbers an answer has: those of the classes of the task, or of all items.

    Raises:
      UsageError: neither is known.
    """
    told = {**dataset.facts, **task.net_arguments(dataset)}
    for name in ('classes', 'items'):
        if name in told:
            return int(told[name])
    raise UsageError(f'{type(task).__name__} does not say how many classes there are, which answers of a file are of')


def trained_net(one: Net, fit: Fit) -> Net:
    """The network that a fit trains: with what its terms ask of it, and several of it where peers learn together."""
    read = tuple(tap for _, term in fit.objective.terms for tap in term.taps().student)
    asked = probed(one, read)
    asked = frozen_net(asked, tuple(fit.spec.trains)) if fit.spec.trains else asked
    asked = peers(asked, fit.spec.peers) if fit.spec.peers > 1 else asked
    return in_blocks(asked, tuple(fit.spec.blockwise.items()), read) if fit.spec.blockwise else asked


def fitted_net(one: Net, fit: Fit) -> Net:
    """The network that a fit leaves: the one that it trained, or that with the head that answers for it."""
    head = fit.answering
    return one if head is None else answered(probed(one, head.taps().student), head)


def step_of(fit: Fit) -> Callable[..., Any]:
    """The training step of a fit, still without its parts and its device axis."""
    split = fit.spec.optim.get('name') == 'dot'
    return bound(train_step, source=source_of(fit), split_gradients=split, accumulate=fit.spec.accumulate)


def reach_of(fit: Fit) -> Callable[..., Any]:
    """What says which terms of a fit can move anything, still without its parts."""
    return bound(anatomy.reach, source=source_of(fit))


def gradient_stats_of(fit: Fit) -> Callable[..., Any]:
    """A look at the gradients of its terms, likewise."""
    return bound(anatomy.look, source=source_of(fit), accumulate=fit.spec.accumulate)


def slopes_of(fit: Fit) -> Callable[..., Any]:
    """The gradient of its objective, likewise, of whole batches."""
    return bound(anatomy.slopes, source=source_of(fit), accumulate=fit.spec.accumulate)


def source_of(fit: Fit) -> training.Source:
    """Where the variables of its teacher come from."""
    return {AVERAGE: training.average, BEFORE: training.start, DENSE: training.dense}.get(fit.teacher, training.given)


def optimiser(spec: Mapping[str, Any], steps: int, trains: Sequence[str] = ()) -> Any:
    """The optimiser of a fit of so many steps, which trains these modules, all of them if none is named.

    Raises:
      UsageError: arguments that it does not take.
    """
    if 'steps' in spec:
        raise UsageError(f"steps are the fit's, not its optimiser's: got optim.steps={shown(spec['steps'])}")
    whole = _optimiser(FrozenConfigDict({**spec, 'steps': max(steps, 1)}))
    return _of_part(whole, tuple(trains)) if trains else whole


def knobs(fit: Fit, cells: Sequence[GridCell], base_seed: int) -> Any:
    """The knobs tree of a grid, leaves (C,).

    A cell's seed decides its initial weights and its draws; cells of one seed share them, whatever their knobs.
    """
    first, defaults = {name: values[0] for name, values in fit.knobs.items()}, fit.objective.knobs()
    rows = []
    for cell in cells:
        values = {**first, **cell.candidate}
        terms = {
            name: {knob: values.get(f'{name}.{knob}', default) for knob, default in knob_defaults.items()}
            for name, knob_defaults in defaults.items()
        }
        groups = {
            'student': {name: values[name] for name in ('learning_rate', 'weight_decay', 'sparsity') if name in values},
            'terms': {'learning_rate': values['terms_learning_rate'], 'weight_decay': values['terms_weight_decay']},
        }
        texts = {'on_policy': values['on_policy'], 'temperature': values['sampling_temperature']} if fit.writes else {}
        rows.append({'terms': terms, 'optim': groups, **({'texts': texts} if texts else {})})
    stacked = jax.tree.map(lambda *leaves: np.asarray(leaves, np.float32), *rows)
    return {**stacked, 'seed': np.asarray([base_seed + cell.seed for cell in cells], np.uint32)}


def alone(example: Any) -> Any:
    """One example as a batch of one."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[None], example)
