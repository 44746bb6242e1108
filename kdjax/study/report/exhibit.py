"""The figure of what a teacher says of one example; the exhibit's 'kind' says what it holds and how it is drawn.

'classes' (also where no kind is said): an image (H, W) or (H, W, C), or a text; the teacher's logits (K,), the label,
class_names (K,) and temperatures. 'tags': the words of a sentence; by word the names of the gold and of the predicted
class, and the probabilities of the latter or of all classes.
"""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kdjax.errors import unknown
from kdjax.study.report import figure_style, networks
from kdjax.study.report.figure_style import Plot
from kdjax.study.report.records import Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Exhibit = Mapping[str, Any]

TAGGED = 7  # words in a line of a tagged sentence


def plots(summary: Summary, exhibits: Mapping[str, Exhibit]) -> list[Plot]:
    """The figure of the first teacher that has an exhibit.

    Raises:
      UsageError: its kind is not one of those that can be drawn.
    """
    for key, exhibit in exhibits.items():
        kind = exhibit.get('kind', 'classes')
        if kind not in KINDS:
            raise unknown('kind of exhibit', str(kind), KINDS)
        name, subject = networks.teacher_name(key, summary), 'text' if 'text' in exhibit else 'image'
        file, of, draw = KINDS[kind]
        says = f'What {"the " * (name == "teacher")}{name} says of {of.format(subject)}.'
        return [Plot(file, says, draw(exhibit))]
    return []


def soft_labels(exhibit: Exhibit) -> 'Figure':
    """One example beside the teacher's softmax(logits / T) for every temperature T: what a hard label hides."""
    temperatures, names = exhibit['temperatures'], exhibit['class_names']
    figure = figure_style.blank(6.2, 0.6 + 0.95 * len(temperatures))
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(1, 2))[0]
    example = left.subplots()
    if 'text' in exhibit:
        lines = textwrap.fill(exhibit['text'], 26, max_lines=24, placeholder=' ...')
        example.text(0, 1, lines, transform=example.transAxes, va='top', parse_math=False, **figure_style.LABEL)
        example.spines[:].set_visible(False)
    else:
        example.imshow(np.asarray(exhibit['image'], np.float64), cmap='gray_r')
    example.set(xticks=[], yticks=[])
    example.set_title(f'true class: {names[exhibit["label"]]}', fontsize=figure_style.FONT)
    panels = right.subplots(len(temperatures), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, temperature in zip(panels, temperatures, strict=True):
        _bars(axes, exhibit, temperature)
    _class_ticks(panels[-1], names)
    right.supylabel("teacher's probability, softmax(logits / T)", **figure_style.LABEL)
    return figure


def tags(exhibit: Exhibit) -> 'Figure':
    """A sentence, line by line: each word over its gold class, and the teacher's class with its probability."""
    columns = (exhibit[field] for field in ('words', 'gold', 'predicted', 'probabilities'))
    words = [
        (figure_style.brief(word, 14), gold, predicted, f'{np.max(every):.2f}')
        for word, gold, predicted, every in zip(*columns, strict=True)
    ]
    rows = [words[start : start + TAGGED] for start in range(0, len(words), TAGGED)]
    figure = figure_style.blank(6.8, 0.3 + 0.95 * len(rows))
    places = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    for axes, row in zip(places, rows, strict=True):
        axes.set_axis_off()
        row = [*row, *[('', '', '', '')] * (TAGGED - len(row))]  # so that all lines have columns of one width
        table = axes.table(list(zip(*row, strict=True)), rowLabels=['', 'gold', 'teacher', 'probability'],
                           cellLoc='center', edges='', bbox=(0, 0, 1, 1))  # fmt: skip
        table.auto_set_font_size(False)
        for (line, column), cell in table.get_celld().items():
            wrong = line == 2 and column >= 0 and row[column][1] != row[column][2]
            colour, weight = (figure_style.COLOURS[1] if wrong else figure_style.INK), 'bold' if line == 0 else 'normal'
            cell.set_text_props(fontsize=figure_style.FONT - 2, weight=weight, color=colour, parse_math=False)
    return figure


KINDS: Mapping[str, tuple[str, str, Callable[[Exhibit], 'Figure']]] = {  # file, of what it is, how it is drawn
    'classes': ('soft_labels.png', 'one {}, at several temperatures T', soft_labels),
    'tags': ('tags.png', 'each word of a sentence, and how surely; in orange where it is wrong', tags),
}


def _bars(axes: 'Axes', exhibit: Exhibit, temperature: float) -> None:
    figure_style.dress(axes, '')
    logits = np.asarray(exhibit['logits'], np.float64) / temperature
    probabilities = np.exp(logits - logits.max())
    probabilities /= probabilities.sum()
    colours = [figure_style.COLOURS[place == exhibit['label']] for place in range(len(logits))]
    axes.bar(range(len(logits)), probabilities, color=colours)
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.5, 1])
    axes.text(1, 0.95, f'T = {temperature:g}', transform=axes.transAxes, ha='right', va='top', **figure_style.LABEL)


def _class_ticks(axes: 'Axes', names: Sequence[str]) -> None:
    every = -(-len(names) // 20)  # more labels than twenty would run into one another
    places = list(range(0, len(names), every))
    labels = [names[place] for place in places]
    slant: dict[str, Any] = {'rotation': 45, 'ha': 'right'} if max(map(len, labels)) > 3 else {}
    axes.set_xticks(places, labels, **slant)
    axes.set_xlabel('class (orange: the true one)', **figure_style.LABEL)
