"""The stages of the recipe: teacher, cache, fits of students. Each turns artifacts into an artifact."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from kdjax import trees
from kdjax.data.feed import Stream
from kdjax.errors import UsageError
from kdjax.nets import torch_weights
from kdjax.study.recipe import build, fit_grid
from kdjax.study.recipe.context import METRICS, Context, cache_stage, number, stage_name, teacher_variables
from kdjax.study.recipe.fit_grid import TrainingData, WarmStart
from kdjax.train import cache, teachers
from kdjax.train.checkpoint import load_variables, save_variables
from kdjax.train.ledger import plain
from kdjax.types import Tree


def make_teacher(context: Context, folder: Path, key: str, reads: Mapping[str, Any]) -> dict[str, Any]:
    """Trains a network that teaches, or reads its weights, and measures it."""
    spec = build.teachers(context.config)[reads['name']]
    variables = _read(context, reads['name'], spec) if spec.weights else _trained(context, folder, key, reads['name'])
    save_variables(folder / 'variables', variables)
    last = context.evaluator(context.teacher_net(reads['name']), 'validation')(
        jax.tree.map(lambda leaf: leaf[None], variables)
    )
    return {
        'validation': {name: number(last[name][0]) for name in METRICS if name in last},
        'params': trees.count(variables['params']),
        'fingerprint': trees.fingerprint(variables),
        'data_checksum': context.data_checksum,
    }


def _read(context: Context, name: str, spec: ConfigDict) -> Tree:
    """The variables of a network that has been trained with PyTorch."""
    context.screen.stage(name)
    like = jax.eval_shape(context.net(spec).init, jax.random.key(0), context.example()[None])
    return torch_weights.load(spec.weights, like)


def _trained(context: Context, folder: Path, key: str, name: str) -> Tree:
    """On every training example; members, if several, as a grid over seeds."""
    config, labels = context.config, context.dataset.splits['train'].labels
    spec = build.teachers(config)[name]
    cells = [build.GridCell(len(labels), seed, {}) for seed in range(spec.members)]
    streams = [Stream(np.arange(len(labels)), config.seed + cell.seed) for cell in cells]
    seen = TrainingData(spec.augment, spec.views, streams)
    # Online: what is cached are the views that students see, not those of `spec`.
    teaching = fit_grid.teaching(context, spec.fit, 'online')
    fitted = fit_grid.fit(context, folder, key, spec, spec.fit, cells, seen, teaching)
    if fitted.failures:
        raise UsageError(f'{name}: members {sorted(fitted.failures)} diverged; lower their learning rate')
    members = [trees.take(fitted.variables, member) for member in range(spec.members)]
    if spec.members == 1:
        return members[0]
    return {part: [member[part] for member in members] for part in ('params', 'stats')}


def cache_teacher(context: Context, folder: Path, key: str, reads: Mapping[str, Any]) -> dict[str, Any]:
    """Computes a teacher's outputs on every view of every training example."""
    config, variables = context.config, teacher_variables(context, reads['name'])
    context.screen.stage(cache_stage(reads['name']), config.data.views)
    tables = cache.compute(
        teachers.frozen(build.probed(context.teaching_net(reads['name']), tuple(reads['taps']))),
        variables,
        context.dataset.splits['train'].inputs,
        build.augment(config.data.augment),
        config.seed,
        config.data.views,
        tuple(reads['taps']),
        progress=context.screen.step,
        preprocess=build.preprocess(config),
    )
    cache.save(folder / 'tables', tables, fit_grid.address(context, reads['name'], variables))
    return {'bytes': sum(table.nbytes for table in tables.values())}


def train_students(context: Context, folder: Path, key: str, reads: Mapping[str, Any]) -> dict[str, Any]:
    """Trains a grid of students: transfer-set sizes x candidate knobs x seeds."""
    chain = tuple(reads['chain'])
    cells = build.cells(context.config, context.config.fits[chain[-1]])
    start = _start(context, chain, cells) if len(chain) > 1 else None
    fitted = fit_grid.fit_students(context, folder, key, chain[-1], cells, start)
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


def _start(context: Context, chain: tuple[str, ...], cells: Sequence[build.GridCell]) -> WarmStart:
    """Where the cells of a later fit start: the chosen students of the fit before, of the same size and seed."""
    before = context.done[stage_name(chain[:-1])]
    positions = {
        (size, before.result['cells'][position]['seed']): position
        for size in context.config.data.transfer_sizes
        for position in chosen_cells(before.result, size)
    }
    index = np.array([positions[cell.transfer_size, cell.seed] for cell in cells])

    def chosen(name: str) -> Tree:
        return trees.take(load_variables(before.folder / name), index)

    return WarmStart(chosen('variables'), chosen('terms') if (before.folder / 'terms').exists() else {})
