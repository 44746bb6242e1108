"""The stages of the recipe: teacher, cache, fits of students. Each turns artifacts into an artifact."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kdjax import trees
from kdjax.data.feed import Stream
from kdjax.errors import UsageError
from kdjax.nets import torch_weights
from kdjax.study.recipe import build, fit_grid
from kdjax.study.recipe.check import cache_name
from kdjax.study.recipe.context import METRICS, Artifact, Context, number
from kdjax.study.recipe.fit_grid import TrainingData, WarmStart
from kdjax.study.recipe.inputs import CachedTeacher, ImportedTeacher, Teacher, TrainedStudents, TrainedTeacher
from kdjax.study.recipe.recipe import GridCell
from kdjax.train import cache, teachers
from kdjax.train.checkpoint import load_variables, save_variables
from kdjax.train.ledger import plain
from kdjax.types import Tree


def train_teacher(inputs: TrainedTeacher, context: Context, folder: Path, key: str) -> dict[str, Any]:
    """Trains a network that teaches on every training example, and measures it; members, if several, are a grid."""
    labels = context.datasets(inputs.data).splits['train'].labels
    cells = [GridCell(len(labels), seed, {}) for seed in range(inputs.members)]
    streams = [Stream(np.arange(len(labels)), inputs.seed + cell.seed) for cell in cells]
    # Asked in every step: what is cached are the views that students see, not those of this network.
    source = fit_grid.teacher_source(context, inputs)
    fitted = fit_grid.fit(context, folder, key, inputs, cells, TrainingData(inputs.presented, streams), source)
    if fitted.failures:
        raise UsageError(f'{inputs.name}: members {sorted(fitted.failures)} diverged; lower their learning rate')
    members = [trees.take(fitted.variables, member) for member in range(inputs.members)]
    if inputs.members == 1:
        return _keep_teacher(inputs, context, folder, members[0])
    together = {part: [member[part] for member in members] for part in ('params', 'stats')}
    return _keep_teacher(inputs, context, folder, together)


def read_teacher(inputs: ImportedTeacher, context: Context, folder: Path, key: str) -> dict[str, Any]:
    """Reads the weights of a network that has been trained with PyTorch, and measures it."""
    context.screen.stage(inputs.name)
    net = context.net(inputs.network, inputs)
    like = jax.eval_shape(net.init, jax.random.key(0), context.example(inputs.data)[None])
    return _keep_teacher(inputs, context, folder, torch_weights.load(inputs.path, like))


def _keep_teacher(inputs: Teacher, context: Context, folder: Path, variables: Tree) -> dict[str, Any]:
    """Saves the variables of a network that teaches, and says what it is worth on validation."""
    save_variables(folder / 'variables', variables)
    measure = context.evaluator(context.teacher_net(inputs), inputs, 'validation')
    metrics = measure(jax.tree.map(lambda leaf: leaf[None], variables))
    return {
        'validation': {name: number(metrics[name][0]) for name in METRICS if name in metrics},
        'params': trees.count(variables['params']),
        'fingerprint': trees.fingerprint(variables),
        'data_checksum': context.datasets.checksum(inputs.data),
    }


def cache_teacher(inputs: CachedTeacher, context: Context, folder: Path, key: str) -> dict[str, Any]:
    """Computes a teacher's outputs on every view of every training example."""
    teacher = inputs.teacher
    variables = context.teacher_variables(teacher)
    context.screen.stage(cache_name(inputs.name), inputs.views)
    tables = cache.compute(
        teachers.frozen(build.probed(context.teacher_net(teacher, inputs.precision), inputs.taps)),
        variables,
        context.datasets(teacher.data).splits['train'].inputs,
        build.augment(inputs.augment),
        teacher.seed,
        inputs.views,
        inputs.taps,
        progress=context.screen.step,
        preprocess=build.preprocess(teacher.data),
    )
    cache.save(folder / 'tables', tables, fit_grid.address(context, inputs, variables))
    return {'bytes': sum(table.nbytes for table in tables.values())}


def train_students(inputs: TrainedStudents, context: Context, folder: Path, key: str) -> dict[str, Any]:
    """Trains a grid of students: transfer-set sizes x candidate knobs x seeds."""
    cells = inputs.fit.cells(inputs.transfer_sizes, inputs.seeds)
    fitted = fit_grid.fit_students(context, folder, key, inputs, cells, _warm_start(inputs, context, cells))
    accuracy = [None if cell in fitted.failures else number(value)
                for cell, value in enumerate(fitted.history[-1]['accuracy'])]  # fmt: skip
    described = [cell._asdict() for cell in cells]
    return plain({
        'cells': described,
        'validation_accuracy': accuracy,
        'chosen': choose(described, accuracy),
        'history': [{name: line[name] for name in ('step', 'accuracy', 'nll')} for line in fitted.history],
        'anatomy': fitted.anatomy,
        'failures': [{'cell': cell, **failure} for cell, failure in sorted(fitted.failures.items())],
        'params': trees.count(trees.take(fitted.variables['params'], 0)),
    })  # fmt: skip


def choose(cells: Sequence[Mapping[str, Any]], accuracy: Sequence[float | None]) -> dict[str, dict[str, float]]:
    """The candidate with the highest mean validation accuracy, for each transfer-set size; the first of equals.

    A candidate any of whose seeds diverged counts that seed as 0: what sometimes fails is not a good choice.
    """
    return {
        str(size): _best([(cell['candidate'], value or 0.0) for cell, value in zip(cells, accuracy, strict=True)
                          if cell['transfer_size'] == size])
        for size in dict.fromkeys(cell['transfer_size'] for cell in cells)
    }  # fmt: skip


def _best(scored: Sequence[tuple[dict[str, float], float]]) -> dict[str, float]:
    def mean(candidate: dict[str, float]) -> float:
        return float(np.mean([score for other, score in scored if other == candidate]))

    return max((candidate for candidate, _ in scored), key=mean)


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
