"""What a training step spends its time on: writing texts, asking the teacher, and the update itself."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.jit_cache import bound
from kdjax.train import texts
from kdjax.train.grid import Step
from kdjax.train.step import Knobs, Logs
from kdjax.train.teachers import Source, given
from kdjax.train.texts import Texts
from kdjax.types import Batch, State, Teacher, Tree

PLACES = 8  # steps of a fit that are timed, evenly spread: how many texts are written may depend on when


def written(
    state: State, teacher_vars: Tree, batch: Batch, knobs: Knobs, *, writes: Texts, source: Source = given,
    axis: str | None = None,
) -> tuple[State, Logs]:  # fmt: skip
    """The part of a step that writes texts, as a step that changes nothing."""
    key = texts.key_of(jax.random.fold_in(jax.random.key(knobs['seed']), state.step))
    variables = source(state, teacher_vars, knobs)
    seen, _ = writes(state, variables, batch, knobs['texts'], key=key, axis=axis)
    return state, {'tokens': _summed(jnp.sum(seen[texts.WRITTEN]).astype(jnp.float32), axis)}


def asked(
    state: State, teacher_vars: Tree, batch: Batch, knobs: Knobs, *, teacher: Teacher, source: Source = given,
    axis: str | None = None,
) -> tuple[State, Logs]:  # fmt: skip
    """The part of a step in which the teacher is asked, likewise."""
    outputs = teacher(source(state, teacher_vars, knobs), batch)
    said = jax.tree.leaves(outputs.features if outputs.logits is None else outputs.logits)
    # Of the state: else a program of many cells would ask once for all, which a step that writes cannot.
    return state, {'said': _summed(sum((jnp.sum(x) for x in said), state.step.astype(jnp.float32)), axis)}


def parts(writes: Texts | None, teacher: Teacher | None, source: Source) -> dict[str, Callable[..., Any]]:
    """The parts that a step has: 'sampling', 'teacher', or neither."""
    found = {'sampling': bound(written, writes=writes, source=source)} if writes else {}
    return found | ({'teacher': bound(asked, teacher=teacher, source=source)} if teacher else {})


def split(
    parts: Mapping[str, Step], arguments: Callable[[], tuple[Any, ...]], steps: int, seconds: float, cells: int
) -> dict[str, float]:
    """Milliseconds of a step of a network: 'step_ms', of which 'sampling_ms', 'teacher_ms'; 'update_ms' is all else.

    Args:
      parts: 'sampling' and 'teacher', those that there are, compiled, of one step of all cells.
      arguments: makes new ones; the state among them is donated.
      steps: of the fit.
      seconds: that a step of all cells took; inf where none was timed.
      cells: how many.
    """
    found = {name: 1e3 * _seconds(part, arguments, steps) / cells for name, part in parts.items()}
    split = {'sampling_ms': found.get('sampling', 0.0), 'teacher_ms': found.get('teacher', 0.0)}
    if not np.isfinite(seconds):  # a run that goes on after its last step
        return split
    whole = 1e3 * seconds / cells
    return {'step_ms': whole, **split, 'update_ms': whole - sum(found.values())}


def _seconds(part: Step, arguments: Callable[[], tuple[Any, ...]], steps: int) -> float:
    """The mean time of a part over steps that are spread over the fit, once it is compiled."""
    took = []
    for place in range(PLACES + 1):
        step = max(place - 1, 0) * steps // PLACES
        twice = []
        for _ in range(2):
            state, *others = arguments()
            at = state._replace(step=jnp.full_like(state.step, step)), *others
            jax.block_until_ready(at)
            begun = time.perf_counter()
            jax.block_until_ready(part(*at))
            twice.append(time.perf_counter() - begun)
        took.append(min(twice))
    return statistics.mean(took[1:])  # the first compiled it


def _summed(number: Any, axis: str | None) -> Any:
    return number if axis is None else jax.lax.psum(number, axis)
