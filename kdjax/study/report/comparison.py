"""The arms of a study: runs that differ in nothing but their seed, and each arm's difference to its baseline arm.

What is judged is the score on the test split after the last step, and that alone: one outcome, chosen before any
number was seen. That of the best validation step stands beside it. The p-values of all arms of a study that have a
baseline arm are one family and are adjusted together (`statistics.holm`): a reader of the table looks for the arm that
stands out, and among many some always do.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kdjax.errors import UsageError
from kdjax.study.report import formatting, records, statistics
from kdjax.study.report.records import CHECKPOINTS, METRICS, SCORE, STATES, Arm, Cost, Results, Run, Setting, Summary


class Group(NamedTuple):
    """Runs that differ in their seed alone. `point` is what an axis of the study set."""

    name: str
    point: Mapping[str, Setting]
    runs: tuple[Run, ...]

    @property
    def method(self) -> str:
        """The method that all runs share."""
        return self.runs[0].method

    @property
    def place(self) -> Mapping[str, Setting]:
        """All that was set."""
        return self.runs[0].place


# ---- what tells arms apart


def axes(results: Results) -> list[str]:
    """What tells arms apart: the method, the study's own axes, and the size of the transfer set where it varies."""

    def echoes(axis: str, field: str) -> bool:
        return all(run.point.get(axis, run.place[field]) == run.place[field] for run in results.runs)

    other = [axis for axis in results.axes if axis not in ('method', 'transfer_size') and not echoes(axis, 'method')]
    sizes = {run.transfer_size for run in results.runs}
    sized = len(sizes) > 1 and not any(echoes(axis, 'transfer_size') for axis in other)
    return ['method', *other, *(['transfer_size'] if sized else [])]


def varied_axes(summary: Summary) -> list[str]:
    """The method, and the axes with more than one value: the others tell no arms apart."""
    return ['method', *(axis for axis in summary.axes[1:] if len(settings(axis, summary.rows)) > 1)]


def settings(axis: str, arms: Sequence[Arm]) -> list[Any]:
    """The values of an axis: numbers in ascending order, others as they come."""
    return numeric(axis, arms) or list(dict.fromkeys(arm.point[axis] for arm in arms if axis in arm.point))


def numeric(axis: str, arms: Sequence[Arm]) -> list[Any]:
    """The values of an axis in ascending order, where all of them are numbers and there are at least two; else []."""
    values = {arm.point[axis] for arm in arms if axis in arm.point}
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return sorted(values) if numbers and len(values) > 1 else []


def size_axis(summary: Summary) -> str | None:
    """The axis that is the size of the transfer set, where it varies."""
    sizes = {arm.transfer_size for arm in summary.rows}
    for axis in varied_axes(summary)[1:] if len(sizes) > 1 else []:
        if all(arm.point.get(axis) == arm.transfer_size for arm in summary.rows):
            return axis
    return None


def label(point: Mapping[str, Setting], named: Sequence[str]) -> str:
    """'kd, temperature 4': the method, and what else tells it apart."""
    return ', '.join([str(point['method']), *setting_labels(point, [axis for axis in named if axis != 'method'])])


def setting_labels(point: Mapping[str, Setting], named: Sequence[str]) -> list[str]:
    """'temperature 4', for each of these axes that concerns the arm."""
    return [f'{formatting.words(axis)} {formatting.setting(point[axis])}' for axis in named if axis in point]


# ---- the arms


def group_runs(results: Results) -> list[Group]:
    """Runs by point, in the order in which they come first.

    Raises:
      UsageError: two runs of one point have the same seed.
    """
    named = axes(results)
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in results.runs:
        groups.setdefault((*_point(run, named).items(), run.transfer_size), []).append(run)
    points = [_point(runs[0], named) for runs in groups.values()]
    several = [axis for axis in named if len({point.get(axis) for point in points} - {None}) > 1]
    names = [label(point, several) for point in points]
    if len(set(names)) < len(names):
        names = [label(point, named) for point in points]
    for name, runs in zip(names, groups.values(), strict=True):
        seed, times = Counter(run.seed for run in runs).most_common(1)[0]
        if times > 1:
            raise UsageError(f'{times} runs of {name} have seed {seed}; what tells them apart must be an axis')
    return [Group(name, point, tuple(runs)) for name, point, runs in zip(names, points, groups.values(), strict=True)]


def compare(results: Results, groups: Sequence[Group]) -> list[Arm]:
    """The numbers of every arm, with its difference to its baseline arm."""
    pairs = [_pair(group, _baseline(group, groups, results.baseline)) for group in groups]
    adjusted = iter(statistics.holm([pair.test.p for pair in pairs if pair]))
    holm = [next(adjusted) if pair else None for pair in pairs]
    return [_arm(*each, results) for each in zip(groups, pairs, holm, strict=True)]


def by_seed(group: Group, checkpoint: str, metric: str) -> dict[int, float | None]:
    """A test metric of the arm's runs that have ended; None for those that failed."""
    return {
        run.seed: values.get(metric) if run.status == 'done' and (values := getattr(run, checkpoint)) else None
        for run in group.runs
        if run.status in ('done', 'failed')
    }


