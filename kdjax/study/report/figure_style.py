"""What all figures share: paper and ink, how methods are told apart, and where a legend goes.

matplotlib is imported where it is used, since nothing else needs it, and through its object-oriented interface: no
figure outlives its function and no global setting changes. Colours are Okabe and Ito's, which colour-blind readers
can tell apart; markers tell the same methods apart in print.
"""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kdjax.study.report import formatting
from kdjax.study.report.formatting import Mean
from kdjax.study.report.records import SCORE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000', '#A6A000')
MARKERS = 'osD^vP*X'
LINES = ('-', '--', ':', '-.')
INK, FAINT = '#333333', '#d9dde2'
DPI = 200
FONT = 9  # points; with figures this narrow it is legible on a telephone too


def style(position: int) -> dict[str, Any]:
    """Colour, marker and line of the method at `position`; no two of the first 32 are alike."""
    lap, place = divmod(position, len(COLOURS))
    return {'color': COLOURS[place], 'marker': MARKERS[place], 'linestyle': LINES[lap % len(LINES)]}


def blank(width: float, height: float) -> 'Figure':
    """An empty figure of so many inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08)  # inches, so that no mark touches the edge
    figure = Figure(figsize=(width, height), dpi=DPI, layout=layout, facecolor='white')
    FigureCanvasAgg(figure)
    return figure


def png(figure: 'Figure') -> bytes:
    """The figure as a PNG file; the same numbers are the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=DPI, metadata={'Software': None})
    return buffer.getvalue()


def dress(axes: 'Axes', ylabel: str, xlabel: str = '') -> 'Axes':
    """Labels, a quiet frame and a grid; returns the axes."""
    axes.spines[['top', 'right']].set_visible(False)
    axes.spines[['left', 'bottom']].set_color(INK)
    axes.tick_params(colors=INK, labelsize=FONT)
    axes.grid(axis='y', color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel(xlabel, color=INK, fontsize=FONT)
    axes.set_ylabel(ylabel, color=INK, fontsize=FONT)
    return axes


def score_label(split: str) -> str:
    """'test accuracy (%)'."""
    return f'{split} {SCORE.title} ({SCORE.unit})'


def within_unit(axes: 'Axes') -> None:
    """Keeps a scale of scores in percent to what a share can be."""
    if SCORE.unit == '%':
        low, high = axes.get_ylim()  # the t interval of two seeds may reach far beyond what a share can be
        axes.set_ylim(max(low, -2), min(high, 102))


def scaled(estimates: Sequence[Mean]) -> tuple[np.ndarray, np.ndarray]:
    """Means (n,) and ends (n, 2) of the intervals of scores or their differences, in the unit of the score.

    Args:
      estimates: those that have a mean; where there is no interval, its ends are the mean.
    """
    means = np.array([estimate.mean for estimate in estimates], np.float64)
    ends = [estimate.ci95 or (estimate.mean, estimate.mean) for estimate in estimates]
    return SCORE.factor * means, SCORE.factor * np.array(ends, np.float64).reshape(-1, 2)


def band(axes: 'Axes', places: Sequence[float], ends: np.ndarray, look: Mapping[str, Any], shade: float = 0.15) -> None:
    """Fills between the ends (n, 2) of intervals."""
    if len(places):
        axes.fill_between(places, *ends.T, color=look['color'], alpha=shade, linewidth=0)


def legend(figure: 'Figure', *panels: 'Axes') -> None:
    """What the panels show, once each, below them in as few lines as fit, and with room of its own."""
    handles = {
        label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if handles:
        fitting = figure.get_figwidth() / (0.7 + 0.075 * max(map(len, handles)))  # inches: a handle, a letter
        lines = -(-len(handles) // max(int(fitting), 1))
        columns = -(-len(handles) // lines)
        figure.set_figheight(figure.get_figheight() + 0.2 * lines)
        form: dict[str, Any] = {'ncols': columns, 'frameon': False, 'fontsize': FONT}
        figure.legend(list(handles.values()), list(handles), loc='outside lower center', **form)


class Plot(NamedTuple):
    """A figure, the file that it becomes, and what a reader hears who cannot see it."""

    file: str
    says: str
    figure: 'Figure'


def brief(text: str, letters: int = 42) -> str:
    """`text`, or as much of its two ends as a legend or an axis can bear."""
    half = letters // 2
    return text if len(text) <= letters else f'{text[:half].rstrip()}…{text[-(letters - half - 1) :].lstrip()}'


def focus(means: np.ndarray, ends: np.ndarray) -> tuple[float, float]:
    """Limits of an axis that hold all means and, but for those of a few seeds that reach far out, all intervals.

    Args:
      means: (n,), at least one.
      ends: (n, 2), low and high of each mean's interval.
    """
    lows, highs = ends.T
    reaches = (highs - lows)[highs > lows] / 2
    usual = 3 * float(np.median(reaches)) if len(reaches) else 0.0  # what reaches further is of very few seeds
    low, high = max(lows.min(), means.min() - usual), min(highs.max(), means.max() + usual)
    margin = 0.06 * (high - low) or 0.5
    return float(low - margin), float(high + margin)


def number_axis(axes: 'Axes', values: Sequence[float], label: str) -> None:
    """A horizontal axis of settings: logarithmic where they span more than a factor of ten, ticks at the settings."""
    from matplotlib.ticker import NullLocator

    logarithmic = min(values) > 0 and max(values) > 10 * min(values)
    axes.set_xlabel(label + (' (log scale)' if logarithmic else ''), color=INK, fontsize=FONT)
    if logarithmic:
        axes.set_xscale('log')
        axes.xaxis.set_minor_locator(NullLocator())
    if len(values) <= 10:
        axes.set_xticks(values, [formatting.setting(value) for value in values])


def panels(count: int, height: float = 2.3) -> tuple['Figure', list['Axes']]:
    """A figure with so many axes on one scale, two beside each other, so high each (inches)."""
    columns = min(count, 2)
    down = -(-count // columns)
    figure = blank(5.8, 0.3 + height * down)
    places = list(figure.subplots(down, columns, sharey=True, squeeze=False).flat)
    for axes in places[count:]:
        axes.remove()
    return figure, places[:count]
