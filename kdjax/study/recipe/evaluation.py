"""What came of it: the one look at the test split, and everything that a report is made of."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kdjax import trees
from kdjax.cost import cost_of
from kdjax.data.base import Split
from kdjax.errors import UsageError
from kdjax.study.recipe.context import METRICS, Context, number
from kdjax.study.recipe.inputs import Evaluated, Examined, Teacher
from kdjax.study.recipe.inputs import plain as as_json
from kdjax.study.recipe.recipe import Recipe
from kdjax.study.recipe.stages import chosen_cells
from kdjax.train.checkpoint import load_variables
from kdjax.train.ledger import git_commit, machine, plain, versions

TEST_LOGITS = 'test_logits.npy'


def evaluate(inputs: Evaluated, context: Context, folder: Path, key: str) -> dict[str, Any]:
    """Looks at the test split, once: every method's chosen students, and the teacher."""
    context.screen.stage('evaluate', len(inputs.methods) + 1)
    teacher, test_logits = _teacher(inputs.teacher, context)
    shared = inputs.ends[inputs.baseline]
    student, example = context.net(shared.student, shared), context.example(shared.data)
    measure = context.evaluator(student, shared, 'test', test_logits)
    rows: list[dict[str, Any]] = []
    student_cost: dict[str, Any] = {}
    for done, (method, fits) in enumerate(inputs.methods.items(), start=1):
        artifact = context.done['+'.join(fits)]
        cells = load_variables(artifact.folder / 'variables')
        student_cost = student_cost or cost_of(student, trees.take(cells, 0), example)._asdict()
        metrics = measure(cells)
        for size in shared.transfer_sizes:
            rows.append({
                'method': method, 'stages': list(fits), **_row(artifact.result, size, metrics), **student_cost,
            })  # fmt: skip
        context.screen.step(done)
    knows, checksum = teacher.pop('dark_knowledge'), context.datasets.checksum(shared.data)
    return plain({'teacher': teacher, 'rows': rows, 'dark_knowledge': knows, 'data_checksum': checksum})


def examine(inputs: Examined, context: Context, folder: Path, key: str) -> dict[str, Any]:
    """What a sweep holds its students against: the teacher's metrics and cost; its answers to the test split beside."""
    context.screen.stage('examine')
    found, test_logits = _teacher(inputs.inputs, context)
    np.save(folder / TEST_LOGITS, test_logits)
    return plain({**found, 'data_checksum': context.datasets.checksum(inputs.inputs.data)})


def _teacher(inputs: Teacher, context: Context) -> tuple[dict[str, Any], np.ndarray]:
    """Metrics on the test split, cost and dark knowledge of the teacher; its logits (N, K) on the test split."""
    net, variables = context.teacher_net(inputs), context.teacher_variables(inputs)
    metrics = context.evaluator(net, inputs, 'test')(jax.tree.map(lambda leaf: leaf[None], variables))
    dataset, logits = context.datasets(inputs.data), context.logits(net, variables, inputs, 'validation')
    found = {
        **{name: float(values[0]) for name, values in metrics.items()},
        **cost_of(net, variables, context.example(inputs.data))._asdict(),
        'dark_knowledge': _dark_knowledge(dataset.splits['validation'], logits, dataset.classes),
    }
    return found, context.logits(net, variables, inputs, 'test')


def results(
    recipe: Recipe, context: Context, attempts: Sequence[Mapping[str, Any]], shown: int, command: str
) -> dict[str, Any]:
    """Everything that a report is made of, from the artifacts alone.

    Args:
      recipe, context: of the attempt that is reported.
      attempts: what was tried for acceptance.
      shown: which of them is reported, from 0.
      command: how the user called.
    """
    config, evaluated = recipe.config, context.done['evaluate'].result
    seconds = {name: artifact.seconds for name, artifact in context.done.items()}
    largest = max(recipe.transfer_sizes)
    looks = {method: anatomy(context, fits, largest) for method, fits in recipe.methods.items()}
    config_ = as_json(config)
    return {
        'title': config.title,
        'baseline': config.baseline,
        'teacher': evaluated['teacher'],
        'rows': evaluated['rows'],
        'curves': [
            {'method': method, **curve(context, fits, size)}
            for method, fits in recipe.methods.items()
            for size in recipe.transfer_sizes
        ],
        **({'anatomy': looks} if any(looks.values()) else {}),
        'dark_knowledge': evaluated['dark_knowledge'],
        'accept': {
            'method': config.accept.method,
            'transfer_size': config.accept.transfer_size or largest,
            'met': attempts[shown]['met'],
            'shown': shown,
            'attempts': list(attempts),
        },
        'provenance': {
            'config': config_,
            'config_hash': trees.digest(config_),
            'versions': versions(),
            'machine': machine(),
            'git_commit': git_commit(),
            'data_checksum': evaluated['data_checksum'],
            'seconds': seconds,
            'command': command,
        },
    }


def curve(context: Context, fits: Sequence[str], size: int) -> dict[str, Any]:
    """Validation accuracy of the chosen cells of a chain of fits during training, the fits joined."""
    steps, accuracy = [], []
    for offset, result, positions in _joined(context, fits, size):
        steps += [offset + line['step'] for line in result['history']]
        accuracy += [[line['accuracy'][position] for position in positions] for line in result['history']]
    return {'transfer_size': size, 'steps': steps, 'accuracy': accuracy}


def anatomy(context: Context, fits: Sequence[str], size: int) -> list[dict[str, Any]]:
    """Norms by term and cosines by pair of terms of the chosen cells of a chain of fits, the fits joined."""

    def picked(line: Mapping[str, Any], prefix: str, positions: Sequence[int]) -> dict[str, list[float | None]]:
        kind = {name.removeprefix(prefix): values for name, values in line.items() if name.startswith(prefix)}
        return {name: [values[position] for position in positions] for name, values in kind.items()}

    return [
        {'step': offset + line['step'], 'norms': picked(line, 'norm/', positions),
         'cosines': picked(line, 'cosine/', positions)}
        for offset, result, positions in _joined(context, fits, size)
        for line in result.get('anatomy', ())  # artifacts made before there was one are still good
    ]  # fmt: skip


def _joined(context: Context, fits: Sequence[str], size: int) -> Iterator[tuple[int, Mapping[str, Any], list[int]]]:
    """Of every fit of a chain: steps taken before it, its result, and the chosen cells of `size`."""
    offset = 0
    for length in range(1, len(fits) + 1):
        result = context.done['+'.join(fits[:length])].result
        yield offset, result, chosen_cells(result, size)
        offset += result['history'][-1]['step']


def _row(result: Mapping[str, Any], size: int, metrics: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """One line of results: the chosen cells of one size."""
    positions = chosen_cells(result, size)
    failed = {failure['cell']: failure for failure in result['failures']}
    seeds = {position: result['cells'][position]['seed'] for position in positions}
    lost = [{'seed': seeds[p], 'step': failed[p]['step'], 'term': failed[p]['term']} for p in positions if p in failed]
    return {
        'transfer_size': size,
        'seeds': list(seeds.values()),
        **{name: [None if p in failed else number(metrics[name][p]) for p in positions] for name in METRICS},
        'chosen': result['chosen'][str(size)],
        'failed': lost,
        'validation_accuracy': [result['validation_accuracy'][p] for p in positions],
    }


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