def count(runs: Sequence[Run]) -> records.Counts:
    """How many runs there are, and how many in each state."""
    states = Counter(run.status for run in runs)
    return records.Counts(len(runs), *(states[state] for state in STATES))


def estimate(group: Group, checkpoint: str, metric: str) -> records.Estimate:
    """A test metric over the seeds of an arm."""
    return over_seeds(by_seed(group, checkpoint, metric).values())


def over_seeds(values: Any) -> records.Estimate:
    """The estimate of a quantity, given one value per seed."""
    summary = statistics.summary(values)
    return records.Estimate(summary.mean, summary.sd, summary.interval, summary.n)


def cost(costs: Sequence[Cost]) -> Cost:
    """Of the one network that all seeds train; latency is the median, since a busy machine only ever adds time."""
    first = costs[0]
    times = {batch: [time for cost in costs if (time := cost.latency_ms.get(batch))] for batch in first.latency_ms}
    medians = {batch: float(np.median(known)) if known else None for batch, known in times.items()}
    return Cost(first.params, first.bytes, first.flops, medians)


def ranked(arms: Sequence[Arm]) -> list[Arm]:
    """The arms that have a score, the best first."""
    return sorted((arm for arm in arms if arm.score.mean is not None), key=lambda arm: -(arm.score.mean or 0))


def best(arms: Sequence[Arm], most: int) -> list[Arm]:
    """Baselines, a quarter at most, then the other arms: those with the best mean score."""
    order = [*ranked(arms), *(arm for arm in arms if arm.score.mean is None)]
    baselines = [arm for arm in order if arm.is_baseline][: max(most // 4, 1)]
    return (baselines + [arm for arm in order if not arm.is_baseline])[:most]


class _Pair(NamedTuple):
    """An arm against its baseline arm."""

    base: Group
    ours: statistics.BySeed
    theirs: statistics.BySeed
    test: statistics.Paired


def _pair(group: Group, base: Group | None) -> _Pair | None:
    if base is None:
        return None
    ours, theirs = (by_seed(each, 'last', SCORE.name) for each in (group, base))
    return _Pair(base, ours, theirs, statistics.paired(ours, theirs))


def _point(run: Run, named: Sequence[str]) -> dict[str, Setting]:
    return {axis: run.place[axis] for axis in named if axis in run.place}


def _baseline(group: Group, groups: Sequence[Group], method: str) -> Group | None:
    """The one arm of the baseline method that is set as this one is, on all axes that both have."""
    if group.method == method:
        return None
    candidates = [
        other
        for other in groups
        if other.method == method
        and other.place['transfer_size'] == group.place['transfer_size']
        and all(other.point[axis] == group.point[axis] for axis in other.point.keys() & group.point.keys() - {'method'})
    ]
    return candidates[0] if len(candidates) == 1 else None


def _arm(group: Group, pair: _Pair | None, p_holm: float | None, results: Results) -> Arm:
    first, costs = group.runs[0], [run.cost for run in group.runs if run.cost]
    last, best = ({name: estimate(group, checkpoint, name) for name in METRICS} for checkpoint in CHECKPOINTS)
    return Arm(
        name=group.name,
        method=group.method,
        point=group.point,
        transfer_size=first.transfer_size,
        is_baseline=group.method == results.baseline,
        n=last[SCORE.name].n,
        counts=count(group.runs),
        last=last,
        best=best,
        best_step=statistics.summary(run.best_step for run in group.runs).mean,
        validation=over_seeds(_validation(run) for run in group.runs if run.status in ('done', 'failed')),
        difference=_difference(pair, p_holm) if pair else None,
        gap_recovered=_gap(group, pair, results) if pair else None,
        chosen=first.chosen,
        stages=first.stages,
        cost=cost(costs) if costs else None,
        teacher=_teacher(group),
    )


def _validation(run: Run) -> float | None:
    return run.history[-1].metrics[SCORE.name] if run.status == 'done' and run.history else None


def _difference(pair: _Pair, p_holm: float | None) -> records.PairedDifference:
    test = pair.test
    return records.PairedDifference(
        mean=test.difference,
        ci95=test.interval,
        p=test.p,
        p_holm=p_holm,
        n=test.n,
        verdict=statistics.verdict(test._replace(p=p_holm)),
        detectable=statistics.detectable(pair.ours, pair.theirs),
        baseline=pair.base.name,
    )


def _teacher(group: Group) -> str | None:
    """The key of the teacher that all seeds share."""
    keys = {run.teacher for run in group.runs} - {None}
    return keys.pop() if len(keys) == 1 else None


def _gap(group: Group, pair: _Pair, results: Results) -> records.GapRecovered | None:
    teacher = results.teachers.get(_teacher(group) or '')
    score = teacher.metrics.get(SCORE.name) if teacher else None
    gap = None if score is None else statistics.gap_recovered(pair.ours, pair.theirs, score)
    return records.GapRecovered(gap.value, gap.interval, gap.n) if gap else None
