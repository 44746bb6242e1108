"""Optimisers as optax chains whose learning rate and weight decay are knobs, per parameter group.

`knobs` is {'student': {'learning_rate', 'weight_decay'}, 'terms': {...}}: the groups of `State.params`. A schedule is a
shape with peak 1; the knob is its height, so that learning rates can be swept in one compiled program.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from kdjax.compress import masks
from kdjax.errors import UsageError, unknown
from kdjax.nets import layers
from kdjax.train import rows
from kdjax.train.optim import averages, schedules
from kdjax.train.optim.averages import averaged as averaged
from kdjax.types import Array, Tree

Knobs = Mapping[str, Mapping[str, Array]]
GROUPS = ('student', 'terms')
OPTIMISERS = ('sgd', 'adamw', 'adam_l2', 'rmsprop', 'dot')


def build(
    name: str = 'sgd',
    *,
    steps: int,
    schedule: str = 'constant',
    warmup: int = 0,
    milestones: tuple[float, ...] = (0.625, 0.75, 0.875),
    factor: float = 0.1,
    momentum: float = 0.9,
    delta: float = 0.075,
    nesterov: bool = False,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    clip: float = 0.0,
    decay: str = 'all',
    max_norm: float = 0.0,
    ema: float = 0.0,
    average_last: int = 0,
    average_every: int = 1,
    pruning: str = '',
    prune_from: float = 0.0,
    prune_until: float = 0.6,
    prune_every: int = 10,
    regrow: float = 0.0,
    dense: tuple[str, ...] = (),
) -> optax.GradientTransformationExtraArgs:
    """An optimiser; call its `update` with `knobs=`.

    Args:
      name: 'sgd' (weight decay is added to the gradient, before momentum), 'adamw' (decoupled weight decay), 'adam_l2'
        (Adam, weight decay added to the gradient, as PyTorch's Adam has it: where an update is g / (|g| + eps), what is
        summed over a batch of B trains as its mean does with weight decay / B and eps / B), 'rmsprop' (weight decay
        added to the gradient, g / sqrt(v + eps), nothing made up for v beginning at 0, as in early Keras) or 'dot'
        (sgd whose momentum is larger for what the teacher says; its `update` takes gradients
        `SplitGradients`).
      steps: length of the run, in steps.
      schedule: after the warm-up, 'constant', 'step', 'cosine' or 'linear' (these two end at 0), or 'inverse_sqrt',
        sqrt(warmup / step).
      warmup: steps of linear warm-up from 0.
      milestones: where 'step' multiplies by `factor`, as fractions of the run after the warm-up.
      factor: see `milestones`.
      momentum, nesterov: of 'sgd'; 'dot' has the momentum too.
      delta: of 'dot', in [0, min(momentum, 1 - momentum)].
      b1, b2, eps: of 'adamw' and 'adam_l2'; 'rmsprop' has no b1, and Keras' rho is its b2.
      clip: largest norm of the gradient over all parameters; 0 for no clipping.
      decay: parameters that weight decay acts on, 'all' or 'kernels' (those with two axes or more).
      max_norm: largest norm of the weights into a unit of the student, kept after every update; 0 for no bound.
      ema: decay of an exponential moving average of the parameters, read with `averaged`; 0 for none.
      average_last: of so many steps, the last one and those `average_every` steps apart before it, the mean of the
        parameters is read with `averaged`, and before them the parameters themselves; 0 for none.
      average_every: see `average_last`.
      pruning: which of the student's weights become zero, and stay it: 'layer', 'global', '2:4' and the like, or those
        that are, 'keep' (`compress.masks.pruned`); '' for none. Of the first two the share is the knob 'sparsity'.
      prune_from, prune_until: shares of the run between which sparsity grows.
      prune_every: steps between draws of what is zero.
      regrow: share of the weights that is exchanged at first where pruning is 'layer' from the first step on and the
        connections move (`compress.masks.regrown`), until `prune_until`; 0 for connections that stay away.
      dense: layers of the student that keep all their weights, by path or pattern.

    Raises:
      UsageError: an unknown name, schedule or mask, or a number outside its range.
    """
    _check(
        steps=steps, warmup=warmup, clip=clip, max_norm=max_norm, ema=ema, factor=factor, momentum=momentum,
        delta=delta, b1=b1, b2=b2, eps=eps, milestones=milestones, prune_from=prune_from, prune_until=prune_until,
        prune_every=prune_every, regrow=regrow, average_last=average_last,
        average_every=average_every,
    )  # fmt: skip
    if ema and average_last:
        raise UsageError(f'an optimiser keeps one average: set ema or average_last to 0, got {ema} and {average_last}')
    if decay not in MASKS:
        raise unknown('weight decay mask', decay, MASKS)
    decayed = _add_decay(MASKS[decay])
    if name == 'sgd':
        rule = [decayed, optax.trace(momentum, nesterov)] if momentum else [decayed]
    elif name == 'adamw':
        rule = [_promoting(optax.scale_by_adam(b1, b2, eps)), decayed]
    elif name == 'adam_l2':
        rule = [decayed, _promoting(optax.scale_by_adam(b1, b2, eps))]
    elif name == 'rmsprop':
        rule = [decayed, _promoting(optax.scale_by_rms(b2, eps))]
    elif name == 'dot':
        if not 0 <= delta <= min(momentum, 1 - momentum) or clip or nesterov:
            raise UsageError(
                f'dot needs delta in [0, min(momentum, 1 - momentum)], clip=0 and nesterov=False, got delta={delta!r}, '
                f'momentum={momentum!r}, clip={clip!r}, nesterov={nesterov!r}'
            )
        rule = [_split_momentum(decayed, momentum, delta)]
    else:
        raise unknown('optimiser', name, OPTIMISERS)
    shape = schedules.shape(schedule, steps, warmup, milestones, factor)
    clipping = [optax.clip_by_global_norm(clip)] if clip else []
    bounding = [_bound(max_norm)] if max_norm else []
    averaging = [averages.moving(ema, bool(pruning), dense)] if ema else []
    if average_last:
        averaging = [averages.of_last(average_last, average_every, steps, bool(pruning), dense)]
    whole = [*clipping, *map(rows.by_element, (*rule, _descend(shape))), *bounding]
    if regrow:
        _check_regrowth(name, pruning)
        inner = optax.with_extra_args_support(optax.chain(*whole))
        whole = [_regrown(inner, steps=steps, until=prune_until, every=prune_every, exchanged=regrow, dense=dense)]
    elif pruning:
        zeros = masks.pruned(
            pruning, steps=steps, begin=prune_from, end=prune_until, every=prune_every, dense=tuple(dense)
        )
        whole += [_of_student(zeros)]
    return optax.with_extra_args_support(optax.chain(*whole, *averaging))


def takes_sparsity(spec: Mapping[str, Any]) -> bool:
    """Whether an optimiser of these arguments reads the knob 'sparsity'."""
    return spec.get('pruning', '') in ('layer', 'global')


def _of_student(inner: optax.GradientTransformationExtraArgs) -> optax.GradientTransformationExtraArgs:
    """What prunes the student alone, to the share that is its knob."""

    def update(updates: Tree, state: Tree, params: Tree = None, *, knobs: Knobs, **_: Any) -> tuple[Tree, Tree]:
        pruned, state = inner.update(
            updates['student'], state, params['student'], sparsity=knobs['student'].get('sparsity')
        )
        return {**updates, 'student': pruned}, state

    return optax.GradientTransformationExtraArgs(lambda params: inner.init(params['student']), update)


def _regrown(whole: optax.GradientTransformationExtraArgs, **settings: Any) -> optax.GradientTransformationExtraArgs:
    inner = masks.regrown(_without_sparsity(whole), within='student', **settings)

    def update(updates: Tree, state: Tree, params: Tree = None, *, knobs: Knobs, **_: Any) -> tuple[Tree, Tree]:
        return inner.update(updates, state, params, sparsity=knobs['student']['sparsity'], knobs=knobs)

    return optax.GradientTransformationExtraArgs(inner.init, update)


def _without_sparsity(inner: optax.GradientTransformationExtraArgs) -> optax.GradientTransformationExtraArgs:
    def update(updates: Tree, state: Tree, params: Tree = None, *, knobs: Knobs, **_: Any) -> tuple[Tree, Tree]:
        return inner.update(updates, state, params, knobs=knobs)

    return optax.GradientTransformationExtraArgs(inner.init, update)


def _check_regrowth(name: str, pruning: str) -> None:
    if name == 'dot' or pruning != 'layer':
        raise UsageError(
            f"regrow is of pruning 'layer' and of another optimiser than 'dot', got pruning {pruning!r} of {name!r}"
        )


class SplitGradients(NamedTuple):
    """Gradients of the terms that need no teacher, and of those that do."""

    task: Tree
    distill: Tree


def _split_momentum(
    decayed: optax.GradientTransformationExtraArgs, momentum: float, delta: float
) -> optax.GradientTransformationExtraArgs:
    """v_task <- (momentum - delta) v_task + g_task; v_kd <- (momentum + delta) v_kd + g_kd; the update is their sum.

    Weight decay belongs to the task.

    Reference: Zhao, Cui, Song, Liang, DOT: A Distillation-Oriented Trainer, ICCV 2023, eq. 5-7.
    """

    def init(params: Tree) -> SplitGradients:
        return SplitGradients(*(jax.tree.map(jnp.zeros_like, params) for _ in SplitGradients._fields))

    def update(
        updates: SplitGradients, state: SplitGradients, params: Tree = None, **extra: Any
    ) -> tuple[Tree, SplitGradients]:
        task, _ = decayed.update(updates.task, optax.EmptyState(), params, **extra)
        after = SplitGradients(
            jax.tree.map(lambda v, g: (momentum - delta) * v + g, state.task, task),
            jax.tree.map(lambda v, g: (momentum + delta) * v + g, state.distill, updates.distill),
        )
        return jax.tree.map(jnp.add, after.task, after.distill), after

    return optax.GradientTransformationExtraArgs(init, update)


MASKS: Mapping[str, Callable[[Tree], Tree]] = {
    'all': lambda params: jax.tree.map(lambda leaf: True, params),
    'kernels': lambda params: jax.tree.map(lambda leaf: leaf.ndim >= 2, params),
}


def _add_decay(mask: Callable[[Tree], Tree]) -> optax.GradientTransformationExtraArgs:
    """update + weight_decay * parameter, where `mask` is true."""

    def update(updates: Tree, state: Tree, params: Tree = None, *, knobs: Knobs, **_: Any) -> tuple[Tree, Tree]:
        def decayed(group: str) -> Tree:
            strength = knobs[group]['weight_decay']
            return jax.tree.map(
                lambda use, g, p: g + strength.astype(p.dtype) * p if use else g,
                mask(params[group]),
                updates[group],
                params[group],
            )

        return {group: decayed(group) for group in GROUPS}, state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


def _promoting(tx: optax.GradientTransformation) -> optax.GradientTransformation:
    """`tx` where callers forbid implicit dtype promotion: inside, optax mixes its integer count with floats."""

    def update(updates: Tree, state: Tree, params: Tree = None) -> tuple[Tree, Tree]:
        with jax.numpy_dtype_promotion('standard'):
            return tx.update(updates, state, params)

    return optax.GradientTransformation(tx.init, update)


def _descend(shape: optax.Schedule) -> optax.GradientTransformationExtraArgs:
    """-learning_rate * shape(step) * update."""

    def update(
        updates: Tree, state: optax.ScaleByScheduleState, params: Tree = None, *, knobs: Knobs, **_: Any
    ) -> tuple[Tree, Tree]:
        def scaled(group: str) -> Tree:
            rate = knobs[group]['learning_rate'] * shape(state.count)
            return jax.tree.map(lambda g: -rate.astype(g.dtype) * g, updates[group])

        return {group: scaled(group) for group in GROUPS}, optax.ScaleByScheduleState(state.count + 1)

    return optax.GradientTransformationExtraArgs(
        lambda params: optax.ScaleByScheduleState(jnp.zeros((), jnp.int32)), update
    )


def _bound(limit: float) -> optax.GradientTransformationExtraArgs:
    """Changes an update so that after it no unit of the student has weights of a norm above `limit`."""

    def update(updates: Tree, state: Tree, params: Tree = None, **_: Any) -> tuple[Tree, Tree]:
        kept = layers.max_norm(optax.apply_updates(params['student'], updates['student']), limit)
        return {**updates, 'student': jax.tree.map(jnp.subtract, kept, params['student'])}, state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


def _check(
    *,
    steps: int,
    warmup: int,
    clip: float,
    max_norm: float,
    ema: float,
    factor: float,
    momentum: float,
    delta: float,
    b1: float,
    b2: float,
    eps: float,
    milestones: tuple[float, ...],
    prune_from: float,
    prune_until: float,
    prune_every: int,
    regrow: float,
    average_last: int,
    average_every: int,
) -> None:
    for name, value, fine, wanted in (
        ('steps', steps, steps >= 1, '>= 1'),
        ('warmup', warmup, 0 <= warmup < steps, f'>= 0 and < steps ({steps})'),
        ('clip', clip, clip >= 0, '>= 0'),
        ('max_norm', max_norm, max_norm >= 0, '>= 0'),
        *((name, decay, 0 <= decay < 1, 'in [0, 1)')
          for name, decay in (('ema', ema), ('momentum', momentum), ('delta', delta), ('b1', b1), ('b2', b2))),
        ('eps', eps, eps > 0, '> 0'),
        ('factor', factor, factor > 0, '> 0'),
        ('milestones', milestones, list(milestones) == sorted(milestones) and all(0 <= at <= 1 for at in milestones),
         'increasing, in [0, 1]'),
        ('prune_from', prune_from, 0 <= prune_from <= prune_until, f'>= 0 and <= prune_until ({prune_until})'),
        ('prune_until', prune_until, prune_until <= 1, '<= 1'),
        ('prune_every', prune_every, prune_every >= 1, '>= 1'),
        ('regrow', regrow, 0 <= regrow <= 1, 'in [0, 1]'),
        ('average_every', average_every, average_every >= 1, '>= 1'),
        ('average_last', average_last, average_last >= 0 and (average_last - 1) * average_every < steps,
         f'>= 0 and lie within the {steps} steps of the run'),
    ):  # fmt: skip
        if not fine:
            raise UsageError(f'{name} of the optimiser must be {wanted}, got {value!r}')
