"""Figures over settings: gains by arm, the score against each numeric axis, heat maps of two; where there are such.

Many arms stay legible because a figure has some of them and says which: those with the best mean score, and the
baselines. What is left out of a figure is in the tables.
"""

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from kdjax.study.report import comparison, figure_style, formatting, statistics, tables
from kdjax.study.report.figure_style import Plot, slug
from kdjax.study.report.formatting import words
from kdjax.study.report.records import Arm, Estimate, Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Series = list[tuple[float, Arm]]  # one method's arms along an axis: its value, and the arm

MOST = 8  # methods in one figure, the baseline among them
PANELS = 6
LINES = 90  # arms in the figure of gains
BANDS = f'95 % bands, or every run where there are fewer than {statistics.FEW}'
LETTERS = 32  # of their names
MARKS = {statistics.HELPS: (figure_style.COLOURS[0], '^'), statistics.HURTS: (figure_style.COLOURS[1], 'v')}
UNMARKED = ('#8a939c', 'o')


def gains(summary: Summary) -> list[Plot]:
    """Every arm's difference to its baseline with its interval, sorted; coloured where it is significant after Holm."""
    metric = summary.judged
    pairs = [(arm, arm.difference) for arm in summary.rows if arm.difference and arm.difference.mean is not None]
    if not pairs:
        return []
    ranked = sorted(pairs, key=lambda pair: metric.sign * (pair[1].mean or 0))
    kept = ranked if len(ranked) <= LINES else ranked[: LINES // 2] + ranked[-LINES // 2 :]
    label = figure_style.gain_label(summary.baseline, metric)
    figure, axes = figure_style.single(5.6, 0.9 + 0.19 * len(kept), '', label)
    axes.grid(axis='x', color=figure_style.FAINT, linewidth=0.8)
    axes.axvline(0, color=figure_style.INK, linewidth=1.2)
    means, ends = figure_style.scaled([difference for _, difference in kept], metric)
    for place, (_, difference) in enumerate(kept):
        colour, marker = MARKS.get(difference.verdict, UNMARKED)
        face = 'white' if difference.verdict == statistics.UNTESTED else colour
        if difference.values:
            axes.plot(
                metric.factor * np.array(difference.values), [place] * difference.n, '|', color=colour, markersize=6
            )
        elif difference.ci95:
            axes.plot(ends[place], [place, place], color=colour, linewidth=1.6)
        form: dict[str, Any] = {'color': colour, 'markerfacecolor': face, 'markersize': 5, 'linestyle': ''}
        axes.plot(means[place], place, marker=marker, label=difference.verdict, **form)
    names = [arm.name for arm, _ in kept]
    if max(map(len, names)) > LETTERS:
        names = [figure_style.brief(tables.terse(arm, summary), LETTERS) for arm, _ in kept]
        # Above the names: beside few of them there would be no room.
        axes.set_title(', '.join(map(words, comparison.varied_axes(summary))), loc='left', **figure_style.LABEL)
    axes.set_yticks(range(len(kept)), names, fontsize=figure_style.FONT - 1)
    axes.set_ylim(-0.7, len(kept) - 0.3)
    low, high = figure_style.focus(means, ends)
    axes.set_xlim(min(low, 0), max(high, 0))
    left_out = '' if kept is ranked else f'; the {LINES // 2} highest and the {LINES // 2} lowest of {len(pairs)} arms'
    left_out += f'; ticks: the seeds, where they are fewer than {statistics.FEW}' * any(pair.values for _, pair in kept)
    left_out += '; intervals that meet the frame go on beyond it' if np.min(ends) < low or np.max(ends) > high else ''
    gain = formatting.gain_over(metric, summary.baseline)
    says = f'{gain[0].upper()}{gain[1:]}, with the 95 % interval of each arm by itself{left_out}.'
    return [figure_style.explained('gains.png', says, figure, axes)]


def along(summary: Summary) -> list[Plot]:
    """The score against each numeric axis, but for the size of the transfer set (see `sizes`)."""
    size = comparison.size_axis(summary)
    return [plot for axis in _numeric(summary) if axis != size for plot in _along(summary, axis)]


def heat(summary: Summary) -> list[Plot]:
    """The score over each pair of numeric axes."""
    return [plot for pair in itertools.combinations(_numeric(summary), 2) for plot in _heat(summary, *pair)]


def series(summary: Summary, axis: str) -> dict[str, dict[str, Series]]:
    """Each method's arms along an axis, in ascending order of it, by what else they have set; two arms or more each."""
    others = [other for other in comparison.varied_axes(summary) if other not in (axis, 'method')]
    panels: dict[str, dict[str, Series]] = {}
    for arm in summary.rows:
        if axis in arm.point and arm.score.mean is not None:
            panel = panels.setdefault(', '.join(comparison.setting_labels(arm.point, others)), {})
            panel.setdefault(arm.method, []).append((float(arm.point[axis]), arm))
    lines = {
        name: {method: sorted(line, key=lambda point: point[0]) for method, line in panel.items() if len(line) > 1}
        for name, panel in panels.items()
    }
    return {name: panel for name, panel in lines.items() if panel}


def _numeric(summary: Summary) -> list[str]:
    return [axis for axis in comparison.varied_axes(summary) if comparison.numeric(axis, summary.rows)]


def _along(summary: Summary, axis: str) -> list[Plot]:
    lines, metric = series(summary, axis), summary.judged
    candidates = {name: panel for name, panel in lines.items() if set(panel) != {summary.baseline}} or lines
    if not candidates:
        return []

    def merit(line: Series) -> float:
        return metric.sign * float(np.mean([arm.score.mean for _, arm in line]))

    panels = sorted(candidates, key=lambda name: -max(map(merit, candidates[name].values())))[:PANELS]
    best = {method: max(merit(candidates[name][method]) for name in panels if method in candidates[name])
            for name in panels for method in candidates[name] if method != summary.baseline}  # fmt: skip
    methods = sorted(best, key=lambda method: -best[method])[: MOST - 1]
    styles = figure_style.styles([summary.baseline, *(method for method in best if method in methods)])
    shown = [name for name in candidates if name in panels]
    figure, places = figure_style.panels(shown, figure_style.score_label('test', metric))
    drawn: list[Estimate] = []
    for axes, name in zip(places, shown, strict=True):
        drawn += _panel(axes, summary, axis, candidates[name], styles)
    places[0].set_ylim(figure_style.focus(*figure_style.scaled(drawn, metric)))  # and all panels, which share it
    figure_style.within_unit(places[0], metric)
    some = [f'{len(panels)} of {len(candidates)} settings' if len(panels) < len(candidates) else '',
            f'{len(methods)} of {len(best)} methods' if len(methods) < len(best) else '']  # fmt: skip
    which = f'; the {" and the ".join(filter(None, some))} that lie {formatting.highest(metric)}' if any(some) else ''
    says = f'Mean test {metric.title} after the last step against {words(axis)}, with {BANDS}{which}.'
    return [figure_style.named(f'{slug(metric.name)}_vs_{slug(axis)}.png', says, figure, *places)]


def _panel(
    axes: 'Axes', summary: Summary, axis: str, panel: Mapping[str, Series], styles: Mapping[str, Any]
) -> list[Estimate]:
    """Draws the methods that have a style, with the baselines that they are compared with; returns what it drew."""
    lines = {method: line for method, line in panel.items() if method in styles}
    arms = [arm for line in lines.values() for _, arm in line]
    compared = {arm.difference.baseline for arm in arms if arm.difference}
    baselines = [arm for arm in summary.rows if arm.name in compared and arm.score.mean is not None]
    on_axis = [(float(arm.point[axis]), arm) for arm in baselines if axis in arm.point]
    if on_axis:
        lines = {summary.baseline: sorted(on_axis, key=lambda point: point[0]), **lines}
    for arm in baselines:
        if axis not in arm.point:
            _level(axes, arm, summary)
    for method, line in lines.items():
        shade = 0.15 if len(lines) < 5 else 0.07
        points = [(value, arm.score) for value, arm in line]
        figure_style.curve(axes, points, method, styles[method], summary.judged.factor, shade, markersize=5)
    values = sorted({value for line in lines.values() for value, _ in line})
    figure_style.number_axis(axes, values, words(axis))
    return [arm.score for arm in (*arms, *baselines)]


def _level(axes: 'Axes', arm: Arm, summary: Summary) -> None:
    (mean,), (ends,) = figure_style.scaled([arm.score], summary.judged)
    name = figure_style.brief(summary.baseline)
    axes.axhline(mean, color=figure_style.INK, linestyle='--', linewidth=1.2, label=name)
    if arm.score.ci95 and not arm.score.values:
        axes.axhspan(*ends, color=figure_style.INK, alpha=0.1, linewidth=0)


def _heat(summary: Summary, across: str, up: str) -> list[Plot]:
    panels, metric = _grids(summary, across, up), summary.judged
    if not panels:
        return []
    ranked = sorted(panels, key=lambda name: -np.nanmax(metric.sign * panels[name]))
    kept = {name: panel for name, panel in panels.items() if name in ranked[:PANELS]}
    columns, lines = (comparison.numeric(axis, summary.rows) for axis in (across, up))
    figure, places = figure_style.panels(list(kept), words(up), words(across), 0.9 + 0.28 * min(len(lines), 10))
    low, high = (extreme([extreme(panel) for panel in kept.values()]) for extreme in (np.nanmin, np.nanmax))
    small: dict[str, Any] = {'colors': figure_style.INK, 'labelsize': figure_style.FONT - 1}
    for axes, panel in zip(places, kept.values(), strict=True):
        image = axes.imshow(panel, cmap='cividis', vmin=low, vmax=high, origin='lower', aspect='auto')
        _numbers(axes, panel, (low + high) / 2, max(metric.digits - 1, 0))
        axes.set_xticks(range(len(columns)), [formatting.setting(value) for value in columns])
        axes.set_yticks(range(len(lines)), [formatting.setting(value) for value in lines])
        axes.tick_params(**small, length=0)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=places, shrink=0.9)
    bar.set_label(figure_style.score_label('test', metric), **figure_style.LABEL)
    bar.ax.tick_params(**small)
    peak = f'{formatting.highest(metric)} {"peak" if metric.sign > 0 else "trough"}'
    which = '' if len(kept) == len(panels) else f'; the {len(kept)} of {len(panels)} with the {peak}'
    score = formatting.in_unit(metric.title, metric.unit)
    says = f'Mean test {score} over {words(across)} and {words(up)}{which}.'
    return [Plot(f'heat_{slug(across)}_{slug(up)}.png', says, figure)]


