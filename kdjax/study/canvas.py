"""What all figures share: paper and ink, how methods are told apart, and where a legend goes.

matplotlib is imported where it is used, since nothing else needs it, and through its object-oriented interface: no
figure outlives its function and no global setting changes. Colours are Okabe and Ito's, which colour-blind readers
can tell apart; markers tell the same methods apart in print.
"""

import io
from typing import TYPE_CHECKING, Any

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


def within_percent(axes: 'Axes') -> None:
    """Keeps a scale in percent to what a share can be."""
    low, high = axes.get_ylim()  # the t interval of two seeds may reach far beyond what an accuracy can be
    axes.set_ylim(max(low, -2), min(high, 102))


def legend(figure: 'Figure', *panels: 'Axes') -> None:
    """What the panels show, once each, below them in as few lines as fit, and with room of its own."""
    shown = {label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    if shown:
        fitting = figure.get_figwidth() / (0.7 + 0.075 * max(map(len, shown)))  # inches: a handle, a letter
        lines = -(-len(shown) // max(int(fitting), 1))
        columns = -(-len(shown) // lines)
        figure.set_figheight(figure.get_figheight() + 0.2 * lines)
        form: dict[str, Any] = {'ncols': columns, 'frameon': False, 'fontsize': FONT}
        figure.legend(list(shown.values()), list(shown), loc='outside lower center', **form)
