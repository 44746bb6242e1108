"""The tables of a report, from its summary: to be read, to be sorted, and to be computed with.

Cells show a metric in its unit; their values, by which tables sort, are as stored: shares, not percent.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from kdjax.metrics import Metric
from kdjax.study.report import comparison, formatting, statistics
from kdjax.study.report.document import Table, TableCell
from kdjax.study.report.records import Arm, Criterion, PublishedNumber, Summary

MARKS = {statistics.HELPS: ' ↑', statistics.HURTS: ' ↓'}
MARKED = '↑ better, ↓ worse than {} (paired t test at the 5 % level, Holm-corrected over the {} compared arms)'
MOST_COLUMNS = 12  # of a pivot; more would not be read side by side
LEADING = 8  # metrics beside one another; those beyond, such as those by class, have a table of their own
EMPTY = TableCell(formatting.NOTHING, None)


class _Column(NamedTuple):
    """A column of a table of arms."""

    header: str
    cell: Callable[[Arm], TableCell]
    align: str = 'r'
    of_teacher: Metric | None = None  # what of the teacher stands above


# ---- arms


def main(summary: Summary) -> Table:
    """The teacher, if there is one, and every arm: score after the last and the best step, gain, p, verdict, seeds."""
    metric = summary.judged
    caption = (
        f'Test {metric.title}, {_with(summary)}, after the last step and at the best step in validation; and '
        f'{formatting.gain_over(metric, summary.baseline)} after the last step, over the pairs, with its own 95 % '
        "interval; p of each comparison by itself, and p and the verdict with Holm's correction over the "
        f'{family_size(summary)} compared arms'
    )
    last, best = _score(metric, 'last step'), _score(metric, 'best step', 'best')
    return _arms(summary, caption, [last, best, _gain(metric), _P, _P_HOLM, _VERDICT, _PAIRS, _SEEDS], teacher=True)


def plain(summary: Summary) -> Table:
    """The teacher, if there is one, and every arm: score after the last step, gain, its p-value by itself, seeds."""
    metric = summary.judged
    caption = (
        f'Test {metric.title}, {_with(summary)}, and {formatting.gain_over(metric, summary.baseline)} with its '
        '95 % interval and p-value, each by itself'
    )
    return _arms(
        summary, caption, [_score(metric, metric.title), _gain(metric, judged=False), _P, _SEEDS], teacher=True
    )


def short(summary: Summary, most: int) -> Table:
    """For a terminal: the teacher, if there is one, the baselines and the best arms, so many arms at most."""
    metric = summary.judged
    few = any(arm.score.values for arm in summary.rows)  # whose lowest and highest run there is no room for
    score = _mean(metric, formatting.in_unit(metric.title, metric.unit)) if few else _score(metric, metric.title)
    columns = [score, _gain(metric, marked=True), _P_HOLM, _SEEDS]
    names = {arm.name for arm in comparison.best(summary.rows, most, metric.sign)}
    kept = [arm for arm in summary.rows if arm.name in names]
    some = f'; the {len(kept)} best of {len(summary.rows)} arms, baselines among them'
    which = some if len(kept) < len(summary.rows) else ''
    gained = formatting.gain_over(metric, summary.baseline)
    return Table(
        f'Test {metric.title} after the last step, and {gained}, with 95 % intervals{which}',
        'lrrrr',
        (', '.join(map(formatting.words, comparison.varied_axes(summary))), *(column.header for column in columns)),
        (
            *_teacher(summary, 1, columns),
            *((TableCell(terse(arm, summary), None), *(column.cell(arm) for column in columns)) for arm in kept),
        ),
    )


def beyond(summary: Summary) -> Table:
    """Spread, share of the gap, what could have been found, and the other leading metrics; after the last step."""
    metric = summary.judged
    others = [other for other in summary.metrics[:LEADING] if other is not metric]
    caption = (
        f'Beyond {metric.title}, after the last step: {formatting.in_unit("sd over seeds", metric.difference)}; share '
        'of the gap to the teacher that is recovered, with its 95 % interval (%); the difference to the baseline that '
        f'this many seeds would find {formatting.in_unit("with probability 0.8", metric.difference)}'
        + ('; ' if others else '')
        + ', '.join(formatting.in_unit(other.title, other.unit) for other in others)
    )
    columns = [
        _number('sd', _form(metric), lambda arm: arm.score.sd),
        _Column('gap (%)', _gap),
        _number('would find', _form(metric), _of_test('detectable')),
    ]
    return _arms(summary, caption, [*columns, *(_mean(other, other.head) for other in others)])


def leading(summary: Summary) -> Table:
    """The leading metrics beside the judged one, of the teacher and every arm, each with half its interval."""
    metrics = [metric for metric in summary.metrics[:LEADING] if metric is not summary.judged]
    titles = ', '.join(formatting.in_unit(metric.title, metric.unit) for metric in metrics)
    caption = f'On the test split after the last step, {_with(summary)}: {titles}'
    return _arms(summary, caption, [_score(metric, metric.head) for metric in metrics], teacher=True)


def further(summary: Summary) -> list[Table]:
    """The metrics beyond the leading ones, such as those by class, of the teacher and every arm; if there are any."""
    metrics = [metric for metric in summary.metrics[LEADING:] if metric is not summary.judged]
    columns = [_mean(metric, formatting.in_unit(metric.head, metric.unit)) for metric in metrics]
    caption = 'Further metrics, on the test split after the last step: the mean over seeds'
    return [_arms(summary, caption, columns, teacher=True)] if columns else []


def chosen(summary: Summary) -> Table:
    """What validation chose for each arm, and the validation score with it."""
    metric = summary.judged
    header = formatting.in_unit(f'validation {metric.title}', metric.unit)
    validation = _number(header, _form(metric), lambda arm: arm.validation.mean)
    caption = f'What validation chose, and the mean validation {metric.title} with it'
    return _arms(summary, caption, [validation, _words('chosen', lambda arm: formatting.knobs(arm.chosen))])


def _arms(summary: Summary, caption: str, columns: Sequence[_Column], teacher: bool = False) -> Table:
    """A line per arm, perhaps below the teacher's: where it stands on the axes, and then these columns."""
    axes = comparison.varied_axes(summary)
    align = ['r' if comparison.numeric(axis, summary.rows) else 'l' for axis in axes]
    rows = [(*_place(arm, axes), *(column.cell(arm) for column in columns)) for arm in summary.rows]
    return Table(
        caption,
        ''.join([*align, *(column.align for column in columns)]),
        (*map(formatting.words, axes), *(column.header for column in columns)),
        (*(_teacher(summary, len(axes), columns) if teacher else []), *rows),
    )


