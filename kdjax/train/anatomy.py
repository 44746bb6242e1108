"""Anatomy of a step: how strongly each term pulls at the student, whether terms pull the same way, and if all can."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax import trees
from kdjax.train.objective import Objective, Shares
from kdjax.train.step import Knobs, Logs, Pull, gradients
from kdjax.train.teachers import Source, cached, given
from kdjax.train.texts import Texts
from kdjax.types import Array, Batch, Net, Outputs, State, Teacher, TermInputs, Tree

LOOKS = 8  # batches that a term may be silent on before that is said


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


def slopes(state: State, teacher_vars: Tree, batch: Batch, knobs: Knobs, **parts: Any) -> tuple[State, Tree]:
    """The gradient of the loss by the student's parameters, as a step that trains nothing.

    Args:
      state, ..., parts: as for `anatomy`; the next state is one step on.
    """
    found = gradients(state, teacher_vars, batch, knobs, losses=_loss, **parts)
    return state._replace(step=state.step + 1), found.grads['student']


def _loss(shares: Shares) -> Array:
    return shares.loss


def silent(looks: Sequence[Mapping[str, Any]]) -> list[str]:
    """The terms of which no gradient reached the student in any look at any cell, by name; none where nobody looked.

    Args:
      looks: as `look` has them, 'norm/<term>' with numbers of the cells (C,), of one fit.
    """
    names = [name for name in (looks[0] if looks else {}) if name.startswith('norm/')]
    still = [name for name in names if all(np.all(np.asarray(line[name], np.float64) == 0) for line in looks)]
    return [name.removeprefix('norm/') for name in still]


def reach(
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
) -> dict[str, Array]:
    """Whether a term can move anything on a batch, whatever the networks say: () bool by name.

    What the student says is made up, and what a teacher says that is asked: so no network is in the program, which is
    small, and neither a student that equals its teacher nor layers that begin at zero look like a term that does
    nothing. Gradients are those of the terms' means, without their weights and without schedules: a term that is warmed
    up from a weight of 0 can move something. Where a term learns itself, its own parameters count.

    Args:
      state, ...: as for `train_step`, on one device.
    """
    variables = {'params': state.params['student'], 'stats': state.stats}
    batch = batch if writes is None else writes.made_up(batch)
    own_vars = source(state, teacher_vars, knobs)
    steady = Objective(tuple((name, dataclasses.replace(term, schedules=())) for name, term in objective.terms))
    taps = [sorted({tap for _, term in steady.terms for tap in term.taps()[side]}) for side in (0, 1)]
    said = _made_up(lambda: net.apply(variables, batch['inputs'], train=False, key=None)[0], taps[0])
    asked = functools.partial(teacher, own_vars, batch)
    # Of networks with layers of one shape the answers must differ too, or both would seem to have reached their end.
    taught = asked() if teacher is cached() else _made_up(asked, taps[1], phase=1.0)
    moved = {tap: leaf for tap, leaf in said.features.items() if jnp.issubdtype(leaf.dtype, jnp.floating)}

    def parts(answer: tuple[Array, Tree], learned: Tree) -> Mapping[str, Array]:
        student = said._replace(logits=answer[0], features={**said.features, **answer[1]})
        inputs, key = TermInputs(student, taught, batch), jax.random.key(knobs['seed'])
        return steady.shares(learned, state.memory, inputs, knobs['terms'], step=state.step, key=key).parts

    values, pull = jax.vjp(parts, (said.logits, moved), state.params['terms'])

    def reached(row: Array) -> Array:
        chosen = {name: row[k].astype(value.dtype) for k, (name, value) in enumerate(values.items())}
        return jnp.any(jnp.stack([jnp.any(leaf != 0) for leaf in jax.tree.leaves(pull(chosen))]))

    return dict(zip(values, jax.vmap(reached)(jnp.eye(len(values))), strict=True))


def _made_up(ask: Callable[[], Outputs], taps: Collection[str], phase: float = 0.0) -> Outputs:
    """Waves of unlike lengths, between -2 and 2, in the place of what a network would say; all tokens are real.

    They are made in a program that is far smaller than one that draws.
    """
    shapes = jax.eval_shape(ask)
    read = {tap: shapes.features[tap] for tap in taps}

    def wave(place: int, leaf: jax.ShapeDtypeStruct) -> Array:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return jnp.zeros(leaf.shape, leaf.dtype)
        steps = jnp.arange(leaf.size, dtype=jnp.float32)
        waves = 2 * jnp.sin(phase + steps * (1.7 + 0.31 * place) + steps**2 * 1e-3)
        return waves.reshape(leaf.shape).astype(leaf.dtype)

    leaves, structure = jax.tree.flatten((shapes.logits, read))
    logits, features = jax.tree.unflatten(structure, [wave(place, leaf) for place, leaf in enumerate(leaves)])
    masks = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), shapes.masks)
    return Outputs(logits, features, masks)


def unreached(looks: Iterable[Mapping[str, Any]]) -> list[str]:
    """The terms that could move nothing in any of some looks (`reach`); those after the first are seldom needed."""
    names: list[str] | None = None
    for look in looks:
        names = [name for name, reached in look.items() if not reached and (names is None or name in names)]
        if not names:
            break
    return names or []


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
