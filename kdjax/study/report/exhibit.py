"""The figure of what a teacher says of one example; the exhibit's 'kind' says what it holds and how it is drawn.

'classes' (also where no kind is said): an image (H, W) or (H, W, C), numbers (D,), a text, or the shapes of what cannot
be shown; the teacher's logits (K,), the label, class_names (K,) and temperatures. 'tags': the words of a sentence; by
word the names of the gold and of the predicted class, and the probabilities of the latter or of all classes.
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
CHANNELS = 8  # of an image that has no colours; the others are left out


def plots(summary: Summary, exhibits: Mapping[str, Exhibit]) -> list[Plot]:
    """The figure of the first teacher that has an exhibit.

    Raises:
      UsageError: its kind is not one of those that can be drawn.
    """
    for key, exhibit in exhibits.items():
        kind = exhibit.get('kind', 'classes')
        if kind not in KINDS:
            raise unknown('kind of exhibit', str(kind), KINDS)
        name, subject = networks.teacher_name(key, summary), _subject(exhibit)
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
    _example(example, exhibit)
    example.set_title(f'true class: {figure_style.brief(names[exhibit["label"]], 24)}', fontsize=figure_style.FONT)
    panels = right.subplots(len(temperatures), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, temperature in zip(panels, temperatures, strict=True):
        _bars(axes, exhibit, temperature)
    _class_ticks(panels[-1], names)
    right.supylabel("teacher's probability, softmax(logits / T)", **figure_style.LABEL)
    return figure


def picture(image: np.ndarray) -> np.ndarray:
    """An image as it is drawn: one channel as grey, three or four as colours in [0, 1], others side by side in grey.

    Args:
      image: (H, W) or (H, W, C), bytes in 0..255, shares in [0, 1], or of any other scale, which is brought to [0, 1].
    """
    image = np.nan_to_num(np.asarray(image, np.float64))
    if image.ndim == 2 or image.shape[-1] == 1:
        return image.reshape(image.shape[:2])
    if image.shape[-1] not in (3, 4):
        return np.concatenate(np.moveaxis(image, -1, 0)[:CHANNELS], axis=1)
    low, high = image.min(), image.max()
    if low >= 0 and high <= 1:
        return image
    if low >= 0 and high <= 255 and np.all(image == np.round(image)):
        return image / 255
    return (image - low) / max(high - low, 1e-9)


def _subject(exhibit: Exhibit) -> str:
    """What the example is."""
    return 'text' if 'text' in exhibit else 'image' if np.ndim(exhibit.get('image', ())) in (2, 3) else 'example'


def _example(axes: 'Axes', exhibit: Exhibit) -> None:
    """An image, numbers, a text; of anything else what it is, since nobody loses a report over it."""
    image = np.asarray(exhibit.get('image', ()), np.float64)
    axes.set(xticks=[], yticks=[])
    if _subject(exhibit) == 'image':
        drawn = picture(image)
        axes.imshow(drawn, cmap='gray_r')
        if drawn.shape[1] > image.shape[1]:
            axes.set_xlabel(f'{min(image.shape[-1], CHANNELS)} of {image.shape[-1]} channels', **figure_style.LABEL)
    elif image.ndim == 1 and image.size:
        axes.bar(range(len(image)), np.nan_to_num(image), width=1, color=figure_style.INK)
        axes.set_xlabel(f'{len(image)} numbers', **figure_style.LABEL)
    else:
        shapes = exhibit.get('shapes', {'of shape': list(image.shape)})
        told = '; '.join(f'{name} {tuple(shape)}' for name, shape in shapes.items())
        text = exhibit.get('text', f'an example that cannot be drawn: {told}')
        lines = textwrap.fill(text, 26, max_lines=24, placeholder=' ...')
        axes.text(0, 1, lines, transform=axes.transAxes, va='top', **figure_style.LABEL)
        axes.spines[:].set_visible(False)


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
            cell.set_text_props(fontsize=figure_style.FONT - 2, weight=weight, color=colour)
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
    labels = [figure_style.brief(names[place], 18) for place in places]
    slant: dict[str, Any] = {'rotation': 45, 'ha': 'right'} if max(map(len, labels)) > 3 else {}
    axes.set_xticks(places, labels, **slant)
    axes.set_xlabel('class (orange: the true one)', **figure_style.LABEL)
