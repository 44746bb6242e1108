"""Evaluation: the one look at the test split, and everything that a report is made of, as plain data."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kdjax import trees
from kdjax.cost import COMPRESSION, compression, cost_of
from kdjax.metrics import Metric
from kdjax.study.recipe import build, changed, changes, students
from kdjax.study.recipe.context import Context, number
from kdjax.study.recipe.inputs import Evaluated, Examined, GivenTeacher, Inputs, Teacher, TrainedStudents
from kdjax.study.recipe.inputs import plain as as_json
from kdjax.study.recipe.recipe import ALL, Recipe
from kdjax.study.recipe.stages import CHECKPOINTS, best_step, chosen_cells
from kdjax.tasks.base import Task
from kdjax.train import distributed, storage
from kdjax.train.checkpoint import load_variables
from kdjax.train.ledger import git_commit, machine, plain, versions
from kdjax.types import Net, Tree

TEST_LOGITS = 'test_logits.npy'
COST = ('params', 'bytes', 'flops', 'latency_ms', 'more')
EXHIBIT = 'dark_knowledge'  # of a teacher
NOT_METRICS = (*COST, EXHIBIT, 'data_checksum', 'balance')
# Answers (N, ...) on the test split, of the teacher and, by method and size, of the student that `kdjax.load` gives.
PREDICTIONS = 'predictions.npz'
EXAMPLES = 'examples.npz'  # what each test example adds to the score, for paired tests


def evaluate(inputs: Evaluated, context: Context, folder: Path, key: str) -> dict[str, Any]:
    """Looks at the test split, once: every method's chosen students, after the last and the best step, and the teacher.

    Returns:
      The teacher as `examine` leaves it, the cost of the student, and the test metrics of every run: by method, size of
      the transfer set and checkpoint one mapping per seed, None where the seed diverged.
    """
    context.screen.stage('evaluate', len(inputs.methods) + 1)
    shared = inputs.ends[inputs.baseline]  # all methods train one student, and see the same data
    task = context.task(shared)
    teacher, test_logits = _teacher(inputs.teacher, context, shown=not task.has_exhibit_together)
    cost: dict[str, Any] = {}
    heads: dict[str, Any] = {}  # costs of students that a head answers for, or that were changed
    # Then all have the columns that they are compared by.
    smaller = any(changes.reached(end) for end in inputs.ends.values())
    # Of a teacher that has its words for itself nothing is held against it
    alike = as_json(inputs.teacher.data.args) == as_json(shared.data.args)
    against = (test_logits, inputs.teacher) if alike else (None, None)
    asking = functools.cache(lambda net: context.examiner(net, shared, 'test', *against))
    metrics: dict[str, Any] = {}
    examples: dict[str, np.ndarray] = {}
    dataset, classes = context.datasets(shared.data), {}
    if task.has_classes:
        classes['teacher'] = task.by_class(dataset, [test_logits])
    predictions = _questions(shared, test_logits, context)
    for done, (method, fits) in enumerate(inputs.methods.items(), start=1):
        artifact, end = context.done['+'.join(fits)], inputs.ends[method]
        student = context.fitted_net(end)
        ask = asking(student)
        cells = {name: load_variables(artifact.folder / place) for name, place in CHECKPOINTS.items()}
        if end.fit.answering or changes.reached(end):
            best = students.best_cell(artifact.result, max(shared.transfer_sizes), task.judged)
            net, own = student, trees.take(cells['last'], best or 0)
            if changes.ranked(end) and not end.fit.answering:
                net, own = changed.as_built(functools.partial(context.net, inputs=end), end.network, end, own)
            heads[method] = costs(net, own, end, context, made_smaller=smaller)
        else:
            cost = cost or costs(student, trees.take(cells['last'], 0), shared, context, made_smaller=smaller)
        if parts := artifact.result.get('parts'):
            own = heads.get(method, cost)
            heads[method] = {**own, 'more': {**own.get('more', {}), **parts}}
        last, predicted = ask(cells['last'])
        same = trees.equal(cells['last'], cells['best'])  # where only the end was validated
        measured = {'last': last, 'best': last if same else ask(cells['best'])[0]}
        metrics[method] = {
            str(size): {name: _by_seed(artifact.result, size, values) for name, values in measured.items()}
            for size in shared.transfer_sizes
        }
        if task.has_statistics:
            examples |= _statistics(method, predicted, artifact.result, shared, context)
        if task.has_classes:
            classes[method] = task.by_class(dataset, _logits(student, cells['last'], artifact.result, shared, context))
        for size in shared.transfer_sizes:
            best = students.best_cell(artifact.result, size, task.judged)
            if best is not None:
                one = trees.take(cells['last'], best)
                predictions[f'{method}/{size}'] = context.logits(student, one, shared, 'test')
        context.screen.step(done)
    distributed.by_first(lambda: _save(folder / PREDICTIONS, predictions))
    if examples:
        distributed.by_first(lambda: _save(folder / EXAMPLES, examples))
    known = plain({  # facts may be arrays
        **students.described(shared, context),
        'ends': {method: context.done['+'.join(fits)].folder.name for method, fits in inputs.methods.items()},
        'heads': {method: as_json(end.fit.head) for method, end in inputs.ends.items() if end.fit.head},
        'changes': {method: changes.described(end) for method, end in inputs.ends.items() if changes.made(end)},
    })  # fmt: skip
    distributed.by_first(lambda: storage.write_json(folder / students.STUDENTS, known))
    checksum = context.datasets.checksum(shared.data)
    found = {'teacher': teacher, 'metrics': metrics, 'cost': cost, 'data_checksum': checksum}
    if heads:
        found['costs'] = heads
    shown = {name.rpartition('/')[0]: of for name, of in predictions.items()
             if name.endswith(f'/{max(shared.transfer_sizes)}')}  # fmt: skip
    beside = task.exhibit_together(dataset, {'teacher': test_logits, **shown})
    return plain({**found, 'balance': task.balance(dataset), 'by_class': classes, 'beside': beside})


def _logits(
    net: Net, cells: Tree, result: Mapping[str, Any], inputs: TrainedStudents, context: Context
) -> Iterator[np.ndarray]:
    """Logits (N, ...) on the test split of the chosen students of the largest size, one seed after the other."""
    lost = {failure['cell'] for failure in result['failures']}
    for cell in chosen_cells(result, max(inputs.transfer_sizes)):
        if cell not in lost:
            yield context.logits(net, trees.take(cells, cell), inputs, 'test')


def _questions(inputs: TrainedStudents, teacher: np.ndarray, context: Context) -> dict[str, np.ndarray]:
    """Of every test example its id and its label, where it has one, and what the teacher answers."""
    labels = context.datasets(inputs.data).splits['test'].labels
    return {
        'id': np.arange(len(teacher)),
        **({} if labels is None else {'label': np.asarray(labels)}),
        'teacher': teacher,
    }


def _save(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    written: dict[str, Any] = dict(arrays)
    np.savez_compressed(path, **written)


def _statistics(
    method: str, predictions: Tree, result: Mapping[str, Any], inputs: TrainedStudents, context: Context
) -> dict[str, np.ndarray]:
    """What each test example adds to the score of the chosen students, (seeds, N, S), by method and size.

    Predictions are those of all cells on the test split, (C, N, ...).
    """
    task, split = context.informed_task(inputs), context.datasets(inputs.data).splits['test']
    return {
        f'{method}/{size}': np.stack([
            task.statistics(trees.take(predictions, cell), split) for cell in chosen_cells(result, size)
        ]).astype(np.float32)
        for size in inputs.transfer_sizes
    }  # fmt: skip


def costs(net: Net, variables: Tree, inputs: Inputs, context: Context, made_smaller: bool = False) -> dict[str, Any]:
    """What a network costs in use, with the columns of its task, and those of `cost.COMPRESSION` where asked for."""
    task, example = context.task(inputs), context.example(inputs)
    cost = cost_of(net, variables, example, served=task.served)
    more = {
        **task.costs(variables, cost.latency_ms, context.typical_length(inputs)),
        **task.costs_in_use(net, variables, example, cost.flops, cost.latency_ms),
        **(compression(net, variables, example) if made_smaller else {}),
    }
    return {**cost._asdict(), **({'more': more} if more else {})}


def examine(inputs: Examined, context: Context, folder: Path, key: str) -> dict[str, Any]:
    """Measures the teacher that a sweep holds its students against; its answers to the test split lie beside."""
    context.screen.stage('examine')
    teacher, test_logits = _teacher(inputs.inputs, context)
    np.save(folder / TEST_LOGITS, test_logits)
    dataset = context.datasets(inputs.data)
    balance = context.task(inputs.inputs).balance(dataset)
    return plain({**teacher, 'data_checksum': context.datasets.checksum(inputs.data), 'balance': balance})


def results(recipe: Recipe, context: Context, command: str) -> dict[str, Any]:
    """Everything that a report is made of, from the artifacts alone: a `report.records.Results` as plain data.

    Args:
      recipe, context: of the attempt that is reported.
      command: how the user called.
    """
    evaluated = context.done['evaluate'].result
    taught = teachers({'teacher': evaluated['teacher']})
    if evaluated.get('beside'):
        taught['exhibits'] = {'teacher': evaluated['beside']}
    seconds = {name: artifact.seconds for name, artifact in context.done.items()}
    return {
        'title': recipe.title,
        'baseline': recipe.baseline,
        'axes': ('method',),
        'runs': [
            run
            for size in sorted(recipe.transfer_sizes)
            for method, fits in recipe.methods.items()
            for run in runs(context, method, fits, size, build.task(recipe.task).judged)
        ],
        **measures(build.task(recipe.task)),
        'balance': evaluated.get('balance', {}),
        'by_class': evaluated.get('by_class', {}),
        **taught,
        'provenance': provenance(recipe.config, evaluated['data_checksum'], seconds, command, context.earlier),
        'config': as_json(recipe.config),
    }


def measures(task: Task) -> dict[str, Any]:
    """What is measured, and what is judged."""
    return {
        'metrics': [metric._asdict() for metric in task.metrics],
        'score': task.score,
        'cost_metrics': [metric._asdict() for metric in (*task.cost_metrics, *COMPRESSION)],
    }


def teachers(measured: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Metrics and costs of teachers, and what they say of an example, from what `examine` left of each."""
    return {
        'teachers': {
            key: {
                'metrics': {name: value for name, value in teacher.items() if name not in NOT_METRICS},
                'cost': {name: teacher[name] for name in COST if name in teacher} or None,
            }
            for key, teacher in measured.items()
        },
        'exhibits': {key: teacher[EXHIBIT] for key, teacher in measured.items() if teacher.get(EXHIBIT)},
    }


