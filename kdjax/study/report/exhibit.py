"""The figure of what a teacher says of one example: an image, and soft labels of it at several temperatures."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kdjax.study.report import figure_style, networks
from kdjax.study.report.figure_style import Plot
from kdjax.study.report.records import Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plots(summary: Summary, exhibits: Mapping[str, Mapping[str, Any]]) -> list[Plot]:
    """The figure of the first teacher that has an exhibit."""
    for key, exhibit in exhibits.items():
        name = networks.teacher_name(key, summary)
        says = f'What {"the " * (name == "teacher")}{name} says of one image, at several temperatures T.'
        return [Plot('soft_labels.png', says, soft_labels(exhibit))]
    return []


def soft_labels(exhibit: Mapping[str, Any]) -> 'Figure':
    """One image beside the teacher's softmax(logits / T) for every temperature T: what a hard label hides.

    Args:
      exhibit: image (H, W) or (H, W, C), logits (K,), label, class_names (K,), temperatures.
    """
    temperatures, names = exhibit['temperatures'], exhibit['class_names']
    figure = figure_style.blank(6.2, 0.6 + 0.95 * len(temperatures))
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(1, 2))[0]
    picture = left.subplots()
    picture.imshow(np.asarray(exhibit['image'], np.float64), cmap='gray_r')
    picture.set(xticks=[], yticks=[])
    picture.set_title(f'true class: {names[exhibit["label"]]}', fontsize=figure_style.FONT)
    panels = right.subplots(len(temperatures), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, temperature in zip(panels, temperatures, strict=True):
        _bars(axes, exhibit, temperature)
    _class_ticks(panels[-1], names)
    right.supylabel("teacher's probability, softmax(logits / T)", fontsize=figure_style.FONT, color=figure_style.INK)
    return figure


def _bars(axes: 'Axes', exhibit: Mapping[str, Any], temperature: float) -> None:
    figure_style.dress(axes, '')
    logits = np.asarray(exhibit['logits'], np.float64) / temperature
    probabilities = np.exp(logits - logits.max())
    probabilities /= probabilities.sum()
    colours = [figure_style.COLOURS[place == exhibit['label']] for place in range(len(logits))]
    axes.bar(range(len(logits)), probabilities, color=colours)
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.5, 1])
    form: dict[str, Any] = {'ha': 'right', 'va': 'top', 'fontsize': figure_style.FONT, 'color': figure_style.INK}
    axes.text(1, 0.95, f'T = {temperature:g}', transform=axes.transAxes, **form)


def _class_ticks(axes: 'Axes', names: Sequence[str]) -> None:
    every = -(-len(names) // 20)  # more labels than twenty would run into one another
    places = list(range(0, len(names), every))
    labels = [names[place] for place in places]
    slant: dict[str, Any] = {'rotation': 45, 'ha': 'right'} if max(map(len, labels)) > 3 else {}
    axes.set_xticks(places, labels, **slant)
    axes.set_xlabel('class (orange: the true one)', color=figure_style.INK, fontsize=figure_style.FONT)