def _teacher(summary: Summary, axes: int, columns: Sequence[_Column]) -> list[tuple[TableCell, ...]]:
    """The line of the teacher, where there is one alone: its metrics, and 1 in the column of seeds."""
    if len(summary.teachers) != 1:
        return []
    (teacher,) = summary.teachers.values()

    def cell(column: _Column) -> TableCell:
        if column.of_teacher is None:
            return TableCell('1', 1) if column is _SEEDS else EMPTY
        value = teacher.metrics.get(column.of_teacher.name)
        return TableCell(formatting.value(value, column.of_teacher), value)

    return [(TableCell('teacher', 'teacher'), *[EMPTY] * (axes - 1), *map(cell, columns))]


def _with(summary: Summary) -> str:
    """What stands beside a mean."""
    few = f'the runs from the lowest to the highest where they are fewer than {statistics.FEW}'
    wide = '± half its 95 % interval'
    return ', or '.join(
        text for text, said in ((wide, any(not arm.score.values for arm in summary.rows)),
                                (few, any(arm.score.values for arm in summary.rows))) if said
    )  # fmt: skip


def _verdict(arm: Arm) -> str:
    return 'baseline' if arm.is_baseline else arm.difference.verdict if arm.difference else 'no baseline arm'


def _gap(arm: Arm) -> TableCell:
    gap = arm.gap_recovered
    return TableCell(formatting.interval(gap.value, gap.ci95, '.0f'), gap.value) if gap else EMPTY


