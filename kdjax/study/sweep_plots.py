"""Figures of a sweep: gains by arm, accuracy against each numeric axis, heat maps of two; each only where it exists.

Many arms stay legible because a figure shows SHOWN of them and says which: those with the highest mean test accuracy,
and the baselines. What is left out of a figure is in the tables.
"""

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kdjax.study import arms, canvas, shown, statistics, sweep_tables
from kdjax.study.canvas import Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Mapping[str, Any]
Series = list[tuple[float, Row]]  # one technique's arms along an axis

SHOWN = 8  # lines in one figure
PANELS = 6
LINES = 60  # arms in the figure of gains
MARKS = {statistics.HELPS: (canvas.COLOURS[0], '^'), statistics.HURTS: (canvas.COLOURS[1], 'v')}
UNMARKED = ('#8a939c', 'o')


def gains(found: Row) -> list[Plot]:
    """Every arm's difference to its baseline with its interval, sorted; coloured where it is significant after Holm."""
    rows = [row for row in found['arms'] if row['difference'] and row['difference']['mean'] is not None]
    if not rows:
        return []
    ranked = sorted(rows, key=lambda row: row['difference']['mean'])
    kept = ranked if len(ranked) <= LINES else ranked[: LINES // 2] + ranked[-LINES // 2 :]
    figure = canvas.blank(6.2, 0.9 + 0.19 * len(kept))
    axes = canvas.dress(figure.add_subplot(), '', f'accuracy over {found["baseline"]} (points)')
    axes.grid(axis='x', color=canvas.FAINT, linewidth=0.8)
    axes.axvline(0, color=canvas.INK, linewidth=1.2)
    for place, row in enumerate(kept):
        _gain(axes, place, row['difference'])
    axes.set_yticks(range(len(kept)), [canvas.brief(row['name']) for row in kept], fontsize=canvas.FONT - 1)
    axes.set_ylim(-0.7, len(kept) - 0.3)
    low, high = canvas.focus(*_points([row['difference'] for row in kept]))
    axes.set_xlim(min(low, 0), max(high, 0))
    canvas.legend(figure, axes)
    left_out = '' if kept is ranked else f'; the {LINES // 2} highest and the {LINES // 2} lowest of {len(rows)} arms'
    return [Plot('gains.png', f'Gain over {found["baseline"]}, with the 95 % interval of each arm by itself{left_out}.',
                 figure)]  # fmt: skip


def along(found: Row) -> list[Plot]:
    """Accuracy against each numeric axis."""
    drawn = (_along(found, axis) for axis in sweep_tables.varied(found) if arms.numeric(axis, found['arms']))
    return [plot for plot in drawn if plot is not None]


def heat(found: Row) -> list[Plot]:
    """Accuracy over each pair of numeric axes."""
    axes = [axis for axis in sweep_tables.varied(found) if arms.numeric(axis, found['arms'])]
    drawn = (_heat(found, *pair) for pair in itertools.combinations(axes, 2))
    return [plot for plot in drawn if plot is not None]


def _gain(axes: 'Axes', place: int, difference: Row) -> None:
    colour, marker = MARKS.get(difference['verdict'], UNMARKED)
    verdict = difference['verdict'] if difference['verdict'] in MARKS else 'not told apart'
    mean, ends = 100 * difference['mean'], difference['ci95']
    if ends:
        axes.plot([100 * end for end in ends], [place, place], color=colour, linewidth=1.6)
    axes.plot(mean, place, marker=marker, color=colour, markersize=5, linestyle='', label=verdict)


def _points(estimates: Sequence[Row]) -> tuple[list[float], list[tuple[float, float]]]:
    """Means and ends of intervals in percent; where there is no interval, its ends are the mean."""
    means = [100 * estimate['mean'] for estimate in estimates]
    ends = [estimate['ci95'] or (estimate['mean'], estimate['mean']) for estimate in estimates]
    return means, [(100 * low, 100 * high) for low, high in ends]


def series(found: Row, axis: str) -> dict[str, Series]:
    """Arms that are equal in all but the value of `axis`, in ascending order of it; those with two values or more."""
    others = [other for other in sweep_tables.varied(found) if other != axis]
    lines: dict[str, Series] = defaultdict(list)
    for row in found['arms']:
        if axis in row['point'] and row['last']['accuracy']['mean'] is not None:
            lines[arms.label(row['point'], others)].append((row['point'][axis], row))
    return {name: sorted(line, key=lambda point: point[0]) for name, line in lines.items() if len(line) > 1}


def _along(found: Row, axis: str) -> Plot | None:
    lines = series(found, axis)
    if not lines:
        return None
    ranked = sorted(lines, key=lambda name: (not lines[name][0][1]['is_baseline'], -_mean(lines[name])))
    kept = [name for name in lines if name in ranked[:SHOWN]]
    rows = [row for name in kept for _, row in lines[name]]
    level = [row for row in _baselines(found, rows) if axis not in row['point']][:3]
    figure = canvas.blank(5.8, 3.6)
    axes = canvas.dress(figure.add_subplot(), 'test accuracy (%)')
    for row, line in zip(level, canvas.LINES[1:], strict=False):
        _level(axes, row, line)
    for place, name in enumerate(kept, 1):  # as in the other figures, the first style is that of the baseline
        _line(axes, name, lines[name], canvas.style(0 if lines[name][0][1]['is_baseline'] else place))
    values = sorted({value for name in kept for value, _ in lines[name]})
    canvas.number_axis(axes, values, axis.replace('_', ' '))
    axes.set_ylim(canvas.focus(*_points([row['last']['accuracy'] for row in rows + level])))
    canvas.within_percent(axes)
    canvas.legend(figure, axes)
    which = '' if len(kept) == len(lines) else f'; the {len(kept)} highest of {len(lines)} series'
    says = f'Mean test accuracy after the last step against {axis.replace("_", " ")}, with 95 % bands{which}.'
    return Plot(f'accuracy_vs_{_slug(axis)}.png', says, figure)


def _mean(line: Series) -> float:
    return float(np.mean([row['last']['accuracy']['mean'] for _, row in line]))


def _baselines(found: Row, rows: Sequence[Row]) -> list[Row]:
    """The baseline arms with which these arms are compared."""
    names = {row['difference']['baseline'] for row in rows if row['difference']}
    return [row for row in found['arms'] if row['name'] in names and row['last']['accuracy']['mean'] is not None]


def _level(axes: 'Axes', row: Row, line: str) -> None:
    mean, ends = row['last']['accuracy']['mean'], row['last']['accuracy']['ci95']
    axes.axhline(100 * mean, color=canvas.INK, linestyle=line, linewidth=1.2, label=canvas.brief(row['name']))
    if ends:
        axes.axhspan(*(100 * end for end in ends), color=canvas.INK, alpha=0.1, linewidth=0)


def _line(axes: 'Axes', name: str, line: Series, style: Row) -> None:
    means, ends = _points([row['last']['accuracy'] for _, row in line])
    values = [value for value, _ in line]
    axes.fill_between(values, *np.transpose(ends), color=style['color'], alpha=0.15, linewidth=0)
    axes.plot(values, means, label=canvas.brief(name), markersize=5, linewidth=1.4, **style)


def _heat(found: Row, across: str, up: str) -> Plot | None:
    panels = _grids(found, across, up)
    if not panels:
        return None
    ranked = sorted(panels, key=lambda name: -np.nanmax(panels[name]))
    kept = [name for name in panels if name in ranked[:PANELS]]
    columns, lines = (arms.numeric(axis, found['arms']) for axis in (across, up))
    figure, drawn = canvas.panels(len(kept), 0.9 + 0.28 * min(len(lines), 10))
    low, high = (extreme([extreme(panels[name]) for name in kept]) for extreme in (np.nanmin, np.nanmax))
    for place, (axes, name) in enumerate(zip(drawn, kept, strict=True)):
        image = axes.imshow(panels[name], cmap='cividis', vmin=low, vmax=high, origin='lower', aspect='auto')
        _cells(axes, panels[name], (low + high) / 2)
        axes.set_title(canvas.brief(name), fontsize=canvas.FONT)
        axes.set_xticks(range(len(columns)), [shown.value(value) for value in columns])
        axes.set_yticks(range(len(lines)), [shown.value(value) for value in lines])
        axes.tick_params(colors=canvas.INK, labelsize=canvas.FONT - 1, length=0)
        axes.set_xlabel(across.replace('_', ' '), color=canvas.INK, fontsize=canvas.FONT)
        axes.set_ylabel('' if place % 2 else up.replace('_', ' '), color=canvas.INK, fontsize=canvas.FONT)
        axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=drawn, shrink=0.9)
    bar.set_label('test accuracy (%)', color=canvas.INK, fontsize=canvas.FONT)
    bar.ax.tick_params(colors=canvas.INK, labelsize=canvas.FONT - 1)
    which = '' if len(kept) == len(panels) else f'; the {len(kept)} of {len(panels)} with the highest peak'
    says = f'Mean test accuracy (%) over {across.replace("_", " ")} and {up.replace("_", " ")}{which}.'
    return Plot(f'heat_{_slug(across)}_{_slug(up)}.png', says, figure)


def _grids(found: Row, across: str, up: str) -> dict[str, np.ndarray]:
    """(values of up, values of across) mean accuracies in percent by what else varies; nan where there is none."""
    columns, lines = (arms.numeric(axis, found['arms']) for axis in (across, up))
    others = [axis for axis in sweep_tables.varied(found) if axis not in (across, up)]
    panels: dict[str, np.ndarray] = {}
    for row in found['arms']:
        mean, point = row['last']['accuracy']['mean'], row['point']
        if across in point and up in point and mean is not None:
            panel = panels.setdefault(arms.label(point, others), np.full((len(lines), len(columns)), np.nan))
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
            ('–', canvas.INK) if np.isnan(value) else (f'{value:.1f}', 'white' if value < middle else 'black')
        )
        axes.text(column, line, text, ha='center', va='center', fontsize=canvas.FONT - 2, color=colour)


def _slug(axis: str) -> str:
    return ''.join(letter if letter.isalnum() else '_' for letter in axis)
