"""The results of a sweep so far, from what its grids left on disk: finished runs, failed ones, those under way."""

import dataclasses
import functools
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from kdjax import trees
from kdjax.errors import shown, unknown
from kdjax.study.recipe import build, changes, evaluation, execute
from kdjax.study.recipe.inputs import plain as as_json
from kdjax.study.recipe.resolve import task_of
from kdjax.study.recipe.stages import CHECKPOINTS
from kdjax.study.report import published, records
from kdjax.study.sweep import grids
from kdjax.study.sweep.expand import FitTask, Run, Sweep
from kdjax.train import ledger
from kdjax.train.storage import ARTIFACT

ALWAYS = ('method', 'transfer_size')  # axes of every run
ROOT = Path(__file__).resolve().parents[3]


def results(planned: Sweep, workdir: Path, command: str) -> records.Results:
    """Everything that a sweep's report is made of; at any time, also half-way.

    Args:
      planned: the sweep.
      workdir: where it was run.
      command: how the user called.
    """
    index = grids.ResultIndex(workdir)
    index.refresh()
    under_way, costs = _under_way(workdir), _costs(planned, index)
    judged = {judge: _artifact(workdir, planned, judge) for judge in dict.fromkeys(planned.judges.values())}
    measured = {judge: teacher for judge, teacher in judged.items() if teacher}
    checksum = next((place.grid['data_checksum'] for place in index.places.values()), None)
    seconds = _seconds(planned, workdir, index)
    plain = {
        'title': planned.config.title,
        'baseline': planned.config.baseline,
        'axes': planned.axes,
        'runs': [_run(run, index, under_way, costs, _judge(planned, run, measured)) for run in planned.runs],
        **evaluation.measures(build.task(task_of(planned.config))),
        'balance': next((teacher.get('balance', {}) for teacher in measured.values()), {}),
        **evaluation.teachers(measured),
        'provenance': evaluation.provenance(
            planned.config, checksum, seconds, command, _earlier(planned, workdir, index)
        ),
        'config': as_json(planned.config),
    }
    return dataclasses.replace(records.from_json(records.Results, plain), published=paper(planned.config, planned.axes))


def students(planned: Sweep, workdir: Path) -> list[dict[str, Any]]:
    """Where the student of every run lies that is done, and what it is worth, for `recipe.students.load`."""
    index = grids.ResultIndex(workdir)
    index.refresh()
    listed = []
    for run in planned.runs:
        place = index.places.get(run.cells[-1].key)
        if place is None or place.record['failure']:
            continue
        record, score = place.record, build.task(run.cells[-1].inputs.task).score
        last, best = record['last'], dict(record['best'])
        steps = {'last': record['history'][-1]['step'], 'best': best.pop('step')}
        listed.append({
            'method': run.method, 'seed': run.seed, 'transfer_size': run.transfer_size,
            'point': {**run.point, 'method': run.method, 'seed': run.seed, 'transfer_size': run.transfer_size},
            'folder': place.folder.name, 'cell': place.position, 'step': steps, 'test': {'last': last, 'best': best},
            'validation': record['history'][-1][score],
        })  # fmt: skip
    return listed


def paper(config: ConfigDict, axes: Sequence[str] = ()) -> records.Published | None:
    """The published numbers that a config names.

    Args:
      config: of the run or the sweep.
      axes: of the sweep; numbers are of points on them.

    Raises:
      UsageError: they are not of the format of `published`, or of another axis.
    """
    if not config.expected:
        return None
    found = published.load(ROOT / config.expected, build.task(task_of(config)).metrics)
    for place, row in enumerate(found.rows, 1):
        for axis in row.point:
            if axis not in (*axes, *ALWAYS):
                raise unknown('axis', axis, (*axes, *ALWAYS), f' in {shown(config.expected)}, row {place}')
    return found


def _judge(planned: Sweep, run: Run, measured: Mapping[str, Any]) -> str | None:
    """Key of the teacher that the answers of a run are held against, once it is measured."""
    judge = planned.judges.get(run.cells[-1].key)
    return judge if judge in measured else None


