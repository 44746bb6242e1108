"""The arms of a sweep: runs that differ in nothing but their seed, and each arm's difference to its baseline arm.

What is judged is the test accuracy after the last step, and that alone: one outcome, chosen before any number was seen.
That of the best validation step is shown beside it. The p-values of all arms of a sweep that have a baseline arm are
one family and are adjusted together (`statistics.holm`): a reader of the table looks for the arm that stands out, and
among many some always do.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kdjax.errors import UsageError
from kdjax.study.report import formatting, statistics
from kdjax.train import ledger

Row = Mapping[str, Any]

METRICS = ('accuracy', 'nll', 'ece', 'agreement', 'kl')
CHECKPOINTS = ('last', 'best')
STATES = ('done', 'failed', 'running', 'missing')


class Arm(NamedTuple):
    """Runs of one point. `place` says all that was set, `point` what an axis of the sweep set; both with the method."""

    name: str
    place: Mapping[str, Any]
    point: Mapping[str, Any]
    records: tuple[Row, ...]

    @property
    def method(self) -> str:
        return str(self.place['method'])


def gather(results: Row) -> list[Arm]:
    """Records by point, in the order in which they come first.

    Raises:
      UsageError: two runs of one point have the same seed.
    """
    named = axes(results)
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for record in results['records']:
        point = _point(record, named)
        groups.setdefault((*point.items(), record['transfer_size']), []).append(record)
    found = [(_place(records[0]), _point(records[0], named), tuple(records)) for records in groups.values()]
    varied = [axis for axis in named if len({point.get(axis) for _, point, _ in found} - {None}) > 1]
    labels = [label(point, varied) for _, point, _ in found]
    if len(set(labels)) < len(labels):
        labels = [label(point, named) for _, point, _ in found]
    for name, (_, _, records) in zip(labels, found, strict=True):
        seed, times = Counter(record['seed'] for record in records).most_common(1)[0]
        if times > 1:
            raise UsageError(f'{times} runs of {name} have seed {seed}; what tells them apart must be an axis')
    return [Arm(name, *arm) for name, arm in zip(labels, found, strict=True)]


def axes(results: Row) -> list[str]:
    """What tells arms apart: the method, the sweep's own axes, and the size of the transfer set where it varies."""
    records = results['records']

    def echoes(axis: str, key: str) -> bool:
        return all(record['point'].get(axis, record[key]) == record[key] for record in records)

    own = [axis for axis in results['axes'] if axis not in ('method', 'transfer_size') and not echoes(axis, 'method')]
    sizes = {record['transfer_size'] for record in records}
    sized = len(sizes) > 1 and not any(echoes(axis, 'transfer_size') for axis in own)
    return ['method', *own, *(['transfer_size'] if sized else [])]


def numeric(axis: str, rows: Sequence[Row]) -> list[float]:
    """The values of an axis in ascending order, where all of them are numbers and there are at least two; else []."""
    values = {row['point'][axis] for row in rows if axis in row['point']}
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return sorted(values) if numbers and len(values) > 1 else []


def by_seed(arm: Arm, checkpoint: str, metric: str) -> dict[int, float | None]:
    """A test metric of the arm's runs that have ended; None for those that failed."""
    ended = [record for record in arm.records if record['status'] in ('done', 'failed')]
    return {
        record['seed']: record[checkpoint][metric] if record['status'] == 'done' and record[checkpoint] else None
        for record in ended
    }


def counted(records: Sequence[Row]) -> dict[str, int]:
    """How many runs there are, and how many in each state."""
    states = Counter(record['status'] for record in records)
    return {'runs': len(records), **{state: states[state] for state in STATES}}


def measured(results: Row, arms: Sequence[Arm]) -> list[dict[str, Any]]:
    """The numbers of every arm, JSON-able: counts, metrics of both checkpoints, difference, share of the gap, cost.

    Returns:
      Per arm: name, method, point, transfer_size, is_baseline, n and the counts of states, 'last' and 'best' (each
      metric's mean, sd, 95 % interval and n; the mean step of the best), 'difference' (None without a baseline arm:
      mean, ci95, p, p_holm, n, verdict, detectable, baseline), gap_recovered, cost, teacher. Accuracies are shares.
    """
    comparisons = [_compared(arm, _baseline(arm, arms, results['baseline'])) for arm in arms]
    adjusted = iter(statistics.holm([found.pair.p for found in comparisons if found is not None]))
    return [
        ledger.plain({
            **_measured(arm),
            'is_baseline': arm.method == results['baseline'],
            'difference': None if found is None else _difference(found, next(adjusted)),
            'gap_recovered': None if found is None else _gap(arm, found, results['teachers']),
        })
        for arm, found in zip(arms, comparisons, strict=True)
    ]  # fmt: skip


