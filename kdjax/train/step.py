"""One training step, a pure function that every runner wraps.

Knobs are {'seed': () uint32, 'terms': {name: {...}}, 'optim': {group: {...}}}, and 'texts' where some are written.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from kdjax import trees
from kdjax.errors import UsageError
from kdjax.train import blockwise, optim, texts
from kdjax.train.objective import Objective, Shares
from kdjax.train.teachers import Source, given
from kdjax.train.texts import Texts
from kdjax.types import Array, Batch, Net, State, Teacher, TermInputs, Tree

Knobs = Mapping[str, Any]
Logs = Mapping[str, Array]
Pull = Callable[[Tree], tuple[Tree]]  # cotangents of losses -> the gradient of their sum


class Gradients(NamedTuple):
    """What a pass forward and back gives, of the global batch."""

    grads: Tree  # one for each of the losses
    logs: Logs
    stats: Tree
    memory: Tree


def init_student(seed: Array, inputs: Array, net: Net) -> Tree:
    """Fresh variables of a student, a pure function of its seed; `inputs` (B, ...) gives shapes only."""
    return net.init(jax.random.split(jax.random.key(seed))[0], inputs)


def init_state(
    knobs: Knobs,
    teacher_vars: Tree,
    batch: Batch,
    student: Tree,
    earlier: Tree | None = None,
    *,
    net: Net,
    teacher: Teacher,
    objective: Objective,
    tx: optax.GradientTransformationExtraArgs,
    writes: Texts | None = None,
) -> State:
    """The state before the first step.

    Args:
      knobs, teacher_vars, batch: as for `train_step`; what terms learn starts from the knobs' seed and, where a term
        says so, from the batch.
      student: variables to start from: fresh ones (`init_student`) or those of an earlier fit.
      earlier: what terms had learned in that fit, by name.
      net, teacher, objective, tx, writes: structure of the step.
    """
    terms_key = jax.random.split(jax.random.key(knobs['seed']))[1]
    outputs, _ = net.apply(student, batch['inputs'], train=False, key=None)
    terms, memory = objective.init(terms_key, TermInputs(outputs, teacher(teacher_vars, batch), batch))
    terms = objective.adopt(terms, earlier or {}, teacher_vars)
    params = {'student': student['params'], 'terms': terms}
    kept = writes.init(knobs['texts'], batch) if writes else {}
    memory = {**memory, **({texts.MEMORY: kept} if kept else {})}
    return State(jnp.zeros((), jnp.int32), params, student['stats'], memory, tx.init(params))


def train_step(
    state: State,
    teacher_vars: Tree,
    batch: Batch,
    knobs: Knobs,
    *,
    net: Net,
    teacher: Teacher,
    objective: Objective,
    tx: optax.GradientTransformationExtraArgs,
    source: Source = given,
    writes: Texts | None = None,
    split_gradients: bool = False,
    axis: str | None = None,
    accumulate: int = 1,
) -> tuple[State, Logs]:
    """One update of the student and of the learned parts of the terms.

    Args:
      state: what changes.
      teacher_vars: not differentiated, not changed.
      batch: this device's part of the global batch, leading axis B.
      knobs: see the module.
      net, teacher, objective, tx: structure, static.
      source: where the teacher's variables come from: those given, or the student's own average.
      writes: who writes texts in the place of some examples; None where all are of the data.
      split_gradients: whether the optimiser is given the gradients of the task and those of the teacher by themselves
        (`optim.SplitGradients`).
      axis: name of the device axis, None where the batch is whole.
      accumulate: micro-batches that B is cut into; denominators stay those of the global batch.

    Returns:
      The next state, and scalars of the global batch: 'loss', 'term/<name>' (unweighted), '<name>/<what>' (logs of
      terms) and 'grad_norm'.

    Raises:
      UsageError: B is not a multiple of `accumulate`, or a batch-scope term would see micro-batches only.
    """
    taught = {name for name, term in objective.terms if term.TEACHER}
    grads, logs, stats, memory = gradients(
        state, teacher_vars, batch, knobs, net=net, teacher=teacher, objective=objective, source=source, writes=writes,
        axis=axis, accumulate=accumulate, losses=functools.partial(_split, taught) if split_gradients else _whole,
    )  # fmt: skip
    updates, opt = tx.update(grads, state.opt, state.params, knobs=knobs['optim'])
    params = optax.apply_updates(state.params, updates)
    return State(state.step + 1, params, stats, memory, opt), {
        **logs,
        'grad_norm': trees.norm(trees.add(*grads) if split_gradients else grads),
    }


def one_by_one(pull: Pull, losses: Tree) -> Tree:
    """The gradient of each of the losses, in their place."""
    leaves, structure = jax.tree.flatten(losses)
    one, zero = jnp.ones_like(leaves[0]), jnp.zeros_like(leaves[0])
    chosen = [[one if other == index else zero for other in range(len(leaves))] for index in range(len(leaves))]
    return jax.tree.unflatten(structure, [pull(jax.tree.unflatten(structure, row))[0] for row in chosen])


def gradients(
    state: State,
    teacher_vars: Tree,
    batch: Batch,
    knobs: Knobs,
    *,
    net: Net,
    teacher: Teacher,
    objective: Objective,
    losses: Callable[[Shares], Tree],
    pulled: Callable[[Pull, Tree], Tree] = one_by_one,
    source: Source = given,
    writes: Texts | None = None,
    axis: str | None = None,
    accumulate: int = 1,
) -> Gradients:
    """The gradients of the step that starts from `state`, by all that is learned: one pass forward.

    Args:
      losses: what is differentiated: the sum of all shares, or a tree of several sums, each by itself.
      pulled: how the pass back is taken for each of them.
      state, ...: as for `train_step`.

    Raises:
      UsageError: as `train_step`.
    """
    _check_accumulation(objective, batch, accumulate)
    teacher_vars = jax.lax.stop_gradient(source(state, teacher_vars, knobs))
    step_key = jax.random.fold_in(jax.random.key(knobs['seed']), state.step)
    kept: Tree = {}
    if writes is not None:
        # Before all else: what follows is a function of the batch, and no gradient goes back to who wrote it.
        key = texts.key_of(step_key)
        batch, kept = jax.lax.stop_gradient(writes(state, teacher_vars, batch, knobs['texts'], key=key, axis=axis))

    def forward(params: Tree, stats: Tree, memory: Tree, part: Batch, key: Array) -> tuple[Tree, tuple[Shares, Tree]]:
        variables = {'params': params['student'], 'stats': stats}
        said = jax.lax.stop_gradient(teacher(teacher_vars, part))
        student, stats = net.apply(blockwise.fed(net, variables, said), part['inputs'], train=True, key=key)
        inputs = TermInputs(student, said, part)
        shares = objective.shares(
            params['terms'], memory, inputs, knobs['terms'],
            step=state.step, key=key, axis=axis, device_batch=batch,
        )  # fmt: skip
        return losses(shares), (shares, stats)

    def learn(stats: Tree, memory: Tree, index: Array | int) -> tuple[tuple[Tree, Logs], Tree, Tree]:
        key, part = jax.random.fold_in(step_key, index), _micro_batch(batch, index, accumulate)
        values, pull, (shares, stats) = jax.vjp(
            lambda params: forward(params, stats, memory, part, key), state.params, has_aux=True
        )
        grads = pulled(pull, values)
        parts = {f'term/{name}': share for name, share in shares.parts.items()}
        means = {name: value / accumulate for name, value in shares.logs.items()}
        return (grads, {'loss': shares.loss, **parts, **means}), stats, shares.memory

    summed, stats, memory = learn(state.stats, state.memory, 0)
    if accumulate > 1:

        def more(carry: tuple, index: Array) -> tuple[tuple, None]:
            summed, stats, memory = carry
            grads, stats, memory = learn(stats, memory, index)
            return (trees.add(summed, grads), stats, memory), None

        (summed, stats, memory), _ = jax.lax.scan(more, (summed, stats, memory), jnp.arange(1, accumulate))

    if axis is not None:
        summed = jax.lax.psum(summed, axis)
        # Synchronised statistics agree already; a network without them gets their mean rather than one device's.
        stats = jax.lax.pmean(stats, axis)
    return Gradients(*summed, stats, {**memory, **({texts.MEMORY: kept} if kept else {})})


def _whole(shares: Shares) -> Array:
    return shares.loss


def _split(taught: set[str], shares: Shares) -> optim.SplitGradients:
    """The sums of the terms that need no teacher, and of those that do."""
    groups: tuple[list[Array], list[Array]] = ([], [])
    for name, share in shares.weighted.items():
        groups[name in taught].append(share)
    return optim.SplitGradients(*(sum(group, jnp.zeros_like(shares.loss)) for group in groups))


def _micro_batch(batch: Batch, index: Array | int, parts: int) -> Batch:
    if parts == 1:
        return batch
    return jax.tree.map(lambda leaf: leaf.reshape(parts, -1, *leaf.shape[1:])[index], dict(batch))


def _check_accumulation(objective: Objective, batch: Batch, accumulate: int) -> None:
    size = batch['mask'].shape[0]
    if accumulate < 1 or size % accumulate:
        raise UsageError(f'accumulate must be a divisor of the batch of {size} on each device, got {accumulate}')
    coupled = [name for name, term in objective.terms if term.scope == 'batch']
    if accumulate > 1 and coupled:
        raise UsageError(
            f'terms {coupled} relate the examples of a batch; micro-batches (accumulate={accumulate}) would change '
            'what they mean: set accumulate=1 or use more devices'
        )
