"""The stages of the recipe: teacher, cache, fits of students. Each turns artifacts into an artifact."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kdjax import trees
from kdjax.data.feed import Stream
from kdjax.dataset import SPLIT_SEED, folds, leaves, taken
from kdjax.errors import UsageError
from kdjax.metrics import Metric
from kdjax.nets import torch_weights
from kdjax.study.recipe import build, grid_program
from kdjax.study.recipe.check import cache_name
from kdjax.study.recipe.context import Artifact, Context, number
from kdjax.study.recipe.fitting import GridOptions, fit
from kdjax.study.recipe.grid_program import TrainingData, WarmStart
from kdjax.study.recipe.inputs import (
    CachedTeacher,
    FoldedTeacher,
    ImportedTeacher,
    Teacher,
    TrainedStudents,
    TrainedTeacher,
)
from kdjax.study.recipe.recipe import GridCell
from kdjax.train import cache, loop, teachers
from kdjax.train.checkpoint import load_variables, save_variables
from kdjax.train.ledger import plain
from kdjax.types import Net, Outputs, Tree


def train_teacher(inputs: TrainedTeacher, context: Context, folder: Path, key: str) -> dict[str, Any]:
    """Trains a network that teaches on every training example, and measures it; members, if several, are a grid."""
    count = context.datasets(inputs.data).splits['train'].size
    cells = [GridCell(count, seed, {}) for seed in range(inputs.members)]
    streams = [Stream(np.arange(count), inputs.seed + cell.seed) for cell in cells]
    # Asked in every step: what is cached are the views that students see, not those of this network.
    source = grid_program.teacher_source(context, inputs)
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
    source = grid_program.teacher_source(context, teacher)
    fitted = fit(context, folder, key, teacher, cells, TrainingData(teacher.presented, streams), source)
    if fitted.failures:
        raise UsageError(f'{teacher.name}: folds {sorted(fitted.failures)} diverged; lower their learning rate')
    save_variables(folder / 'variables', fitted.variables)
    score = fitted.history[-1][context.task(teacher).score]
    return {'validation': [number(value) for value in score], 'folds': np.bincount(fold).tolist()}


def folds_of(inputs: FoldedTeacher, context: Context) -> np.ndarray:
    """The fold of every training example. (N,)"""
    split = context.datasets(inputs.data).splits['train']
    return folds(context.task(inputs.teacher).strata(split), inputs.folds, SPLIT_SEED)


def read_teacher(inputs: ImportedTeacher, context: Context, folder: Path, key: str) -> dict[str, Any]:
    """Reads the weights of a network that has been trained with PyTorch, and measures it."""
    context.screen.stage(inputs.name)
    net = context.net(inputs.network, inputs)
    like = jax.eval_shape(net.init, jax.random.key(0), build.alone(context.example(inputs)))
    return _keep_teacher(inputs, context, folder, torch_weights.load(inputs.path, like, net.names))


def _keep_teacher(inputs: Teacher, context: Context, folder: Path, variables: Tree) -> dict[str, Any]:
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


def cache_teacher(inputs: CachedTeacher, context: Context, folder: Path, key: str) -> dict[str, Any]:
    """Computes a teacher's outputs on every view of every training example; of folds each example's by its own."""
    teacher = inputs.teacher
    variables = grid_program.cached_variables(context, inputs)
    net = build.probed(context.teacher_net(teacher, inputs.precision), inputs.probes)
    columns = build.columns(context.datasets(teacher.data).splits['train'], teacher.column, None)
    options: dict[str, Any] = {'taps': inputs.taps, 'preprocess': build.preprocess(teacher.data)}
    augment, teach = build.augment(inputs.augment), teachers.frozen(net)

    def ask(variables: Tree, columns: Mapping[str, Tree], **more: Any) -> dict[str, np.ndarray]:
        return cache.compute(teach, variables, columns, augment, teacher.seed, inputs.views, **options, **more)

    context.screen.stage(cache_name(inputs.name), inputs.views * (inputs.folded.folds if inputs.folded else 1))
    outputs = _some_outputs(net, variables, columns, inputs, context)
    keep, width = _kept(inputs, outputs)
    if inputs.folded is None:
        tables = ask(variables, columns, keep=keep, progress=context.screen.step)
    else:
        tables = _by_fold(ask, variables, columns, folds_of(inputs.folded, context), keep, inputs.views, context)
    address = grid_program.address(context, inputs, variables)
    cache.save(folder / 'tables', tables, address, cache.padded_axes(outputs, inputs.taps))
    said = {'bytes': sum(table.nbytes for table in tables.values())}
    return {**said, 'kept': keep, 'hidden_nats': width} if keep else said


def _some_outputs(
    net: Net, variables: Tree, columns: Mapping[str, Tree], inputs: CachedTeacher, context: Context
) -> Outputs:
    """The teacher's outputs on a hundredth of the examples, at least 16 and at most 512."""
    teacher = inputs.teacher
    if inputs.folded is not None:
        variables = trees.take(variables, 0)
    count = len(next(leaf for _, leaf in leaves(columns)))
    some = taken(columns, np.linspace(0, count - 1, min(count, max(16, min(512, count // 100)))).astype(int))
    seen = build.preprocess(teacher.data)(some['inputs'])
    return jax.jit(functools.partial(net.apply, train=False, key=None))(variables, seen)[0]


def _kept(inputs: CachedTeacher, outputs: Outputs) -> tuple[int, float | None]:
    """How many classes are kept of what a teacher says, 0 for all; and how many nats may be hidden then.

    Raises:
      UsageError: more are to be kept than there are.
    """
    classes = outputs.logits.shape[-1]
    if not inputs.sparse:
        return 0, None
    if inputs.keep:
        return inputs.keep, cache.hidden_width(outputs, inputs.keep) if inputs.keep <= classes else None
    keep = 1
    while keep < classes and cache.hidden_width(outputs, keep) > inputs.bound:
        keep = min(2 * keep, classes)
    return keep, cache.hidden_width(outputs, keep)


def _by_fold(
    ask: Callable[..., dict[str, np.ndarray]],
    variables: Tree,
    columns: Mapping[str, Tree],
    fold: np.ndarray,
    keep: int,
    views: int,
    context: Context,
) -> dict[str, np.ndarray]:
    """The tables of all examples, each asked of the network that was not trained on it."""
    result: dict[str, np.ndarray] = {}
    for place in range(int(fold.max()) + 1):
        own = np.flatnonzero(fold == place)
        tables = ask(trees.take(variables, place), taken(columns, own), keep=keep, ids=own)
        for name, table in tables.items():
            result.setdefault(name, np.empty((len(fold), *table.shape[1:]), table.dtype))[own] = table
        context.screen.step(views * (place + 1))
    return result


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
        'anatomy': fitted.anatomy,
        'failures': [{'cell': cell, **failure} for cell, failure in sorted(fitted.failures.items())],
        'params': trees.count(trees.take(fitted.variables['params'], 0)),
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


def chosen_cells(result: Mapping[str, Any], size: int) -> list[int]:
    """Positions of the cells of the chosen candidate for `size`, by seed."""
    return [
        position
        for position, cell in enumerate(result['cells'])
        if cell['transfer_size'] == size and cell['candidate'] == result['chosen'][str(size)]
    ]


def _warm_start(inputs: TrainedStudents, context: Context, cells: Sequence[GridCell]) -> WarmStart | None:
    """Where the cells of a later fit start: the chosen students of the fit before, of the same size and seed."""
    if inputs.before is None:
        return None
    before: Artifact = context.done['+'.join(inputs.before.chain)]
    positions = {
        (size, before.result['cells'][position]['seed']): position
        for size in inputs.transfer_sizes
        for position in chosen_cells(before.result, size)
    }
    index = np.array([positions[cell.transfer_size, cell.seed] for cell in cells])

    def chosen(name: str) -> Tree:
        return trees.take(load_variables(before.folder / name), index)

    return WarmStart(chosen('variables'), chosen('terms') if (before.folder / 'terms').exists() else {})


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
    data, source = grid_program.students_data(context, inputs, cells), grid_program.teacher_source(context, inputs)
    fitted = fit(context, folder, key, inputs, cells, data, source, start, options, inputs.gradient_every)
    save_variables(folder / 'variables', fitted.variables)
    save_variables(folder / 'best', fitted.best)
    if jax.tree.leaves(fitted.terms):  # apart, so that the student stays alone
        save_variables(folder / 'terms', fitted.terms)
    return fitted
