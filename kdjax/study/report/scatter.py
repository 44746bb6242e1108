"""Figures in which every arm is a point: the score against cost, and against fidelity to the teacher."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kdjax.metrics import Metric
from kdjax.study.report import figure_style, formatting, networks
from kdjax.study.report.figure_style import Plot
from kdjax.study.report.records import Cost, Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Price = Callable[[Cost], float | None]

METHODS = 8  # told apart by colour; the others are grey
FAR = 3  # of what the front spans, behind which an arm is not shown
WIDE = 4  # from which ratio of sizes on their scale is logarithmic
NAMED = 6  # arms of a front that a caption names
GREY = '#b4bbc3'
SIZES = ('stored_bytes', 'deflated_bytes', 'bops')  # of arms that were made smaller
FIDELITY = 'agreement'  # with the teacher, of whatever the task predicts


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
    return [plot for price in prices for plot in _pareto(summary, *price)] + sizes(summary)


def sizes(summary: Summary) -> list[Plot]:
    """The score with its interval against each size of arms that were made smaller; grey off the front of the means."""
    counted = {metric.name: metric for metric in summary.cost_metrics}
    return [plot for name in SIZES if name in counted for plot in _sizes(summary, counted[name])]


def _sizes(summary: Summary, size: Metric) -> list[Plot]:
    from matplotlib.ticker import EngFormatter, LogLocator

    score = summary.judged
    arms = [(arm, x) for arm in summary.rows
            if arm.cost and arm.score.mean is not None and (x := arm.cost.more.get(size.name)) is not None]  # fmt: skip
    if len({x for _, x in arms}) < 2:
        return []
    points = [Point(x, score.factor * (arm.score.mean or 0), arm.name, arm.method) for arm, x in arms]
    best = {point.name: point for point in front(points, score.sign)}
    ordered = sorted(arms, key=lambda pair: (pair[0].name in best, pair[1]))
    means, ends = figure_style.scaled([arm.score for arm, _ in ordered], score)
    figure, axes = figure_style.single(5.8, 4.2, figure_style.score_label('test', score))
    axes.step(*_coordinates(list(best.values())), where='post', color=figure_style.INK, linewidth=1, linestyle='--',
              label='front of the means', zorder=1)  # fmt: skip
    looks = figure_style.styles(list(best)[:METHODS])
    for (arm, x), mean, reach in zip(ordered, means, ends, strict=True):
        look = looks.get(arm.name, {'color': GREY if arm.name not in best else figure_style.INK, 'marker': 'o'})
        name = figure_style.brief(arm.name) if arm.name in best else ''
        axes.plot([x, x], reach, color=look['color'], linewidth=1.4, zorder=2 + (arm.name in best))
        axes.plot(x, mean, look['marker'], color=look['color'], markersize=5, label=name or None, zorder=4)
    if figure_style.scale(axes, [x for _, x in arms], size.title, WIDE):
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(EngFormatter(sep=' '))
    shown = _in_frame(means, ends, np.array([arm.name in best for arm, _ in ordered]), score.sign)
    axes.set_ylim(figure_style.focus(means[shown], ends[shown]))
    figure_style.within_unit(axes, score)
    others = formatting.plural(len(arms) - len(best), 'other arm')
    says = (f'Mean test {score.title} with its 95 % interval against {size.title}. On the front of the means: '
            f'{"; ".join(best)}; in grey {others}{_left_out(shown)}.')  # fmt: skip
    return [figure_style.explained(f'pareto_{size.name}.png', says, figure, axes)]


def _in_frame(means: np.ndarray, ends: np.ndarray, on_front: np.ndarray, sign: int) -> np.ndarray:
    """Which arms are shown: not those so far behind the front that they would take the room of all others. (n,) bool"""
    worst, reach = np.min(sign * means[on_front]), np.median(ends[:, 1] - ends[:, 0])
    return on_front | (sign * means >= worst - FAR * max(reach, np.ptp(means[on_front])))


def _left_out(shown: np.ndarray) -> str:
    gone = int(np.sum(~shown))
    return f', of which {gone} far behind {"lies" if gone == 1 else "lie"} outside of the frame' if gone else ''


def front(points: Sequence[Point], sign: int = 1) -> list[Point]:
    """The points than which no other is both at least as cheap and better, from cheap to dear.

    Args:
      points: of arms and teachers.
      sign: 1 where the higher score is better, -1 where the lower one is.
    """
    best: list[Point] = []
    for point in sorted(points, key=lambda point: (point.x, -sign * point.y)):
        if not best or sign * point.y > sign * best[-1].y:
            best.append(point)
    return best


def fidelity(summary: Summary) -> list[Plot]:
    """The score against agreement with the teacher, by arm."""
    score, agreement = summary.judged, summary.by_name.get(FIDELITY)
    if agreement is None or agreement is score:
        return []
    points = [
        Point(agreement.factor * x, score.factor * y, arm.name, arm.method)
        for arm in summary.rows
        if (x := arm.last[FIDELITY].mean) is not None and (y := arm.score.mean) is not None
    ]
    if len(points) < 2:
        return []
    xlabel = formatting.in_unit(agreement.title, agreement.unit)
    figure, axes = figure_style.single(5.6, 3.8, figure_style.score_label('test', score), xlabel)
    _scatter(axes, points, summary)
    says = f'Mean test {score.title} against mean {agreement.title}, after the last step: one point per arm.'
    return [figure_style.explained('fidelity.png', says, figure, axes)]


def _latency(batch: str) -> Price:
    return lambda cost: cost.latency_ms.get(batch)


def _pareto(summary: Summary, key: str, label: str, price: Price) -> list[Plot]:
    from matplotlib.ticker import EngFormatter, LogLocator

    points, metric = _points(summary, price), summary.judged
    if len({point.x for point in points if point.method}) < 2:
        return []
    figure, axes = figure_style.single(5.8, 3.8, figure_style.score_label('test', metric))
    best = front(points, metric.sign)
    axes.step(*_coordinates(best), where='post', color=figure_style.INK, linewidth=1, linestyle='--',
              label='front of the means', zorder=1)  # fmt: skip
    _scatter(axes, [point for point in points if point.method], summary)
    for point in points:
        if point.method is None:
            axes.plot(point.x, point.y, '*', color=figure_style.INK, markersize=12, label=point.name)
    if figure_style.scale(axes, [point.x for point in points], label):
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter('{x:g}' if key.startswith('latency') else EngFormatter(sep=' '))
    names = [point.name for point in best]
    more = f' and {len(names) - NAMED} more' if len(names) > NAMED else ''
    says = f'Mean test {metric.title} against {label}. On the front of the means: {"; ".join(names[:NAMED])}{more}.'
    return [figure_style.explained(f'pareto_{key}.png', says, figure, axes)]


def _points(summary: Summary, price: Price) -> list[Point]:
    """Arms and teachers whose price and score are known."""
    costs = {networks.network(cost): cost for _, cost in networks.students(summary)}
    known: list[tuple[float | None, float | None, str, str | None]] = [
        (price(costs[networks.network(arm.cost)]), arm.score.mean, arm.name, arm.method)
        for arm in summary.rows
        if arm.cost
    ]
    known += [
        (price(teacher.cost), teacher.metrics.get(summary.score), networks.teacher_name(key, summary), None)
        for key, teacher in summary.teachers.items()
        if teacher.cost
    ]
    factor = summary.judged.factor
    return [Point(x, factor * y, name, of) for x, y, name, of in known if x is not None and y is not None]


def _scatter(axes: 'Axes', points: Sequence[Point], summary: Summary) -> None:
    """Colours for the methods with the best arms, and the baseline; grey for the rest, below them."""
    kept = _methods(points, summary)
    rest = [point for point in points if point.method not in kept]
    if rest:
        label = formatting.plural(len({point.method for point in rest}), 'other method')
        axes.plot(*_coordinates(rest), 'o', color=GREY, markersize=4, label=label, zorder=2)
    for method, style in figure_style.styles(kept).items():
        places = _coordinates([point for point in points if point.method == method])
        look = style | {'linestyle': '', 'label': figure_style.brief(method)}
        axes.plot(*places, markersize=5, alpha=0.85, zorder=3, **look)


def _methods(points: Sequence[Point], summary: Summary) -> list[str]:
    """The methods with the best arms in the order in which they come, the baseline first."""
    order = sorted(points, key=lambda point: -summary.judged.sign * point.y)
    best = _names(order, summary.baseline)[:METHODS]
    return [method for method in _names(points, summary.baseline) if method in best]


def _names(points: Sequence[Point], baseline: str) -> list[str]:
    """The methods of points in the order in which they come, the baseline first."""
    methods = dict.fromkeys(point.method for point in points if point.method)
    return sorted(methods, key=lambda method: method != baseline)


def _coordinates(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [point.x for point in points], [point.y for point in points]
