"""The arms of a study: runs that differ in nothing but their seed, and each arm's difference to its baseline arm.

What is judged is the score on the test split after the last step, and that alone: one outcome, chosen before any
number was seen. That of the best validation step stands beside it. The p-values of all arms of a study that have a
baseline arm are one family and are adjusted together (`statistics.holm`): a reader of the table looks for the arm that
stands out, and among many some always do.
"""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from kdjax.errors import UsageError
from kdjax.study.report import formatting, records, statistics
from kdjax.study.report.records import Arm, Cost, Results, Run, Setting, Summary
from kdjax.study.report.statistics import BySeed


class Group(NamedTuple):
    """Runs that differ in their seed alone. `point` is what an axis of the study set."""

    name: str
    point: Mapping[str, Setting]
    runs: tuple[Run, ...]

    @property
    def place(self) -> Mapping[str, Setting]:
        """All that was set, the method and the size of the transfer set among it."""
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
    arms = [_arm(group, _baseline(group, groups, results.baseline), results) for group in groups]
    adjusted = iter(statistics.holm([arm.difference.p for arm in arms if arm.difference]))
    return [_judged(arm, arm.difference, next(adjusted), results) if arm.difference else arm for arm in arms]


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
    return records.Counts(len(runs), *(states[state] for state in records.STATES))


def cost(costs: Sequence[Cost]) -> Cost:
    """Of the one network that all seeds train; times are medians, since a busy machine only ever adds to them."""
    latency, more = (_medians([getattr(each, field) for each in costs]) for field in ('latency_ms', 'more'))
    return dataclasses.replace(costs[0], latency_ms=latency, more=more)


def _medians(measured: Sequence[records.Values]) -> dict[str, float | None]:
    known = {name: [value for each in measured if (value := each.get(name)) is not None] for name in measured[0]}
    return {name: median(values) if values else None for name, values in known.items()}


def ranked(arms: Sequence[Arm], sign: int) -> list[Arm]:
    """The arms that have a score, the best first: the highest where `sign` is 1, the lowest where it is -1."""
    return sorted((arm for arm in arms if arm.score.mean is not None), key=lambda arm: -sign * (arm.score.mean or 0))


def best(arms: Sequence[Arm], most: int, sign: int) -> list[Arm]:
    """Baselines, a quarter at most, then the other arms: those with the best mean score, as `ranked`."""
    order = [*ranked(arms, sign), *(arm for arm in arms if arm.score.mean is None)]
    baselines = [arm for arm in order if arm.is_baseline][: max(most // 4, 1)]
    return (baselines + [arm for arm in order if not arm.is_baseline])[:most]


def _point(run: Run, named: Sequence[str]) -> dict[str, Setting]:
    return {axis: run.place[axis] for axis in named if axis in run.place}


def _baseline(group: Group, groups: Sequence[Group], method: str) -> Group | None:
    """The one arm of the baseline method that is set as this one is, on all axes that both have."""
    if group.place['method'] == method:
        return None
    candidates = [
        other
        for other in groups
        if other.place['method'] == method
        and other.place['transfer_size'] == group.place['transfer_size']
        and all(other.point[axis] == group.point[axis] for axis in other.point.keys() & group.point.keys() - {'method'})
    ]
    return candidates[0] if len(candidates) == 1 else None


def _arm(group: Group, base: Group | None, results: Results) -> Arm:
    first, costs = group.runs[0], [run.cost for run in group.runs if run.cost]
    ended = [run for run in group.runs if run.status in ('done', 'failed')]
    last, best = (
        {name: statistics.estimate(by_seed(group, checkpoint, name).values()) for name in results.by_name}
        for checkpoint in records.CHECKPOINTS
    )
    score = last[results.score]
    ours, theirs = (by_seed(each, 'last', results.score) if each else {} for each in (group, base))
    return Arm(
        name=group.name,
        method=first.method,
        point=group.point,
        transfer_size=first.transfer_size,
        is_baseline=first.method == results.baseline,
        n=score.n,
        counts=count(group.runs),
        score=score,
        last=last,
        best=best,
        best_step=statistics.estimate(run.best_step for run in group.runs).mean,
        validation=statistics.estimate(_validation(run, results.score) for run in ended),
        difference=_difference(ours, theirs, base.name) if base else None,
        gap_recovered=_gap(ours, theirs, results.teachers.get(_teacher(group) or ''), results),
        chosen=first.chosen,
        stages=first.stages,
        cost=cost(costs) if costs else None,
        teacher=_teacher(group),
    )


def _validation(run: Run, score: str) -> float | None:
    return run.history[-1].metrics.get(score) if run.status == 'done' and run.history else None


def _difference(ours: BySeed, theirs: BySeed, baseline: str) -> records.PairedDifference:
    """Which `_judged` completes."""
    test, detectable = statistics.paired(ours, theirs), statistics.detectable(ours, theirs)
    return records.PairedDifference(**test._asdict(), p_holm=None, verdict='', detectable=detectable, baseline=baseline)


def _judged(arm: Arm, difference: records.PairedDifference, p_holm: float | None, results: Results) -> Arm:
    verdict = statistics.verdict(difference.mean, p_holm, results.judged.sign)
    return dataclasses.replace(arm, difference=dataclasses.replace(difference, p_holm=p_holm, verdict=verdict))


def _teacher(group: Group) -> str | None:
    """The key of the teacher that all seeds share."""
    keys = {run.teacher for run in group.runs} - {None}
    return keys.pop() if len(keys) == 1 else None


def _gap(
    ours: BySeed, theirs: BySeed, teacher: records.Teacher | None, results: Results
) -> records.GapRecovered | None:
    score = teacher.metrics.get(results.score) if teacher else None
    return None if score is None else statistics.gap_recovered(ours, theirs, score, results.judged.sign)
