"""What a sweep has found so far, from what its grids left on disk: finished runs, failed ones, those under way."""

import functools
import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdjax import trees
from kdjax.study.recipe.context import ARTIFACT
from kdjax.study.recipe.inputs import plain
from kdjax.study.report import published
from kdjax.study.sweep import grids
from kdjax.study.sweep.expand import FitTask, Run, Sweep
from kdjax.train import ledger

ROOT = Path(__file__).resolve().parents[3]


def results(planned: Sweep, workdir: Path, command: str) -> dict[str, Any]:
    """Everything that a sweep's report is made of; at any time, also half-way.

    Args:
      planned: the sweep.
      workdir: where it was run.
      command: how the user called.
    """
    index = grids.ResultIndex(workdir)
    index.refresh()
    under_way = _under_way(workdir)
    costs = _costs(planned, index)
    judged = {judge: _artifact(workdir, planned, judge) for judge in dict.fromkeys(planned.judges.values())}
    teachers = {judge: found for judge, found in judged.items() if found}
    config = plain(planned.config)
    return {
        'title': planned.config.title,
        'baseline': planned.config.baseline,
        'axes': list(planned.axes),
        'records': [
            {
                **_record(run, index, under_way, costs),
                'teacher': judge if (judge := _judge(planned, run)) in teachers else None,
            }
            for run in planned.runs
        ],
        'teachers': teachers,
        'expected': published.load(ROOT / planned.config.expected) if planned.config.expected else None,
        'provenance': {
            'config': config,
            'config_hash': trees.digest(config),
            'versions': ledger.versions(),
            'machine': ledger.machine(),
            'git_commit': ledger.git_commit(),
            'data_checksum': next((place.grid['data_checksum'] for place in index.places.values()), None),
            'seconds': _seconds(planned, workdir, index),
            'command': command,
        },
    }


def _judge(planned: Sweep, run: Run) -> str | None:
    return planned.judges.get(run.cells[-1].key)


def _record(
    run: Run,
    index: grids.ResultIndex,
    under_way: Mapping[str, list[dict[str, Any]]],
    costs: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    places = [index.places.get(cell.key) for cell in run.cells]
    last = places[-1]
    failure = next((place.record['failure'] for place in places if place and place.record['failure']), None)
    begun = any(place is not None or cell.key in under_way for place, cell in zip(places, run.cells, strict=True))
    status = 'failed' if failure else 'done' if last else 'running' if begun else 'missing'
    done = last is not None and not failure
    return {
        'point': dict(run.point),
        'method': run.method,
        'seed': run.seed,
        'transfer_size': run.transfer_size,
        'status': status,
        'failure': failure,
        'history': _history(run, index, under_way),
        'last': last.record['last'] if last and done else None,
        'best': last.record['best'] if last and done else None,
        'cost': costs.get(_student(run.cells[-1])),
        'anatomy': last.record.get('anatomy', []) if last else [],
    }


def _history(
    run: Run, index: grids.ResultIndex, under_way: Mapping[str, list[dict[str, Any]]]
) -> list[dict[str, float | None]]:
    """Validation by step, the fits of the chain joined."""
    joined, offset = [], 0
    for cell in run.cells:
        place = index.places.get(cell.key)
        lines = place.record['history'] if place else under_way.get(cell.key, [])
        joined += [{**line, 'step': offset + line['step']} for line in lines]
        offset += cell.fit.steps
    return joined


def _under_way(workdir: Path) -> dict[str, list[dict[str, Any]]]:
    """Validation so far of every cell whose grid was begun and is not finished, from its ledger."""
    found = {}
    for manifest in workdir.glob(f'{grids.NAME}-*/manifest.json'):
        if (manifest.parent / ARTIFACT).exists():
            continue
        lines = [line for line in ledger.read(manifest.parent / 'ledger.jsonl') if line['kind'] == 'validation']
        for position, key in enumerate(json.loads(manifest.read_text())['reads']['cells']):
            found[key] = [
                {'step': line['step'], 'accuracy': line['accuracy'][position], 'nll': line['nll'][position]}
                for line in lines
            ]
    return found


def _costs(planned: Sweep, index: grids.ResultIndex) -> dict[str, dict[str, Any]]:
    """The cost of every student, by what it is; latency as the median over the grids that measured it."""
    measured: dict[str, dict[Path, Mapping[str, Any]]] = {}
    for cell in planned.cells.values():
        place = index.places.get(cell.key)
        if place:
            measured.setdefault(_student(cell), {})[place.folder] = place.grid['cost']
    found = {}
    for student, by_grid in measured.items():
        first, *_ = costs = list(by_grid.values())
        latency = {size: statistics.median(cost['latency_ms'][size] for cost in costs) for size in first['latency_ms']}
        found[student] = {**first, 'latency_ms': latency}
    return found


def _student(cell: FitTask) -> str:
    data = cell.inputs.data
    return _digest(json.dumps(plain([cell.inputs.student, data.source, data.args]), sort_keys=True))


@functools.cache
def _digest(student: str) -> str:
    return trees.digest(student)


def _artifact(workdir: Path, planned: Sweep, key: str) -> dict[str, Any] | None:
    path = workdir / planned.stages[key].folder / ARTIFACT
    return json.loads(path.read_text())['result'] if path.exists() else None


def _seconds(planned: Sweep, workdir: Path, index: grids.ResultIndex) -> dict[str, float]:
    """Seconds that networks which teach, and grids, took in all."""
    stages = [workdir / stage.folder / ARTIFACT for stage in planned.stages.values()]
    folders = {index.places[key].folder for key in planned.cells if key in index.places}
    return {
        name: round(sum(json.loads(path.read_text())['seconds'] for path in paths if path.exists()), 1)
        for name, paths in (('teachers', stages), ('grids', [folder / ARTIFACT for folder in sorted(folders)]))
    }
