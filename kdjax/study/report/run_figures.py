"""The figures of a report, as PNG bytes."""

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kdjax.study.report import figure_style, statistics

Row = Mapping[str, Any]
Styles = Mapping[str, Row]  # how each method is drawn
Points = Sequence[tuple[int, Sequence[float | None]]]  # (step, values by seed)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw(results: Row, rows: Sequence[Row]) -> dict[str, bytes]:
    """All figures of a study.

    Args:
      results: the study's results, as `report.write` receives them.
      rows: the students' rows of `report.summarise`.

    Returns:
      PNG bytes by file name.
    """
    methods = list(dict.fromkeys(row['method'] for row in results['rows']))
    styles = {method: figure_style.style(position) for position, method in enumerate(methods)}
    figures = {
        'accuracy_vs_size.png': accuracy_vs_size(rows, results['teacher'], styles),
        'gain_vs_size.png': gain_vs_size(rows, results['baseline'], styles),
        'learning_curves.png': learning_curves(results['curves'], styles),
        'soft_labels.png': soft_labels(results['dark_knowledge']),
    }
    if results.get('anatomy'):
        figures['anatomy.png'] = anatomy(results['anatomy'])
    return {name: figure_style.png(figure) for name, figure in figures.items()}


def accuracy_vs_size(rows: Sequence[Row], teacher: Row, styles: Styles) -> 'Figure':
    """Mean test accuracy (%) with its interval against transfer-set size; the teacher is a dashed line."""
    figure = figure_style.blank(5.6, 3.6)
    axes = figure_style.dress(figure.add_subplot(), 'test accuracy (%)')
    axes.axhline(100 * teacher['accuracy'], color=figure_style.INK, linestyle='--', linewidth=1.2, label='teacher')
    _estimates(axes, [(row, row['accuracy']) for row in rows], styles)
    figure_style.within_percent(axes)
    figure_style.legend(figure, axes)
    return figure


def gain_vs_size(rows: Sequence[Row], baseline: str, styles: Styles) -> 'Figure':
    """Paired difference to the baseline (points) with its interval against transfer-set size; zero is marked."""
    figure = figure_style.blank(5.6, 3.6)
    axes = figure_style.dress(figure.add_subplot(), f'accuracy over {baseline} (points)')
    axes.axhline(0, color=figure_style.INK, linewidth=1.2, label=f'{baseline} (zero)')
    _estimates(axes, [(row, row['difference']) for row in rows if row['difference'] is not None], styles)
    figure_style.legend(figure, axes)
    return figure