def _run(
    run: Run,
    index: grids.ResultIndex,
    under_way: Mapping[str, list[dict[str, Any]]],
    costs: Mapping[str, Mapping[str, Any]],
    teacher: str | None,
) -> dict[str, Any]:
    """A `records.Run` as plain data."""
    places = [index.places.get(cell.key) for cell in run.cells]
    last = places[-1]
    failure = next((place.record['failure'] for place in places if place and place.record['failure']), None)
    begun = any(place is not None or cell.key in under_way for place, cell in zip(places, run.cells, strict=True))
    status = 'failed' if failure else 'done' if last else 'running' if begun else 'missing'
    tested = last.record if last and not failure else {'last': None, 'best': None}
    best = dict(tested['best'] or {})
    return {
        'method': run.method,
        'seed': run.seed,
        'transfer_size': run.transfer_size,
        'point': dict(run.point),
        'status': status,
        'failure': failure,
        'last': tested['last'],
        'best_step': best.pop('step', None),
        'best': best or None,
        'history': _history(run, index, under_way),
        'gradients': last.record.get('anatomy', []) if last else [],
        'cost': _sized(costs.get(_student(run.cells[-1])), last.record if last else {}),
        'teacher': teacher,
        'stages': run.cells[-1].inputs.chain,
        'chosen': {},
        'weights': f'{last.folder.name}/{CHECKPOINTS["last"]}, cell {last.position}' if last else '',
    }


def _sized(cost: Mapping[str, Any] | None, record: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What a student costs, with what zeros, bits and ranks of its own make of it, and what a step of its fit takes."""
    cost, own = record.get('cost', cost), {**record.get('size', {}), **record.get('parts', {})}
    return {**cost, 'more': {**cost.get('more', {}), **own}} if cost and own else cost


def _history(run: Run, index: grids.ResultIndex, under_way: Mapping[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Validation by step, the fits of the chain joined."""
    joined, offset = [], 0
    for cell in run.cells:
        place = index.places.get(cell.key)
        lines = place.record['history'] if place else under_way.get(cell.key, [])
        for line in () if cell.fit.upstream else lines:  # what is measured there is of another task
            values = {name: value for name, value in line.items() if name != 'step'}
            joined.append({'step': offset + line['step'], 'metrics': values})
        offset += cell.fit.steps
    return joined


def _under_way(workdir: Path) -> dict[str, list[dict[str, Any]]]:
    """Validation so far of every cell whose grid was begun and is not finished, from its ledger."""
    by_cell = {}
    for manifest in workdir.glob(f'{grids.NAME}-*/manifest.json'):
        if (manifest.parent / ARTIFACT).exists():
            continue
        lines = [line for line in ledger.read(manifest.parent / 'ledger.jsonl') if line.get('kind') == 'validation']
        for position, key in enumerate(grids.cells_of(manifest)):
            by_cell[key] = [
                {name: of[position] if isinstance(of, list) else of for name, of in line.items() if name != 'kind'}
                for line in lines
            ]
    return by_cell


def _costs(planned: Sweep, index: grids.ResultIndex) -> dict[str, dict[str, Any]]:
    """The cost of every student, by what it is; latency as the median over the grids that measured it."""
    measured: dict[str, dict[Path, Mapping[str, Any]]] = {}
    for cell in planned.cells.values():
        place = index.places.get(cell.key)
        if place:
            measured.setdefault(_student(cell), {})[place.folder] = place.grid['cost']
    medians = {}
    for student, by_grid in measured.items():
        first, *_ = costs = list(by_grid.values())
        latency = {size: statistics.median(cost['latency_ms'][size] for cost in costs) for size in first['latency_ms']}
        medians[student] = {**first, 'latency_ms': latency}
    return medians


def _student(cell: FitTask) -> str:
    data, head = cell.inputs.data, cell.fit.head
    made = [changes.described(cell.inputs)] if changes.made(cell.inputs) else []
    known = [cell.inputs.student, data.source, data.args, *([head] if head else []), *made]
    return _digest(json.dumps(as_json(known), sort_keys=True))


@functools.cache
def _digest(student: str) -> str:
    return trees.digest(student)


def _artifact(workdir: Path, planned: Sweep, key: str) -> dict[str, Any] | None:
    path = workdir / planned.stages[key].folder / ARTIFACT
    return execute.read_artifact(path)['result'] if path.exists() else None


def _earlier(planned: Sweep, workdir: Path, index: grids.ResultIndex) -> dict[str, dict[str, str]]:
    """What differed in the code and the libraries of stages and grids of before, by their folders."""
    found = {workdir / stage.folder for stage in planned.stages.values()}
    found |= {index.places[key].folder for key in planned.cells if key in index.places}
    differing = {folder.name: execute.earlier(folder) for folder in sorted(found)}
    return {name: differs for name, differs in differing.items() if differs}


def _seconds(planned: Sweep, workdir: Path, index: grids.ResultIndex) -> dict[str, float]:
    """Seconds that networks which teach, and grids, took in all."""
    stages = [workdir / stage.folder / ARTIFACT for stage in planned.stages.values()]
    folders = {index.places[key].folder for key in planned.cells if key in index.places}
    return {
        name: round(sum(execute.read_artifact(path)['seconds'] for path in paths if path.exists()), 1)
        for name, paths in (('teachers', stages), ('grids', [folder / ARTIFACT for folder in sorted(folders)]))
    }
