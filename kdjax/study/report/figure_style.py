"""What all figures share: paper and ink, how methods are told apart, and where a legend goes.

matplotlib is imported where it is used, since nothing else needs it, and through its object-oriented interface: no
figure outlives its function and no global setting changes. Colours are Okabe and Ito's, which colour-blind readers
can tell apart; markers tell the same methods apart in print.
"""

import io
import itertools
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kdjax.metrics import Metric
from kdjax.study.report import formatting
from kdjax.study.report.records import Estimate, PairedDifference

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000', '#A6A000')
MARKERS = 'osD^vP*X'
LINES = ('-', '--', '-.', ':')  # neighbours differ: of two that lie on each other both are seen
INK, FAINT = '#333333', '#d9dde2'
DPI = 200
FONT = 9  # points; with figures this narrow it is legible on a telephone too
LABEL: dict[str, Any] = {'color': INK, 'fontsize': FONT}


def style(position: int) -> dict[str, Any]:
    """Colour, marker and line of the method at `position`; no two of the first 32 are alike."""
    lap, place = divmod(position, len(COLOURS))
    return {'color': COLOURS[place], 'marker': MARKERS[place], 'linestyle': LINES[(place + lap) % len(LINES)]}


def styles(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The style of each method, in the order in which they come."""
    return {name: style(place) for place, name in enumerate(names)}


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
    import matplotlib
    from matplotlib.text import Text

    buffer = io.BytesIO()
    # Names are shown, never read as mathematics: a class may be called '$\write18{id}$'. The setting is for labels of
    # ticks, which are made while it is drawn.
    with matplotlib.rc_context({'text.parse_math': False}):
        for text in figure.findobj(Text):
            text.set_parse_math(False)
        figure.savefig(buffer, format='png', dpi=DPI, metadata={'Software': None})
    return buffer.getvalue()


def dress(axes: 'Axes', ylabel: str, xlabel: str = '') -> 'Axes':
    """Labels, a quiet frame and a grid; returns the axes."""
    axes.spines[['top', 'right']].set_visible(False)
    axes.spines[['left', 'bottom']].set_color(INK)
    axes.tick_params(colors=INK, labelsize=FONT)
    axes.grid(axis='y', color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel(xlabel, **LABEL)
    axes.set_ylabel(ylabel, **LABEL)
    return axes


def single(width: float, height: float, ylabel: str, xlabel: str = '') -> tuple['Figure', 'Axes']:
    """A figure of so many inches with one pair of axes, dressed."""
    figure = blank(width, height)
    return figure, dress(figure.add_subplot(), ylabel, xlabel)


def panels(
    titles: Sequence[str], ylabel: str, xlabel: str = '', height: float | None = None
) -> tuple['Figure', list['Axes']]:
    """A figure with titled axes on one scale, dressed, two beside each other, so high each (inches)."""
    columns = min(len(titles), 2)
    down = -(-len(titles) // columns)
    figure = blank(5.8, 0.3 + (height or (3.3 if len(titles) == 1 else 2.3)) * down)
    every = list(figure.subplots(down, columns, sharey=True, squeeze=False).flat)
    for axes in every[len(titles) :]:
        axes.remove()
    for place, (axes, title) in enumerate(zip(every, titles, strict=False)):
        dress(axes, '' if place % 2 else ylabel, xlabel)
        axes.set_title(brief(title, 36), fontsize=FONT)
    return figure, every[: len(titles)]


def score_label(split: str, metric: Metric) -> str:
    """'test accuracy (%)'."""
    return _directed(f'{split} {metric.title}', metric.unit, metric)


def gain_label(baseline: str, metric: Metric) -> str:
    """'accuracy over hard labels (points)'."""
    return _directed(f'{metric.title} over {baseline}', metric.difference, metric)


def _directed(title: str, unit: str, metric: Metric) -> str:
    return formatting.in_unit(title, unit if metric.sign > 0 else f'{unit}, lower is better'.removeprefix(', '))


def within_unit(axes: 'Axes', metric: Metric) -> None:
    """Keeps a scale of scores in percent to what they can be: a share, or an error rate, which may exceed 100 %."""
    if metric.unit == '%':
        low, high = axes.get_ylim()  # the t interval of two seeds may reach far beyond what a share can be
        axes.set_ylim(max(low, -2), min(high, 102) if metric.sign > 0 else high)


def scaled(estimates: Sequence[Estimate | PairedDifference], metric: Metric) -> tuple[np.ndarray, np.ndarray]:
    """Means (n,) and ends (n, 2) of the intervals of a metric or its differences, in its unit.

    Args:
      estimates: those that have a mean; of few seeds the ends are the lowest and the highest, of one the mean.
      metric: of which they are.
    """
    means = np.array([estimate.mean for estimate in estimates], np.float64)
    ends = [
        (min(values), max(values)) if (values := estimate.values) else estimate.ci95 or (estimate.mean, estimate.mean)
        for estimate in estimates
    ]
    return metric.factor * means, metric.factor * np.array(ends, np.float64).reshape(-1, 2)


def curve(
    axes: 'Axes', points: Sequence[tuple[float, Estimate]], label: str, look: Mapping[str, Any], factor: float = 1,
    shade: float = 0.15, runs: Sequence[Sequence[tuple[float, float]]] = (), **form: Any,
) -> None:  # fmt: skip
    """Means over places on the axis as a line, and the intervals of those that have one as a band.

    Of few seeds there is no band, but every run: as a thin line where `runs` has its places and values, else as points.
    """
    known = [(place, *estimate.ci95) for place, estimate in points if estimate.ci95 and not estimate.values]
    few = any(estimate.values for _, estimate in points)
    for run in runs if few else ():
        axes.plot([place for place, _ in run], [factor * value for _, value in run], color=look['color'], linewidth=0.6,
                  alpha=0.6, zorder=1)  # fmt: skip
    if few and not runs:
        dots(axes, points, look, factor)
    if known:
        places, low, high = np.array(known, np.float64).T
        axes.fill_between(places, factor * low, factor * high, color=look['color'], alpha=shade, linewidth=0)
    means = [factor * (estimate.mean or 0) for _, estimate in points]
    axes.plot([place for place, _ in points], means, label=brief(label), linewidth=1.4, **form, **look)


def dots(axes: 'Axes', points: Iterable[tuple[float, Any]], look: Mapping[str, Any], factor: float = 1) -> None:
    """The values of few seeds at their places."""
    spots = [(place, factor * value) for place, estimate in points for value in estimate.values]
    axes.plot(*np.array(spots).reshape(-1, 2).T, '.', color=look['color'], markersize=3, alpha=0.6, zorder=1)


def label_lines(figure: 'Figure', axes: 'Axes') -> None:
    """The name of every line at its right end, in its colour, as near as they do not run into one another."""
    handles, names = axes.get_legend_handles_labels()
    lines: list[Any] = [
        getattr(handle, 'lines', (handle,))[0] for handle in handles
    ]  # of an error bar that of its means
    ends = [_height(axes, line) for line in lines]
    texts = [textwrap.fill(brief(name, 34), 17) for name in names]
    inches = (figure.get_figheight() - 0.7) * 72 / (FONT + 2)  # lines of text that fit
    places = spread(ends, [(1 + text.count('\n')) / inches for text in texts])
    for line, text, end, place in zip(lines, texts, ends, places, strict=True):
        form: dict[str, Any] = {**LABEL, 'color': line.get_color(), 'va': 'center', 'annotation_clip': False}
        arrow = {'arrowstyle': '-', 'color': line.get_color(), 'linewidth': 0.7, 'shrinkA': 0, 'shrinkB': 0}
        axes.annotate(text, (1, end), (1.05, place), 'axes fraction', 'axes fraction', arrowprops=arrow, **form)


def spread(places: Sequence[float], heights: Sequence[float]) -> np.ndarray:
    """Places (n,) in 0 to 1, moved so little that things of these heights stand one above the other."""
    order, moved = np.argsort(places, kind='stable'), np.array(places, np.float64)
    for lower, upper in itertools.pairwise(order):
        moved[upper] = max(moved[upper], moved[lower] + (heights[lower] + heights[upper]) / 2)
    if len(order):
        moved[order[-1]] = min(moved[order[-1]], max(1.0, places[order[-1]]))
    for lower, upper in reversed(list(itertools.pairwise(order))):
        moved[lower] = min(moved[lower], moved[upper] - (heights[lower] + heights[upper]) / 2)
    return moved


def _height(axes: 'Axes', line: Any) -> float:
    """Where a line ends, as a share of the height of its axes."""
    known = [value for value in np.asarray(line.get_ydata(), np.float64) if np.isfinite(value)] or [axes.get_ylim()[0]]
    low, high, end = (axes.yaxis.get_transform().transform(value) for value in (*axes.get_ylim(), known[-1]))
    return float(np.clip((end - low) / (high - low), 0, 1))


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


def slug(name: str) -> str:
    """The name of an axis or a metric as a part of a file's name."""
    return ''.join(letter if letter.isalnum() else '_' for letter in name)


def explained(file: str, says: str, figure: 'Figure', *panels: 'Axes') -> Plot:
    """The figure with the legend of its panels."""
    legend(figure, *panels)
    return Plot(file, says, figure)


def named(file: str, says: str, figure: 'Figure', *panels: 'Axes') -> Plot:
    """The figure with the names of its lines: at the lines where there is one panel, else in a legend of all."""
    if len(panels) > 1:
        return explained(file, says, figure, *panels)
    label_lines(figure, panels[0])
    return Plot(file, says, figure)


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


def scale(axes: 'Axes', values: Sequence[float], label: str, wide: float = 10) -> bool:
    """Makes a horizontal axis logarithmic where values span more than a factor; returns whether they do."""
    from matplotlib.ticker import NullLocator

    logarithmic = min(values) > 0 and max(values) > wide * min(values)
    axes.set_xlabel(label + (' (log scale)' if logarithmic else ''), **LABEL)
    if logarithmic:
        axes.set_xscale('log')
        axes.xaxis.set_major_formatter('{x:g}')
        axes.xaxis.set_minor_locator(NullLocator())
    return logarithmic


def number_axis(axes: 'Axes', values: Sequence[float], label: str) -> None:
    """A horizontal axis of settings, with ticks at the settings."""
    scale(axes, values, label)
    if len(values) <= 10:
        axes.set_xticks(values, [formatting.setting(value) for value in values])
