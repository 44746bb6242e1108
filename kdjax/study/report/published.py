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

import dataclasses
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kdjax.errors import UsageError, said, shown, unknown
from kdjax.metrics import Metric
from kdjax.study.report import comparison, formatting, records, statistics
from kdjax.study.report.comparison import Group
from kdjax.study.report.records import CHECKPOINTS, METRICS, Published, PublishedNumber

READ, SECONDARY, RECALLED = CERTAINTIES = ('read in source', 'secondary', 'recalled')
NEEDED = ('point', 'metric', 'value', 'checkpoint', 'certainty')
FIELDS = (*NEEDED, 'sd', 'n', 'note')
UNJUDGED = 'shown, not judged'


def load(path: Path, metrics: Iterable[Metric] = METRICS) -> Published:
    """The numbers of an expected.json.

    Args:
      path: of the file.
      metrics: of the task.

    Raises:
      UsageError: there is no such file, it is not JSON, or it is not of this format; names the row.
    """
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise UsageError(f'cannot read the expected numbers in {path}: {error.strerror}') from error
    except (ValueError, RecursionError) as error:  # no JSON, no text, or nested without end
        raise UsageError(f'{path} is not JSON: {said(error)}') from error
    return check(content, str(path), metrics)


def check(content: Any, name: str, metrics: Iterable[Metric] = METRICS) -> Published:
    """The numbers that JSON held.

    Args:
      content: what it held.
      name: what to call it in errors.
      metrics: of the task.

    Raises:
      UsageError: as `load`.
    """
    if not isinstance(content, Mapping) or set(content) != {'source', 'rows'} or not isinstance(content['rows'], list):
        raise UsageError(f"{name} must be an object with 'source' and 'rows', a list")
    if not isinstance(content['source'], str) or not content['source'].strip():
        raise UsageError(f"{name}: 'source' must say where the numbers are from, not {shown(content['source'])}")
    by_name = {metric.name: metric for metric in metrics}
    rows = [_number(row, f'{name}, row {place}', by_name) for place, row in enumerate(content['rows'], 1)]
    return Published(content['source'], tuple(rows))


def compare(published: Published, groups: Sequence[Group]) -> Published:
    """Each number with ours, where one arm is what it speaks of.

    Args:
      published: the numbers.
      groups: runs by arm.
    """
    rows = (_compare(row, [group for group in groups if _describes(row.point, group)]) for row in published.rows)
    return dataclasses.replace(published, rows=tuple(rows))


def _compare(number: PublishedNumber, groups: Sequence[Group]) -> PublishedNumber:
    if len(groups) != 1:
        return dataclasses.replace(number, verdict=f'{len(groups)} arms match' if groups else 'no arm matches')
    values = comparison.by_seed(groups[0], number.checkpoint, number.metric).values()
    test = statistics.against(values, number.value, number.sd, number.n)
    verdict = statistics.verdict(test.mean, test.p, words=statistics.BESIDE_A_PAPER)
    if number.certainty == RECALLED:
        test, verdict = test._replace(ci95=None, p=None), UNJUDGED
    difference = records.Difference(test.mean, test.ci95, test.p)
    ours = statistics.estimate(values)
    return dataclasses.replace(number, arm=groups[0].name, ours=ours, difference=difference, verdict=verdict)


def _describes(point: Mapping[str, Any], group: Group) -> bool:
    return all(axis in group.place and _same(value, group.place[axis]) for axis, value in point.items())


def _same(left: Any, right: Any) -> bool:
    # A study may write the number 4 as '4'.
    return left == right or formatting.setting(left) == formatting.setting(right)


def _number(row: Any, where: str, metrics: Mapping[str, Metric]) -> PublishedNumber:
    if not isinstance(row, Mapping):
        raise UsageError(f'{where} must be an object, not {shown(row)}')
    for field in row:
        if field not in FIELDS:
            raise unknown('field', field, FIELDS, f' in {where}')
    for field in NEEDED:
        if field not in row:
            raise UsageError(f'{where} lacks {field!r}; a row has {", ".join(NEEDED)}')
    for field, choices in (('metric', tuple(metrics)), ('checkpoint', CHECKPOINTS), ('certainty', CERTAINTIES)):
        if row[field] not in choices:
            raise unknown(field, str(row[field]), choices, f' in {where}')
    number = PublishedNumber(**row)
    for wrong in _mistakes(number, metrics[number.metric]):
        raise UsageError(f'{where}: {wrong}')
    return number


def _mistakes(number: PublishedNumber, metric: Metric) -> Iterator[str]:
    """What is wrong with the values of a row."""
    if not isinstance(number.point, Mapping) or not number.point:
        yield f"'point' must name at least one axis and its value, not {shown(number.point)}"
    for axis, value in number.point.items():
        if not isinstance(value, str | int | float):
            yield f'{axis!r} must be a number or text, not {shown(value)}'
    top = 1 if metric.unit == '%' else math.inf
    if not _is_number(number.value) or not 0 <= number.value <= top:
        unit = 'a share in [0, 1], not percent' if top == 1 else 'not negative'
        yield f'the value of {metric.name} must be {unit}; it is {shown(number.value)}'
    if number.sd is not None and not (_is_number(number.sd) and 0 <= number.sd < top):
        yield f"'sd' must be null or not negative, in the unit of the value, not {shown(number.sd)}"
    if number.n is not None and not (type(number.n) is int and number.n >= 1):
        yield f"'n' must be null or a whole number of runs, not {shown(number.n)}"
    if not isinstance(number.note, str):
        yield f"'note' must be text, not {shown(number.note)}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
