"""The students of a finished run: what evaluation writes of them, and one of them in the hand."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kdjax import trees
from kdjax.dataset import Dataset
from kdjax.errors import UsageError, unknown
from kdjax.export import ABOUT, bundle, files
from kdjax.export.bundle import FORMAT, Student
from kdjax.export.formats import named as known_formats
from kdjax.metrics import Metric
from kdjax.resolve import resolve
from kdjax.study.recipe import build
from kdjax.study.recipe.context import Context
from kdjax.study.recipe.inputs import TrainedStudents, plain
from kdjax.study.recipe.pretrained import VOCABULARIES
from kdjax.study.recipe.recipe import DataSource
from kdjax.study.recipe.stages import CHECKPOINTS, best_step, chosen_cells, validation_score
from kdjax.train import storage
from kdjax.train.checkpoint import load_variables
from kdjax.train.storage import ARTIFACT
from kdjax.version import __version__

STUDENTS = 'students.json'  # in the folder of an evaluation


def described(shared: TrainedStudents, context: Context) -> dict[str, Any]:
    """What is known of the students of a run or of a grid, all of which read the same; JSON-able."""
    dataset, task = context.datasets(shared.data), context.task(shared)
    accepted = inspect.signature(resolve('kdjax.nets', shared.student.net, 'network')).parameters
    told = [name for name in dataset.facts if name in accepted and name not in shared.student.args]
    reads_words = shared.column == 'inputs' and {'words', 'vocabulary'} <= set(dataset.facts)
    kept = {*told, *(('words', 'vocabulary') if reads_words else ()), *({*VOCABULARIES} & {*dataset.facts})}
    facts = {name: dataset.facts[name] for name in kept}
    column = dataset.splits['test'].column(shared.column)
    given = {} if shared.precision == 'float32' else {'precision': shared.precision}
    return {
        'format': FORMAT,
        'kdjax': __version__,
        'network': {
            'net': shared.student.net,
            'args': plain({**build.told_by_task(shared.student.net, task, dataset), **shared.student.args, **given}),
            'told': told,
        },
        'task': plain(shared.task),
        'classes': list(dataset.classes),
        'facts': plain(facts),
        'preprocess': plain(shared.data.preprocess),
        'column': shared.column,
        'inputs': _inputs(column, shared.column in dataset.padded),
        'text': _text(facts['words'], shared) if reads_words else None,
        'data': {**plain({'source': shared.data.source, 'args': dict(shared.data.args)}),
                 'checksum': context.datasets.checksum(shared.data)},
        'license': '',
    }  # fmt: skip


def _inputs(column: Any, padded: bool) -> dict[str, Any] | None:
    """How an example is stored; None of one that is several arrays."""
    if not hasattr(column, 'dtype'):
        return None
    return {'shape': list(column.shape[1:]), 'dtype': str(column.dtype), 'padded': padded}


def _text(words: Any, shared: TrainedStudents) -> dict[str, Any]:
    """How a sentence becomes ids: a vocabulary without a capital is one of texts in lower case."""
    lower = not any(word != word.lower() for word in words)
    return {'lower': lower, 'longest': int(shared.data.args.get('longest', 0))}


def load(path: str | Path, method: str = '', *, transfer_size: int = 0, seed: int | None = None,
         checkpoint: str = 'last', point: Mapping[str, Any] | None = None) -> Student:  # fmt: skip
    """The student of a finished run, of a sweep, or of a folder that `Student.save` or `--mode=export` wrote.

    Args:
      path: a workdir, such as 'runs/digits', or the folder of an export.
      method: whose student; that which the run was accepted by, if left out.
      transfer_size: of its transfer set; the largest that it has, if left out.
      seed: of its run; that with the best score in validation, if left out.
      checkpoint: 'last', or the 'best' step in validation.
      point: of a sweep, values on its axes: {'terms.soft.temperature': 4.0}. Of all runs that are as asked for, in a
        sweep that is the one with the best score in validation.

    Raises:
      UsageError: there is no finished run, no such method, size or seed, or a file is not as it was written.
    """
    folder = Path(path)
    if (folder / ABOUT).is_file():
        student = bundle.read(folder)
        asked = {'method': method, 'transfer_size': transfer_size or None, 'seed': seed, **(point or {})}
        _check_asked(folder, student.about, asked | ({'checkpoint': checkpoint} if checkpoint != 'last' else {}))
        return student
    if checkpoint not in CHECKPOINTS:
        raise unknown('checkpoint', checkpoint, CHECKPOINTS)
    if (folder / 'report' / STUDENTS).is_file():
        asked = {'method': method, 'transfer_size': transfer_size, 'seed': seed}
        return _of_sweep(folder, {**asked, **(point or {})}, checkpoint)
    if point:
        raise UsageError(f'{folder} is no sweep, so there are no axes to choose {dict(point)} on')
    known, said = _known(folder)
    method = method or said['judged']
    if method not in known['ends']:
        raise unknown('method', method, known['ends'], f' of {folder}')
    end = folder / known['ends'][method]
    result = _result(end)
    sizes = [int(size) for size in result['chosen']]
    size = transfer_size or max(sizes)
    if size not in sizes:
        raise UsageError(f'transfer_size must be one of {sizes}, got {size}')
    task = build.task(build.TaskSpec(known['task']['kind'], known['task']['args']))
    cell = best_cell(result, size, task.judged, seed, checkpoint)
    if cell is None:
        raise UsageError(f'all runs of {end} of {size} examples diverged')
    place = chosen_cells(result, size).index(cell)
    evaluated = _result(folder / said['evaluated'])
    about = {name: value for name, value in known.items() if name not in ('ends', 'heads', 'changes')}
    about |= {'head': known['heads'][method]} if method in known.get('heads', {}) else {}
    about |= {'changes': known['changes'][method]} if method in known.get('changes', {}) else {}
    score = validation_score(result)[cell]
    about |= {
        'method': method,
        'seed': result['cells'][cell]['seed'],
        'candidate': result['cells'][cell]['candidate'],
        'transfer_size': size,
        'checkpoint': checkpoint,
        'step': _step(result, cell, task.judged, checkpoint),
        'metrics': {
            'validation': {task.score: score} if checkpoint == 'last' else {},
            'test': evaluated['metrics'][method][str(size)][checkpoint][place],
        },
    }
    variables = trees.take(load_variables(end / CHECKPOINTS[checkpoint]), cell)
    return bundle.build(about, {**{'params': {}, 'stats': {}}, **variables})


def _of_sweep(folder: Path, asked: Mapping[str, Any], checkpoint: str) -> Student:
    """The best in validation of the runs of a sweep that are as asked for; what is empty is left open."""
    listed = storage.read_json(folder / 'report' / STUDENTS, 'report the sweep again: --mode=report', runs=list)
    runs = listed['runs']
    for name, value in asked.items():
        if value in ('', None) or (name == 'transfer_size' and not value):
            continue
        values = list(dict.fromkeys(run['point'].get(name) for run in runs))
        runs = [run for run in runs if run['point'].get(name) == value]
        if not runs:
            raise UsageError(f'{name} must be one of {values}, those of the runs of {folder}, got {value!r}')
    place = folder / runs[0]['folder']
    known = storage.read_json(storage.intact(place / STUDENTS), storage.of_stage(place), network=dict)
    metric = build.task(build.TaskSpec(known['task']['kind'], known['task']['args'])).judged
    best = max(runs, key=lambda run: metric.sign * run['validation'])
    place = folder / best['folder']
    about = storage.read_json(storage.intact(place / STUDENTS), storage.of_stage(place), network=dict)
    about |= {
        'method': best['method'],
        'seed': best['seed'],
        'candidate': best['point'],
        'transfer_size': best['transfer_size'],
        'checkpoint': checkpoint,
        'step': best['step'][checkpoint],
        'metrics': {'validation': {metric.name: best['validation']} if checkpoint == 'last' else {},
                    'test': best['test'][checkpoint]},
    }  # fmt: skip
    variables = trees.take(load_variables(place / CHECKPOINTS[checkpoint]), best['cell'])
    return bundle.build(about, {**{'params': {}, 'stats': {}}, **variables})


def of_grid(folder: Path, cell: int) -> Student:
    """A student of a grid of a sweep, of which is known what its network is, and no more."""
    about = storage.read_json(storage.intact(folder / STUDENTS), storage.of_stage(folder), network=dict)
    about |= {'method': '', 'seed': 0, 'candidate': {}, 'transfer_size': 0, 'step': 0, 'metrics': {}}
    variables = trees.take(load_variables(folder / CHECKPOINTS['last']), cell)
    return bundle.build(about, {'params': {}, 'stats': {}, **variables})


def _check_asked(folder: Path, about: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Raises UsageError where the student of an exported folder is not the one asked for; '' and None ask none."""
    held = {**about.get('candidate', {}), **about}
    for name, value in asked.items():
        if value not in ('', None) and held.get(name) != value:
            raise UsageError(f'{folder} is the export of one student, whose {name} is {held.get(name)!r}, got '
                             f'{value!r}; ask the workdir for others')  # fmt: skip


