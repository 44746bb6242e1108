"""A profiler's trace of some dispatches, to be looked at in TensorBoard or Perfetto."""

from pathlib import Path
from typing import Any

import jax

from kdjax.train.grid import Step
from kdjax.types import Batch, State, Tree

WARM = 2  # dispatches before it: the first compiles, the second fills what the first has made


def profiled(step: Step, folder: Path, dispatches: int) -> Step:
    """`step`, of which so many dispatches are traced after the first two; the trace is written to `folder`."""
    done = 0

    def run(states: State, teacher_vars: Tree, batches: Batch, knobs: Any) -> tuple[State, Any]:
        nonlocal done
        if done == WARM:
            jax.block_until_ready(states)
            jax.profiler.start_trace(folder)
        result = step(states, teacher_vars, batches, knobs)
        done += 1
        if done == WARM + dispatches:
            jax.block_until_ready(result)
            jax.profiler.stop_trace()
        return result

    return run
