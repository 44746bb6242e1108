"""Figures over the size of the transfer set, where it varies: the score of every method, and its gain."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from kdjax.metrics import Metric
from kdjax.study.report import comparison, figure_style, formatting, statistics
from kdjax.study.report.figure_style import Plot, slug
from kdjax.study.report.records import Arm, Estimate, PairedDifference, Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST = 8  # lines in one figure
REACH = f'95 % intervals, or every run where there are fewer than {statistics.FEW}'


def plots(summary: Summary) -> list[Plot]:
    """Score and gain against the size of the transfer set; nothing where there is one size."""
    axis, metric, baseline = comparison.size_axis(summary), summary.judged, summary.baseline
    if axis is None:
        return []
    others = [other for other in comparison.varied_axes(summary) if other != axis]
    lines: dict[str, list[Arm]] = {}
    for arm in sorted(summary.rows, key=lambda arm: arm.transfer_size):
        lines.setdefault(comparison.label(arm.point, others), []).append(arm)
    kept = _best(lines, metric)
    which = '' if len(kept) == len(lines) else (
        f'; the {len(kept)} of {len(lines)} lines that lie {formatting.highest(metric)}')  # fmt: skip

    gains, axes = figure_style.single(5.6, 3.6, figure_style.gain_label(baseline, metric))
    axes.axhline(0, color=figure_style.INK, linewidth=1.2, label=f'{baseline} (zero)')
    _draw(axes, kept, lambda arm: arm.difference, metric)
    says = f'Paired difference to {baseline}, with {REACH}{which}.'
    gain = figure_style.named('gain_vs_size.png', says, gains, axes)

    scores, axes = figure_style.single(5.6, 3.6, figure_style.score_label('test', metric))
    for teacher in summary.teachers.values() if len(summary.teachers) == 1 else ():
        if (known := teacher.metrics.get(metric.name)) is not None:
            axes.axhline(metric.factor * known, color=figure_style.INK, linestyle='--', linewidth=1.2, label='teacher')
    _draw(axes, kept, lambda arm: arm.score, metric)
    figure_style.within_unit(axes, metric)
    says = f'Mean test {metric.title} over the seeds, with {REACH}{which}.'
    return [gain, figure_style.named(f'{slug(metric.name)}_vs_size.png', says, scores, axes)]


def _best(lines: Mapping[str, list[Arm]], metric: Metric) -> dict[str, list[Arm]]:
    """The lines with the best means, those of the baseline among them, in the order in which they come."""
    line_of = {arm.name: name for name, arms in lines.items() for arm in arms}
    best = comparison.best([arm for arms in lines.values() for arm in arms], len(line_of), metric.sign)
    kept = list(dict.fromkeys(line_of[arm.name] for arm in best))[:MOST]
    return {name: arms for name, arms in lines.items() if name in kept}


def _draw(
    axes: 'Axes',
    lines: Mapping[str, Sequence[Arm]],
    read: Callable[[Arm], Estimate | PairedDifference | None],
    metric: Metric,
) -> None:
    """Means with error bars against size; lines stand side by side, so that no bar hides another."""
    points = {name: [(arm.transfer_size, each) for arm in arms if (each := read(arm))] for name, arms in lines.items()}
    sizes = sorted({size for line in points.values() for size, _ in line})
    _size_axis(axes, sizes)
    styles = figure_style.styles(lines)
    known = {name: [point for point in line if point[1].mean is not None] for name, line in points.items()}
    drawn = {name: line for name, line in known.items() if line}
    for shift, (name, line) in zip(_shifts(sizes, len(drawn)), drawn.items(), strict=True):
        means, ends = figure_style.scaled([estimate for _, estimate in line], metric)
        few = np.array([bool(estimate.values) for _, estimate in line])
        reach = np.abs(ends.T - means) * ~few  # below and above
        places = [size * shift for size, _ in line]
        figure_style.dots(
            axes, zip(places, (estimate for _, estimate in line), strict=True), styles[name], metric.factor
        )
        axes.errorbar(
            places, means, reach, label=figure_style.brief(name), capsize=3, markersize=6, linewidth=1.4, **styles[name]
        )


def _shifts(sizes: Sequence[int], count: int) -> np.ndarray:
    """(count,) factors on a size: wide enough to be seen, and neighbouring sizes stay apart."""
    ratios = [larger / smaller for smaller, larger in itertools.pairwise(sizes)]
    spread = min(np.prod(ratios) ** 0.06, min(ratios) ** 0.5) if ratios else 1.05
    return spread ** np.linspace(-0.5, 0.5, count) if count > 1 else np.ones(count)


def _size_axis(axes: 'Axes', sizes: Sequence[int]) -> None:
    from matplotlib.ticker import NullLocator

    axes.set_xlabel('transfer-set size (examples, log scale)', **figure_style.LABEL)
    if sizes:
        axes.set_xscale('log')
        margin = max(1.25, (max(sizes) / min(sizes)) ** 0.1)
        axes.set_xlim(min(sizes) / margin, max(sizes) * margin)
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.xaxis.set_minor_locator(NullLocator())