def provenance(
    config: Any,
    data_checksum: str | None,
    seconds: Mapping[str, float],
    command: str,
    earlier: Mapping[str, Mapping[str, str]],
) -> dict[str, Any]:
    """What leads to the same numbers again; `earlier` code and libraries by stage, where they were others."""
    return {
        'config_hash': trees.digest(as_json(config)),
        'versions': versions(),
        'machine': machine(),
        'git_commit': git_commit(),
        'data_checksum': data_checksum,
        'seconds': dict(seconds),
        'command': command,
        'earlier': dict(earlier),
    }


def runs(context: Context, method: str, fits: Sequence[str], size: int, metric: Metric) -> Iterator[dict[str, Any]]:
    """The runs of one method and size, by seed: the chosen cells of its fits; `metric` says which step was best."""
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
            'best_step': None if failure else best_step(last['history'], cells[-1], metric),
            'history': history,
            'gradients': gradients,
            'cost': evaluated.get('costs', {}).get(method, evaluated['cost']),
            'teacher': 'teacher',
            'stages': tuple(fits),
            'chosen': last['chosen'][str(size)],
            'weights': f'{context.done["+".join(fits)].folder.name}/{CHECKPOINTS["last"]}, cell {cells[-1]}',
        }


def curves(chain: Sequence[Mapping[str, Any]], cells: Sequence[int]) -> tuple[list[Any], list[Any]]:
    """Validation and gradient statistics of one run over its steps, its fits joined.

    Args:
      chain: results of the fits, in order.
      cells: position of the run in the grid of each.
    """
    history, gradients, offset = [], [], 0
    for result, cell in zip(chain, cells, strict=True):
        for line in () if str(ALL) in result['chosen'] else result['history']:  # upstream it is of another task
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


