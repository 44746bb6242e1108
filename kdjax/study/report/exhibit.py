"""Figures of answers: class by class, and what a teacher says of one example.

An exhibit's 'kind' says what it holds and how it is drawn:

'classes' (also where no kind is said): an image (H, W) or (H, W, C), numbers (D,), a text, or the shapes of what cannot
be shown; the teacher's logits (K,), the label, class_names (K,) and temperatures. 'tags': the words of a sentence; by
word the names of the gold and of the predicted class, and the probabilities of the latter or of all classes.
'ranking': a user by number, how many items the user has in training, the first items, best first, how many users took
each of them, and the one of them that the user took in fact. 'boxes': an image (H, W, C), class_names (K,), the true
boxes (N, 4) in [0, 1] with their labels, and by network, the teacher or a method, those found: boxes (D, 4), their
scores and classes.
"""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kdjax.errors import unknown
from kdjax.study.report import comparison, figure_style, networks
from kdjax.study.report.figure_style import Plot
from kdjax.study.report.records import Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Exhibit = Mapping[str, Any]

TAGGED = 7  # words in a line of a tagged sentence
MATRIX = 20  # classes of a matrix that can be read; of more, the pairs that are confused most
CLASSES = 30  # in the figure of recalls; of more, those that the best student finds least
OVER = 'on the test split, over all seeds of the largest transfer set'
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
        who = f'{"the " * (name == "teacher")}{name} says'
        if kind == 'boxes':
            exhibit = {**exhibit, 'found': _chosen(summary, exhibit['found'])}
            students = list(exhibit['found'])[1:]
            who = f'{", ".join(["the teacher", *students[:-1]])} and {students[-1]} say' if students else who
        return [Plot(file, f'What {who} of {of.format(subject)}.', draw(exhibit))]
    return []


def _chosen(summary: Summary, found: Mapping[str, Any]) -> dict[str, Any]:
    """Of what networks say that of the teacher, of the baseline and of the method of the best student."""
    ranked = comparison.ranked([arm for arm in summary.rows if arm.method in found], summary.judged.sign)
    best = [arm.method for arm in ranked if not arm.is_baseline]
    return {name: found[name] for name in ('teacher', summary.baseline, *best[:1]) if name in found}


def classes(summary: Summary, found: Mapping[str, Mapping[str, Any]]) -> list[Plot]:
    """Recall by class, confusions and calibration, of the teacher, the baseline and the method of the best student.

    Args:
      summary: of the study.
      found: of 'teacher' and of methods, over all seeds of the largest size: class_names (K,), confusion as [truth,
        answer, count] and calibration (3, bins), the sums of confidence, of right answers and of answers.
    """
    ranked = comparison.ranked([arm for arm in summary.rows if arm.method in found], summary.judged.sign)
    best = [arm.method for arm in ranked if not arm.is_baseline] or [arm.method for arm in ranked]
    shown = {name: found[name] for name in ('teacher', summary.baseline, *best[:1]) if name in found}
    if not best or not found[best[0]]['confusion']:
        return []
    return [_recalls(shown, best[0]), _confusions(found[best[0]], best[0]), _calibration(shown)]


def matrix(found: Mapping[str, Any]) -> np.ndarray:
    """How often which class (rows) was answered with which (columns), (K, K)."""
    counts = np.zeros((len(found['class_names']),) * 2)
    truth, answer, number = np.asarray(found['confusion'], int).reshape(-1, 3).T
    counts[truth, answer] = number
    return counts


def _recalls(shown: Mapping[str, Mapping[str, Any]], best: str) -> Plot:
    """Recall of each class as a row of points, the worst at the top."""
    names = list(shown[best]['class_names'])
    recalls = {}
    for network, found in shown.items():
        counts = matrix(found)
        recalls[network] = 100 * np.diag(counts) / np.maximum(counts.sum(axis=1), 1)
    present = np.flatnonzero(matrix(shown[best]).sum(axis=1))
    order = present[np.argsort(recalls[best][present], kind='stable')][:CLASSES]
    figure, axes = figure_style.single(5.6, 1 + 0.2 * len(order), '', 'recall (%)')
    axes.grid(axis='x', color=figure_style.FAINT, linewidth=0.8)
    for network, look in figure_style.styles(recalls).items():
        label = figure_style.brief(network)
        axes.plot(recalls[network][order], range(len(order)), **look | {'linestyle': ''}, label=label, alpha=0.85)
    axes.set_yticks(range(len(order)), [figure_style.brief(names[place], 24) for place in order])
    axes.set_ylim(len(order) - 0.4, -0.6)
    worst = f', the {CLASSES} of {len(present)} that {best} finds least' if len(present) > CLASSES else ''
    says = f'Recall of every class, {OVER}{worst}: the least that {best} finds first.'
    return figure_style.explained('recall_by_class.png', says, figure, axes)


