"""Figures over settings: gains by arm, the score against each numeric axis, heat maps of two; where there are such.

Many arms stay legible because a figure has some of them and says which: those with the best mean score, and the
baselines. What is left out of a figure is in the tables.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kdjax.study.report import comparison, figure_style, formatting, statistics, tables
from kdjax.study.report.figure_style import Plot
from kdjax.study.report.formatting import words
from kdjax.study.report.records import SCORE, Arm, PairedDifference, Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Series = list[tuple[float, Arm]]  # one method's arms along an axis: its value, and the arm

MOST = 8  # methods in one figure, the baseline among them
PANELS = 6
LINES = 90  # arms in the figure of gains
LETTERS = 32  # of their names
MARKS = {statistics.HELPS: (figure_style.COLOURS[0], '^'), statistics.HURTS: (figure_style.COLOURS[1], 'v')}
UNMARKED = ('#8a939c', 'o')


def gains(summary: Summary) -> list[Plot]:
    """Every arm's difference to its baseline with its interval, sorted; coloured where it is significant after Holm."""
    pairs = [(arm, arm.difference) for arm in summary.rows if arm.difference and arm.difference.mean is not None]
    if not pairs:
        return []
    ranked = sorted(pairs, key=lambda pair: pair[1].mean or 0)
    kept = ranked if len(ranked) <= LINES else ranked[: LINES // 2] + ranked[-LINES // 2 :]
    figure = figure_style.blank(5.6, 0.9 + 0.19 * len(kept))
    label = f'{SCORE.title} over {summary.baseline} ({SCORE.difference})'
    axes = figure_style.dress(figure.add_subplot(), '', label)
    axes.grid(axis='x', color=figure_style.FAINT, linewidth=0.8)
    axes.axvline(0, color=figure_style.INK, linewidth=1.2)
    for place, (_, difference) in enumerate(kept):
        _gain(axes, place, difference)
    names = [arm.name for arm, _ in kept]
    if max(map(len, names)) > LETTERS:
        names = [figure_style.brief(tables.terse(arm, summary), LETTERS) for arm, _ in kept]
        order = ', '.join(map(words, comparison.varied_axes(summary)))
        axes.set_ylabel(order, color=figure_style.INK, fontsize=figure_style.FONT)
    axes.set_yticks(range(len(kept)), names, fontsize=figure_style.FONT - 1)
    axes.set_ylim(-0.7, len(kept) - 0.3)
    means, ends = figure_style.scaled([difference for _, difference in kept])
    low, high = figure_style.focus(means, ends)
    axes.set_xlim(min(low, 0), max(high, 0))
    figure_style.legend(figure, axes)
    left_out = '' if kept is ranked else f'; the {LINES // 2} highest and the {LINES // 2} lowest of {len(pairs)} arms'
    left_out += '; intervals that meet the frame go on beyond it' if np.min(ends) < low or np.max(ends) > high else ''
    says = f'Gain over {summary.baseline}, with the 95 % interval of each arm by itself{left_out}.'
    return [Plot('gains.png', says, figure)]


def along(summary: Summary) -> list[Plot]:
    """The score against each numeric axis, but for the size of the transfer set (see `sizes`)."""
    size = comparison.size_axis(summary)
    plots = (_along(summary, axis) for axis in _numeric(summary) if axis != size)
    return [plot for plot in plots if plot is not None]


def heat(summary: Summary) -> list[Plot]:
    """The score over each pair of numeric axes."""
    plots = (_heat(summary, *pair) for pair in itertools.combinations(_numeric(summary), 2))
    return [plot for plot in plots if plot is not None]


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


def _gain(axes: 'Axes', place: int, difference: PairedDifference) -> None:
    colour, marker = MARKS.get(difference.verdict, UNMARKED)
    face = 'white' if difference.verdict == statistics.UNTESTED else colour
    (mean,), (ends,) = figure_style.scaled([difference])
    if difference.ci95:
        axes.plot(ends, [place, place], color=colour, linewidth=1.6)
    form: dict[str, Any] = {'color': colour, 'markerfacecolor': face, 'markersize': 5, 'linestyle': ''}
    axes.plot(mean, place, marker=marker, label=difference.verdict, **form)


def _along(summary: Summary, axis: str) -> Plot | None:
    lines = series(summary, axis)
    candidates = {name: panel for name, panel in lines.items() if set(panel) != {summary.baseline}} or lines
    if not candidates:
        return None
    panels = sorted(candidates, key=lambda name: -max(map(_mean, candidates[name].values())))[:PANELS]
    best = {method: max(_mean(candidates[name][method]) for name in panels if method in candidates[name])
            for name in panels for method in candidates[name] if method != summary.baseline}  # fmt: skip
    methods = sorted(best, key=lambda method: -best[method])[: MOST - 1]
    styles = {method: figure_style.style(place) for place, method in
              enumerate((summary.baseline, *(method for method in best if method in methods)))}  # fmt: skip
    figure, places = figure_style.panels(len(panels), 3.3 if len(panels) == 1 else 2.3)
    drawn: list[Arm] = []
    for place, (axes, name) in enumerate(zip(places, [name for name in candidates if name in panels], strict=True)):
        figure_style.dress(axes, '' if place % 2 else figure_style.score_label('test'))
        axes.set_title(figure_style.brief(name, 36), fontsize=figure_style.FONT)
        drawn += _panel(axes, summary, axis, candidates[name], styles)
    limits = figure_style.focus(*figure_style.scaled([arm.score for arm in drawn]))
    places[0].set_ylim(limits)  # and with it all panels, which share their scale
    figure_style.within_unit(places[0])
    figure_style.legend(figure, *places)
    some = [f'{len(panels)} of {len(candidates)} settings' if len(panels) < len(candidates) else '',
            f'{len(methods)} of {len(best)} methods' if len(methods) < len(best) else '']  # fmt: skip
    which = f'; the {" and the ".join(filter(None, some))} that lie highest' if any(some) else ''
    says = f'Mean test {SCORE.title} after the last step against {words(axis)}, with 95 % bands{which}.'
    return Plot(f'{SCORE.name}_vs_{_slug(axis)}.png', says, figure)


def _panel(
    axes: 'Axes', summary: Summary, axis: str, panel: Mapping[str, Series], styles: Mapping[str, Any]
) -> list[Arm]:
    """Draws the methods that have a style, with their baselines; returns all arms that it drew."""
    lines = {method: line for method, line in panel.items() if method in styles}
    arms = [arm for line in lines.values() for _, arm in line]
    baselines = _baselines(summary, arms)
    on_axis = [(float(arm.point[axis]), arm) for arm in baselines if axis in arm.point]
    if on_axis:
        lines = {summary.baseline: sorted(on_axis, key=lambda point: point[0]), **lines}
    for arm in baselines:
        if axis not in arm.point:
            _level(axes, arm, summary.baseline)
    for method, line in lines.items():
        _line(axes, method, line, styles[method], 0.15 if len(lines) < 5 else 0.07)
    values = sorted({value for line in lines.values() for value, _ in line})
    figure_style.number_axis(axes, values, words(axis))
    return [*arms, *baselines]


def _mean(line: Series) -> float:
    return float(np.mean([arm.score.mean for _, arm in line]))


def _baselines(summary: Summary, arms: Sequence[Arm]) -> list[Arm]:
    """The baseline arms with which these arms are compared."""
    names = {arm.difference.baseline for arm in arms if arm.difference}
    return [arm for arm in summary.rows if arm.name in names and arm.score.mean is not None]


def _level(axes: 'Axes', arm: Arm, name: str) -> None:
    (mean,), (ends,) = figure_style.scaled([arm.score])
    axes.axhline(mean, color=figure_style.INK, linestyle='--', linewidth=1.2, label=figure_style.brief(name))
    if arm.score.ci95:
        axes.axhspan(*ends, color=figure_style.INK, alpha=0.1, linewidth=0)


def _line(axes: 'Axes', name: str, line: Series, style: Mapping[str, Any], shade: float) -> None:
    values = [value for value, _ in line]
    means, ends = figure_style.scaled([arm.score for _, arm in line])
    figure_style.band(axes, values, ends, style, shade)
    axes.plot(values, means, label=figure_style.brief(name), markersize=5, linewidth=1.4, **style)


def _heat(summary: Summary, across: str, up: str) -> Plot | None:
    panels = _grids(summary, across, up)
    if not panels:
        return None
    ranked = sorted(panels, key=lambda name: -np.nanmax(panels[name]))
    kept = {name: panel for name, panel in panels.items() if name in ranked[:PANELS]}
    columns, lines = (comparison.numeric(axis, summary.rows) for axis in (across, up))
    figure, places = figure_style.panels(len(kept), 0.9 + 0.28 * min(len(lines), 10))
    low, high = (extreme([extreme(panel) for panel in kept.values()]) for extreme in (np.nanmin, np.nanmax))
    for place, (axes, (name, panel)) in enumerate(zip(places, kept.items(), strict=True)):
        image = axes.imshow(panel, cmap='cividis', vmin=low, vmax=high, origin='lower', aspect='auto')
        _numbers(axes, panel, (low + high) / 2)
        axes.set_title(figure_style.brief(name), fontsize=figure_style.FONT)
        axes.set_xticks(range(len(columns)), [formatting.setting(value) for value in columns])
        axes.set_yticks(range(len(lines)), [formatting.setting(value) for value in lines])
        axes.tick_params(colors=figure_style.INK, labelsize=figure_style.FONT - 1, length=0)
        axes.set_xlabel(words(across), color=figure_style.INK, fontsize=figure_style.FONT)
        axes.set_ylabel('' if place % 2 else words(up), color=figure_style.INK, fontsize=figure_style.FONT)
        axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=places, shrink=0.9)
    bar.set_label(figure_style.score_label('test'), color=figure_style.INK, fontsize=figure_style.FONT)
    bar.ax.tick_params(colors=figure_style.INK, labelsize=figure_style.FONT - 1)
    which = '' if len(kept) == len(panels) else f'; the {len(kept)} of {len(panels)} with the highest peak'
    says = f'Mean test {SCORE.title} ({SCORE.unit}) over {words(across)} and {words(up)}{which}.'
    return Plot(f'heat_{_slug(across)}_{_slug(up)}.png', says, figure)


