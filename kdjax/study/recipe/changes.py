"""What a fit does to its student before it trains it, and what that makes of networks and variables.

A change stays: the student of a fit is the network of the config with the changes of this fit and of all before it.
They follow from the config alone, so that shapes are known before anything trains. Zeros are no change: the optimiser
makes them, and keeps those that are there.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from kdjax.compress import narrowed, shared
from kdjax.compress.factored import Ranks
from kdjax.compress.quantized import Rounding
from kdjax.dataset import Dataset
from kdjax.errors import UsageError, unknown
from kdjax.resolve import called, resolve
from kdjax.study.recipe import build
from kdjax.study.recipe.inputs import CachedTeacher, TrainedStudents, TrainedTeacher, plain
from kdjax.study.recipe.recipe import AVERAGE, BEFORE, Fit, NetSpec
from kdjax.train import optim, texts
from kdjax.types import Net

QUANTIZE, NARROW, FACTOR, SHARE = 'quantize', 'narrow', 'factor', 'share'
TAYLOR = 'taylor'  # the score that asks the gradients of the fit
SCORED_ON = 10  # batches that it asks them of, where the change does not say
CALIBRATED_ON = 4  # batches that ranges are taken on, anew, whenever a rounded student is looked at
BITS = ('bits', 'input_bits')
WRITING = ('on_policy', 'sampling_temperature')


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
    ranked = _check_rank(change, given['rank'])
    writes = _check_texts(spec, given)
    return (*(('sparsity',) if prunes else ()), *(BITS if rounds else ()), *(('rank',) if ranked else ()),
            *(WRITING if writes else ()))  # fmt: skip


def _check_texts(spec: ConfigDict, given: Mapping[str, Sequence[float]]) -> bool:
    """Whether texts of a fit are written in its steps."""
    shares, temperatures = (given[name] for name in WRITING)
    if not len(spec.texts):
        if set(shares) != {0.5} or set(temperatures) != {1.0}:
            raise UsageError(f'on_policy and sampling_temperature are of a fit whose texts are written in its steps: '
                             f"set texts to {{'kind': 'student'}}, got {shares} and {temperatures}")  # fmt: skip
        return False
    if not all(0 <= share <= 1 for share in shares):
        raise UsageError(f'on_policy must be in [0, 1], got {shares}')
    if min(temperatures) <= 0:
        raise UsageError(f'sampling_temperature must be > 0, got {temperatures}')
    return True


def writer(
    inputs: TrainedTeacher | TrainedStudents, dataset: Dataset, student: Net, teacher: Net | None
) -> texts.Texts | None:
    """Who writes texts in the steps of a fit; None where all are of the data. Raises UsageError as `train.texts`."""
    fit, what = inputs.fit, build.task(inputs.task)
    if not fit.writes:
        return None
    looked_up = isinstance(inputs.source, CachedTeacher) and not what.questions(dataset)
    texts.check_batches(fit.spec.texts, fit.teacher if looked_up else '', inputs.buckets.widths)
    found = texts.build(fit.spec.texts, what, student, teacher, fit.steps)
    texts.check_terms(fit.objective, found, fit.knobs['on_policy'], fit.knobs['sampling_temperature'])
    return found


def _check_rank(change: Mapping[str, Any], given: Sequence[float]) -> bool:
    """Whether the factors of a fit have a rank that is a knob."""
    if set(given) == {0.0}:
        return False
    if change.get('kind') != FACTOR:
        raise UsageError(
            f"rank is of a fit that makes factors: set change to {{'kind': 'factor', 'ranks': ...}}, got {given}"
        )
    most = max(np.max(rank) for rank in change['ranks'].values())
    if not all(float(rank).is_integer() and 1 <= rank <= most for rank in given):
        raise UsageError(f'rank must be a whole number from 1 to {most}, the largest of change.ranks, got {given}')
    return True


def _check_change(change: Mapping[str, Any]) -> None:
    if change:
        given = {name: value for name, value in change.items() if name != 'kind'}
        if change['kind'] not in KINDS:
            raise unknown('change', change['kind'], KINDS, ' of a student')
        called(KINDS[change['kind']], f'change {change["kind"]!r}', given)


def _quantize(*, form: str = 'absmax', edges: int = 0, activations: bool = False) -> Rounding:
    return Rounding(form, edges, activations)


def _narrow(*, keep: float, score: str = 'group_norm', multiple: int = 1, batches: int = 0) -> None:
    """Its arguments are some that a student can have."""
    if multiple < 1:
        raise UsageError(f'multiple of change narrow must be >= 1, got {multiple}')
    narrowed.count(1, keep, multiple)
    if score not in narrowed.SCORES:
        raise unknown('score', score, narrowed.SCORES, ' of change narrow')
    if batches < 0 or (batches and score != TAYLOR):
        raise UsageError(f'batches of change narrow are those that score {TAYLOR!r} asks gradients of, >= 1, or 0 for '
                         f'{SCORED_ON}; got {batches} and score {score!r}')  # fmt: skip


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


def all_of(inputs: Any) -> list[Mapping[str, Any]]:
    """What the fits so far did to their student, as the config says it."""
    return [fit.spec.change for fit in fits(inputs) if fit.spec.change]


def made(inputs: Any) -> bool:
    """Whether the student of a fit is another network than that of the config."""
    return bool(all_of(inputs))


def sparse(inputs: Any) -> bool:
    """Whether a fit so far has pruned."""
    return any(fit.spec.optim.get('pruning') for fit in fits(inputs))


def reached(inputs: Any) -> bool:
    """Whether a fit so far has made the student smaller in any way."""
    return made(inputs) or sparse(inputs)


def ranked(inputs: Any) -> bool:
    """Whether the factors of a fit's student have a rank that is a number of each cell."""
    return any('rank' in fit.knobs for fit in fits(inputs))


