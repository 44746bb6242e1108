"""Figures in which every arm of a sweep is a point: accuracy against cost, and against fidelity to the teacher."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from kdjax.study.report import figure_style, sweep_tables
from kdjax.study.report.figure_style import Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Mapping[str, Any]
Cost = Callable[[Row], float | None]

METHODS = 8  # told apart by colour; the others are grey
NAMED = 6  # arms of a front that a caption names
GREY = '#b4bbc3'


class Point(NamedTuple):
    """An arm, or a teacher, whose row is None: at (x, accuracy in percent)."""

    x: float
    y: float
    name: str
    row: Row | None


def pareto(found: Row) -> list[Plot]:
    """Accuracy against parameters, FLOPs and latency, each where the students differ in it."""
    networks = [cost for _, cost in sweep_tables.students(found['arms'])]
    if len(networks) < 2:
        return []
    batches = list(dict.fromkeys(batch for cost in networks for batch in cost['latency_ms']))
    costs: list[tuple[str, str, Cost]] = [
        ('params', 'parameters', lambda cost: cost['params']),
        ('flops', 'FLOPs per example', lambda cost: cost['flops']),
        *((f'latency_{batch}', f'latency (ms), batch of {batch}', _latency(batch)) for batch in batches),
    ]
    drawn = (_pareto(found, *cost) for cost in costs)
    return [plot for plot in drawn if plot is not None]


def front(points: Sequence[Point]) -> list[Point]:
    """The points than which no other is both at least as cheap and more accurate, from cheap to dear."""
    best: list[Point] = []
    for point in sorted(points, key=lambda point: (point.x, -point.y)):
        if not best or point.y > best[-1].y:
            best.append(point)
    return best


def fidelity(found: Row) -> list[Plot]:
    """Accuracy against agreement with the teacher, by arm."""
    points = [
        Point(100 * row['last']['agreement']['mean'], 100 * row['last']['accuracy']['mean'], row['name'], row)
        for row in found['arms']
        if None not in (row['last']['agreement']['mean'], row['last']['accuracy']['mean'])
    ]
    if len(points) < 2:
        return []
    figure = figure_style.blank(5.6, 3.8)
    axes = figure_style.dress(figure.add_subplot(), 'test accuracy (%)', 'top-1 agreement with the teacher (%)')
    _scatter(axes, points, found)
    figure_style.legend(figure, axes)
    says = 'Mean test accuracy against mean agreement with the teacher, after the last step: one point per arm.'
    return [Plot('fidelity.png', says, figure)]


def _latency(batch: str) -> Cost:
    return lambda cost: cost['latency_ms'].get(batch)


def _pareto(found: Row, key: str, label: str, cost: Cost) -> Plot | None:
    from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

    points = _priced(found, cost)
    if len({point.x for point in points if point.row}) < 2:
        return None
    figure = figure_style.blank(5.8, 3.8)
    axes = figure_style.dress(figure.add_subplot(), 'test accuracy (%)')
    best = front(points)
    axes.step([point.x for point in best], [point.y for point in best], where='post', color=figure_style.INK,
              linewidth=1, linestyle='--', label='front of the means', zorder=1)  # fmt: skip
    _scatter(axes, [point for point in points if point.row], found)
    for point in points:
        if point.row is None:
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
    on = [point.name for point in best]
    more = f' and {len(on) - NAMED} more' if len(on) > NAMED else ''
    says = f'Mean test accuracy against {label}. On the front of the means: {"; ".join(on[:NAMED])}{more}.'
    return Plot(f'pareto_{key}.png', says, figure)


def _priced(found: Row, cost: Cost) -> list[Point]:
    networks = {sweep_tables.network(cost): cost for _, cost in sweep_tables.students(found['arms'])}
    priced = [
        (row['name'], row['last']['accuracy']['mean'], cost(networks[sweep_tables.network(row['cost'])]), row)
        for row in found['arms']
        if row['cost']
    ]
    priced += [
        (sweep_tables.teacher_name(key), teacher['accuracy'], cost(teacher), None)
        for key, teacher in found['teachers'].items()
    ]
    return [Point(x, 100 * mean, name, row) for name, mean, x, row in priced if mean is not None and x is not None]


def _scatter(axes: 'Axes', points: Sequence[Point], found: Row) -> None:
    """Colours for the methods with the most accurate arms, and the baseline; grey for the rest, below them."""
    kept = _methods(points, found['baseline'])
    rest = [point for point in points if point.row and point.row['method'] not in kept]
    if rest:
        others = len({point.row['method'] for point in rest if point.row})
        label = f'{others} other method' + ('' if others == 1 else 's')
        axes.plot(*_places(rest), 'o', color=GREY, markersize=4, label=label, zorder=2)
    for place, method in enumerate(kept):
        own = [point for point in points if point.row and point.row['method'] == method]
        look = figure_style.style(place) | {'linestyle': ''}
        axes.plot(*_places(own), markersize=5, alpha=0.85, label=figure_style.brief(method), zorder=3, **look)


def _methods(points: Sequence[Point], baseline: str) -> list[str]:
    ranked = sorted(points, key=lambda point: -point.y)
    best = sorted(_named(ranked), key=lambda method: method != baseline)[:METHODS]
    return sorted((method for method in _named(points) if method in best), key=lambda method: method != baseline)


def _named(points: Sequence[Point]) -> list[str]:
    return list(dict.fromkeys(point.row['method'] for point in points if point.row))


def _places(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [point.x for point in points], [point.y for point in points]