def _seeds(arm: Arm) -> TableCell:
    """'20', or '18 of 20' where runs failed or are yet to come."""
    return TableCell(str(arm.n) if arm.n == arm.counts.runs else f'{arm.n} of {arm.counts.runs}', arm.n)


def _form(metric: Metric) -> Callable[[float], str]:
    return partial(formatting.value, metric=metric)


def _number(header: str, form: Callable[[float], str], read: Callable[[Arm], float | None]) -> _Column:
    return _Column(header, lambda arm: TableCell(formatting.or_nothing(form, read(arm)), read(arm)))


def _words(header: str, read: Callable[[Arm], str]) -> _Column:
    return _Column(header, lambda arm: TableCell(read(arm), read(arm)), 'l')


def _mean(metric: Metric, header: str) -> _Column:
    return _number(header, _form(metric), lambda arm: arm.last[metric.name].mean)._replace(of_teacher=metric)


def _score(metric: Metric, title: str, checkpoint: str = 'last') -> _Column:
    """A metric with half its interval."""

    def cell(arm: Arm) -> TableCell:
        estimate = getattr(arm, checkpoint)[metric.name]
        return TableCell(formatting.half(estimate, metric), estimate.mean)

    return _Column(formatting.in_unit(title, metric.unit), cell, of_teacher=metric if checkpoint == 'last' else None)


def _gain(metric: Metric, marked: bool = False, judged: bool = True) -> _Column:
    """The difference to the baseline arm; in bold if it helps and is judged, perhaps with a mark."""

    def cell(arm: Arm) -> TableCell:
        mark = MARKS.get(_verdict(arm), '') if marked else ''
        text = formatting.gain(arm.difference, metric) + mark
        return TableCell(text, _of_test('mean')(arm), judged and _verdict(arm) == statistics.HELPS)

    return _Column(formatting.in_unit('gain' if metric.sign > 0 else 'difference', metric.difference), cell)


def _of_test(field: str) -> Callable[[Arm], Any]:
    """A field of the difference to the baseline arm; None where there is no such arm."""
    return lambda arm: getattr(arm.difference, field, None)


_P = _number('p', formatting.p, _of_test('p'))
_P_HOLM = _number('p (Holm)', formatting.p, _of_test('p_holm'))
_VERDICT = _words('verdict', _verdict)
_PAIRS = _number('pairs', str, _of_test('n'))
_SEEDS = _Column('seeds', _seeds)


# ---- one axis across


def pivots(summary: Summary) -> list[Table]:
    """One table for each axis beside the method that has between two and MOST_COLUMNS values."""
    axes = comparison.varied_axes(summary)[1:]
    return [pivot(summary, axis) for axis in axes if 1 < len(comparison.settings(axis, summary.rows)) <= MOST_COLUMNS]


def pivot(summary: Summary, axis: str) -> Table:
    """Methods, and what else varies, as rows; the values of `axis` as columns; what helps in bold.

    An arm that lacks the axis does not depend on it and has the same number in every column.
    """
    columns, metric = comparison.settings(axis, summary.rows), summary.judged
    usual = max(Counter(arm.n for arm in summary.rows if arm.n).most_common(1), default=(0, 0))[0]
    rows: dict[tuple[str, bool], dict[Any, Arm]] = defaultdict(dict)
    others = [other for other in comparison.varied_axes(summary) if other != axis]
    for arm in summary.rows:
        name, concerned = comparison.label(arm.point, others), axis in arm.point
        rows[name, concerned] |= {value: arm for value in ([arm.point[axis]] if concerned else columns)}

    def cell(arm: Arm | None) -> TableCell:
        if arm is None or arm.score.mean is None:
            return EMPTY
        few = '' if arm.n == usual else f' (n={arm.n})'
        text = formatting.spread(arm.score.mean, arm.score.sd, metric) + MARKS.get(_verdict(arm), '') + few
        return TableCell(text, arm.score.mean, _verdict(arm) == statistics.HELPS)

    body = tuple(
        (TableCell(name, name), *(cell(row.get(value)) for value in columns)) for (name, _), row in rows.items()
    )
    lacking = ', '.join(dict.fromkeys(arm.method for arm in summary.rows if axis not in arm.point))
    same = f'; without {formatting.words(axis)}, the same number in every column: {lacking}' if lacking else ''
    return Table(
        f'{formatting.in_unit(f"Test {metric.title}", metric.unit)} after the last step, mean ± sd over '
        f'{formatting.plural(usual, "seed")} where nothing else is said, by {formatting.words(axis)}; '
        f'{MARKED.format(summary.baseline, family_size(summary))}{same}',
        'l' + 'r' * len(columns),
        (f'{formatting.words(others[0])} / {formatting.words(axis)}', *map(formatting.setting, columns)),
        body,
    )


