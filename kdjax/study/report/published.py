"""What a paper reports, beside what came out: the format of experiments/*/expected.json, and the comparison.

    {"source": "Hinton, Vinyals, Dean 2015, table 1",
     "rows": [{"point": {"method": "kd", "temperature": 4}, "metric": "accuracy", "value": 0.7333,
               "sd": 0.002, "n": 5, "checkpoint": "last", "certainty": "read in source", "note": "five runs"}]}

`point` names axes of the sweep with their values, as few as tell one arm from the others; 'method' and 'transfer_size'
may always be named. `value` and `sd` (of one run) are in the unit of the metric: shares, not percent; `sd`, `n` and
`note` may be left out or null. `checkpoint` says whose weights the paper reports: those of the last step, or those that
were best in validation. `certainty` says where the number comes from: "read in source" (the paper itself was
read), "secondary" (somebody else quotes it) or "recalled" (from memory). A recalled number is shown and never tested.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kdjax.errors import UsageError, unknown
from kdjax.study.report import formatting, statistics
from kdjax.study.report.comparison import CHECKPOINTS, METRICS, Arm, by_seed

Row = Mapping[str, Any]

READ, SECONDARY, RECALLED = CERTAINTIES = ('read in source', 'secondary', 'recalled')
SHARES = ('accuracy', 'ece', 'agreement')
NEEDED = ('point', 'metric', 'value', 'checkpoint', 'certainty')
OPTIONAL: Row = {'sd': None, 'n': None, 'note': ''}
UNJUDGED = 'shown, not judged'


def load(path: Path) -> dict[str, Any]:
    """The checked content of an expected.json.

    Raises:
      UsageError: there is no such file, it is not JSON, or it is not of this format; names the row.
    """
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise UsageError(f'cannot read the expected numbers in {path}: {error.strerror}') from error
    except json.JSONDecodeError as error:
        raise UsageError(f'{path} is not JSON: {error}') from error
    return checked(content, str(path))


def checked(content: Any, name: str) -> dict[str, Any]:
    """`content` with every optional field filled in. Args: what JSON held; what to call it in errors.

    Raises:
      UsageError: as `load`.
    """
    if not isinstance(content, Mapping) or set(content) != {'source', 'rows'} or not isinstance(content['rows'], list):
        raise UsageError(f"{name} must be an object with 'source' and 'rows', a list")
    if not isinstance(content['source'], str) or not content['source'].strip():
        raise UsageError(f"{name}: 'source' must say where the numbers are from, not {content['source']!r}")
    rows = [_row(row, f'{name}, row {place}') for place, row in enumerate(content['rows'], 1)]
    return {'source': content['source'], 'rows': rows}


def compared(expected: Row, arms: Sequence[Arm]) -> list[dict[str, Any]]:
    """Each row with the arm that it describes: 'arm', 'ours' and 'difference' (None where there is none), 'verdict'.

    Args:
      expected: as `checked` returns it.
      arms: of the sweep.
    """
    return [_compared(row, [arm for arm in arms if _describes(row['point'], arm)]) for row in expected['rows']]


def _compared(row: Row, arms: Sequence[Arm]) -> dict[str, Any]:
    if len(arms) != 1:
        verdict = f'{len(arms)} arms match' if arms else 'no arm matches'
        return {**row, 'arm': None, 'ours': None, 'difference': None, 'verdict': verdict}
    values = by_seed(arms[0], row['checkpoint'], row['metric']).values()
    ours, found = statistics.summary(values), statistics.against(values, row['value'], row['sd'], row['n'])
    known = row['certainty'] != RECALLED
    return {
        **row,
        'arm': arms[0].name,
        'ours': {'mean': ours.mean, 'sd': ours.sd, 'ci95': ours.interval, 'n': ours.n},
        'difference': {
            'mean': found.difference,
            'ci95': found.interval if known else None,
            'p': found.p if known else None,
        },
        'verdict': found.verdict if known else UNJUDGED,
    }


def _describes(point: Row, arm: Arm) -> bool:
    return all(axis in arm.place and _same(value, arm.place[axis]) for axis, value in point.items())


def _same(left: Any, right: Any) -> bool:
    return left == right or formatting.value(left) == formatting.value(right)  # a sweep may show the number 4 as '4'


def _row(row: Any, where: str) -> dict[str, Any]:
    if not isinstance(row, Mapping):
        raise UsageError(f'{where} must be an object, not {row!r}')
    for field in row:
        if field not in (*NEEDED, *OPTIONAL):
            raise unknown('field', field, [*NEEDED, *OPTIONAL], f' in {where}')
    for field in NEEDED:
        if field not in row:
            raise UsageError(f'{where} lacks {field!r}; a row has {", ".join(NEEDED)}')
    filled = {**OPTIONAL, **row}
    for field, choices in (('metric', METRICS), ('checkpoint', CHECKPOINTS), ('certainty', CERTAINTIES)):
        if filled[field] not in choices:
            raise unknown(field, str(filled[field]), choices, f' in {where}')
    _check_point(filled['point'], where)
    _check_numbers(filled, where)
    if not isinstance(filled['note'], str):
        raise UsageError(f"{where}: 'note' must be text, not {filled['note']!r}")
    return filled


def _check_point(point: Any, where: str) -> None:
    if not isinstance(point, Mapping) or not point:
        raise UsageError(f"{where}: 'point' must name at least one axis and its value, not {point!r}")
    for axis, value in point.items():
        if not isinstance(value, str | int | float):
            raise UsageError(f'{where}: {axis!r} must be a number or text, not {value!r}')


def _check_numbers(row: Row, where: str) -> None:
    top = 1 if row['metric'] in SHARES else math.inf
    if not _number(row['value']) or not 0 <= row['value'] <= top:
        unit = 'a share in [0, 1], not percent' if top == 1 else 'not negative'
        raise UsageError(f'{where}: the value of {row["metric"]} must be {unit}; it is {row["value"]!r}')
    if row['sd'] is not None and not (_number(row['sd']) and 0 <= row['sd'] < top):
        raise UsageError(f"{where}: 'sd' must be null or not negative, in the unit of the value, not {row['sd']!r}")
    if row['n'] is not None and not (type(row['n']) is int and row['n'] >= 1):
        raise UsageError(f"{where}: 'n' must be null or a whole number of runs, not {row['n']!r}")


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