def label(point: Row, named: Sequence[str]) -> str:
    """'kd, temperature 4': the method, and what else tells it apart."""
    return ', '.join([str(point['method']), *settings(point, [axis for axis in named if axis != 'method'])])


def settings(point: Row, named: Sequence[str]) -> list[str]:
    """'temperature 4', for each of these axes that concerns the arm."""
    return [f'{axis.replace("_", " ")} {formatting.value(point[axis])}' for axis in named if axis in point]


def cost(costs: Sequence[Row]) -> dict[str, Any]:
    """Of the one network that all seeds train; latency is the median, since a busy machine only ever adds time."""
    batches = costs[0]['latency_ms']
    times = {batch: [cost['latency_ms'][batch] for cost in costs if cost['latency_ms'].get(batch)] for batch in batches}
    return {
        **{key: costs[0][key] for key in ('params', 'bytes', 'flops')},
        'latency_ms': {batch: float(np.median(found)) if found else None for batch, found in times.items()},
    }


class _Comparison(NamedTuple):
    base: Arm
    ours: statistics.BySeed
    theirs: statistics.BySeed
    pair: statistics.Paired


def _compared(arm: Arm, base: Arm | None) -> _Comparison | None:
    if base is None:
        return None
    ours, theirs = (by_seed(one, 'last', 'accuracy') for one in (arm, base))
    return _Comparison(base, ours, theirs, statistics.paired(ours, theirs))


def _place(record: Row) -> dict[str, Any]:
    return {**record['point'], 'method': record['method'], 'transfer_size': record['transfer_size']}


def _point(record: Row, named: Sequence[str]) -> dict[str, Any]:
    place = _place(record)
    return {axis: place[axis] for axis in named if axis in place}


def _baseline(arm: Arm, arms: Sequence[Arm], method: str) -> Arm | None:
    """The one arm of the baseline method that is set as `arm` is, on all axes that both have."""
    if arm.method == method:
        return None
    found = [
        other
        for other in arms
        if other.method == method
        and other.place['transfer_size'] == arm.place['transfer_size']
        and all(other.point[axis] == arm.point[axis] for axis in other.point.keys() & arm.point.keys() - {'method'})
    ]
    return found[0] if len(found) == 1 else None


def _measured(arm: Arm) -> dict[str, Any]:
    counts = counted(arm.records)
    costs = [record['cost'] for record in arm.records if record['cost']]
    return {
        'name': arm.name,
        'method': arm.method,
        'point': arm.point,
        'transfer_size': arm.place['transfer_size'],
        **counts,
        'n': statistics.summary(by_seed(arm, 'last', 'accuracy').values()).n,
        **{checkpoint: {metric: _summary(arm, checkpoint, metric) for metric in METRICS} for checkpoint in CHECKPOINTS},
        'best_step': statistics.summary(record['best']['step'] for record in arm.records if record['best']).mean,
        'cost': cost(costs) if costs else None,
        'teacher': _teacher(arm),
    }


def _summary(arm: Arm, checkpoint: str, metric: str) -> dict[str, Any]:
    found = statistics.summary(by_seed(arm, checkpoint, metric).values())
    return {'mean': found.mean, 'sd': found.sd, 'ci95': found.interval, 'n': found.n}


def _difference(found: _Comparison, p_holm: float | None) -> dict[str, Any]:
    return {
        'mean': found.pair.difference,
        'ci95': found.pair.interval,
        'p': found.pair.p,
        'p_holm': p_holm,
        'n': found.pair.n,
        'verdict': statistics.verdict(found.pair._replace(p=p_holm)),
        'detectable': statistics.detectable(found.ours, found.theirs),
        'baseline': found.base.name,
    }


def _teacher(arm: Arm) -> str | None:
    """The key of the teacher that all seeds share."""
    keys = {record['teacher'] for record in arm.records} - {None}
    return keys.pop() if len(keys) == 1 else None


def _gap(arm: Arm, found: _Comparison, teachers: Row) -> dict[str, Any] | None:
    key = _teacher(arm)
    if key is None or key not in teachers:
        return None
    gap = statistics.gap_recovered(found.ours, found.theirs, teachers[key]['accuracy'])
    return None if gap is None else {'value': gap.value, 'ci95': gap.interval, 'n': gap.n}