# ---- beside a paper, and against criteria


def paper(summary: Summary) -> Table:
    """Published numbers beside ours, in the unit of the metric."""
    source, numbers = (summary.published.source, summary.published.rows) if summary.published else ('', ())
    header = ('arm', 'metric', 'step', 'paper', 'ours', 'difference', 'p', 'verdict', 'seeds', 'how sure', 'note')
    caption = f'{source}: its numbers and ours, mean ± sd, and the difference with its 95 % interval'
    rows = tuple(_paper_row(number, summary.by_name[number.metric]) for number in numbers)
    return Table(caption, 'lllrrrrlrll', header, rows)


def _paper_row(number: PublishedNumber, metric: Metric) -> tuple[str | TableCell, ...]:
    ours, difference = number.ours, number.difference
    p = difference.p if difference else None
    runs = '' if number.n is None else f' (n={number.n})'
    return (
        number.arm or ', '.join(comparison.setting_labels(number.point, list(number.point))),
        number.metric,
        number.checkpoint,
        TableCell(formatting.spread(number.value, number.sd, metric) + runs, number.value),
        TableCell(formatting.spread(ours.mean, ours.sd, metric), ours.mean) if ours else EMPTY,
        TableCell(formatting.gain(difference, metric), difference.mean if difference else None),
        TableCell(formatting.p(p), p),
        number.verdict,
        TableCell(str(ours.n), ours.n) if ours else EMPTY,
        number.certainty,
        number.note,
    )


def attempts(summary: Summary) -> Table:
    """Every attempt at acceptance, and what it got of each criterion."""
    rows = tuple(
        (str(place), formatting.knobs(attempt.override), *_criterion_row(criterion, summary))
        for place, attempt in enumerate(summary.acceptance.attempts if summary.acceptance else (), 1)
        for criterion in attempt.criteria
    )
    return Table('Attempts', 'rllrrl', ('attempt', 'changed', 'bar', 'wanted', 'got', 'met'), rows)


def _criterion_row(criterion: Criterion, summary: Summary) -> tuple[str, ...]:
    """A bar is of a metric, of a share such as the gap recovered, or the most of something that is counted."""
    limit, metric = criterion.name.startswith('max_'), summary.by_name.get(criterion.name)

    def form(value: float) -> str:
        if metric is not None:
            return formatting.with_unit(formatting.value(value, metric), metric.unit)
        return f'{value:,.0f}' if limit else f'{100 * value:.2f} %'

    wanted = f'{"≤" if limit or criterion.better == "lower" else "≥"} {form(criterion.wanted)}'
    return criterion.name, wanted, formatting.or_nothing(form, criterion.got), 'yes' if criterion.met else 'no'


# ---- words that tables, text and figures share


def terse(arm: Arm, summary: Summary) -> str:
    """'kd, 4, 0.5': an arm by the values of all axes that vary, where there is no room for its name."""
    return ', '.join(cell.text for cell in _place(arm, comparison.varied_axes(summary)))


def family_size(summary: Summary) -> int:
    """How many arms stand against a baseline: the size of the family."""
    return sum(arm.difference is not None for arm in summary.rows)


def _place(arm: Arm, axes: Sequence[str]) -> tuple[TableCell, ...]:
    return tuple(
        TableCell(formatting.setting(arm.point[axis]), arm.point[axis]) if axis in arm.point else EMPTY for axis in axes
    )
