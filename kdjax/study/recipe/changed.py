"""The variables of a grid as what a fit does to its student makes of them: smaller, factored, rounded, calibrated."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax import trees
from kdjax.compress import built, factored, masks, narrowed, quantized, shared
from kdjax.compress.factored import Ranks
from kdjax.compress.quantized import ROUNDING, Rounding
from kdjax.data.feed import Feed
from kdjax.errors import UsageError
from kdjax.jit_cache import bound, compiled
from kdjax.jit_cache import shared as made_once
from kdjax.nets import team
from kdjax.study.recipe import build, changes
from kdjax.study.recipe.context import Context
from kdjax.study.recipe.inputs import TrainedStudents, TrainedTeacher
from kdjax.study.recipe.recipe import Fit, GridCell, NetSpec
from kdjax.train import loop
from kdjax.types import Net, State, Tree


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


def applied(
    inputs: Any,
    cells: Sequence[GridCell],
    variables: Tree,
    nets: tuple[Callable[[NetSpec], Net], NetSpec],
    example: Tree,
    slopes: Iterable[Tree] = (),
) -> Tree:
    """Variables of the students of a grid after the change of their fit.

    Args:
      inputs: of the fit.
      cells: whose bits they are.
      variables: before it, with a leading axis of cells.
      nets: from a specification to a plain network, and that of the config.
      example: a batch as networks see it.
      slopes: gradients of the fit by the parameters of the students as they come in, with a leading axis of cells, of
        one batch after the other; made where they are asked for.

    Raises:
      UsageError: no gradient reaches a student whose channels are chosen by it.
    """
    change = inputs.fit.spec.change
    if not change:
        return variables
    make, spec = nets
    earlier = getattr(inputs, 'before', None)
    old = variables['stats'][ROUNDING]['bits'] if earlier and changes.rounding(earlier, None) else None
    variables = quantized.plain(variables) if old is not None else variables
    if change['kind'] == changes.NARROW:
        before = changes.network(spec, earlier) if earlier else spec
        variables = _narrowed(make, before, change, variables, example, slopes)
    if change['kind'] == changes.FACTOR:
        variables = _factored(inputs.fit, cells, variables, dict(changes.ranks_of(change)))
    if change['kind'] == changes.SHARE:
        variables = _each(functools.partial(shared.with_codebooks, bits=change['bits']), variables)
    how = changes.rounding(inputs, None)
    if how is None:
        return variables
    bits = _bits(inputs.fit, cells) if change['kind'] == changes.QUANTIZE else old
    net = changes.factored_net(make(changes.network(spec, inputs)), inputs)
    return compiled(bound(_begun, net=net, how=how))(variables, jnp.asarray(bits), example)


def _factored(fit: Fit, cells: Sequence[GridCell], variables: Tree, ranks: Ranks) -> Tree:
    def one(own: Tree) -> Tree:
        return jax.tree.map(np.asarray, factored.with_factors(own, ranks))

    made = _each(one, variables)
    if 'rank' not in fit.knobs:
        return made
    rank = np.asarray([{'rank': fit.knobs['rank'][0], **cell.candidate}['rank'] for cell in cells], np.float32)
    return factored.with_rank(made, jnp.asarray(rank), ranks)


def as_built(net: Callable[[NetSpec], Net], spec: NetSpec, inputs: Any, variables: Tree) -> tuple[Net, Tree]:
    """The network and the variables of one student, with the directions of its factors that are used alone."""
    one, fewer = net(changes.network(spec, inputs)), []
    for change in changes.all_of(inputs):
        if change['kind'] == changes.FACTOR:
            variables, ranks = built.built(variables, dict(changes.ranks_of(change)))
            fewer.append(ranks)
    for ranks in fewer:
        one = build.factored_net(one, tuple(sorted(ranks.items())))
    one, how = changes.shared_net(one, inputs), changes.rounding(inputs, None)
    return (one if how is None else build.rounded(one, how)), variables


def _begun(variables: Tree, bits: Any, example: Tree, *, net: Net, how: Rounding) -> Tree:
    return jax.vmap(lambda one, own: quantized.begun(net, how, one, example, (own[0], own[1])))(variables, bits)


def _bits(fit: Fit, cells: Sequence[GridCell]) -> np.ndarray:
    first = {name: values[0] for name, values in fit.knobs.items()}
    return np.asarray([[{**first, **cell.candidate}[which] for which in changes.BITS] for cell in cells], np.float32)


def _each(function: Callable[[Tree], Tree], cells: Tree) -> Tree:
    """A function of the variables of one network, for all of a grid."""
    return _stacked([function(own) for own in _apart(cells)])


def _apart(cells: Tree) -> list[Tree]:
    """The networks of a grid one by one, on the host."""
    cells = jax.device_get(cells)
    return [trees.take(cells, cell) for cell in range(jax.tree.leaves(cells)[0].shape[0])]


def _stacked(cells: Sequence[Tree]) -> Tree:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *cells)


def _narrowed(
    make: Callable[[NetSpec], Net],
    spec: NetSpec,
    change: Mapping[str, Any],
    variables: Tree,
    example: Tree,
    slopes: Iterable[Tree],
) -> Tree:
    def of(widths: tuple[int, ...]) -> Net:
        return make(NetSpec(spec.net, {**spec.args, 'widths': tuple(widths)}))

    widths, checked = changes.widths_of(spec), [example]
    groups = narrowed.groups(of, widths, example)

    def one(own: Tree, scores: Sequence[np.ndarray]) -> Tree:
        keep = [(group, narrowed.kept(score, change['keep'], change.get('multiple', 1)))
                for group, score in zip(groups, scores, strict=True)]  # fmt: skip
        # What is wrong with one cell is wrong with all.
        return narrowed.narrowed(of, widths, own, keep, checked.pop() if checked else None)[1]

    cells, kind = _apart(variables), change.get('score', 'group_norm')
    if kind == changes.TAYLOR:
        scored = _by_gradients(groups, cells, slopes)
    else:
        scored = [[narrowed.scores(group, own, kind) for group in groups] for own in cells]
    return _stacked([one(own, scores) for own, scores in zip(cells, scored, strict=True)])


def _by_gradients(
    groups: Sequence[narrowed.Group], cells: Sequence[Tree], slopes: Iterable[Tree]
) -> list[list[np.ndarray]]:
    """Taylor scores of the channels of every group, by cell, summed over batches: each says how far the loss moves."""
    scored = [[np.zeros(group.size) for group in groups] for _ in cells]
    for batch in slopes:
        for own, scores, gradients in zip(cells, scored, _apart(batch), strict=True):
            for group, score in zip(groups, scores, strict=True):
                score += narrowed.scores(group, own, changes.TAYLOR, gradients)
    if not all(np.any(score) for scores in scored for score in scores):
        raise UsageError(f'score {changes.TAYLOR!r} asks gradients, and none reaches the channels of a student: its '
                         'terms have no weight, or they are all met; take group_norm')  # fmt: skip
    return scored


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


@made_once
def _student_of(peers: int, answer: str) -> Callable[[State], Tree]:
    """Who the student is of all that is trained: of several peers the first; with it the head that answers for it."""
    if answer:
        return functools.partial(loop.answering, term=answer)
    if peers == 1:
        return loop.student
    first = jax.jit(jax.vmap(team.first_peer))
    return lambda state: first(loop.student(state))


def student_of(
    context: Context, inputs: TrainedTeacher | TrainedStudents, batches: Feed, own_batches: bool
) -> Callable[[State], Tree]:
    """The same of a fit, with the ranges of what is rounded taken anew, on its first batches."""
    one, how = _student_of(inputs.fit.spec.peers, inputs.fit.spec.answer), changes.rounding(inputs, None)
    if how is None:
        return one
    take = compiled(bound(calibrated, net=context.dense_net(inputs), how=how, own_batches=own_batches))
    return functools.partial(
        _calibrated,
        lambda variables: take(variables, batches(0, batches.reach(0, changes.CALIBRATED_ON))['inputs']),
        one,
    )


def _calibrated(calibration: Callable[[Tree], Tree], student_of: Callable[[State], Tree], state: State) -> Tree:
    """The students of a grid, with the ranges of what they round as they are outside of training."""
    return calibration(student_of(state))


def alone(fitted: Tree, fit: Fit) -> Tree:
    """The variables of a student without the head that answers for it, as a later fit starts from them."""
    return {part: fitted[part]['student'] for part in ('params', 'stats')} if fit.answering else fitted