def _grids(summary: Summary, across: str, up: str) -> dict[str, np.ndarray]:
    """(values of up, values of across) mean scores in their unit by what else varies; nan where there is none."""
    columns, lines = (comparison.numeric(axis, summary.rows) for axis in (across, up))
    others = [axis for axis in comparison.varied_axes(summary) if axis not in (across, up)]
    panels: dict[str, np.ndarray] = {}
    for arm in summary.rows:
        mean, point = arm.score.mean, arm.point
        if across in point and up in point and mean is not None:
            panel = panels.setdefault(comparison.label(point, others), np.full((len(lines), len(columns)), np.nan))
            panel[lines.index(point[up]), columns.index(point[across])] = summary.judged.factor * mean
    return {name: panel for name, panel in panels.items() if _spans(panel)}


def _spans(panel: np.ndarray) -> bool:
    known = np.isfinite(panel)
    return bool(known.any(0).sum() > 1 and known.any(1).sum() > 1)


def _numbers(axes: 'Axes', panel: np.ndarray, middle: float, digits: int) -> None:
    """The numbers themselves, where there is room for them."""
    if panel.shape[1] > 8 or panel.shape[0] > 10:
        return
    for (line, column), value in np.ndenumerate(panel):
        text, colour = (f'{value:.{digits}f}', 'white' if value < middle else 'black') if np.isfinite(value) else (
            formatting.NOTHING, figure_style.INK)  # fmt: skip
        axes.text(column, line, text, ha='center', va='center', fontsize=figure_style.FONT - 2, color=colour)
