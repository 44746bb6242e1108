"""From a config to plain objects: data set, networks, terms, optimisers, and the knobs of a grid's cells."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict, FrozenConfigDict

from kdjax.data import base as data_base
from kdjax.data.augment import Augment, chain
from kdjax.data.feed import Stream
from kdjax.data.preprocess import Preprocess
from kdjax.errors import UsageError, unknown
from kdjax.jit_cache import bound, shared
from kdjax.nets import team
from kdjax.resolve import construct, resolve
from kdjax.techniques.base import Term
from kdjax.train import anatomy, optim, parallel, probes
from kdjax.train import teachers as training
from kdjax.train.objective import Objective
from kdjax.train.step import train_step
from kdjax.types import Net

AVERAGE = 'average'  # as a fit's teacher: the student's own moving average
RATES = ('learning_rate', 'weight_decay', 'terms_learning_rate', 'terms_weight_decay')


class GridCell(NamedTuple):
    """One run of a grid: which examples, which randomness, which of the candidate knobs ('soft.temperature': 4.0)."""

    transfer_size: int
    seed: int
    candidate: Mapping[str, float]


def dataset(config: ConfigDict) -> data_base.Dataset:
    """The data set that the config names, checked; 'tfds:mnist' is one that TFDS has prepared."""
    source, arguments = config.data.source, dict(config.data.args)
    if source.startswith('tfds:'):
        source, arguments = 'tfds.prepared', {**arguments, 'name': source.removeprefix('tfds:')}
    return data_base.checked(construct('kdjax.data', source, arguments, 'data set'))


def augment(spec: ConfigDict | Sequence[ConfigDict]) -> Augment:
    """The augmentation that `spec` (with 'kind') names; of several, one after the other."""
    if isinstance(spec, tuple | list):
        return _chain(tuple(augment(one) for one in spec))
    return _of_data(spec, 'augmentation')


def preprocess(config: ConfigDict) -> Preprocess:
    """From inputs as stored to what networks see."""
    return _of_data(config.data.preprocess, 'preprocessing')


def presented(config: ConfigDict, fit: ConfigDict, student: bool) -> dict[str, Any]:
    """How a fit is shown its examples, beside its augmentation: arguments of `data.feed.feed`."""
    found: dict[str, Any] = {'preprocess': preprocess(config)}
    if not student:
        return found
    mix = _of_data(config.data.mix, 'mixing') if len(config.data.mix) else None
    return {**found, 'mix': mix, 'consistent': config.data.consistent or not needs_teacher(config, fit)}


def _of_data(spec: ConfigDict, kind: str) -> Any:
    arguments = dict(spec.items())
    return _made('kdjax.data', arguments.pop('kind', ''), FrozenConfigDict(arguments), kind)


_chain = shared(chain)
_ensemble = shared(team.ensemble)
_peers = shared(team.peers)
probed = shared(probes.probed)
_optimiser = shared(optim.build)


@shared
def _made(package: str, name: str, arguments: FrozenConfigDict, kind: str) -> Any:
    return construct(package, name, dict(arguments.items()), kind)


def net(spec: ConfigDict, classes: int, run: ConfigDict, precision: str = '') -> Net:
    """A network for `classes` classes, with what the runner needs of batch statistics; in a precision, or the run's."""
    precision = precision or run.precision
    arguments = {**spec.args, 'classes': classes, 'precision': precision, 'axis': parallel.axis_of(run.runner)}
    return _made('kdjax.nets', spec.net, FrozenConfigDict(arguments), 'network')


def teachers(config: ConfigDict) -> dict[str, ConfigDict]:
    """All networks that teach, by name: 'teacher' and the assistants."""
    return {'teacher': config.teacher, **{name: config.assistants[name] for name in sorted(config.assistants)}}


def teaching_net(config: ConfigDict, spec: ConfigDict, classes: int, precision: str = '') -> Net:
    """The network that `spec` teaches with, an ensemble where it has several members; as trained, or in a precision."""
    one = net(spec, classes, config.run, precision)
    return _ensemble((one,) * spec.members) if spec.members > 1 else one


