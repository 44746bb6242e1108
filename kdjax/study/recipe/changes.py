"""What a fit does to its student before it trains it, and what that makes of networks and variables.

A change stays: the student of a fit is the network of the config with the changes of this fit and of all before it.
They follow from the config alone, so that shapes are known before anything trains. Zeros are no change: the optimiser
makes them, and keeps those that are there.
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from kdjax import trees
from kdjax.compress import factored, masks, narrowed, quantized, shared
from kdjax.compress.factored import Ranks
from kdjax.compress.quantized import ROUNDING, Rounding
from kdjax.errors import UsageError, unknown
from kdjax.jit_cache import bound, compiled
from kdjax.resolve import called, resolve
from kdjax.study.recipe import build
from kdjax.study.recipe.inputs import plain
from kdjax.study.recipe.recipe import Fit, GridCell, NetSpec
from kdjax.train import optim
from kdjax.types import Net, Tree

QUANTIZE, NARROW, FACTOR, SHARE = 'quantize', 'narrow', 'factor', 'share'
CALIBRATED_ON = 4  # batches that ranges are taken on, anew, whenever a rounded student is looked at
BITS = ('bits', 'input_bits')


def knobs(spec: ConfigDict, given: Mapping[str, Sequence[float]]) -> tuple[str, ...]:
    """Which knobs a fit has because of what it does to its student.

    Args:
      spec: as the config says it.
      given: all numbers of every knob.

    Raises:
      UsageError: a change that there is not, or a number that it does not take.
    """
    change = spec.change.to_dict()
    _check_change(change)
    if change and (spec.peers > 1 or spec.answer):
        raise UsageError(f"a student is changed that is one network: set peers=1 and answer='', got {spec.peers} and "
                         f'{spec.answer!r}')  # fmt: skip
    if not spec.steps and not change:
        raise UsageError('steps must be >= 1, got 0; a fit of 0 steps is one that changes its student: set change')
    prunes, rounds = optim.takes_sparsity(spec.optim), change.get('kind') == QUANTIZE
    if not prunes and set(given['sparsity']) != {0.0}:
        raise UsageError(f"sparsity is of a fit that prunes: set optim.pruning to 'layer' or 'global', got sparsity "
                         f'{given["sparsity"]} and pruning {spec.optim.get("pruning", "")!r}')  # fmt: skip
    if not all(0 <= share < 1 for share in given['sparsity']):
        raise UsageError(f'sparsity must be in [0, 1), got {given["sparsity"]}')
    for which in BITS:
        if not rounds and set(given[which]) != {8.0}:
            raise UsageError(f"{which} are of a fit that rounds: set change to {{'kind': 'quantize'}}, got "
                             f'{given[which]}')  # fmt: skip
        if not all(float(number).is_integer() and number >= 2 for number in given[which]):
            raise UsageError(f'{which} must be whole numbers from 2 on, got {given[which]}')
    return (*(('sparsity',) if prunes else ()), *(BITS if rounds else ()))


def _check_change(change: Mapping[str, Any]) -> None:
    if change:
        given = {name: value for name, value in change.items() if name != 'kind'}
        if change['kind'] not in KINDS:
            raise unknown('change', change['kind'], KINDS, ' of a student')
        called(KINDS[change['kind']], f'change {change["kind"]!r}', given)


def _quantize(*, form: str = 'absmax', edges: int = 0, activations: bool = False) -> Rounding:
    return Rounding(form, edges, activations)


def _narrow(*, keep: float, score: str = 'group_norm', multiple: int = 1) -> None:
    """Its arguments are some that a student can have."""
    if multiple < 1:
        raise UsageError(f'multiple of change narrow must be >= 1, got {multiple}')
    narrowed.count(1, keep, multiple)
    if score not in ('group_norm', 'scale'):
        raise unknown('score', score, ('group_norm', 'scale'), ' of change narrow')


def _factor(*, ranks: Ranks) -> None:
    """Which kernels there are, and the ranks that they can have, is seen when the fit is traced."""


def _share(*, bits: shared.Bits) -> None:
    """Its arguments are some that a student can have."""
    shared.check(bits)


# Arguments of each.
KINDS: Mapping[str, Callable[..., Any]] = {QUANTIZE: _quantize, NARROW: _narrow, FACTOR: _factor, SHARE: _share}


def chain(inputs: Any) -> list[Any]:
    """The fits of a network, each as what its stage reads, from the first to this one."""
    before = getattr(inputs, 'before', None)
    return [*(chain(before) if before else ()), inputs]


def fits(inputs: Any) -> list[Fit]:
    """The same, as the config says them."""
    return [each.fit for each in chain(inputs) if isinstance(getattr(each, 'fit', None), Fit)]


def _of(inputs: Any) -> list[Mapping[str, Any]]:
    return [fit.spec.change for fit in fits(inputs) if fit.spec.change]


def made(inputs: Any) -> bool:
    """Whether the student of a fit is another network than that of the config."""
    return bool(_of(inputs))


def sparse(inputs: Any) -> bool:
    """Whether a fit so far has pruned."""
    return any(fit.spec.optim.get('pruning') for fit in fits(inputs))


def reached(inputs: Any) -> bool:
    """Whether a fit so far has made the student smaller in any way."""
    return made(inputs) or sparse(inputs)


def network(spec: NetSpec, inputs: Any) -> NetSpec:
    """The network of a fit, as narrow as it has been made.

    Raises:
      UsageError: it has no widths.
    """
    for change in _of(inputs):
        if change['kind'] == NARROW:
            widths = tuple(narrowed.count(width, change['keep'], change.get('multiple', 1)) for width in _widths(spec))
            spec = NetSpec(spec.net, {**spec.args, 'widths': widths})
    return spec


def _widths(spec: NetSpec) -> tuple[int, ...]:
    default = inspect.signature(resolve('kdjax.nets', spec.net, 'network')).parameters.get('widths')
    widths = spec.args.get('widths', None if default is None else default.default)
    if not isinstance(widths, tuple | list):
        raise UsageError(f"change 'narrow' is of a network with an argument 'widths', and {spec.net!r} has none")
    return tuple(widths)


def wrapped(net: Net, inputs: Any, axis: str | None) -> Net:
    """A network with the factors, the shared weights and the rounding that the fits so far gave it."""
    net, how = _shared_net(factored_net(net, inputs), inputs), rounding(inputs, axis)
    return net if how is None else build.rounded(net, how)


def factored_net(net: Net, inputs: Any) -> Net:
    """A network with the factors alone."""
    for change in _of(inputs):
        if change['kind'] == FACTOR:
            net = build.factored_net(net, _ranks(change))
    return net


def _ranks(change: Mapping[str, Any]) -> tuple[tuple[str, int | tuple[int, int]], ...]:
    return tuple((path, tuple(rank) if isinstance(rank, list | tuple) else rank)
                 for path, rank in sorted(change['ranks'].items()))  # fmt: skip


def _shared_net(net: Net, inputs: Any) -> Net:
    """A network with shared weights, if they are.

    Raises:
      UsageError: kernels are changed or pruned that are codebooks by then, or rounded to other numbers than those.
    """
    way = fits(inputs)
    first = next((place for place, fit in enumerate(way) if fit.spec.change.get('kind') == SHARE), None)
    if first is None:
        return net
    for place, fit in enumerate(way):
        kind, pruning = fit.spec.change.get('kind', ''), fit.spec.optim.get('pruning', '')
        if (place > first and kind) or kind == QUANTIZE or (place >= first and pruning not in ('', 'keep')):
            raise UsageError(f'fit {way[first].name!r} shares weights, and fit {fit.name!r} has change {kind!r} and '
                             f'pruning {pruning!r}: prune, narrow or factor before, and do not round')  # fmt: skip
    return build.shared_net(net, _shared_bits(way[first].spec.change))


def _shared_bits(change: Mapping[str, Any]) -> int | tuple[tuple[str, int], ...]:
    bits = change['bits']
    return tuple(sorted(bits.items())) if isinstance(bits, Mapping) else bits


def rounding(inputs: Any, axis: str | None) -> Rounding | None:
    """How the student of a fit is rounded, by the last change that says it; None where it is not."""
    said = [change for change in _of(inputs) if change['kind'] == QUANTIZE]
    return _rounding(said[-1], axis) if said else None


def _rounding(change: Mapping[str, Any], axis: str | None) -> Rounding:
    return Rounding(**{name: change[name] for name in change if name != 'kind'}, axis=axis)


def described(inputs: Any) -> dict[str, Any]:
    """What makes another network of the config's, JSON-able, for `export.bundle.build`; {} where nothing does."""
    if not made(inputs):
        return {}
    how, sharing = rounding(inputs, None), [change['bits'] for change in _of(inputs) if change['kind'] == SHARE]
    return {
        'args': plain(network(inputs.network, inputs).args),
        'factors': [dict(_ranks(change)) for change in _of(inputs) if change['kind'] == FACTOR],
        'rounding': {} if how is None else {'form': how.form, 'edges': how.edges, 'activations': how.activations},
        **({'shared': plain(sharing[0])} if sharing else {}),
    }


