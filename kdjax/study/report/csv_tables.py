"""A sweep as flat tables for other programs: one line per arm, one line per run; shares, not percent."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kdjax.study.report import comparison
from kdjax.study.report.document import Table, TableCell

Row = Mapping[str, Any]

COUNTS = ('runs', *comparison.STATES, 'n')


def of_arms(found: Row) -> Table:
    """One line per arm of `found`, which is what `sweep_report.summarise` returns."""
    batches = _batches(row['cost'] for row in found['arms'])
    return _table([_arm(row, found['axes'], batches) for row in found['arms']])


def of_runs(results: Row) -> Table:
    """One line per record of a sweep's results."""
    batches = _batches(record['cost'] for record in results['records'])
    return _table([_run(record, comparison.axes(results), batches) for record in results['records']])


def _table(lines: Sequence[Row]) -> Table:
    header = tuple(lines[0]) if lines else ()
    rows = tuple(tuple(TableCell(str(value), value) for value in line.values()) for line in lines)
    return Table('', 'l' * len(header), header, rows)


def _arm(row: Row, axes: Sequence[str], batches: Sequence[str]) -> dict[str, Any]:
    gap = row['gap_recovered']
    line = {'arm': row['name'], **{axis: row['point'].get(axis) for axis in axes}}
    line |= {'transfer_size': row['transfer_size'], 'is_baseline': row['is_baseline']}
    line |= {count: row[count] for count in COUNTS}
    for checkpoint in comparison.CHECKPOINTS:
        for metric in comparison.METRICS:
            line |= _estimate(f'{checkpoint}_{metric}', row[checkpoint][metric], ('mean', 'sd', 'low', 'high'))
    difference = row['difference'] or {}
    line |= {'best_step': row['best_step'], **_estimate('difference', difference, ('mean', 'low', 'high', 'n'))}
    line |= {key: difference.get(key) for key in ('p', 'p_holm', 'verdict', 'detectable', 'baseline')}
    line |= _estimate('gap_recovered', gap or {}, ('value', 'low', 'high'))
    return {**line, **_cost(row['cost'], batches), 'teacher': row['teacher']}


def _run(record: Row, axes: Sequence[str], batches: Sequence[str]) -> dict[str, Any]:
    place, failure, best = (
        {**record['point'], 'method': record['method']},
        record['failure'] or {},
        record['best'] or {},
    )
    return {
        **{axis: record['transfer_size'] if axis == 'transfer_size' else place.get(axis) for axis in axes},
        'transfer_size': record['transfer_size'],
        'seed': record['seed'],
        'status': record['status'],
        'failure_step': failure.get('step'),
        'failure_term': failure.get('term'),
        **{
            f'{checkpoint}_{metric}': (record[checkpoint] or {}).get(metric)
            for checkpoint in comparison.CHECKPOINTS
            for metric in comparison.METRICS
        },
        'best_step': best.get('step'),
        **_cost(record['cost'], batches),
        'teacher': record['teacher'],
    }


def _estimate(name: str, found: Row, parts: Sequence[str]) -> dict[str, Any]:
    low, high = found.get('ci95') or (None, None)
    known = {**found, 'low': low, 'high': high}
    return {f'{name}_{part}': known.get(part) for part in parts}


def _cost(cost: Row | None, batches: Sequence[str]) -> dict[str, Any]:
    known = cost or {}
    times = {f'latency_ms_{batch}': known.get('latency_ms', {}).get(batch) for batch in batches}
    return {**{key: known.get(key) for key in ('params', 'bytes', 'flops')}, **times}


def _batches(costs: Iterable[Row | None]) -> list[str]:
    return list(dict.fromkeys(batch for cost in costs if cost for batch in cost['latency_ms']))