def trained_net(one: Net, fit: ConfigDict, terms: Objective) -> Net:
    """The network that a fit trains: with what its terms ask of it, and several of it where peers learn together."""
    asked = probed(one, tuple(tap for _, term in terms.terms for tap in term.taps().student))
    return _peers(asked, fit.peers) if fit.peers > 1 else asked


def step_of(fit: ConfigDict) -> Callable[..., Any]:
    """The training step of a fit, still without its parts and its device axis."""
    apart = fit.optim.get('name') == 'dot'
    return bound(train_step, source=_source(fit), apart=apart, accumulate=fit.accumulate)


def look_of(fit: ConfigDict) -> Callable[..., Any]:
    """A look at the gradients of its terms, likewise."""
    return bound(anatomy.look, source=_source(fit), accumulate=fit.accumulate)


def _source(fit: ConfigDict) -> training.Source:
    return training.average if fit.teacher == AVERAGE else training.given


def optimiser(fit: ConfigDict) -> Any:
    """The optimiser of a fit."""
    return _optimiser(**fit.optim, steps=fit.steps)


def objective(config: ConfigDict, fit: ConfigDict) -> Objective:
    """The terms of a fit, after building each with every candidate value, so that a bad one is met here.

    Raises:
      UsageError: an unknown term or field, or a knob outside its range.
    """
    choices = candidates(config, fit)
    built = [tuple((name, _term(config, fit, name, choice)) for name in fit.weights) for choice in choices]
    return Objective(built[0])


def candidates(config: ConfigDict, fit: ConfigDict) -> list[dict[str, float]]:
    """Every combination of the knobs that have several values, by dotted name; [{}] where none has."""
    varied = {name: values for name, values in _knobs(config, fit).items() if len(values) > 1}
    return [dict(zip(varied, combination, strict=True)) for combination in itertools.product(*varied.values())]


def settings(config: ConfigDict, fit: ConfigDict) -> dict[str, float]:
    """The value of every knob of a fit, by dotted name: the first where it has several, its default where none."""
    terms = objective(config, fit).knobs()
    defaults = {f'{name}.{knob}': value for name, own in terms.items() for knob, value in own.items()}
    return {**defaults, **_first(_knobs(config, fit))}


def cells(config: ConfigDict, fit: ConfigDict) -> list[GridCell]:
    """The grid of a fit: transfer-set sizes x candidates x seeds."""
    return [
        GridCell(size, seed, candidate)
        for size in config.data.transfer_sizes
        for candidate in candidates(config, fit)
        for seed in range(config.seeds)
    ]


def knobs(config: ConfigDict, fit: ConfigDict, grid: Sequence[GridCell], base_seed: int) -> Any:
    """The knobs tree of a grid, leaves (C,).

    A cell's seed decides its initial weights and its draws; cells of one seed share them, whatever their knobs.
    """
    first, defaults = _first(_knobs(config, fit)), objective(config, fit).knobs()
    rows = []
    for cell in grid:
        values = {**first, **cell.candidate}
        terms = {
            name: {knob: values.get(f'{name}.{knob}', default) for knob, default in own.items()}
            for name, own in defaults.items()
        }
        groups = {
            'student': {'learning_rate': values['learning_rate'], 'weight_decay': values['weight_decay']},
            'terms': {'learning_rate': values['terms_learning_rate'], 'weight_decay': values['terms_weight_decay']},
        }
        rows.append({'terms': terms, 'optim': groups})
    stacked = jax.tree.map(lambda *leaves: np.asarray(leaves, np.float32), *rows)
    return {**stacked, 'seed': np.asarray([base_seed + cell.seed for cell in grid], np.uint32)}


