"""Evaluation: the one look at the test split, and everything that a report is made of, as plain data."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kdjax import trees
from kdjax.cost import cost_of
from kdjax.dataset import Split
from kdjax.errors import UsageError
from kdjax.study.recipe.context import METRICS, Context, number
from kdjax.study.recipe.inputs import Evaluated, Examined, Teacher
from kdjax.study.recipe.inputs import plain as as_json
from kdjax.study.recipe.recipe import Recipe
from kdjax.study.recipe.stages import chosen_cells
from kdjax.train.checkpoint import load_variables
from kdjax.train.ledger import git_commit, machine, plain, versions

TEST_LOGITS = 'test_logits.npy'
CHECKPOINTS = {'last': 'variables', 'best': 'best'}  # where a fit leaves them
COST = ('params', 'bytes', 'flops', 'latency_ms')


def evaluate(inputs: Evaluated, context: Context, folder: Path, key: str) -> dict[str, Any]:
    """Looks at the test split, once: every method's chosen students, after the last and the best step, and the teacher.

    Returns:
      The teacher as `examine` leaves it, the cost of the student, and the test metrics of every run: by method, size of
      the transfer set and checkpoint one mapping per seed, None where the seed diverged.
    """
    context.screen.stage('evaluate', len(inputs.methods) + 1)
    teacher, test_logits = _teacher(inputs.teacher, context)
    shared = inputs.ends[inputs.baseline]  # all methods have one student, and see the same data
    student, example = context.net(shared.student, shared), context.example(shared.data)
    measure = context.evaluator(student, shared, 'test', test_logits)
    cost: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    for done, (method, fits) in enumerate(inputs.methods.items(), start=1):
        artifact = context.done['+'.join(fits)]
        cells = {name: load_variables(artifact.folder / place) for name, place in CHECKPOINTS.items()}
        cost = cost or cost_of(student, trees.take(cells['last'], 0), example)._asdict()
        measured = {name: measure(variables) for name, variables in cells.items()}
        metrics[method] = {
            str(size): {name: _by_seed(artifact.result, size, values) for name, values in measured.items()}
            for size in shared.transfer_sizes
        }
        context.screen.step(done)
    checksum = context.datasets.checksum(shared.data)
    return plain({'teacher': teacher, 'metrics': metrics, 'cost': cost, 'data_checksum': checksum})


def examine(inputs: Examined, context: Context, folder: Path, key: str) -> dict[str, Any]:
    """Measures the teacher that a sweep holds its students against; its answers to the test split lie beside."""
    context.screen.stage('examine')
    teacher, test_logits = _teacher(inputs.inputs, context)
    np.save(folder / TEST_LOGITS, test_logits)
    return plain({**teacher, 'data_checksum': context.datasets.checksum(inputs.data)})


def results(recipe: Recipe, context: Context, command: str) -> dict[str, Any]:
    """Everything that a report is made of, from the artifacts alone: a `report.records.Results` as plain data.

    Args:
      recipe, context: of the attempt that is reported.
      command: how the user called.
    """
    evaluated = context.done['evaluate'].result
    seconds = {name: artifact.seconds for name, artifact in context.done.items()}
    return {
        'title': recipe.title,
        'baseline': recipe.baseline,
        'axes': ('method',),
        'runs': [
            run
            for size in sorted(recipe.transfer_sizes)
            for method, fits in recipe.methods.items()
            for run in runs(context, method, fits, size)
        ],
        **teachers({'teacher': evaluated['teacher']}),
        'provenance': provenance(recipe.config, evaluated['data_checksum'], seconds, command),
        'config': as_json(recipe.config),
    }


def teachers(measured: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Metrics and costs of teachers, and what they say of an example, from what `examine` left of each."""
    return {
        'teachers': {
            key: {
                'metrics': {name: teacher[name] for name in METRICS if name in teacher},
                'cost': {name: teacher[name] for name in COST},
            }
            for key, teacher in measured.items()
        },
        'exhibits': {
            key: teacher['dark_knowledge'] for key, teacher in measured.items() if 'dark_knowledge' in teacher
        },
    }


def provenance(config: Any, data_checksum: str | None, seconds: Mapping[str, float], command: str) -> dict[str, Any]:
    """What leads to the same numbers again."""
    return {
        'config_hash': trees.digest(as_json(config)),
        'versions': versions(),
        'machine': machine(),
        'git_commit': git_commit(),
        'data_checksum': data_checksum,
        'seconds': dict(seconds),
        'command': command,
    }


