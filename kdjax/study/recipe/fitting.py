"""Training one grid of networks: what teachers and students, of a run or a sweep, have in common."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from kdjax import trees
from kdjax.jit_cache import shared
from kdjax.nets import team
from kdjax.study.recipe import grid_program
from kdjax.study.recipe.context import Context
from kdjax.study.recipe.grid_program import TeacherSource, Trained, TrainingData, WarmStart
from kdjax.study.recipe.recipe import GridCell
from kdjax.train import distributed, loop, parallel
from kdjax.train.checkpoint import Checkpoints
from kdjax.train.ledger import Ledger, NullLogger
from kdjax.train.profile import profiled
from kdjax.types import State, Tree


class Rung(NamedTuple):
    """Part of a fit: up to a step, from where an earlier part of the same fit left some of its cells."""

    until: int  # step
    folder: Path | None  # of the part before; None for the first
    identity: str  # of the part before
    cells: int  # that the part before had
    kept: tuple[int, ...]  # positions of those that go on


class GridOptions(NamedTuple):
    """How a sweep wants a grid trained."""

    called: str = ''  # by the screen; the name of its stage if left out
    structure: str = ''  # name of the compiled program, for a layout to be remembered by; the run's key if left out
    tolerant: bool = False  # whether cells that all diverged are a result, not an error
    rung: Rung | None = None  # the whole fit, if left out


def fit(
    context: Context,
    folder: Path,
    key: str,
    inputs: Trained,
    cells: Sequence[GridCell],
    data: TrainingData,
    source: TeacherSource,
    start: WarmStart | None = None,
    options: GridOptions = GridOptions(),
    gradient_every: int = 0,
) -> loop.Fitted:
    """Trains a grid of networks of one kind; a single network is a grid of one.

    Args:
      context: screen, data sets, what earlier stages left, how it is executed.
      folder: where checkpoints and the ledger go; `key` names the run that they belong to.
      inputs: the fit, its network, and what both depend on.
      cells: of the grid.
      data: what the networks are shown.
      source: who teaches.
      start: where they start; new networks if left out.
      options: what differs in a sweep.
      gradient_every: steps between looks at the gradients of terms; 0 for never.
    """
    run, spec = context.execution, inputs.fit.spec
    program, first = grid_program.grid_program(context, inputs, cells, data, source, start), min(run.chunk, spec.steps)
    chosen = grid_program.choose_layout(
        context, folder, options.structure or key, program.compiled, lambda: program.arguments(first), len(cells),
        spec.steps // run.chunk,
    )  # fmt: skip
    steps = options.rung.until if options.rung else spec.steps
    state, best = _resumed(program.state, options.rung, spec.peers) if options.rung else (program.state, None)
    devices, step = grid_program.devices_of(run.runner, len(cells)), program.compiled(chosen)
    if run.profile:
        step = profiled(step, folder / 'profile', run.profile)
    context.screen.stage(options.called or folder.name.partition('-')[0], steps)
    tracked = {'tensorboard': run.tensorboard, 'wandb': run.wandb}
    with Ledger(folder, **tracked) if distributed.first() else NullLogger(folder) as ledger:
        return loop.fit(
            step,
            distributed.of_first(state),
            parallel.everywhere(source.variables, devices),
            program.knobs,
            program.batches.of(parallel.own_part(devices, spec.batch_size)),
            context.evaluator(context.net(inputs.network, inputs), inputs, 'validation'),
            steps=steps,
            chunk=run.chunk,
            validate_every=inputs.validate_every,
            save_every=run.save_every,
            folder=folder / 'checkpoints',
            identity=key,
            score=context.task(inputs).judged,
            ledger=ledger,
            progress=context.screen.step,
            stop=context.stop,
            select_student=_select_student(spec.peers),
            tolerant=options.tolerant,
            best=best,
            anatomy=program.gradient_stats(chosen) if gradient_every else None,
            anatomy_every=gradient_every,
        )


@shared
def _select_student(peers: int) -> Callable[[Tree], Tree]:
    """Of several peers the first, which is the student."""
    return jax.jit(jax.vmap(team.first_peer)) if peers > 1 else lambda variables: variables


def _resumed(state: State, rung: Rung, peers: int) -> tuple[State, loop.Best | None]:
    """Where the part of the fit before left the cells that go on; `state` has the shapes."""
    if rung.folder is None:
        return state, None

    def widened(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((rung.cells, *leaf.shape[1:]), leaf.dtype)

    like = {
        'state': state,
        'best': jax.eval_shape(lambda s: loop.unscored(_select_student(peers)(loop.student(s)), 1), state),
    }
    with Checkpoints(rung.folder / 'checkpoints', rung.identity) as checkpoints:
        restored = checkpoints.restore(jax.tree.map(widened, like))
    taken = jax.device_put(trees.take(jax.device_get(restored), np.array(rung.kept)))
    return State(*taken['state']), loop.Best(*taken['best'])
