"""Anatomy of a step: how strongly each term pulls at the student, and whether the terms pull the same way."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax import trees
from kdjax.train.objective import Objective, Shares
from kdjax.train.step import Knobs, Logs, Pull, gradients
from kdjax.train.teachers import Source, given
from kdjax.train.texts import Texts
from kdjax.types import Array, Batch, Net, State, Teacher, Tree


def anatomy(
    state: State,
    teacher_vars: Tree,
    batch: Batch,
    knobs: Knobs,
    *,
    net: Net,
    teacher: Teacher,
    objective: Objective,
    source: Source = given,
    writes: Texts | None = None,
    axis: str | None = None,
    accumulate: int = 1,
) -> dict[str, dict[str, Array]]:
    """Norms of the terms' gradients by the student's parameters, and cosines between them.

    The gradients are those that `train_step` with the same arguments would sum up: weighted, of the global batch, with
    the same dropout.

    Args:
      state, ...: as for `train_step`.

    Returns:
      'norms' by term, and 'cosines' by pair 'a|b' in the order of the objective, () each; a gradient of zero has cosine
      0 with any.

    Raises:
      UsageError: as `train_step`.
    """
    terms = [name for name, _ in objective.terms]

    def losses(shares: Shares) -> Array:
        return jnp.stack([shares.weighted[name] for name in terms])

    result = gradients(
        state, teacher_vars, batch, knobs, net=net, teacher=teacher, objective=objective, losses=losses,
        pulled=_batched, source=source, writes=writes, axis=axis, accumulate=accumulate,
    )  # fmt: skip
    norms, cosines = compared(result.grads)
    pairs = itertools.combinations(range(len(terms)), 2)
    return {
        'norms': dict(zip(terms, norms, strict=True)),
        'cosines': {f'{terms[a]}|{terms[b]}': cosines[a, b] for a, b in pairs},
    }


def look(state: State, teacher_vars: Tree, batch: Batch, knobs: Knobs, **parts: Any) -> tuple[State, Logs]:
    """`anatomy` as a step that changes nothing, which every layout and runner can take: 'norm/a', 'cosine/a|b'."""
    result = anatomy(state, teacher_vars, batch, knobs, **parts)
    norms = {f'norm/{name}': value for name, value in result['norms'].items()}
    return state, {**norms, **{f'cosine/{pair}': value for pair, value in result['cosines'].items()}}


def silent(looks: Sequence[Mapping[str, Any]]) -> list[str]:
    """The terms of which no gradient reached the student in any look at any cell, by name; none where nobody looked.

    Args:
      looks: as `look` has them, 'norm/<term>' with numbers of the cells (C,), of one fit.
    """
    names = [name for name in (looks[0] if looks else {}) if name.startswith('norm/')]
    still = [name for name in names if all(np.all(np.asarray(line[name], np.float64) == 0) for line in looks)]
    return [name.removeprefix('norm/') for name in still]


def compared(grads: Tree) -> tuple[Array, Array]:
    """Norms (N,) and cosines (N, N), in float32, of N trees stacked along the leading axis of their leaves."""
    norms = jax.vmap(trees.norm)(grads)
    divisors = jnp.where(norms == 0, 1, norms)
    units = [leaf.reshape(len(norms), -1).astype(jnp.float32) / divisors[:, None] for leaf in jax.tree.leaves(grads)]
    products = [jnp.einsum('ip,jp->ij', unit, unit, precision='highest') for unit in units]
    return norms, sum(products[1:], products[0])


def _batched(pull: Pull, losses: Array) -> Tree:
    """The pullback on all rows of the identity at once; leaves get a leading axis of terms.

    By vmap: one pass back is compiled, whatever the number of terms, where unrolled ones were compiled each; a loop in
    the program (lax.map) saves little memory, as what the pass forward kept is shared either way.
    """
    return jax.vmap(lambda row: pull(row)[0]['student'])(jnp.eye(len(losses), dtype=losses.dtype))