def _confusions(found: Mapping[str, Any], method: str) -> Plot:
    """The matrix of what was answered, each row in percent; of many classes a bar for each of the worst pairs."""
    counts, names = matrix(found), [figure_style.brief(name, 18) for name in found['class_names']]
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    if len(names) > MATRIX:
        wrong = np.where(np.eye(len(names), dtype=bool), 0, counts)
        pairs = [divmod(int(place), len(names)) for place in np.argsort(-wrong, axis=None, kind='stable')[:MATRIX]]
        pairs = [pair for pair in pairs if wrong[pair]]
        figure, axes = figure_style.single(5.6, 0.8 + 0.22 * len(pairs), '', 'answers of all seeds')
        axes.barh(range(len(pairs)), [wrong[pair] for pair in pairs], color=figure_style.COLOURS[1])
        labels = [f'{names[truth]} → {names[answer]} ({shares[truth, answer]:.0f} %)' for truth, answer in pairs]
        axes.set_yticks(range(len(pairs)), labels, fontsize=figure_style.FONT - 1)
        axes.invert_yaxis()
        says = f'What {method} confuses most, {OVER}: class → answer, and its share of the class.'
        return Plot('confusion.png', says, figure)
    figure, axes = figure_style.single(5.6, 1.6 + 0.25 * len(names), 'class', 'answer')
    axes.imshow(shares, cmap='Blues', vmin=0, vmax=100, aspect='auto')
    axes.grid(visible=False)
    places, small = range(len(names)), figure_style.FONT - 2
    slant: dict[str, Any] = {'rotation': 45, 'ha': 'right'} if max(map(len, names)) > 2 else {}
    axes.set_xticks(places, names, **slant)
    axes.set_yticks(places, names)
    for (truth, answer), share in np.ndenumerate(shares):
        if share >= 0.5:
            colour = 'white' if share > 50 else figure_style.INK
            axes.text(answer, truth, f'{share:.0f}', ha='center', va='center', fontsize=small, color=colour)
    says = f'What {method} answers, {OVER}: percent of each class, rows add up to 100.'
    return Plot('confusion.png', says, figure)


def _calibration(shown: Mapping[str, Mapping[str, Any]]) -> Plot:
    """How often answers are right, by how sure the network is of them."""
    figure, axes = figure_style.single(5.6, 3.6, 'right answers (%)', 'confidence (%)')
    axes.plot([0, 100], [0, 100], color=figure_style.INK, linewidth=1, linestyle=':', label='as sure as right')
    for network, look in figure_style.styles(shown).items():
        confidence, right, answers = np.asarray(shown[network]['calibration'], np.float64)
        kept = answers > 0
        points = (100 * part[kept] / answers[kept] for part in (confidence, right))
        axes.plot(*points, **look, label=network, linewidth=1.4, markersize=4)
    axes.set(xlim=(0, 101), ylim=(0, 101))
    says = f'Calibration, {OVER}: how many answers of a confidence are right; below the line, too few.'
    return figure_style.explained('calibration.png', says, figure, axes)


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


def ranking(exhibit: Exhibit) -> 'Figure':
    """The first items of a user, best on top, and how many users took each in training; in orange the one kept."""
    figure, axes = figure_style.single(5.2, 3.2, '', 'users who took it in training')
    places, taken = range(len(exhibit['items'])), exhibit['taken']
    colours = [figure_style.COLOURS[item == exhibit['kept']] for item in exhibit['items']]
    axes.barh(places, taken, color=colours)
    axes.set_yticks(places, [f'{place + 1}. item {item}' for place, item in enumerate(exhibit['items'])])
    axes.invert_yaxis()
    axes.set_title(f'user {exhibit["user"]}, who took {exhibit["has"]}', fontsize=figure_style.FONT)
    return figure


def boxes(exhibit: Exhibit) -> 'Figure':
    """A picture several times: its true boxes, and those that each network finds with their scores; colours are
    classes."""
    image, found = picture(np.asarray(exhibit['image'])), exhibit['found']
    rows = -(-(1 + len(found)) // 2)
    figure = figure_style.blank(6.8, 0.4 + rows * (0.2 + 3.3 * image.shape[0] / image.shape[1]))
    true, *others = figure.subplots(rows, 2, squeeze=False).flat
    _boxed(true, image, 'true boxes', exhibit['boxes'], exhibit['labels'])
    for axes, (name, own) in zip(others, found.items(), strict=False):
        title = f'found by {"the " * (name == "teacher")}{figure_style.brief(name)}'
        _boxed(axes, image, title, own['boxes'], own['classes'], own['scores'])
    for axes in others[len(found) :]:
        axes.set_axis_off()
    names = exhibit['class_names']
    handles = [true.plot([], [], color=_colour(place), label=name)[0] for place, name in enumerate(names)]
    figure.legend(handles=handles, loc='outside lower center', ncols=len(names), fontsize=figure_style.FONT)
    return figure


def _boxed(
    axes: 'Axes', image: np.ndarray, title: str, boxes: Sequence, classes: Sequence[int], scores: Sequence[float] = ()
) -> None:
    """A picture with boxes in [0, 1], and their scores where they have any."""
    height, width = image.shape[:2]
    axes.imshow(image, cmap='gray')
    axes.set(xticks=[], yticks=[], xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    axes.set_title(title, fontsize=figure_style.FONT)
    for place, (box, label) in enumerate(zip(boxes, classes, strict=True)):
        x, y = np.asarray(box[::2]) * width - 0.5, np.asarray(box[1::2]) * height - 0.5
        axes.plot(x[[0, 1, 1, 0, 0]], y[[0, 0, 1, 1, 0]], color=_colour(label), linewidth=1.2)
        if scores:
            axes.text(x[0], y[0], f'{scores[place]:.2f}', color=_colour(label), fontsize=figure_style.FONT - 4)


def _colour(place: int) -> str:
    return figure_style.COLOURS[place % len(figure_style.COLOURS)]


KINDS: Mapping[str, tuple[str, str, Callable[[Exhibit], 'Figure']]] = {  # file, of what it is, how it is drawn
    'boxes': ('boxes.png', 'one picture: its true boxes, and those found with their scores', boxes),
    'classes': ('soft_labels.png', 'one {}, at several temperatures T', soft_labels),
    'ranking': ('ranking.png', 'what a user takes next; in orange what it was', ranking),
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