def _grids(summary: Summary, across: str, up: str) -> dict[str, np.ndarray]:
    """(values of up, values of across) mean scores in their unit by what else varies; nan where there is none."""
    columns, lines = (comparison.numeric(axis, summary.rows) for axis in (across, up))
    others = [axis for axis in comparison.varied_axes(summary) if axis not in (across, up)]
    panels: dict[str, np.ndarray] = {}
    for arm in summary.rows:
        mean, point = arm.score.mean, arm.point
        if across in point and up in point and mean is not None:
            panel = panels.setdefault(comparison.label(point, others), np.full((len(lines), len(columns)), np.nan))
            panel[lines.index(point[up]), columns.index(point[across])] = SCORE.factor * mean
    return {name: panel for name, panel in panels.items() if _spans(panel)}


def _spans(panel: np.ndarray) -> bool:
    known = np.isfinite(panel)
    return bool(known.any(0).sum() > 1 and known.any(1).sum() > 1)


def _numbers(axes: 'Axes', panel: np.ndarray, middle: float) -> None:
    """The numbers themselves, where there is room for them."""
    if panel.shape[1] > 8 or panel.shape[0] > 10:
        return
    for (line, column), value in np.ndenumerate(panel):
        text, colour = (f'{value:.1f}', 'white' if value < middle else 'black') if np.isfinite(value) else (
            formatting.NOTHING, figure_style.INK)  # fmt: skip
        axes.text(column, line, text, ha='center', va='center', fontsize=figure_style.FONT - 2, color=colour)


def _slug(axis: str) -> str:
    return ''.join(letter if letter.isalnum() else '_' for letter in axis)
