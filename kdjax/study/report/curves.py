"""Figures over training steps: how the score grew, and what the terms of the loss did to the student.

They show finished runs; of an arm that has none yet, those under way.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from kdjax.study.report import comparison, figure_style, statistics
from kdjax.study.report.comparison import Group
from kdjax.study.report.figure_style import Plot
from kdjax.study.report.records import Arm, Estimate, Run, Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST = 8  # arms in a panel of learning curves
PANELS = 6
BANDS = f'95 % bands over the seeds, or every run where there are fewer than {statistics.FEW}'


class Curve(NamedTuple):
    """Over training steps: the mean of all seeds, and each of them."""

    means: Sequence[tuple[float, Estimate]]
    runs: Sequence[Sequence[tuple[float, float]]]


def learning(summary: Summary, groups: Sequence[Group]) -> list[Plot]:
    """Mean validation score over steps, a panel for each size of the transfer set: the best arms and the baselines."""
    metric = summary.judged
    curves = {group.name: _scores(group, metric.name) for group in groups}
    sizes = sorted({arm.transfer_size for arm in summary.rows if curves[arm.name]})[:PANELS]
    if not sizes:
        return []
    drawable = [[arm for arm in summary.rows if curves[arm.name] and arm.transfer_size == size] for size in sizes]
    kept = [arms if len(arms) <= MOST else comparison.best(arms, MOST, metric.sign) for arms in drawable]
    axis = comparison.size_axis(summary)
    others = [other for other in comparison.varied_axes(summary) if other != axis]
    names = {arm.name: comparison.label(arm.point, others) if axis else arm.name for arms in kept for arm in arms}
    styles = figure_style.styles(dict.fromkeys(names.values()))
    titles = [f'{size} transfer examples' if len(sizes) > 1 else '' for size in sizes]
    figure, panels = figure_style.panels(titles, figure_style.score_label('validation', metric), 'training step')
    for axes, arms in zip(panels, kept, strict=True):
        for arm in arms:
            name = names[arm.name]
            if curve := curves[arm.name]:
                _draw(axes, curve, name, styles[name], metric.factor)
    figure_style.within_unit(panels[0], metric)  # and with it all panels, which share their scale
    says = f'Mean validation {metric.title} during training, with {BANDS}{_which(kept, drawable)}.'
    return [figure_style.named('learning_curves.png', says, figure, *panels)]


def gradients(summary: Summary, groups: Sequence[Group]) -> list[Plot]:
    """Gradient norm of each term, and the cosine between the gradients of each pair, over steps: a panel per method."""
    chosen = _with_gradients(summary, groups)
    which = 'of each method, its best arm' + (f', {PANELS} methods' if len(chosen) == PANELS else '')
    says = {
        'norms': 'Norm of the gradient of each term',
        'cosines': 'Cosine between the gradients of two terms (1: they pull the same way)',
    }
    return [
        plot
        for field, what in says.items()
        for plot in _gradients(chosen, field, f'{what}, mean and {BANDS}: {which}.')
    ]


def _which(kept: Sequence[Sequence[Arm]], drawable: Sequence[Sequence[Arm]]) -> str:
    """What is left out."""
    if len(kept[0]) == len(drawable[0]):
        return ''
    each = ' of each size' if len(kept) > 1 else ''
    return f'; the {len(kept[0])} best of {len(drawable[0])} arms{each}, baselines first'


def _with_gradients(summary: Summary, groups: Sequence[Group]) -> list[Group]:
    """One arm for each method whose gradients were looked at."""
    by_name = {group.name: group for group in groups if any(run.gradients for run in group.runs)}
    arms = [arm for arm in summary.rows if arm.name in by_name]
    by_method: dict[str, Group] = {}
    for arm in comparison.best(arms, len(arms), summary.judged.sign):
        by_method.setdefault(arm.method, by_name[arm.name])
    return list(by_method.values())[:PANELS]


def _gradients(chosen: Sequence[Group], field: str, says: str) -> list[Plot]:
    lines = {group.name: terms for group in chosen if (terms := _terms(group, field))}
    if not lines:
        return []
    label = {'norms': 'gradient norm', 'cosines': 'cosine'}[field]
    styles = figure_style.styles(dict.fromkeys(term for terms in lines.values() for term in terms))
    figure, panels = figure_style.panels(list(lines), label, 'training step', 2.3)
    for axes, terms in zip(panels, lines.values(), strict=True):
        if field == 'cosines':
            axes.axhline(0, color=figure_style.INK, linewidth=1)
        for term, curve in terms.items():
            _draw(axes, curve, term.replace('|', ' and '), styles[term])
    means = [each.mean or 0 for terms in lines.values() for curve in terms.values() for _, each in curve.means]
    if field == 'cosines':
        panels[0].set_ylim(-1.05, 1.05)
    elif min(means) > 0 and max(means) > 10 * min(means):
        panels[0].set_yscale('log')
        panels[0].yaxis.set_major_formatter('{x:g}')
        panels[0].set_ylim(min(means) / 2, max(means) * 2)  # a band may reach below zero, which has no place here
    return [figure_style.named(f'gradient_{field}.png', says, figure, *panels)]


def _scores(group: Group, score: str) -> Curve | None:
    return _over_steps(group, lambda run: ((line.step, line.metrics.get(score)) for line in run.history))


def _terms(group: Group, field: str) -> dict[str, Curve]:
    """The norms or cosines of a group, by term."""
    names = dict.fromkeys(name for run in group.runs for line in run.gradients for name in getattr(line, field))

    def of(name: str) -> Curve | None:
        return _over_steps(group, lambda run: ((line.step, getattr(line, field).get(name)) for line in run.gradients))

    return {name: curve for name in names if (curve := of(name))}


def _over_steps(group: Group, read: Callable[[Run], Iterable[tuple[int, float | None]]]) -> Curve | None:
    """Mean over the seeds at every step at which any was measured; None where there is no such step."""
    runs = [run for run in group.runs if run.status == 'done'] or [r for r in group.runs if r.status == 'running']
    values: dict[int, list[float | None]] = defaultdict(list)
    for run in runs:
        for step, value in read(run):
            values[step].append(value)
    curve = [(step, statistics.estimate(values[step])) for step in sorted(values)]
    means = [(step, each) for step, each in curve if each.mean is not None]
    each_run = [[(step, value) for step, value in read(run) if value is not None] for run in runs]
    return Curve(means, each_run) if means else None


def _draw(axes: 'Axes', curve: Curve, label: str, style: dict[str, Any], factor: float = 1) -> None:
    # Shares of the axes' diagonal, each line from another place: of lines that lie on each other the markers do not. A
    # lone point would get none.
    every = ((0.06 * len(axes.get_legend_handles_labels()[1])) % 0.2, 0.2) if len(curve.means) > 1 else 1
    figure_style.curve(axes, curve.means, label, style, factor, runs=curve.runs, markevery=every, markersize=4)