def streams(config: ConfigDict, labels: np.ndarray, grid: Sequence[GridCell]) -> list[Stream]:
    """The examples of every cell: a stratified draw of its size by its seed, in the order of its seed.

    Draws of one seed are nested: the larger transfer set holds the smaller one. Where `data.classes` names classes, the
    examples of others are left out after the draw.

    Raises:
      UsageError: a transfer set larger than the training split, or a class of which it has none.
    """
    classes = config.data.classes
    for label in classes:
        if isinstance(label, bool) or label not in labels:
            raise UsageError(f'data.classes must be numbers of classes, {np.unique(labels).tolist()}, got {label!r}')
    draws: dict[tuple[int, int], Stream] = {}
    for cell in grid:
        if not 1 <= cell.transfer_size <= len(labels):
            raise UsageError(f'transfer size {cell.transfer_size} must be in 1 to {len(labels)}, the training examples')
        address = (cell.transfer_size, cell.seed)
        if address not in draws:
            (pool,) = data_base.stratified(labels, (cell.transfer_size,), config.seed + cell.seed)
            seen = pool[np.isin(labels[pool], classes)] if classes else pool
            draws[address] = Stream(seen, config.seed + cell.seed)
    return [draws[cell.transfer_size, cell.seed] for cell in grid]


def methods(config: ConfigDict) -> dict[str, tuple[str, ...]]:
    """The fits of every method, by name; the baseline first (a ConfigDict knows no order but the alphabet's)."""
    ordered = sorted(config.methods, key=lambda name: (name != config.baseline, name))
    return {name: tuple(config.methods[name]) for name in ordered}


def term_class(spec: ConfigDict) -> type[Term]:
    """The class that a term's 'kind' names."""
    found = resolve('kdjax.techniques', spec.kind, 'term')
    if not (isinstance(found, type) and issubclass(found, Term)):
        raise UsageError(f'{spec.kind!r} is not a distillation term')
    return found


def terms_of(config: ConfigDict, fit: ConfigDict) -> dict[str, Any]:
    """The part of config.terms that a fit uses."""
    for name in fit.weights:
        if name not in config.terms:
            raise unknown('term', name, config.terms, ' in the weights of a fit')
    return {name: config.terms[name].to_dict() for name in fit.weights}


def needs_teacher(config: ConfigDict, fit: ConfigDict) -> bool:
    """Whether a term of the fit reads the teacher."""
    return any(term_class(config.terms[name]).TEACHER for name in terms_of(config, fit))


def _knobs(config: ConfigDict, fit: ConfigDict) -> dict[str, tuple[float, ...]]:
    """All values of every knob of a fit, by dotted name."""
    found = {name: knob_values(fit[name], name) for name in RATES}
    for name, spec in terms_of(config, fit).items():
        fields = knob_fields(config.terms[name])
        found[f'{name}.weight'] = knob_values(fit.weights[name], f'{name}.weight')
        found.update(
            {f'{name}.{field}': knob_values(spec[field], f'{name}.{field}') for field in fields if field in spec}
        )
    return found


def _term(config: ConfigDict, fit: ConfigDict, name: str, candidate: Mapping[str, float]) -> Term:
    spec, values = config.terms[name], {**_first(_knobs(config, fit)), **candidate}
    arguments = {field: value for field, value in spec.items() if field != 'kind'}
    arguments |= {knob: values[f'{name}.{knob}'] for knob in knob_fields(spec) if f'{name}.{knob}' in values}
    return construct('kdjax.techniques', spec.kind, arguments, 'term')


def knob_fields(spec: ConfigDict) -> list[str]:
    """Fields of a term that are knobs."""
    return [field.name for field in dataclasses.fields(term_class(spec)) if 'knob' in field.metadata]


def _first(knobs: Mapping[str, tuple[float, ...]]) -> dict[str, float]:
    return {name: values[0] for name, values in knobs.items()}


def knob_values(value: Any, name: str) -> tuple[float, ...]:
    """All values of a knob, which may be given as one number.

    Raises:
      UsageError: no number at all, or a negative rate.
    """
    values = tuple(value) if isinstance(value, tuple | list) else (value,)
    if not values or any(isinstance(v, bool) or not isinstance(v, int | float) for v in values):
        raise UsageError(f'knob {name} must be a number or several, got {value!r}')
    if name.endswith(('rate', 'decay')) and min(values) < 0:
        raise UsageError(f'{name} must be >= 0, got {value!r}')
    return tuple(float(v) for v in values)
