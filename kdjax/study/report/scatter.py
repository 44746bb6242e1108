"""Figures in which every arm is a point: the score against cost, and against fidelity to the teacher."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from kdjax.study.report import figure_style, networks
from kdjax.study.report.figure_style import Plot
from kdjax.study.report.records import METRICS, SCORE, Cost, Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Price = Callable[[Cost], float | None]

METHODS = 8  # told apart by colour; the others are grey
NAMED = 6  # arms of a front that a caption names
GREY = '#b4bbc3'
FIDELITY = METRICS['agreement']


class Point(NamedTuple):
    """An arm, or a teacher, whose method is None: at (x, score in its unit)."""

    x: float
    y: float
    name: str
    method: str | None


def pareto(summary: Summary) -> list[Plot]:
    """The score against parameters, FLOPs and latency, each where the students differ in it."""
    costs = [cost for _, cost in networks.students(summary)]
    if len(costs) < 2:
        return []
    batches = list(dict.fromkeys(batch for cost in costs for batch in cost.latency_ms))
    prices: list[tuple[str, str, Price]] = [
        ('params', 'parameters', lambda cost: cost.params),
        ('flops', 'FLOPs per example', lambda cost: cost.flops),
        *((f'latency_{batch}', f'latency (ms), batch of {batch}', _latency(batch)) for batch in batches),
    ]
    plots = (_pareto(summary, *price) for price in prices)
    return [plot for plot in plots if plot is not None]


def front(points: Sequence[Point]) -> list[Point]:
    """The points than which no other is both at least as cheap and better, from cheap to dear."""
    best: list[Point] = []
    for point in sorted(points, key=lambda point: (point.x, -point.y)):
        if not best or point.y > best[-1].y:
            best.append(point)
    return best


def fidelity(summary: Summary) -> list[Plot]:
    """The score against agreement with the teacher, by arm."""
    points = [
        Point(FIDELITY.factor * agreement, SCORE.factor * score, arm.name, arm.method)
        for arm in summary.rows
        if (agreement := arm.last[FIDELITY.name].mean) is not None and (score := arm.score.mean) is not None
    ]
    if len(points) < 2:
        return []
    figure = figure_style.blank(5.6, 3.8)
    axes = figure_style.dress(
        figure.add_subplot(), figure_style.score_label('test'), f'{FIDELITY.title} ({FIDELITY.unit})'
    )
    _scatter(axes, points, summary)
    figure_style.legend(figure, axes)
    says = f'Mean test {SCORE.title} against mean {FIDELITY.title}, after the last step: one point per arm.'
    return [Plot('fidelity.png', says, figure)]


def _latency(batch: str) -> Price:
    return lambda cost: cost.latency_ms.get(batch)


def _pareto(summary: Summary, key: str, label: str, price: Price) -> Plot | None:
    from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

    points = _points(summary, price)
    if len({point.x for point in points if point.method}) < 2:
        return None
    figure = figure_style.blank(5.8, 3.8)
    axes = figure_style.dress(figure.add_subplot(), figure_style.score_label('test'))
    best = front(points)
    axes.step([point.x for point in best], [point.y for point in best], where='post', color=figure_style.INK,
              linewidth=1, linestyle='--', label='front of the means', zorder=1)  # fmt: skip
    _scatter(axes, [point for point in points if point.method], summary)
    for point in points:
        if point.method is None:
            axes.plot(point.x, point.y, '*', color=figure_style.INK, markersize=12, label=point.name)
    values = [point.x for point in points]
    logarithmic = min(values) > 0 and max(values) > 10 * min(values)
    if logarithmic:
        axes.set_xscale('log')
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter('{x:g}' if key.startswith('latency') else EngFormatter(sep=' '))
    axes.set_xlabel(label + (' (log scale)' if logarithmic else ''), color=figure_style.INK, fontsize=figure_style.FONT)
    figure_style.legend(figure, axes)
    names = [point.name for point in best]
    more = f' and {len(names) - NAMED} more' if len(names) > NAMED else ''
    says = f'Mean test {SCORE.title} against {label}. On the front of the means: {"; ".join(names[:NAMED])}{more}.'
    return Plot(f'pareto_{key}.png', says, figure)


def _points(summary: Summary, price: Price) -> list[Point]:
    """Arms and teachers whose price and score are known."""
    costs = {networks.network(cost): cost for _, cost in networks.students(summary)}
    known: list[tuple[float | None, float | None, str, str | None]] = [
        (price(costs[networks.network(arm.cost)]), arm.score.mean, arm.name, arm.method)
        for arm in summary.rows
        if arm.cost
    ]
    known += [
        (price(teacher.cost), teacher.metrics.get(SCORE.name), networks.teacher_name(key, summary), None)
        for key, teacher in summary.teachers.items()
    ]
    return [Point(x, SCORE.factor * y, name, of) for x, y, name, of in known if x is not None and y is not None]


def _scatter(axes: 'Axes', points: Sequence[Point], summary: Summary) -> None:
    """Colours for the methods with the best arms, and the baseline; grey for the rest, below them."""
    kept = _methods(points, summary.baseline)
    rest = [point for point in points if point.method not in kept]
    if rest:
        others = len({point.method for point in rest})
        label = f'{others} other method' + ('' if others == 1 else 's')
        axes.plot(*_coordinates(rest), 'o', color=GREY, markersize=4, label=label, zorder=2)
    for place, method in enumerate(kept):
        style = figure_style.style(place) | {'linestyle': ''}
        places = _coordinates([point for point in points if point.method == method])
        axes.plot(*places, markersize=5, alpha=0.85, label=figure_style.brief(method), zorder=3, **style)


def _methods(points: Sequence[Point], baseline: str) -> list[str]:
    """The methods with the best arms in the order in which they come, the baseline first."""
    order = _names(sorted(points, key=lambda point: -point.y))
    best = sorted(order, key=lambda method: method != baseline)[:METHODS]
    return sorted((method for method in _names(points) if method in best), key=lambda method: method != baseline)


def _names(points: Sequence[Point]) -> list[str]:
    return list(dict.fromkeys(point.method for point in points if point.method))


def _coordinates(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [point.x for point in points], [point.y for point in points]
