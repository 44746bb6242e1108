"""A grid: many runs (cells) that differ in seed and knobs, as one program with a shared teacher.

Cells are a leading axis of state and knobs; batches are shared by all cells, or have a cell axis too.
"""

from collections.abc import Callable
from typing import Any

import jax

from kdjax import trees
from kdjax.errors import unknown
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


def _unroll(step: Step, own_batches: bool) -> Step:
    def run(states: State, teacher_vars: Tree, batch: Batch, knobs: Any) -> tuple[State, Any]:
        cells = [
            step(
                trees.take(states, k),
                teacher_vars,
                trees.take(batch, k) if own_batches else batch,
                trees.take(knobs, k),
            )
            for k in range(knobs['seed'].shape[0])
        ]
        return trees.stack(cells)

    return run


LAYOUTS: dict[str, Callable[[Step, bool], Step]] = {
    'vmap': _vmap,  # one batched program: small dense networks
    'unroll': _unroll,  # a list of cells in one program: each is compiled, and what is idle in one is used by the next
    'map': _map,  # one cell after the other: large networks, and where memory is short
}


def gridded(step: Step, layout: str, own_batches: bool) -> Step:
    """`step` over a leading axis of cells.

    Args:
      step: (state, teacher_vars, batch, knobs) -> (state, logs) of one cell.
      layout: key of LAYOUTS; all give the same numbers up to rounding.
      own_batches: whether batches have a cell axis (each cell its own examples) or are shared.

    Raises:
      UsageError: unknown layout.
    """
    if layout not in LAYOUTS:
        raise unknown('grid layout', layout, LAYOUTS)
    return LAYOUTS[layout](step, own_batches)


def scanned(step: Step) -> Step:
    """`step` over a leading axis of batches, in one dispatch; logs get the same leading axis."""

    def run(states: State, teacher_vars: Tree, batches: Batch, knobs: Any) -> tuple[State, Any]:
        return jax.lax.scan(lambda carry, batch: step(carry, teacher_vars, batch, knobs), states, batches)

    return run
