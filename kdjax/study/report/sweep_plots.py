"""Figures of a sweep: gains by arm, accuracy against each numeric axis, heat maps of two; each only where it exists.

Many arms stay legible because a figure shows some of them and says which: those with the highest mean test accuracy,
and the baselines. What is left out of a figure is in the tables.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kdjax.study.report import comparison, figure_style, formatting, statistics, sweep_tables
from kdjax.study.report.figure_style import Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Mapping[str, Any]
Series = list[tuple[float, Row]]  # one method's arms along an axis: its value, and the arm

SHOWN = 8  # methods in one figure, the baseline among them
PANELS = 6
LINES = 90  # arms in the figure of gains
LETTERS = 32  # of their names
MARKS = {statistics.HELPS: (figure_style.COLOURS[0], '^'), statistics.HURTS: (figure_style.COLOURS[1], 'v')}
UNMARKED = ('#8a939c', 'o')


def gains(found: Row) -> list[Plot]:
    """Every arm's difference to its baseline with its interval, sorted; coloured where it is significant after Holm."""
    rows = [row for row in found['arms'] if row['difference'] and row['difference']['mean'] is not None]
    if not rows:
        return []
    ranked = sorted(rows, key=lambda row: row['difference']['mean'])
    kept = ranked if len(ranked) <= LINES else ranked[: LINES // 2] + ranked[-LINES // 2 :]
    figure = figure_style.blank(5.6, 0.9 + 0.19 * len(kept))
    axes = figure_style.dress(figure.add_subplot(), '', f'accuracy over {found["baseline"]} (points)')
    axes.grid(axis='x', color=figure_style.FAINT, linewidth=0.8)
    axes.axvline(0, color=figure_style.INK, linewidth=1.2)
    for place, row in enumerate(kept):
        _gain(axes, place, row['difference'])
    names = [row['name'] for row in kept]
    if max(map(len, names)) > LETTERS:
        names = [figure_style.brief(sweep_tables.terse(row, found), LETTERS) for row in kept]
        axes.set_ylabel(
            ', '.join(sweep_tables.varied(found)).replace('_', ' '), color=figure_style.INK, fontsize=figure_style.FONT
        )
    axes.set_yticks(range(len(kept)), names, fontsize=figure_style.FONT - 1)
    axes.set_ylim(-0.7, len(kept) - 0.3)
    means, ends = _points([row['difference'] for row in kept])
    low, high = figure_style.focus(means, ends)
    axes.set_xlim(min(low, 0), max(high, 0))
    figure_style.legend(figure, axes)
    left_out = '' if kept is ranked else f'; the {LINES // 2} highest and the {LINES // 2} lowest of {len(rows)} arms'
    left_out += '; intervals that meet the frame go on beyond it' if np.min(ends) < low or np.max(ends) > high else ''
    return [Plot('gains.png', f'Gain over {found["baseline"]}, with the 95 % interval of each arm by itself{left_out}.',
                 figure)]  # fmt: skip


def along(found: Row) -> list[Plot]:
    """Accuracy against each numeric axis."""
    drawn = (_along(found, axis) for axis in sweep_tables.varied(found) if comparison.numeric(axis, found['arms']))
    return [plot for plot in drawn if plot is not None]


def heat(found: Row) -> list[Plot]:
    """Accuracy over each pair of numeric axes."""
    axes = [axis for axis in sweep_tables.varied(found) if comparison.numeric(axis, found['arms'])]
    drawn = (_heat(found, *pair) for pair in itertools.combinations(axes, 2))
    return [plot for plot in drawn if plot is not None]


def _gain(axes: 'Axes', place: int, difference: Row) -> None:
    colour, marker = MARKS.get(difference['verdict'], UNMARKED)
    face = 'white' if difference['verdict'] == statistics.UNTESTED else colour
    mean, ends = 100 * difference['mean'], difference['ci95']
    if ends:
        axes.plot([100 * end for end in ends], [place, place], color=colour, linewidth=1.6)
    axes.plot(
        mean,
        place,
        marker=marker,
        color=colour,
        markerfacecolor=face,
        markersize=5,
        linestyle='',
        label=difference['verdict'],
    )


def _points(estimates: Sequence[Row]) -> tuple[list[float], list[tuple[float, float]]]:
    """Means and ends of intervals in percent; where there is no interval, its ends are the mean."""
    means = [100 * estimate['mean'] for estimate in estimates]
    ends = [estimate['ci95'] or (estimate['mean'], estimate['mean']) for estimate in estimates]
    return means, [(100 * low, 100 * high) for low, high in ends]


def series(found: Row, axis: str) -> dict[str, dict[str, Series]]:
    """Each method's arms along an axis, in ascending order of it, by what else they have set; two arms or more each."""
    others = [other for other in sweep_tables.varied(found) if other not in (axis, 'method')]
    panels: dict[str, dict[str, Series]] = {}
    for row in found['arms']:
        if axis in row['point'] and row['last']['accuracy']['mean'] is not None:
            panel = panels.setdefault(', '.join(comparison.settings(row['point'], others)), {})
            panel.setdefault(row['method'], []).append((row['point'][axis], row))
    lines = {
        name: {method: sorted(line, key=lambda point: point[0]) for method, line in panel.items() if len(line) > 1}
        for name, panel in panels.items()
    }
    return {name: panel for name, panel in lines.items() if panel}


def _along(found: Row, axis: str) -> Plot | None:
    lines = series(found, axis)
    taught = {name: panel for name, panel in lines.items() if set(panel) != {found['baseline']}} or lines
    if not taught:
        return None
    panels = sorted(taught, key=lambda name: -max(map(_mean, taught[name].values())))[:PANELS]
    best = {method: max(_mean(taught[name][method]) for name in panels if method in taught[name])
            for name in panels for method in taught[name] if method != found['baseline']}  # fmt: skip
    methods = sorted(best, key=lambda method: -best[method])[: SHOWN - 1]
    styles = {method: figure_style.style(place) for place, method in
              enumerate((found['baseline'], *(method for method in best if method in methods)))}  # fmt: skip
    figure, drawn = figure_style.panels(len(panels), 3.3 if len(panels) == 1 else 2.3)
    estimates = []
    for place, (axes, name) in enumerate(zip(drawn, [name for name in taught if name in panels], strict=True)):
        figure_style.dress(axes, '' if place % 2 else 'test accuracy (%)')
        axes.set_title(figure_style.brief(name, 36), fontsize=figure_style.FONT)
        estimates += _panel(axes, found, axis, taught[name], styles)
    drawn[0].set_ylim(figure_style.focus(*_points(estimates)))  # and with it all panels, which share their scale
    figure_style.within_percent(drawn[0])
    figure_style.legend(figure, *drawn)
    some = [f'{len(panels)} of {len(taught)} settings' if len(panels) < len(taught) else '',
            f'{len(methods)} of {len(best)} methods' if len(methods) < len(best) else '']  # fmt: skip
    which = f'; the {" and the ".join(filter(None, some))} that lie highest' if any(some) else ''
    says = f'Mean test accuracy after the last step against {axis.replace("_", " ")}, with 95 % bands{which}.'
    return Plot(f'accuracy_vs_{_slug(axis)}.png', says, figure)


def _panel(axes: 'Axes', found: Row, axis: str, panel: Mapping[str, Series], styles: Mapping[str, Row]) -> list[Row]:
    """Draws the methods that have a style, with their baselines; returns all estimates that it drew."""
    lines = {method: line for method, line in panel.items() if method in styles}
    rows = [row for line in lines.values() for _, row in line]
    baselines = _baselines(found, rows)
    along = [(row['point'][axis], row) for row in baselines if axis in row['point']]
    if along:
        lines = {found['baseline']: sorted(along, key=lambda point: point[0]), **lines}
    level = [row for row in baselines if axis not in row['point']]
    for row in level:
        _level(axes, row, found['baseline'])
    for method, line in lines.items():
        _line(axes, method, line, styles[method], 0.15 if len(lines) < 5 else 0.07)
    values = sorted({value for line in lines.values() for value, _ in line})
    figure_style.number_axis(axes, values, axis.replace('_', ' '))
    return [row['last']['accuracy'] for row in (*rows, *baselines)]


def _mean(line: Series) -> float:
    return float(np.mean([row['last']['accuracy']['mean'] for _, row in line]))


def _baselines(found: Row, rows: Sequence[Row]) -> list[Row]:
    """The baseline arms with which these arms are compared."""
    names = {row['difference']['baseline'] for row in rows if row['difference']}
    return [row for row in found['arms'] if row['name'] in names and row['last']['accuracy']['mean'] is not None]


def _level(axes: 'Axes', row: Row, name: str) -> None:
    mean, ends = row['last']['accuracy']['mean'], row['last']['accuracy']['ci95']
    axes.axhline(100 * mean, color=figure_style.INK, linestyle='--', linewidth=1.2, label=figure_style.brief(name))
    if ends:
        axes.axhspan(*(100 * end for end in ends), color=figure_style.INK, alpha=0.1, linewidth=0)


def _line(axes: 'Axes', name: str, line: Series, style: Row, shade: float) -> None:
    means, ends = _points([row['last']['accuracy'] for _, row in line])
    values = [value for value, _ in line]
    axes.fill_between(values, *np.transpose(ends), color=style['color'], alpha=shade, linewidth=0)
    axes.plot(values, means, label=figure_style.brief(name), markersize=5, linewidth=1.4, **style)


def _heat(found: Row, across: str, up: str) -> Plot | None:
    panels = _grids(found, across, up)
    if not panels:
        return None
    ranked = sorted(panels, key=lambda name: -np.nanmax(panels[name]))
    kept = [name for name in panels if name in ranked[:PANELS]]
    columns, lines = (comparison.numeric(axis, found['arms']) for axis in (across, up))
    figure, drawn = figure_style.panels(len(kept), 0.9 + 0.28 * min(len(lines), 10))
    low, high = (extreme([extreme(panels[name]) for name in kept]) for extreme in (np.nanmin, np.nanmax))
    for place, (axes, name) in enumerate(zip(drawn, kept, strict=True)):
        image = axes.imshow(panels[name], cmap='cividis', vmin=low, vmax=high, origin='lower', aspect='auto')
        _cells(axes, panels[name], (low + high) / 2)
        axes.set_title(figure_style.brief(name), fontsize=figure_style.FONT)
        axes.set_xticks(range(len(columns)), [formatting.value(value) for value in columns])
        axes.set_yticks(range(len(lines)), [formatting.value(value) for value in lines])
        axes.tick_params(colors=figure_style.INK, labelsize=figure_style.FONT - 1, length=0)
        axes.set_xlabel(across.replace('_', ' '), color=figure_style.INK, fontsize=figure_style.FONT)
        axes.set_ylabel('' if place % 2 else up.replace('_', ' '), color=figure_style.INK, fontsize=figure_style.FONT)
        axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=drawn, shrink=0.9)
    bar.set_label('test accuracy (%)', color=figure_style.INK, fontsize=figure_style.FONT)
    bar.ax.tick_params(colors=figure_style.INK, labelsize=figure_style.FONT - 1)
    which = '' if len(kept) == len(panels) else f'; the {len(kept)} of {len(panels)} with the highest peak'
    says = f'Mean test accuracy (%) over {across.replace("_", " ")} and {up.replace("_", " ")}{which}.'
    return Plot(f'heat_{_slug(across)}_{_slug(up)}.png', says, figure)