def runs(context: Context, method: str, fits: Sequence[str], size: int) -> Iterator[dict[str, Any]]:
    """The runs of one method and size, by seed: the chosen cells of its fits."""
    evaluated = context.done['evaluate'].result
    metrics = evaluated['metrics'][method][str(size)]
    chain = [context.done['+'.join(fits[:length])].result for length in range(1, len(fits) + 1)]
    last = chain[-1]
    for place, cells in enumerate(zip(*(chosen_cells(result, size) for result in chain), strict=True)):
        failure = _failure(chain, cells)
        history, gradients = curves(chain, cells)
        yield {
            'method': method,
            'seed': last['cells'][cells[-1]]['seed'],
            'transfer_size': size,
            'point': {},
            'status': 'failed' if failure else 'done',
            'failure': failure,
            'last': metrics['last'][place],
            'best': metrics['best'][place],
            'best_step': None if failure else _best_step(last['history'], cells[-1]),
            'history': history,
            'gradients': gradients,
            'cost': evaluated['cost'],
            'teacher': 'teacher',
            'stages': tuple(fits),
            'chosen': last['chosen'][str(size)],
        }


def curves(chain: Sequence[Mapping[str, Any]], cells: Sequence[int]) -> tuple[list[Any], list[Any]]:
    """Validation and gradient statistics of one run over its steps, its fits joined.

    Args:
      chain: results of the fits, in order.
      cells: position of the run in the grid of each.
    """
    history, gradients, offset = [], [], 0
    for result, cell in zip(chain, cells, strict=True):
        for line in result['history']:
            values = {name: of[cell] for name, of in line.items() if name != 'step'}
            history.append({'step': offset + line['step'], 'metrics': values})
        for line in result.get('anatomy', ()):  # artifacts made before there was one are still good
            parts = {'norms': _named(line, 'norm/', cell), 'cosines': _named(line, 'cosine/', cell)}
            gradients.append({'step': offset + line['step'], **parts})
        offset += result['history'][-1]['step']
    return history, gradients


def _named(line: Mapping[str, Any], prefix: str, cell: int) -> dict[str, float | None]:
    return {name.removeprefix(prefix): of[cell] for name, of in line.items() if name.startswith(prefix)}


def _failure(chain: Sequence[Mapping[str, Any]], cells: Sequence[int]) -> dict[str, Any] | None:
    """Where the first fit of a run diverged that did."""
    for result, cell in zip(chain, cells, strict=True):
        for failure in result['failures']:
            if failure['cell'] == cell:
                return {name: failure[name] for name in ('step', 'term')}
    return None


def _best_step(history: Sequence[Mapping[str, Any]], cell: int) -> int:
    """The step of the last fit with the highest validation accuracy; the first of equals."""
    return max(history, key=lambda line: line['accuracy'][cell] or 0.0)['step']


def _by_seed(
    result: Mapping[str, Any], size: int, metrics: Mapping[str, np.ndarray]
) -> list[dict[str, float | None] | None]:
    """Metrics of the chosen cells of one size; None for those that diverged."""
    lost = {failure['cell'] for failure in result['failures']}
    return [
        None if cell in lost else {name: number(metrics[name][cell]) for name in METRICS}
        for cell in chosen_cells(result, size)
    ]


def _teacher(inputs: Teacher, context: Context) -> tuple[dict[str, Any], np.ndarray]:
    """Metrics on the test split, cost and dark knowledge of the teacher; its logits (N, K) on the test split."""
    net, variables = context.teacher_net(inputs), context.teacher_variables(inputs)
    metrics = context.evaluator(net, inputs, 'test')(jax.tree.map(lambda leaf: leaf[None], variables))
    dataset, logits = context.datasets(inputs.data), context.logits(net, variables, inputs, 'validation')
    teacher = {
        **{name: float(values[0]) for name, values in metrics.items()},
        **cost_of(net, variables, context.example(inputs.data))._asdict(),
        'dark_knowledge': _dark_knowledge(dataset.splits['validation'], logits, dataset.classes),
    }
    return teacher, context.logits(net, variables, inputs, 'test')


def _dark_knowledge(split: Split, logits: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """A rightly classified validation image about which the teacher knows most beside its class."""
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    right = logits.argmax(axis=1) == split.labels
    if not right.any():
        raise UsageError('the teacher classifies no validation example rightly; train it longer')
    example = int(np.argmax(np.where(right, np.sort(probabilities, axis=1)[:, -2], -1)))
    return {
        'image': split.inputs[example],
        'label': int(split.labels[example]),
        'class_names': list(classes),
        'logits': logits[example],
        'temperatures': [1, 2, 4, 8, 16],
    }