def dense_since(inputs: Any) -> int:
    """How many fits ago the student of a fit was dense: the first of them is the first that prunes, or this one."""
    way = fits(inputs)
    pruning = [place for place, fit in enumerate(way) if fit.spec.optim.get('pruning')]
    return len(way) - min([*pruning, len(way) - 1])


def check_dense(inputs: Any) -> None:
    """Raises UsageError where there is no dense student under that of a fit, or it is the student itself."""
    way, since = fits(inputs), dense_since(inputs)
    if since == len(way):
        raise UsageError(f"teacher 'dense' is the student that was pruned or rounded, as it was before, and fit "
                         f'{way[0].name!r} of its method, where that begins, has no fit before')  # fmt: skip
    if not sparse(inputs) and rounding(inputs, None) is None:
        raise UsageError("teacher 'dense' is the student with the weights that are gone put back, and nothing of it is "
                         'pruned or rounded: it would be its own teacher')  # fmt: skip
    for fit in way[len(way) - since :]:
        if fit.spec.change.get('kind') in (NARROW, FACTOR, SHARE):
            raise UsageError(f"teacher 'dense' has weights of before fit {fit.name!r}, which makes others of them "
                             f"({fit.spec.change['kind']}); take 'before', or do that first")  # fmt: skip


def dense(starts: Sequence[Tree]) -> Tree:
    """Variables of a grid with the weights that are gone as they last were.

    Args:
      starts: of each of the fits since they were dense, where it began; of the first all are there.
    """
    first, *later = [jax.tree.map(np.asarray, quantized.plain(start)) for start in starts]
    params = first['params']
    for start in later:
        params = jax.tree.map(np.asarray, jax.vmap(masks.refilled)(start['params'], params))
    return {**first, 'params': params}