def _known(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the last run of a workdir says of its students, and what its report says."""
    if not (folder / 'report' / ARTIFACT).is_file():
        raise UsageError(f'{folder} has no finished run and no {ABOUT}; train one first: --mode=run')
    said = _result(folder / 'report')
    known = folder / said.get('evaluated', 'report') / STUDENTS
    if 'evaluated' not in said:
        raise UsageError(f'{folder} is of an earlier version: delete {folder / "report"} and its evaluate-* and run '
                         'it again, which trains nothing')  # fmt: skip
    storage.intact(known)
    return storage.read_json(known, storage.of_stage(known.parent), ends=dict, network=dict), said


def _result(folder: Path) -> Any:
    artifact = storage.read_json(folder / ARTIFACT, storage.of_stage(folder), result=dict)
    return artifact['result']


def best_cell(
    result: Mapping[str, Any], size: int, metric: Metric, seed: int | None = None, checkpoint: str = 'last'
) -> int | None:
    """Position of the run of a seed, or of the one with the best score in validation; None if all diverged."""
    lost = {failure['cell'] for failure in result['failures']}
    cells = {result['cells'][cell]['seed']: cell for cell in chosen_cells(result, size) if cell not in lost}
    if not cells:
        return None
    if seed is not None:
        if seed not in cells:
            raise UsageError(f'seed must be one of {sorted(cells)}, got {seed}')
        return cells[seed]

    def merit(cell: int) -> float:
        history = [line[metric.name][cell] for line in result['history']]
        values = history if checkpoint == 'best' else [validation_score(result)[cell]]
        return max((metric.sign * value for value in values if value is not None), default=-np.inf)

    return max(cells.values(), key=merit)


def _step(result: Mapping[str, Any], cell: int, metric: Metric, checkpoint: str) -> int:
    if checkpoint == 'last':
        return result['history'][-1]['step']
    return best_step(result['history'], cell, metric)


def export(workdir: Path, method: str, transfer_size: int, seed: int | None, to: str, formats: str = '') -> str:
    """Writes a student of a finished run to a folder, and says how it is loaded.

    Args:
      workdir: of the run.
      method, transfer_size, seed: as of `load`.
      to: the folder.
      formats: of further files, 'onnx,litert-int8'; '' for none.

    Raises:
      UsageError: as `load` and `export.files.export`; or no folder was given, or the data are not those of the run.
    """
    if not to:
        raise UsageError('--mode=export needs a folder to write to: --to=DIR')
    names = known_formats(formats)
    student = load(workdir, method, transfer_size=transfer_size, seed=seed)
    chosen = f'{student.method!r}, {student.transfer_size} examples, seed {student.seed}'
    if not names:
        student.save(to)
        return f'student of {chosen}: {Path(to)}\n{lines(Path(to), "")}'
    told = files.export(student, Path(to), names, dataset_of(student)).about['files']
    rows = '\n'.join(_line(name, one, student.task.judged) for name, one in told.items())
    return f'student of {chosen}: {Path(to)}\n{rows}\n{lines(Path(to), "")}'


def dataset_of(student: Student) -> Dataset:
    """The data that a student was trained on.

    Raises:
      UsageError: they are not there, or have changed.
    """
    data = student.about['data']
    args = {name: tuple(value) if isinstance(value, list) else value for name, value in data['args'].items()}
    found = build.dataset(DataSource(data['source'], args, student.about['preprocess']))
    if found.checksum() != data['checksum']:
        raise UsageError(f'the data of {data["source"]!r} are not those that the student was trained on, of checksum '
                         f'{data["checksum"]}')  # fmt: skip
    return found


def _line(name: str, told: Mapping[str, Any], judged: Metric) -> str:
    """What is said of a file."""
    apart = '' if told['equal'] else f': NOT equal, {told["agreement"]["top1"]:.2%} of decisions are alike'
    score = f'{judged.title} {told["test"][judged.name]:.4g}' if judged.name in told['test'] else ''
    return f'{name}: {told["file"]}, {told["bytes"] / 1024:.1f} kB, {score} on the test split{apart}'


def lines(place: Path, method: str) -> str:
    """The three lines of Python that load a student and ask it."""
    named = f', {method!r}' if method else ''
    return f'import kdjax\nstudent = kdjax.load({str(place)!r}{named})\nstudent.predict(inputs)'
