"""The stages of the recipe: teacher, cache, fits of students. Each turns artifacts into an artifact."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from kdjax import trees
from kdjax.data.order import Stream
from kdjax.dataset import GROUPS, SPLIT_SEED, folds
from kdjax.errors import UsageError
from kdjax.metrics import Metric
from kdjax.study.recipe import build, changed, changes, feeding, grid_program, pretrained, teaching
from kdjax.study.recipe.context import Artifact, Context, number
from kdjax.study.recipe.grid_program import Trained, TrainingData, WarmStart
from kdjax.study.recipe.inputs import (
    FoldedTeacher,
    ImportedTeacher,
    TeacherTeam,
    TeachingNetwork,
    TrainedStudents,
    TrainedTeacher,
)
from kdjax.study.recipe.recipe import ALL, GridCell
from kdjax.study.recipe.teaching import TeacherSource
from kdjax.train import distributed, loop, parallel, storage
from kdjax.train.checkpoint import Checkpoints, load_variables, save_variables
from kdjax.train.ledger import Ledger, NullLogger, plain
from kdjax.train.profile import profiled
from kdjax.train.storage import MANIFEST
from kdjax.types import State, Tree

CHECKPOINTS = {'last': 'variables', 'best': 'best'}  # where a fit leaves them


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


def train_teacher(inputs: TrainedTeacher, context: Context, folder: Path, key: str) -> dict[str, Any]:
    """Trains a network that teaches on every training example, and measures it; members, if several, are a grid."""
    count = context.datasets(inputs.data).splits['train'].size
    cells = [GridCell(count, seed, {}) for seed in range(inputs.members)]
    streams = [Stream(np.arange(count), inputs.seed + cell.seed) for cell in cells]
    # Asked in every step: what is cached are the views that students see, not those of this network.
    source = teaching.teacher_source(context, inputs)
    fitted = fit(context, folder, key, inputs, cells, TrainingData(inputs.presented, streams), source)
    if fitted.failures:
        raise UsageError(f'{inputs.name}: members {sorted(fitted.failures)} diverged; lower their learning rate')
    members = [trees.take(fitted.variables, member) for member in range(inputs.members)]
    if inputs.members == 1:
        return _keep_teacher(inputs, context, folder, members[0])
    together = {part: [member[part] for member in members] for part in ('params', 'stats')}
    return _keep_teacher(inputs, context, folder, together)


def train_folds(inputs: FoldedTeacher, context: Context, folder: Path, key: str) -> dict[str, Any]:
    """Trains a network like the teacher for each fold, on the training examples of all others.

    An over-fitted teacher says nothing new about the examples that it was trained on: each is therefore labelled by one
    that has not seen it.
    """
    teacher, count = inputs.teacher, context.datasets(inputs.data).splits['train'].size
    fold = folds_of(inputs, context)
    cells = [GridCell(count - int(np.sum(fold == place)), 0, {}) for place in range(inputs.folds)]
    streams = [Stream(np.flatnonzero(fold != place), teacher.seed) for place in range(inputs.folds)]
    source = teaching.teacher_source(context, teacher)
    fitted = fit(context, folder, key, teacher, cells, TrainingData(teacher.presented, streams), source)
    if fitted.failures:
        raise UsageError(f'{teacher.name}: folds {sorted(fitted.failures)} diverged; lower their learning rate')
    save_variables(folder / 'variables', fitted.variables)
    score = fitted.history[-1][context.task(teacher).score]
    return {'validation': [number(value) for value in score], 'folds': np.bincount(fold).tolist()}


def folds_of(inputs: FoldedTeacher, context: Context) -> np.ndarray:
    """The fold of every training example. (N,)"""
    split = context.datasets(inputs.data).splits['train']
    return folds(context.task(inputs.teacher).strata(split), inputs.folds, SPLIT_SEED, split.more.get(GROUPS))


def read_teacher(inputs: ImportedTeacher, context: Context, folder: Path, key: str) -> dict[str, Any]:
    """Reads the weights of a network that has been trained before, and measures it."""
    context.screen.stage(inputs.name)
    net = context.net(inputs.network, inputs)
    like = jax.eval_shape(net.init, jax.random.key(0), build.alone(context.example(inputs)))
    return _keep_teacher(inputs, context, folder, pretrained.load(inputs.path, like, net.names))


def join_teachers(inputs: TeacherTeam, context: Context, folder: Path, key: str) -> dict[str, Any]:
    """Puts the networks of a team beside each other, and measures them together."""
    context.screen.stage(inputs.name)
    variables = [context.teacher_variables(one) for one in inputs.team]
    together = {part: [own[part] for own in variables] for part in ('params', 'stats')}
    return _keep_teacher(inputs, context, folder, together)


def _keep_teacher(inputs: TeachingNetwork, context: Context, folder: Path, variables: Tree) -> dict[str, Any]:
    """Saves the variables of a network that teaches, and says what it is worth on validation."""
    save_variables(folder / 'variables', variables)
    measure = context.evaluator(context.teacher_net(inputs), inputs, 'validation')
    metrics = measure(jax.tree.map(lambda leaf: leaf[None], variables))
    return {
        'validation': {name: number(values[0]) for name, values in metrics.items()},
        'params': trees.count(variables['params']),
        'fingerprint': trees.fingerprint(variables),
        'data_checksum': context.datasets.checksum(inputs.data),
    }


def train_students(inputs: TrainedStudents, context: Context, folder: Path, key: str) -> dict[str, Any]:
    """Trains a grid of students: transfer-set sizes x candidate knobs x seeds."""
    cells = inputs.fit.cells(inputs.transfer_sizes, inputs.seeds)
    fitted = fit_students(context, folder, key, inputs, cells, _warm_start(inputs, context, cells))
    metric = context.task(inputs).judged
    score = [None if cell in fitted.failures else number(value)
             for cell, value in enumerate(fitted.history[-1][metric.name])]  # fmt: skip
    described = [cell._asdict() for cell in cells]
    return plain({
        'cells': described,
        'validation_score': score,
        'chosen': choose(described, score, metric),
        'history': fitted.history,
        **context.looked_at(folder, fitted),
        'failures': [{'cell': cell, **failure} for cell, failure in sorted(fitted.failures.items())],
        'params': trees.count(trees.take(fitted.variables['params'], 0)),
        **({'parts': fitted.parts} if fitted.parts else {}),
    })  # fmt: skip


def choose(
    cells: Sequence[Mapping[str, Any]], score: Sequence[float | None], metric: Metric
) -> dict[str, dict[str, float]]:
    """The candidate with the best mean score in validation, for each transfer-set size; the first of equals.

    A candidate any of whose seeds diverged is worse than all of which none did: what sometimes fails is no good choice.
    """
    return {
        str(size): _best([(cell['candidate'], value) for cell, value in zip(cells, score, strict=True)
                          if cell['transfer_size'] == size], metric)
        for size in dict.fromkeys(cell['transfer_size'] for cell in cells)
    }  # fmt: skip


def _best(scored: Sequence[tuple[dict[str, float], float | None]], metric: Metric) -> dict[str, float]:
    def merit(candidate: dict[str, float]) -> tuple[int, float]:
        of = [score for other, score in scored if other == candidate]
        known = [metric.sign * score for score in of if score is not None]
        return len(known) - len(of), float(np.mean(known)) if known else -math.inf

    return max((candidate for candidate, _ in scored), key=merit)


def validation_score(result: Mapping[str, Any]) -> list[float | None]:
    """The score of every cell in validation, of what `train_students` left; once it was accuracy, and called so."""
    return result['validation_score'] if 'validation_score' in result else result['validation_accuracy']


def best_step(history: Sequence[Mapping[str, Any]], cell: int | None, metric: Metric) -> int:
    """The step at which the score of a cell, or of the only one, was best in validation; the first of equals."""

    def merit(line: Mapping[str, Any]) -> float:
        value = line[metric.name] if cell is None else line[metric.name][cell]
        return -math.inf if value is None else metric.sign * value

    return max(history, key=merit)['step']


def chosen_cells(result: Mapping[str, Any], size: int) -> list[int]:
    """Positions of the cells of the chosen candidate for `size`, by seed; of a fit upstream for the size of all."""
    size = size if str(size) in result['chosen'] else ALL
    return [position for position, cell in enumerate(result['cells'])
            if cell['transfer_size'] == size and cell['candidate'] == result['chosen'][str(size)]]  # fmt: skip


def _warm_start(inputs: TrainedStudents, context: Context, cells: Sequence[GridCell]) -> WarmStart | None:
    """Where the cells of a later fit start: the chosen students of the fit before, of the same size and seed."""
    if inputs.before is None:
        return None
    before = context.done['+'.join(inputs.before.chain)].folder
    terms = _chosen(inputs.before, context, cells, 'terms') if (before / 'terms').exists() else {}
    since = changes.chain(inputs)[-changes.dense_since(inputs) :] if inputs.fit.own_dense else [inputs]
    starts = [changed.alone(_chosen(each.before, context, cells, 'variables'), each.before.fit)
              for each in since if each.before]  # fmt: skip
    return WarmStart(starts[-1], terms, changed.dense(starts) if inputs.fit.own_dense else None)


def _chosen(inputs: TrainedStudents, context: Context, cells: Sequence[GridCell], name: str) -> Tree:
    """What a fit left of the students that were chosen, for cells of a fit after it, of the same size and seed."""
    done: Artifact = context.done['+'.join(inputs.chain)]
    positions = {
        (size, done.result['cells'][position]['seed']): position
        for size in inputs.transfer_sizes
        for position in chosen_cells(done.result, size)
    }
    index = np.array([positions[ALL if inputs.fit.upstream else cell.transfer_size, cell.seed] for cell in cells])
    return trees.take(load_variables(done.folder / name), index)


def fit_students(
    context: Context,
    folder: Path,
    key: str,
    inputs: TrainedStudents,
    cells: Sequence[GridCell],
    start: WarmStart | None,
    options: GridOptions = GridOptions(),
) -> loop.Fitted:
    """Trains a grid of students, and saves them and what their terms learned."""
    data, source = grid_program.students_data(context, inputs, cells), teaching.teacher_source(context, inputs)
    fitted = fit(context, folder, key, inputs, cells, data, source, start, options, inputs.gradient_every)
    save_variables(folder / 'variables', fitted.variables)
    save_variables(folder / 'best', fitted.best)
    if jax.tree.leaves(fitted.terms):  # apart, so that the student stays alone
        save_variables(folder / 'terms', fitted.terms)
    return fitted


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
    spec = inputs.fit.spec
    whole = spec.accumulate * feeding.together(context.task(inputs))
    context = context.training(len(cells), spec.batch_size // whole)
    run = context.execution
    steps = options.rung.until if options.rung else spec.steps
    context.screen.stage(options.called or folder.name.partition('-')[0], steps)
    program = grid_program.grid_program(context, inputs, cells, data, source, start)
    chosen, first = grid_program.choose_layout(
        context, folder, options.structure or key, program.compiled, program.arguments, len(cells), spec.steps
    )
    state, best = (_resumed(program.state, options.rung, program.student_of) if options.rung
                   else (program.state, None))  # fmt: skip
    devices, step = grid_program.devices_of(run.runner, len(cells)), program.compiled(chosen)
    if run.profile:
        step = profiled(step, folder / 'profile', run.profile)
    told = _told(context, folder, cells) if run.wandb else None
    distributed.by_first(lambda: _note_runner(folder, run.runner, len(devices)))
    ledger = Ledger(folder, tensorboard=run.tensorboard, wandb=told) if distributed.first() else NullLogger(folder)
    silent = program.unreached()
    with ledger:
        context.warn(folder, ledger, silent)
        fitted = loop.fit(
            step,
            distributed.of_first(state),
            parallel.placed(source.variables, run.runner, devices),
            program.knobs,
            program.batches.of(parallel.own_part(devices, spec.batch_size)),
            context.evaluator(context.fitted_net(inputs), inputs, 'validation'),
            steps=steps,
            chunk=run.chunk,
            first=first,
            validate_every=inputs.validate_every,
            save_every=run.save_every,
            folder=folder / 'checkpoints',
            identity=key,
            score=context.task(inputs).judged,
            ledger=ledger,
            progress=context.screen.step,
            stop=context.stop,
            student_of=program.student_of,
            tolerant=options.tolerant,
            best=best,
            observed=program.observed,
            anatomy=program.gradient_stats(chosen) if gradient_every else None,
            anatomy_every=gradient_every,
        )
    parts = program.split(chosen, fitted.seconds) if context.task(inputs).writes else {}
    return fitted._replace(unreached=silent, parts=parts)


def _note_runner(folder: Path, runner: str, devices: int) -> None:
    """Writes down in the stage's manifest, where it has one, what 'auto' was."""
    path = folder / MANIFEST
    if path.exists():
        said = storage.read_json(path, storage.of_stage(folder))
        ran = {'runner': runner, 'devices': 1 if runner == 'single' else devices}
        storage.write_json(path, {**said, 'ran': ran}, indent=1, allow_nan=True)


def _told(context: Context, folder: Path, cells: Sequence[GridCell]) -> dict[str, Any]:
    """What another place is told of a run, beside its curves: its name, all fields of the config, its cells."""
    name = f'{folder.parent.name}/{folder.name.partition("-")[0]}'
    return {'name': name, 'config': {**context.execution.config, 'cells': [cell._asdict() for cell in cells]}}


def _resumed(state: State, rung: Rung, student_of: Callable[[State], Tree]) -> tuple[State, loop.Best | None]:
    """Where the part of the fit before left the cells that go on; `state` has the shapes."""
    if rung.folder is None:
        return state, None

    def widened(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((rung.cells, *leaf.shape[1:]), leaf.dtype)

    like = {
        'state': state,
        'best': jax.eval_shape(lambda s: loop.unscored(student_of(s), 1), state),
    }
    with Checkpoints(rung.folder / 'checkpoints', rung.identity) as checkpoints:
        restored, _ = checkpoints.restore(jax.tree.map(widened, like))
    taken = jax.device_put(trees.take(jax.device_get(restored), np.array(rung.kept)))
    return State(*taken['state']), loop.Best(*taken['best'])