def optimiser(inputs: Any) -> Mapping[str, Any]:
    """Arguments of the optimiser of a fit: where an earlier one pruned, what is zero stays it."""
    own = inputs.fit.spec.optim
    return {**own, 'pruning': 'keep'} if sparse(inputs) and not own.get('pruning') else own


def applied(
    inputs: Any,
    cells: Sequence[GridCell],
    variables: Tree,
    nets: tuple[Callable[[NetSpec], Net], NetSpec],
    example: Tree,
) -> Tree:
    """Variables of the students of a grid after the change of their fit.

    Args:
      inputs: of the fit.
      cells: whose bits they are.
      variables: before it, with a leading axis of cells.
      nets: from a specification to a plain network, and that of the config.
      example: a batch as networks see it.
    """
    change = inputs.fit.spec.change
    if not change:
        return variables
    make, spec = nets
    earlier = getattr(inputs, 'before', None)
    old = variables['stats'][ROUNDING]['bits'] if earlier and rounding(earlier, None) else None
    variables = quantized.plain(variables) if old is not None else variables
    if change['kind'] == NARROW:
        before = network(spec, earlier) if earlier else spec
        variables = _narrowed(make, before, change, variables, example)
    if change['kind'] == FACTOR:
        build_factors = functools.partial(factored.with_factors, ranks=dict(_ranks(change)))
        variables = _each(lambda one: jax.tree.map(np.asarray, build_factors(one)), variables)
    if change['kind'] == SHARE:
        variables = _each(functools.partial(shared.with_codebooks, bits=change['bits']), variables)
    how = rounding(inputs, None)
    if how is None:
        return variables
    bits = _bits(inputs.fit, cells) if change['kind'] == QUANTIZE else old
    net = factored_net(make(network(spec, inputs)), inputs)
    return compiled(bound(_begun, net=net, how=how))(variables, jnp.asarray(bits), example)


def _begun(variables: Tree, bits: Any, example: Tree, *, net: Net, how: Rounding) -> Tree:
    return jax.vmap(lambda one, own: quantized.begun(net, how, one, example, (own[0], own[1])))(variables, bits)


def _bits(fit: Fit, cells: Sequence[GridCell]) -> np.ndarray:
    first = {name: values[0] for name, values in fit.knobs.items()}
    return np.asarray([[{**first, **cell.candidate}[which] for which in BITS] for cell in cells], np.float32)


def _each(function: Callable[[Tree], Tree], cells: Tree) -> Tree:
    """A function of the variables of one network, for all of a grid."""
    cells = jax.device_get(cells)
    count = jax.tree.leaves(cells)[0].shape[0]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *(function(trees.take(cells, cell)) for cell in range(count)))


def _narrowed(
    make: Callable[[NetSpec], Net], spec: NetSpec, change: Mapping[str, Any], variables: Tree, example: Tree
) -> Tree:
    def of(widths: tuple[int, ...]) -> Net:
        return make(NetSpec(spec.net, {**spec.args, 'widths': tuple(widths)}))

    widths, checked = _widths(spec), [example]
    groups = narrowed.groups(of, widths, example)

    def one(own: Tree) -> Tree:
        keep = [(group, narrowed.kept(narrowed.scores(group, own, change.get('score', 'group_norm')), change['keep'],
                                      change.get('multiple', 1))) for group in groups]  # fmt: skip
        # What is wrong with one cell is wrong with all.
        return narrowed.narrowed(of, widths, own, keep, checked.pop() if checked else None)[1]

    return _each(one, variables)


def calibrated(variables: Tree, batches: Tree, *, net: Net, how: Rounding, own_batches: bool) -> Tree:
    """Variables of a grid with ranges taken anew, outside of training.

    Args:
      variables: with a leading axis of cells.
      batches: what networks read, (steps, [C,] B, ...).
      net: without its rounding; `how` is that.
      own_batches: whether every cell has its own.
    """

    def one(own: Tree, inputs: Tree) -> Tree:
        seen = [quantized.observed(net, how, own, trees.take(inputs, step))
                for step in range(jax.tree.leaves(inputs)[0].shape[0])]  # fmt: skip
        return quantized.calibrated(own, functools.reduce(quantized.joined, seen))

    return jax.vmap(one, in_axes=(0, 1 if own_batches else None))(variables, batches)
