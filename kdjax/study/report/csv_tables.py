"""A study as flat tables for other programs: one line per arm, one line per run; values as stored, shares in [0, 1]."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from kdjax.study.report import records
from kdjax.study.report.document import Table, TableCell
from kdjax.study.report.records import Failure, GapRecovered, PairedDifference, Results, Study, Summary

PLAIN = ('point', 'counts', 'cost', 'more')  # their fields are columns without their own name
CURVES = ('history', 'gradients', 'values')
OF_DIFFERENCE = ('p', 'p_holm', 'verdict', 'detectable', 'baseline')
NAMES = {'name': 'arm', **{f'difference_{name}': name for name in OF_DIFFERENCE}}
EMPTY = {
    **{name: dict.fromkeys(field.name for field in dataclasses.fields(record)) for name, record in
       (('difference', PairedDifference), ('gap_recovered', GapRecovered), ('failure', Failure))},
    'cost': dict.fromkeys(('params', 'bytes', 'flops')),
}  # fmt: skip


def of_arms(summary: Summary) -> Table:
    """One line per arm."""
    return _table([records.to_json(arm) for arm in summary.rows], summary)


def of_runs(results: Results) -> Table:
    """One line per run, without its curves; every digit."""
    runs = [dataclasses.replace(run, history=(), gradients=()) for run in results.runs]
    return _table([dataclasses.asdict(run) for run in runs], results)


def _table(rows: Sequence[Mapping[str, Any]], study: Study) -> Table:
    """A column for every value of any row; empty where a row has none."""
    empty = {**EMPTY, **dict.fromkeys(records.CHECKPOINTS, dict.fromkeys(study.by_name))}
    lines = [_flat(row, empty) for row in rows]
    columns = list(dict.fromkeys(name for line in sorted(lines, key=len, reverse=True) for name in line))
    cells = tuple(tuple(TableCell(str(line.get(name)), line.get(name)) for name in columns) for line in lines)
    return Table('', 'l' * len(columns), tuple(NAMES.get(name, name) for name in columns), cells)


def _flat(row: Mapping[str, Any], empty: Mapping[str, Any], before: str = '') -> dict[str, Any]:
    """Nested fields under joined names, 'last_accuracy_mean'; an interval as its two ends."""
    line: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(inner := empty.get(name) if value is None else value, Mapping):
            line |= _flat(inner, empty, before if name in PLAIN else f'{before}{name}_')
        elif name == 'ci95':
            line |= dict(zip((f'{before}low', f'{before}high'), value or (None, None), strict=True))
        elif name not in CURVES:
            line[before + name] = ' '.join(value) if isinstance(value, list | tuple) else value
    return line