def network(spec: NetSpec, inputs: Any) -> NetSpec:
    """The network of a fit, as narrow as it has been made.

    Raises:
      UsageError: it has no widths.
    """
    factors = False
    for change in all_of(inputs):
        factors = factors or change['kind'] == FACTOR
        if change['kind'] == NARROW:
            if factors:
                raise UsageError('a network is narrowed whose kernels are not factors yet: narrow before you factor')
            widths = tuple(
                narrowed.count(width, change['keep'], change.get('multiple', 1)) for width in widths_of(spec)
            )
            spec = NetSpec(spec.net, {**spec.args, 'widths': widths})
    return spec


def widths_of(spec: NetSpec) -> tuple[int, ...]:
    """Those of a network; a UsageError where it has none."""
    default = inspect.signature(resolve('kdjax.nets', spec.net, 'network')).parameters.get('widths')
    widths = spec.args.get('widths', None if default is None else default.default)
    if not isinstance(widths, tuple | list):
        raise UsageError(f"change 'narrow' is of a network with an argument 'widths', and {spec.net!r} has none")
    return tuple(widths)


def wrapped(net: Net, inputs: Any, axis: str | None) -> Net:
    """A network with the factors, the shared weights and the rounding that the fits so far gave it."""
    net, how = shared_net(factored_net(net, inputs), inputs), rounding(inputs, axis)
    if how is not None and how.form == 'lsq' and ranked(inputs):
        raise UsageError("form 'lsq' learns steps for all directions of factors, and their rank is a knob here: set "
                         'rank=0, or form absmax')  # fmt: skip
    return net if how is None else build.rounded(net, how)


def factored_net(net: Net, inputs: Any) -> Net:
    """A network with the factors alone."""
    for change in all_of(inputs):
        if change['kind'] == FACTOR:
            net = build.factored_net(net, ranks_of(change))
    return net


def ranks_of(change: Mapping[str, Any]) -> tuple[tuple[str, int | tuple[int, int]], ...]:
    """Those of a change that makes factors, by path of a kernel."""
    return tuple((path, tuple(rank) if isinstance(rank, list | tuple) else rank)
                 for path, rank in sorted(change['ranks'].items()))  # fmt: skip


def shared_net(net: Net, inputs: Any) -> Net:
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
    said = [change for change in all_of(inputs) if change['kind'] == QUANTIZE]
    return _rounding(said[-1], axis) if said else None


def _rounding(change: Mapping[str, Any], axis: str | None) -> Rounding:
    return Rounding(**{name: change[name] for name in change if name != 'kind'}, axis=axis)


def described(inputs: Any) -> dict[str, Any]:
    """What makes another network of the config's, JSON-able, for `export.bundle.build`; {} where nothing does."""
    if not made(inputs):
        return {}
    how, sharing = rounding(inputs, None), [change['bits'] for change in all_of(inputs) if change['kind'] == SHARE]
    return {
        'args': plain(network(inputs.network, inputs).args),
        'factors': [dict(ranks_of(change)) for change in all_of(inputs) if change['kind'] == FACTOR],
        'rounding': {} if how is None else {'form': how.form, 'edges': how.edges, 'activations': how.activations},
        **({'shared': plain(sharing[0])} if sharing else {}),
    }


def scored_on(inputs: Any) -> int:
    """Batches of a fit whose gradients say which channels of its student stay; 0 where they are not asked.

    Raises:
      UsageError: they are asked where there are none.
    """
    change, fit = inputs.fit.spec.change, inputs.fit
    if change.get('score') != TAYLOR:
        return 0
    if fit.teacher in (AVERAGE, BEFORE) and all(t.TEACHER and t.at_teacher != 'free' for _, t in fit.objective.terms):
        raise UsageError(f'score {TAYLOR!r} asks gradients, and fit {fit.name!r} has none where it begins: its teacher '
                         f'{fit.teacher!r} is the student; add a term of the task, or take group_norm')  # fmt: skip
    return change.get('batches') or SCORED_ON


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


def optimiser(inputs: Any) -> Mapping[str, Any]:
    """Arguments of the optimiser of a fit: where an earlier one pruned, what is zero stays it."""
    own = inputs.fit.spec.optim
    return {**own, 'pruning': 'keep'} if sparse(inputs) and not own.get('pruning') else own