def learning_curves(curves: Sequence[Row], styles: Styles) -> 'Figure':
    """Mean validation accuracy (%) with its interval against the training step, one panel per transfer-set size."""
    sizes = sorted({curve['transfer_size'] for curve in curves}) or ['no']
    columns = min(len(sizes), 2)
    down = -(-len(sizes) // columns)
    figure = figure_style.blank(6.2, 0.3 + 2.6 * down)
    panels = figure.subplots(down, columns, sharey=True, squeeze=False).flat
    for place, (axes, size) in enumerate(zip(panels, sizes, strict=False)):
        figure_style.dress(axes, 'validation accuracy (%)' if place % columns == 0 else '', 'training step')
        axes.set_title(f'{size} transfer examples', fontsize=figure_style.FONT)
        for curve in (curve for curve in curves if curve['transfer_size'] == size):
            _curve(axes, curve, styles[curve['method']])
    for axes in list(panels[len(sizes) :]):
        axes.remove()
    figure_style.within_percent(panels[0])  # and with it all panels, which share their scale
    figure_style.legend(figure, panels[0])
    return figure


def anatomy(lines_by_method: Mapping[str, Sequence[Row]]) -> 'Figure':
    """How the terms of each method pull at the student, against the training step; a row of two panels per method.

    Args:
      lines_by_method: looks in order, {'step', 'norms': {term: [by seed]}, 'cosines': {'a|b': [by seed]}} each; methods
        without any are left out.

    Returns:
      Mean norms (left, log scale: a norm of zero is not seen) and mean cosines of pairs (right), with 95 % intervals.
    """
    looked = {method: lines for method, lines in lines_by_method.items() if lines}
    figure = figure_style.blank(6.2, 0.4 + 2.0 * max(len(looked), 1))
    panels = figure.subplots(max(len(looked), 1), 2, sharex='row', sharey='col', squeeze=False)
    names = dict.fromkeys((kind, name) for kind in ('norms', 'cosines') for lines in looked.values() for line in lines
                          for name in line[kind])  # fmt: skip
    styles = {key: figure_style.style(position) for position, key in enumerate(names)}
    for row, (method, lines) in zip(panels, looked.items(), strict=False):
        for axes, kind, what in zip(row, ('norms', 'cosines'), ('norm of the gradient', 'cosine'), strict=True):
            figure_style.dress(axes, what).set_title(method, fontsize=figure_style.FONT)
            _looks(axes, lines, kind, styles)
    for axes in panels[-1]:
        axes.set_xlabel('training step', color=figure_style.INK, fontsize=figure_style.FONT)
    _log_norms(panels[:, 0].tolist())
    panels[0, 1].set_ylim(-1.08, 1.08)  # the t interval of two seeds may reach far beyond what a cosine can be
    figure_style.legend(figure, *panels.flat)
    return figure


def soft_labels(shown: Row) -> 'Figure':
    """One image beside the teacher's softmax(logits / T) for every temperature T: what a hard label hides."""
    figure = figure_style.blank(6.2, 0.6 + 0.95 * len(shown['temperatures']))
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(1, 2))[0]
    picture = left.subplots()
    picture.imshow(np.asarray(shown['image'], np.float64), cmap='gray_r')
    picture.set(xticks=[], yticks=[])
    picture.set_title(f'true class: {shown["class_names"][shown["label"]]}', fontsize=figure_style.FONT)
    panels = right.subplots(len(shown['temperatures']), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, temperature in zip(panels, shown['temperatures'], strict=True):
        _bars(axes, shown, temperature)
    _class_ticks(panels[-1], shown['class_names'])
    right.supylabel("teacher's probability, softmax(logits / T)", fontsize=figure_style.FONT, color=figure_style.INK)
    return figure


def _estimates(axes: 'Axes', rows: Sequence[tuple[Row, Row]], styles: Styles) -> None:
    """Means with error bars in percent against size; methods stand side by side, so that no bar hides another."""
    sizes = sorted({row['transfer_size'] for row, _ in rows})
    _size_axis(axes, sizes)
    by_method: dict[str, list[tuple[int, Row]]] = {method: [] for method in styles}
    for row, estimate in rows:
        if estimate['mean'] is not None:
            by_method[row['name']].append((row['transfer_size'], estimate))
    drawn = {method: points for method, points in by_method.items() if points}
    for shift, (method, points) in zip(_shifts(sizes, len(drawn)), drawn.items(), strict=True):
        means = np.array([100 * estimate['mean'] for _, estimate in points])
        reach = _reach(means, [estimate for _, estimate in points])
        places = [size * shift for size, _ in points]
        axes.errorbar(places, means, reach, label=method, capsize=3, markersize=6, linewidth=1.4, **styles[method])


def _shifts(sizes: Sequence[int], count: int) -> np.ndarray:
    """(count,) factors on a size: wide enough to be seen, and neighbouring sizes stay apart."""
    ratios = [larger / smaller for smaller, larger in itertools.pairwise(sizes)]
    spread = min(np.prod(ratios) ** 0.06, min(ratios) ** 0.5) if ratios else 1.05
    return spread ** np.linspace(-0.5, 0.5, count) if count > 1 else np.ones(count)


def _reach(means: np.ndarray, estimates: Sequence[Row]) -> np.ndarray:
    """(2, n): how far each interval reaches below and above its mean; 0 where there is none."""
    ends = [estimate['ci95'] or (estimate['mean'], estimate['mean']) for estimate in estimates]
    low, high = 100 * np.array(ends).T
    return np.stack([means - low, high - means])


def _size_axis(axes: 'Axes', sizes: Sequence[int]) -> None:
    from matplotlib.ticker import NullLocator

    axes.set_xlabel('transfer-set size (examples, log scale)', color=figure_style.INK, fontsize=figure_style.FONT)
    if sizes:
        axes.set_xscale('log')
        margin = max(1.25, (max(sizes) / min(sizes)) ** 0.1)
        axes.set_xlim(min(sizes) / margin, max(sizes) * margin)
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.xaxis.set_minor_locator(NullLocator())


def _curve(axes: 'Axes', curve: Row, style: Row) -> None:
    _band(axes, list(zip(curve['steps'], curve['accuracy'], strict=True)), curve['method'], style, scale=100)


def _band(axes: 'Axes', seeds_by_step: Points, label: str, style: Row, scale: float = 1) -> None:
    """The mean over seeds, and its interval."""
    points = [(step, statistics.summary(seeds)) for step, seeds in seeds_by_step]
    means = [(step, scale * point.mean) for step, point in points if point.mean is not None]
    bands = [(step, *(scale * np.array(point.interval))) for step, point in points if point.interval]
    if bands:
        axes.fill_between(*np.array(bands).T, color=style['color'], alpha=0.15, linewidth=0)
    if means:
        every = 0.2 if len(means) > 1 else 1  # of the axes' diagonal: a lone point would get no marker
        axes.plot(*np.array(means).T, label=label, markevery=every, markersize=4, linewidth=1.4, **style)


def _looks(axes: 'Axes', lines: Sequence[Row], kind: str, styles: Mapping[tuple[str, str], Row]) -> None:
    """The 'norms' or 'cosines' of one method, or why there are none."""
    if kind == 'cosines':
        axes.axhline(0, color=figure_style.INK, linewidth=1.2)
    for (what, name), style in styles.items():
        points = [(line['step'], line[kind][name]) for line in lines if what == kind and name in line[kind]]
        _band(axes, points, name if kind == 'norms' else f'cos({name.replace("|", ", ")})', style)
    if not any(line[kind] for line in lines):
        place: Row = {'transform': axes.get_yaxis_transform(), 'ha': 'center', 'va': 'center'}
        axes.text(0.5, -0.25, 'one term at a time', fontsize=figure_style.FONT, color=figure_style.INK, **place)


def _log_norms(panels: Sequence['Axes']) -> None:
    """A log scale made for the means, as an interval may reach down to zero or below."""
    means = [mean for axes in panels for line in axes.lines for mean in np.asarray(line.get_ydata()) if mean > 0]
    if means:
        panels[0].set_yscale('log')
        panels[0].set_ylim(bottom=min(means) / 2)


def _bars(axes: 'Axes', shown: Row, temperature: float) -> None:
    figure_style.dress(axes, '')
    logits = np.asarray(shown['logits'], np.float64) / temperature
    probabilities = np.exp(logits - logits.max())
    probabilities /= probabilities.sum()
    colours = [
        figure_style.COLOURS[1] if place == shown['label'] else figure_style.COLOURS[0] for place in range(len(logits))
    ]
    axes.bar(range(len(logits)), probabilities, color=colours)
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.5, 1])
    axes.text(
        1,
        0.95,
        f'T = {temperature:g}',
        transform=axes.transAxes,
        ha='right',
        va='top',
        fontsize=figure_style.FONT,
        color=figure_style.INK,
    )


def _class_ticks(axes: 'Axes', names: Sequence[str]) -> None:
    every = -(-len(names) // 20)  # more labels than twenty would run into one another
    shown = list(range(0, len(names), every))
    labels = [names[place] for place in shown]
    slant: Row = {'rotation': 45, 'ha': 'right'} if max(map(len, labels)) > 3 else {}
    axes.set_xticks(shown, labels, **slant)
    axes.set_xlabel('class (orange: the true one)', color=figure_style.INK, fontsize=figure_style.FONT)
