"""A grid: many runs (cells) that differ in seed and knobs, as one program with a shared teacher.

Cells are a leading axis of state and knobs; batches are shared by all cells, or have a cell axis too.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from kdjax import trees
from kdjax.errors import unknown
from kdjax.train import rows
from kdjax.types import Batch, State, Tree

Step = Callable[[State, Tree, Batch, Any], tuple[State, Any]]


def _vmap(step: Step, own_batches: bool) -> Step:
    return jax.vmap(step, in_axes=(0, None, 0 if own_batches else None, 0))


def _map(step: Step, own_batches: bool) -> Step:
    def run(states: State, teacher_vars: Tree, batch: Batch, knobs: Any) -> tuple[State, Any]:
        if own_batches:
            return jax.lax.map(lambda cell: step(cell[0], teacher_vars, cell[2], cell[1]), (states, knobs, batch))
        return jax.lax.map(lambda cell: step(cell[0], teacher_vars, batch, cell[1]), (states, knobs))

    return run


def _unroll(step: Step, own_batches: bool) -> Callable[..., tuple[Any, Any]]:
    def run(states: Sequence[State], teacher_vars: Tree, batch: Batch, knobs: Any) -> tuple[Any, Any]:
        with rows.carried():
            cells = [
                step(whole, teacher_vars, trees.take(batch, k) if own_batches else batch, trees.take(knobs, k))
                for k, whole in enumerate(map(rows.whole, states))
            ]
        return [rows.laid(state) for state, _ in cells], trees.stack([logs for _, logs in cells])

    return run


def _each(states: State) -> list[Any]:
    return [rows.laid(trees.take(states, k)) for k in range(len(jax.tree.leaves(states)[0]))]


def _stacked(states: Sequence[Any]) -> State:
    return trees.stack([rows.whole(state) for state in states])


class Layout(NamedTuple):
    """How the cells of a grid lie in its program."""

    step: Callable[[Step, bool], Callable[..., tuple[Any, Any]]]  # a step of all cells, of what is carried on
    carried: Callable[[State], Any] = lambda states: states  # states with a leading axis -> what is carried on
    stacked: Callable[[Any], State] = lambda carry: carry  # and back


LAYOUTS: Mapping[str, Layout] = {
    # One batched program: small dense networks.
    'vmap': Layout(_vmap),
    # A list of cells in one program: each is compiled, and what is idle in one is used by the next. It stays a list
    # from step to step: an axis of cells would have every array copied out of it and back in each step.
    'unroll': Layout(_unroll, _each, _stacked),
    # One cell after the other: large networks, and where memory is short.
    'map': Layout(_map),
}


def gridded(step: Step, layout: str, own_batches: bool, *, many: bool = False) -> Step:
    """`step` over a leading axis of cells.

    Args:
      step: (state, teacher_vars, batch, knobs) -> (state, logs) of one cell.
      layout: key of LAYOUTS; all give the same numbers up to rounding.
      own_batches: whether batches have a cell axis (each cell its own examples) or are shared.
      many: whether batches have an axis of steps before all others, which are taken in one dispatch; logs get it too.

    Raises:
      UsageError: unknown layout.
    """
    if layout not in LAYOUTS:
        raise unknown('grid layout', layout, LAYOUTS)
    chosen = LAYOUTS[layout]
    taken = chosen.step(step, own_batches)
    taken = scanned(taken) if many else taken

    def run(states: State, teacher_vars: Tree, batch: Batch, knobs: Any) -> tuple[State, Any]:
        carry, logs = taken(chosen.carried(states), teacher_vars, batch, knobs)
        return chosen.stacked(carry), logs

    return run


def scanned(step: Callable[..., tuple[Any, Any]]) -> Callable[..., tuple[Any, Any]]:
    """`step` over a leading axis of batches, in one dispatch; logs get the same leading axis."""

    def run(states: Any, teacher_vars: Tree, batches: Batch, knobs: Any) -> tuple[Any, Any]:
        return jax.lax.scan(lambda carry, batch: step(carry, teacher_vars, batch, knobs), states, batches)

    return run
