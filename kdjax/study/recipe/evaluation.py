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
from kdjax.study.recipe import build
from kdjax.study.recipe.context import METRICS, Context, number, plain_config, stage_name, teacher_variables
from kdjax.study.recipe.stages import chosen_cells
from kdjax.train.checkpoint import load_variables
from kdjax.train.ledger import git_commit, machine, plain, versions

TEST_LOGITS = 'test_logits.npy'


def evaluate(context: Context, folder: Path, key: str, reads: Mapping[str, Any]) -> dict[str, Any]:
    """Looks at the test split, once: every method's chosen students, and the teacher."""
    config = context.config
    context.screen.stage('evaluate', len(config.methods) + 1)
    teacher, test_logits = _teacher(context)
    rows, student = [], context.net(config.student)
    measure = context.evaluator(student, 'test', test_logits)
    student_cost: dict[str, Any] = {}
    for done, (method, fits) in enumerate(build.methods(config).items(), start=1):
        artifact = context.done[stage_name(fits)]
        cells = load_variables(artifact.folder / 'variables')
        student_cost = student_cost or cost_of(student, trees.take(cells, 0), context.example())._asdict()
        metrics = measure(cells)
        for size in config.data.transfer_sizes:
            rows.append({
                'method': method, 'stages': list(fits), **_row(artifact.result, size, metrics), **student_cost,
            })  # fmt: skip
        context.screen.step(done)
    knows = teacher.pop('dark_knowledge')
    return plain({'teacher': teacher, 'rows': rows, 'dark_knowledge': knows, 'data_checksum': context.data_checksum})


def examine(context: Context, folder: Path, key: str, reads: Mapping[str, Any]) -> dict[str, Any]:
    """What a sweep holds its students against: the teacher's metrics and cost; its answers to the test split beside."""
    context.screen.stage('examine')
    found, test_logits = _teacher(context)
    np.save(folder / TEST_LOGITS, test_logits)
    return plain({**found, 'data_checksum': context.data_checksum})


def _teacher(context: Context) -> tuple[dict[str, Any], np.ndarray]:
    """Metrics on the test split, cost and dark knowledge of the teacher; its logits (N, K) on the test split."""
    net, variables = context.teacher_net(), teacher_variables(context)
    metrics = context.evaluator(net, 'test')(jax.tree.map(lambda leaf: leaf[None], variables))
    knows = _dark_knowledge(context.dataset.splits['validation'], context.logits(net, variables, 'validation'), context)
    found = {
        **{name: float(values[0]) for name, values in metrics.items()},
        **cost_of(net, variables, context.example())._asdict(),
        'dark_knowledge': knows,
    }
    return found, context.logits(net, variables, 'test')


def results(context: Context, attempts: Sequence[Mapping[str, Any]], shown: int, command: str) -> dict[str, Any]:
    """Everything that a report is made of, from the artifacts alone.

    Args:
      context: of the attempt that is reported.
      attempts: what was tried for acceptance.
      shown: which of them is reported, from 0.
      command: how the user called.
    """
    config, evaluated = context.config, context.done['evaluate'].result
    seconds = {name: artifact.seconds for name, artifact in context.done.items()}
    looks = {method: anatomy(context, method, max(config.data.transfer_sizes)) for method in build.methods(config)}
    config_ = plain_config(config)
    return {
        'title': config.title,
        'baseline': config.baseline,
        'teacher': evaluated['teacher'],
        'rows': evaluated['rows'],
        'curves': [
            curve(context, method, size) for method in build.methods(config) for size in config.data.transfer_sizes
        ],
        **({'anatomy': looks} if any(looks.values()) else {}),
        'dark_knowledge': evaluated['dark_knowledge'],
        'accept': {
            'method': config.accept.method,
            'transfer_size': config.accept.transfer_size or max(config.data.transfer_sizes),
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


def curve(context: Context, method: str, size: int) -> dict[str, Any]:
    """Validation accuracy of a method's chosen cells during training, its fits joined."""
    steps, accuracy = [], []
    for offset, result, positions in _joined(context, method, size):
        steps += [offset + line['step'] for line in result['history']]
        accuracy += [[line['accuracy'][position] for position in positions] for line in result['history']]
    return {'method': method, 'transfer_size': size, 'steps': steps, 'accuracy': accuracy}


def anatomy(context: Context, method: str, size: int) -> list[dict[str, Any]]:
    """Norms by term and cosines by pair of terms of a method's chosen cells during training, its fits joined."""

    def picked(line: Mapping[str, Any], prefix: str, positions: Sequence[int]) -> dict[str, list[float | None]]:
        kind = {name.removeprefix(prefix): values for name, values in line.items() if name.startswith(prefix)}
        return {name: [values[position] for position in positions] for name, values in kind.items()}

    return [
        {'step': offset + line['step'], 'norms': picked(line, 'norm/', positions),
         'cosines': picked(line, 'cosine/', positions)}
        for offset, result, positions in _joined(context, method, size)
        for line in result.get('anatomy', ())  # artifacts made before there was one are still good
    ]  # fmt: skip


def _joined(context: Context, method: str, size: int) -> Iterator[tuple[int, Mapping[str, Any], list[int]]]:
    """Of every fit of a method: steps taken before it, its result, and the chosen cells of `size`."""
    fits, offset = tuple(context.config.methods[method]), 0
    for length in range(1, len(fits) + 1):
        result = context.done[stage_name(fits[:length])].result
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


def _dark_knowledge(split: Split, logits: np.ndarray, context: Context) -> dict[str, Any]:
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
        'class_names': list(context.dataset.classes),
        'logits': logits[example],
        'temperatures': [1, 2, 4, 8, 16],
    }
