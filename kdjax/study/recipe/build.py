"""From the typed parts of a recipe to plain objects: data sets, networks, optimisers, and what flows through a grid."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import FrozenConfigDict

from kdjax.data import base as data_base
from kdjax.data.augment import Augment, chain
from kdjax.data.feed import Stream
from kdjax.data.preprocess import Preprocess
from kdjax.errors import UsageError
from kdjax.jit_cache import bound, shared
from kdjax.nets import team
from kdjax.resolve import construct
from kdjax.study.recipe.recipe import DataSource, Fit, GridCell, NetSpec, Views
from kdjax.train import anatomy, optim, probes
from kdjax.train import teachers as training
from kdjax.train.step import train_step
from kdjax.types import Net


def dataset(data: DataSource) -> data_base.Dataset:
    """The data set of a source, checked; 'tfds:mnist' is one that TFDS has prepared."""
    source, arguments = data.source, dict(data.args)
    if source.startswith('tfds:'):
        source, arguments = 'tfds.prepared', {**arguments, 'name': source.removeprefix('tfds:')}
    return data_base.checked(construct('kdjax.data', source, arguments, 'data set'))


def augment(spec: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> Augment:
    """The augmentation that `spec` (with 'kind') names; of several, one after the other."""
    if not isinstance(spec, Mapping):
        return _chain(tuple(augment(one) for one in spec))
    return _of_data(spec, 'augmentation')


def preprocess(data: DataSource) -> Preprocess:
    """From inputs as stored to what networks see."""
    return _of_data(data.preprocess, 'preprocessing')


def presentation(views: Views, data: DataSource) -> dict[str, Any]:
    """How a fit is shown its examples, beside its augmentation: arguments of `data.feed.feed`."""
    mix = _of_data(views.mix, 'mixing') if views.mix else None
    return {'preprocess': preprocess(data), 'mix': mix, 'consistent': views.consistent}


def _of_data(spec: Mapping[str, Any], kind: str) -> Any:
    arguments = dict(spec)
    return _constructed('kdjax.data', arguments.pop('kind', ''), FrozenConfigDict(arguments), kind)


_chain = shared(chain)
ensemble = shared(team.ensemble)
peers = shared(team.peers)
probed = shared(probes.probed)
_optimiser = shared(optim.build)


@shared
def _constructed(package: str, name: str, arguments: FrozenConfigDict, kind: str) -> Any:
    return construct(package, name, dict(arguments.items()), kind)


def net(spec: NetSpec, classes: int, precision: str, axis: str | None) -> Net:
    """A network for `classes` classes, in a precision, whose batch statistics are synchronised over the device axis."""
    arguments = {**spec.args, 'classes': classes, 'precision': precision, 'axis': axis}
    return _constructed('kdjax.nets', spec.net, FrozenConfigDict(arguments), 'network')


def trained_net(one: Net, fit: Fit) -> Net:
    """The network that a fit trains: with what its terms ask of it, and several of it where peers learn together."""
    asked = probed(one, tuple(tap for _, term in fit.objective.terms for tap in term.taps().student))
    return peers(asked, fit.spec.peers) if fit.spec.peers > 1 else asked


def step_of(fit: Fit) -> Callable[..., Any]:
    """The training step of a fit, still without its parts and its device axis."""
    split = fit.spec.optim.get('name') == 'dot'
    return bound(train_step, source=_source(fit), split_gradients=split, accumulate=fit.spec.accumulate)


def gradient_stats_of(fit: Fit) -> Callable[..., Any]:
    """A look at the gradients of its terms, likewise."""
    return bound(anatomy.look, source=_source(fit), accumulate=fit.spec.accumulate)


def _source(fit: Fit) -> training.Source:
    return training.average if fit.own_average else training.given


def optimiser(spec: Mapping[str, Any], steps: int) -> Any:
    """The optimiser of a fit of so many steps."""
    return _optimiser(**{name: tuple(v) if isinstance(v, list) else v for name, v in spec.items()}, steps=steps)


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
            'student': {'learning_rate': values['learning_rate'], 'weight_decay': values['weight_decay']},
            'terms': {'learning_rate': values['terms_learning_rate'], 'weight_decay': values['terms_weight_decay']},
        }
        rows.append({'terms': terms, 'optim': groups})
    stacked = jax.tree.map(lambda *leaves: np.asarray(leaves, np.float32), *rows)
    return {**stacked, 'seed': np.asarray([base_seed + cell.seed for cell in cells], np.uint32)}


def streams(labels: np.ndarray, cells: Sequence[GridCell], base_seed: int, classes: Sequence[int] = ()) -> list[Stream]:
    """The examples of every cell: a stratified draw of its size by its seed, in the order of its seed.

    Draws of one seed are nested: the larger transfer set holds the smaller one. Where `classes` names classes, the
    examples of others are left out after the draw.

    Raises:
      UsageError: a transfer set larger than the training split, or a class of which it has none.
    """
    for label in classes:
        if isinstance(label, bool) or label not in labels:
            raise UsageError(f'data.classes must be numbers of classes, {np.unique(labels).tolist()}, got {label!r}')
    draws: dict[tuple[int, int], Stream] = {}
    for cell in cells:
        if not 1 <= cell.transfer_size <= len(labels):
            raise UsageError(f'transfer size {cell.transfer_size} must be in 1 to {len(labels)}, the training examples')
        address = (cell.transfer_size, cell.seed)
        if address not in draws:
            (pool,) = data_base.stratified(labels, (cell.transfer_size,), base_seed + cell.seed)
            seen = pool[np.isin(labels[pool], classes)] if len(classes) else pool
            draws[address] = Stream(seen, base_seed + cell.seed)
    return [draws[cell.transfer_size, cell.seed] for cell in cells]