def _grids(found: Row, across: str, up: str) -> dict[str, np.ndarray]:
    """(values of up, values of across) mean accuracies in percent by what else varies; nan where there is none."""
    columns, lines = (comparison.numeric(axis, found['arms']) for axis in (across, up))
    others = [axis for axis in sweep_tables.varied(found) if axis not in (across, up)]
    panels: dict[str, np.ndarray] = {}
    for row in found['arms']:
        mean, point = row['last']['accuracy']['mean'], row['point']
        if across in point and up in point and mean is not None:
            panel = panels.setdefault(comparison.label(point, others), np.full((len(lines), len(columns)), np.nan))
            panel[lines.index(point[up]), columns.index(point[across])] = 100 * mean
    return {name: panel for name, panel in panels.items() if _spans(panel)}


def _spans(panel: np.ndarray) -> bool:
    known = np.isfinite(panel)
    return bool(known.any(0).sum() > 1 and known.any(1).sum() > 1)


def _cells(axes: 'Axes', panel: np.ndarray, middle: float) -> None:
    """The numbers themselves, where there is room for them."""
    if panel.shape[1] > 8 or panel.shape[0] > 10:
        return
    for (line, column), value in np.ndenumerate(panel):
        text, colour = (
            ('–', figure_style.INK) if np.isnan(value) else (f'{value:.1f}', 'white' if value < middle else 'black')
        )
        axes.text(column, line, text, ha='center', va='center', fontsize=figure_style.FONT - 2, color=colour)


def _slug(axis: str) -> str:
    return ''.join(letter if letter.isalnum() else '_' for letter in axis)
