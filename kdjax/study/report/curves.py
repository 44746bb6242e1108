"""Figures over training steps: how the score grew, and what the terms of the loss did to the student.

They show finished runs; of an arm that has none yet, those under way.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kdjax.study.report import comparison, figure_style, statistics
from kdjax.study.report.comparison import Group
from kdjax.study.report.figure_style import Plot
from kdjax.study.report.records import SCORE, Arm, Run, Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST = 8  # arms in a panel of learning curves
PANELS = 6

Point = tuple[float, float, statistics.Interval | None]  # step, mean, interval


def learning(summary: Summary, groups: Sequence[Group]) -> list[Plot]:
    """Mean validation score over steps, a panel for each size of the transfer set: the best arms and the baselines."""
    curves = {group.name: _scores(group) for group in groups}
    sizes = sorted({arm.transfer_size for arm in summary.rows if curves[arm.name]})[:PANELS]
    if not sizes:
        return []
    drawable = [[arm for arm in summary.rows if curves[arm.name] and arm.transfer_size == size] for size in sizes]
    kept = [arms if len(arms) <= MOST else comparison.best(arms, MOST) for arms in drawable]
    axis = comparison.size_axis(summary)
    others = [other for other in comparison.varied_axes(summary) if other != axis]
    names = {arm.name: comparison.label(arm.point, others) if axis else arm.name for arms in kept for arm in arms}
    styles = {name: figure_style.style(place) for place, name in enumerate(dict.fromkeys(names.values()))}
    figure, panels = figure_style.panels(len(sizes), 3.3 if len(sizes) == 1 else 2.3)
    for place, (axes, size, arms) in enumerate(zip(panels, sizes, kept, strict=True)):
        figure_style.dress(axes, '' if place % 2 else figure_style.score_label('validation'), 'training step')
        axes.set_title(f'{size} transfer examples' if len(sizes) > 1 else '', fontsize=figure_style.FONT)
        for arm in arms:
            _draw(axes, curves[arm.name], figure_style.brief(names[arm.name]), styles[names[arm.name]], SCORE.factor)
    figure_style.within_unit(panels[0])  # and with it all panels, which share their scale
    figure_style.legend(figure, *panels)
    says = f'Mean validation {SCORE.title} during training, with 95 % bands over the seeds{_which(kept, drawable)}.'
    return [Plot('learning_curves.png', says, figure)]


def gradients(summary: Summary, groups: Sequence[Group]) -> list[Plot]:
    """Gradient norm of each term, and the cosine between the gradients of each pair, over steps: a panel per method."""
    chosen = _with_gradients(summary, groups)
    which = 'of each method, its best arm' + (f', {PANELS} methods' if len(chosen) == PANELS else '')
    plots = [
        _gradients(chosen, 'norms', 'gradient norm', 'gradient_norms.png',
                   f'Norm of the gradient of each term, mean and 95 % band over the seeds: {which}.'),
        _gradients(chosen, 'cosines', 'cosine', 'gradient_cosines.png',
                   'Cosine between the gradients of two terms (1: they pull the same way), mean and 95 % band over the '
                   f'seeds: {which}.'),
    ]  # fmt: skip
    return [plot for plot in plots if plot is not None]


def _which(kept: Sequence[Sequence[Arm]], drawable: Sequence[Sequence[Arm]]) -> str:
    """What is left out."""
    if len(kept[0]) == len(drawable[0]):
        return ''
    each = ' of each size' if len(kept) > 1 else ''
    return f'; the {len(kept[0])} best of {len(drawable[0])} arms{each}, baselines first'


def _with_gradients(summary: Summary, groups: Sequence[Group]) -> list[Group]:
    """One arm for each method whose gradients were looked at."""
    by_name = {group.name: group for group in groups if any(run.gradients for run in group.runs)}
    by_method: dict[str, Group] = {}
    for arm in comparison.best([arm for arm in summary.rows if arm.name in by_name], len(by_name)):
        by_method.setdefault(arm.method, by_name[arm.name])
    return list(by_method.values())[:PANELS]


def _gradients(chosen: Sequence[Group], field: str, label: str, file: str, says: str) -> Plot | None:
    lines = {group.name: terms for group in chosen if (terms := _terms(group, field))}
    if not lines:
        return None
    names = dict.fromkeys(term for terms in lines.values() for term in terms)
    styles = {term: figure_style.style(place) for place, term in enumerate(names)}
    figure, panels = figure_style.panels(len(lines))
    for place, (axes, (name, terms)) in enumerate(zip(panels, lines.items(), strict=True)):
        figure_style.dress(axes, '' if place % 2 else label, 'training step')
        axes.set_title(figure_style.brief(name, 36), fontsize=figure_style.FONT)
        if field == 'cosines':
            axes.axhline(0, color=figure_style.INK, linewidth=1)
        for term, points in terms.items():
            _draw(axes, points, term.replace('|', ' and '), styles[term])
    _scale(panels[0], field, [mean for terms in lines.values() for line in terms.values() for _, mean, _ in line])
    figure_style.legend(figure, *panels)
    return Plot(file, says, figure)


def _scale(axes: 'Axes', field: str, means: Sequence[float]) -> None:
    if field == 'cosines':
        axes.set_ylim(-1.05, 1.05)
    elif min(means) > 0 and max(means) > 10 * min(means):
        axes.set_yscale('log')
        axes.set_ylim(min(means) / 2, max(means) * 2)  # a band may reach below zero, which has no place on this scale


def _scores(group: Group) -> list[Point]:
    return _over_steps(group, lambda run: ((line.step, line.metrics.get(SCORE.name)) for line in run.history))


def _terms(group: Group, field: str) -> dict[str, list[Point]]:
    """The norms or cosines of a group, by term."""
    names = dict.fromkeys(name for run in group.runs for line in run.gradients for name in getattr(line, field))

    def of(name: str) -> list[Point]:
        return _over_steps(group, lambda run: ((line.step, getattr(line, field).get(name)) for line in run.gradients))

    return {name: curve for name in names if (curve := of(name))}


def _over_steps(group: Group, read: Callable[[Run], Iterable[tuple[int, float | None]]]) -> list[Point]:
    """Mean over the seeds at every step at which any was measured."""
    runs = [run for run in group.runs if run.status == 'done'] or [r for r in group.runs if r.status == 'running']
    values: dict[int, list[float | None]] = defaultdict(list)
    for run in runs:
        for step, value in read(run):
            values[step].append(value)
    summaries = ((step, statistics.summary(values[step])) for step in sorted(values))
    return [(step, each.mean, each.interval) for step, each in summaries if each.mean is not None]


def _draw(axes: 'Axes', points: Sequence[Point], label: str, style: Mapping[str, Any], factor: float = 1) -> None:
    bands = [(step, interval) for step, _, interval in points if interval]
    figure_style.band(axes, [step for step, _ in bands], factor * np.array([ends for _, ends in bands]), style)
    every = 0.2 if len(points) > 1 else 1  # of the axes' diagonal: a lone point would get no marker
    means = [factor * mean for _, mean, _ in points]
    form: dict[str, Any] = {'markevery': every, 'markersize': 4, 'linewidth': 1.4, **style}
    axes.plot([step for step, *_ in points], means, label=label, **form)
