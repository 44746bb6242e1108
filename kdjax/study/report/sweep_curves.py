"""Figures of a sweep over training steps: how accuracy grew, and what the terms of the loss did to the student.

They show finished runs; of an arm that has none yet, those under way.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kdjax.study.report import figure_style, statistics, sweep_tables
from kdjax.study.report.comparison import Arm
from kdjax.study.report.figure_style import Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Mapping[str, Any]

SHOWN = 8  # arms in the figure of learning curves
PANELS = 6


def learning(found: Row, gathered: Sequence[Arm]) -> list[Plot]:
    """Mean validation accuracy over steps: of the most accurate arms and of the baselines."""
    curves = {arm.name: _over_steps(arm, 'history', lambda line: line['accuracy']) for arm in gathered}
    rows = [row for row in found['arms'] if curves[row['name']]]
    if not rows:
        return []
    figure = figure_style.blank(5.8, 3.6)
    axes = figure_style.dress(figure.add_subplot(), 'validation accuracy (%)', 'training step')
    kept = sweep_tables.best(rows, SHOWN)
    for place, row in enumerate(kept):
        _band(axes, curves[row['name']], figure_style.brief(row['name']), figure_style.style(place), 100)
    figure_style.within_percent(axes)
    figure_style.legend(figure, axes)
    which = '' if len(kept) == len(rows) else f'; the {len(kept)} most accurate of {len(rows)} arms, baselines first'
    says = f'Mean validation accuracy during training, with 95 % bands over the seeds{which}.'
    return [Plot('learning_curves.png', says, figure)]


def anatomy(found: Row, gathered: Sequence[Arm]) -> list[Plot]:
    """Gradient norm of each term, and the cosine between the gradients of each pair, over steps: a panel per method."""
    chosen = _anatomised(found, gathered)
    which = 'of each method, its most accurate arm' + (f', {PANELS} methods' if len(chosen) == PANELS else '')
    drawn = [
        _anatomy(chosen, 'norms', 'gradient norm', 'gradient_norms.png',
                 f'Norm of the gradient of each term, mean and 95 % band over the seeds: {which}.'),
        _anatomy(chosen, 'cosines', 'cosine', 'gradient_cosines.png',
                 f'Cosine between the gradients of two terms, mean and 95 % band over the seeds: {which}.'),
    ]  # fmt: skip
    return [plot for plot in drawn if plot is not None]


def _anatomised(found: Row, gathered: Sequence[Arm]) -> list[Arm]:
    """One arm for each method whose runs were taken apart."""
    by_name = {arm.name: arm for arm in gathered if any(record['anatomy'] for record in arm.records)}
    ranked = sweep_tables.best([row for row in found['arms'] if row['name'] in by_name], len(by_name))
    by_method: dict[str, Arm] = {}
    for row in ranked:
        by_method.setdefault(row['method'], by_name[row['name']])
    return list(by_method.values())[:PANELS]


def _anatomy(chosen: Sequence[Arm], key: str, label: str, file: str, says: str) -> Plot | None:
    lines = {arm.name: _terms(arm, key) for arm in chosen}
    drawn = [arm.name for arm in chosen if lines[arm.name]]
    if not drawn:
        return None
    styles = {
        term: figure_style.style(place) for place, term in enumerate(dict.fromkeys(t for n in drawn for t in lines[n]))
    }
    figure, panels = figure_style.panels(len(drawn))
    for place, (axes, name) in enumerate(zip(panels, drawn, strict=True)):
        figure_style.dress(axes, '' if place % 2 else label, 'training step')
        axes.set_title(figure_style.brief(name, 36), fontsize=figure_style.FONT)
        if key == 'cosines':
            axes.axhline(0, color=figure_style.INK, linewidth=1)
        for term, points in lines[name].items():
            _band(axes, points, term.replace('|', ' and '), styles[term], 1)
    _scale(panels[0], key, [mean for name in drawn for line in lines[name].values() for _, mean, _ in line])
    figure_style.legend(figure, *panels)
    return Plot(file, says, figure)


def _scale(axes: 'Axes', key: str, means: Sequence[float]) -> None:
    if key == 'cosines':
        axes.set_ylim(-1.05, 1.05)
    elif min(means) > 0 and max(means) > 10 * min(means):
        axes.set_yscale('log')
        axes.set_ylim(min(means) / 2, max(means) * 2)  # a band may reach below zero, which has no place on this scale


Point = tuple[float, float, statistics.Interval | None]  # step, mean, interval


def _terms(arm: Arm, key: str) -> dict[str, list[Point]]:
    names = dict.fromkeys(name for record in arm.records for line in record['anatomy'] for name in line[key])
    curves = {name: _over_steps(arm, 'anatomy', _of(key, name)) for name in names}
    return {name: curve for name, curve in curves.items() if curve}


def _of(key: str, name: str) -> Callable[[Row], float | None]:
    return lambda line: line[key].get(name)


def _over_steps(arm: Arm, lines: str, read: Callable[[Row], float | None]) -> list[Point]:
    """Mean over the seeds at every step at which any was measured."""
    done = [record for record in arm.records if record['status'] == 'done']
    records = done or [record for record in arm.records if record['status'] == 'running']
    values: dict[int, list[float | None]] = defaultdict(list)
    for record in records:
        for line in record[lines]:
            values[line['step']].append(read(line))
    found = [(step, statistics.summary(values[step])) for step in sorted(values)]
    return [(step, point.mean, point.interval) for step, point in found if point.mean is not None]


def _band(axes: 'Axes', points: Sequence[Point], label: str, style: Row, scale: float) -> None:
    bands = [(step, *(scale * end for end in interval)) for step, _, interval in points if interval]
    if bands:
        axes.fill_between(*np.array(bands).T, color=style['color'], alpha=0.15, linewidth=0)
    means = [(step, scale * mean) for step, mean, _ in points]
    axes.plot(*np.array(means).T, label=label, markevery=0.2, markersize=4, linewidth=1.4, **style)