def _by_seed(
    result: Mapping[str, Any], size: int, metrics: Mapping[str, np.ndarray]
) -> list[dict[str, float | None] | None]:
    """Metrics of the chosen cells of one size; None for those that diverged."""
    lost = {failure['cell'] for failure in result['failures']}
    return [
        None if cell in lost else {name: number(values[cell]) for name, values in metrics.items()}
        for cell in chosen_cells(result, size)
    ]


def _teacher(inputs: Teacher, context: Context, shown: bool = True) -> tuple[dict[str, Any], np.ndarray]:
    """Metrics on the test split, cost and, if it is shown, exhibit of the teacher; its logits (N, ..., K) on the test
    split."""
    task, dataset = context.task(inputs), context.datasets(inputs.data)
    if isinstance(inputs, GivenTeacher):
        exhibit = task.exhibit(dataset, context.given_logits(inputs, 'validation')) if shown else None
        return {**context.given_metrics(inputs, 'test'), EXHIBIT: exhibit}, context.given_logits(inputs, 'test')
    net, variables = context.teacher_net(inputs), context.teacher_variables(inputs)
    measure = context.evaluator(net, inputs, 'test', teacher=inputs)
    metrics = measure(jax.tree.map(lambda leaf: leaf[None], variables))
    exhibit = task.exhibit(dataset, context.logits(net, variables, inputs, 'validation')) if shown else None
    teacher = {
        **{name: float(values[0]) for name, values in metrics.items()},
        **costs(net, variables, inputs, context, made_smaller=inputs.members == 1 and changes.reached(inputs)),
        EXHIBIT: exhibit,
    }
    return teacher, context.logits(net, variables, inputs, 'test')
