"""Averages of parameters over the steps of a run, kept in the optimiser's state: what a network is used with."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from kdjax.compress import masks
from kdjax.types import Array, Tree


class Average(NamedTuple):
    """State of an average."""

    params: Tree


class LastAverage(NamedTuple):
    """State of the average of the last checkpoints."""

    average: Average
    step: Array  # () int32, updates so far


def averaged(params: Tree, opt: Tree) -> Tree:
    """What a network is used with: the average kept in the optimiser state `opt`, else `params` themselves."""
    averages = [leaf for leaf in jax.tree.leaves(opt, is_leaf=_is_average) if _is_average(leaf)]
    return averages[0].params if averages else params


def _is_average(node: Any) -> bool:
    return isinstance(node, Average)


def moving(decay: float, pruned: bool = False, dense: tuple[str, ...] = ()) -> optax.GradientTransformationExtraArgs:
    """Keeps decay * average + (1 - decay) * parameters after each update, from the initial parameters on.

    Where the student is pruned, so is its average: a weight that has gone is gone from it at once.
    """

    def update(updates: Tree, state: Average, params: Tree = None, **_: Any) -> tuple[Tree, Average]:
        moved = optax.apply_updates(params, updates)
        average = jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, state.params, moved)
        return updates, Average(_as_sparse(average, moved, dense) if pruned else average)

    return optax.GradientTransformationExtraArgs(_begun, update)


def of_last(
    count: int, every: int, steps: int, pruned: bool = False, dense: tuple[str, ...] = ()
) -> optax.GradientTransformationExtraArgs:
    """Keeps the mean of the parameters after the last step, `every` steps before it, and so on, `count` in all.

    Before the first of them it is the parameters themselves. Where the student is pruned, so is its average.

    Reference: Vaswani et al., Attention Is All You Need, NeurIPS 2017, sec. 6.1.
    """
    first = steps - (count - 1) * every

    def update(updates: Tree, state: LastAverage, params: Tree = None, **_: Any) -> tuple[Tree, LastAverage]:
        moved, step = optax.apply_updates(params, updates), state.step + 1
        met, due = (step - first) // every, (step - first) % every == 0
        new = jnp.where(step < first, 1.0, jnp.where(due, 1 / (jnp.maximum(met, 0) + 1).astype(jnp.float32), 0.0))

        def mean(a: Array, p: Array) -> Array:
            share = new.astype(p.dtype)
            return (1 - share) * a + share * p

        average = jax.tree.map(mean, state.average.params, moved)
        return updates, LastAverage(Average(_as_sparse(average, moved, dense) if pruned else average), step)

    return optax.GradientTransformationExtraArgs(
        lambda params: LastAverage(_begun(params), jnp.zeros((), jnp.int32)), update
    )


def _begun(params: Tree) -> Average:
    # A copy: the state is donated whole, and a buffer can be donated only once.
    return Average(jax.tree.map(jnp.copy, params))


def _as_sparse(average: Tree, params: Tree, dense: tuple[str, ...]) -> Tree:
    """An average without the weights of the student that are zero."""
    leaves, structure = jax.tree.flatten(average)
    live = jax.tree.leaves(params)
    for place in masks.kernel_places(params, dense, within='student'):
        leaves[place] = jnp.where(live[place] == 0, jnp.zeros_like(leaves[place]), leaves[place])
    return jax.tree.unflatten(structure, leaves)
