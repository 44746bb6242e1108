"""The tables of a report, from its summary: to be read, to be sorted, and to be computed with.

Cells show a metric in its unit; their values, by which tables sort, are as stored: shares, not percent.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from kdjax.study.report import comparison, formatting, statistics
from kdjax.study.report.document import Table, TableCell
from kdjax.study.report.records import (
    METRICS,
    SCORE,
    Arm,
    Criterion,
    Metric,
    PairedDifference,
    PublishedNumber,
    Summary,
)

MARKS = {statistics.HELPS: ' ↑', statistics.HURTS: ' ↓'}
MARKED = '↑ better, ↓ worse than {} (paired t test at the 5 % level, Holm-corrected over the {} compared arms)'
MOST_COLUMNS = 12  # of a pivot; more would not be read side by side
EMPTY = TableCell(formatting.NOTHING, None)
TITLE, UNIT = f'Test {SCORE.title}', f'({SCORE.unit})'


class _Column(NamedTuple):
    """A column of a table of arms."""

    header: str
    text: Callable[[Arm], str]
    value: Callable[[Arm], float | str | None]  # by which it sorts
    align: str = 'r'


# ---- arms


def main(summary: Summary) -> Table:
    """The teacher, if there is one, and every arm: score after the last and the best step, gain, p, verdict, seeds."""
    caption = (
        f'{TITLE}, ± half its 95 % interval, after the last step and at the best step in validation; and gain over '
        f'{summary.baseline} after the last step, over the pairs, with its own 95 % interval; p of each comparison by '
        f"itself, and p and the verdict with Holm's correction over the {family_size(summary)} compared arms"
    )
    columns = [_LAST._replace(header=f'last step {UNIT}'), _BEST, _GAIN, _P, _P_HOLM, _VERDICT, _PAIRS, _SEEDS]
    return _arms(summary, caption, columns, teacher=True)


def plain(summary: Summary) -> Table:
    """The teacher, if there is one, and every arm: score after the last step, gain, its p-value by itself, seeds."""
    caption = (
        f'{TITLE}, ± half its 95 % interval, and gain over {summary.baseline} with its 95 % interval and p-value, each '
        'by itself'
    )
    return _arms(summary, caption, [_LAST, _GAIN, _P, _SEEDS], teacher=True)


def short(summary: Summary, most: int) -> Table:
    """For a terminal: the teacher, if there is one, the baselines and the best arms, so many arms at most."""
    marked = _GAIN._replace(text=lambda arm: _GAIN.text(arm) + MARKS.get(_verdict(arm), ''))
    columns, names = [_LAST, marked, _P_HOLM, _SEEDS], {arm.name for arm in comparison.best(summary.rows, most)}
    kept = [arm for arm in summary.rows if arm.name in names]
    rows = [(terse(arm, summary), *(column.text(arm) for column in columns)) for arm in kept]
    teacher = [tuple(cell.text for cell in row) for row in _teacher(summary, 1, columns)]
    which = f'; the {len(kept)} best of {len(summary.rows)} arms, baselines among them'
    caption = f'{TITLE} after the last step, and gain over {summary.baseline}, with 95 % intervals'
    header = ', '.join(map(formatting.words, comparison.varied_axes(summary)))
    return Table(
        caption + (which if len(kept) < len(summary.rows) else ''),
        'lrrrr',
        (header, *(column.header for column in columns)),
        (*teacher, *rows),
    )


def beyond(summary: Summary) -> Table:
    """Spread, share of the gap, what could have been found, and the other metrics; after the last step."""
    others = [metric for metric in METRICS.values() if metric is not SCORE]
    caption = (
        f'Beyond {SCORE.title}, after the last step: sd over seeds ({SCORE.difference}); share of the gap to the '
        'teacher that is recovered, with its 95 % interval (%); the difference to the baseline that this many seeds '
        f'would find with probability 0.8 ({SCORE.difference}); '
        + ', '.join(f'{metric.title} ({metric.unit})' for metric in others)
    )
    return _arms(summary, caption, [_SD, _GAP, _DETECTABLE, *map(_mean, others)])


def chosen(summary: Summary) -> Table:
    """What validation chose for each arm, and the validation score with it."""
    caption = f'What validation chose, and the mean validation {SCORE.title} with it'
    return _arms(summary, caption, [_VALIDATION, _CHOSEN])


def _arms(summary: Summary, caption: str, columns: Sequence[_Column], teacher: bool = False) -> Table:
    """A line per arm, perhaps below the teacher's: where it stands on the axes, and then these columns."""
    axes = comparison.varied_axes(summary)
    align = ['r' if comparison.numeric(axis, summary.rows) else 'l' for axis in axes]
    rows = [
        (*_place(arm, axes), *(TableCell(column.text(arm), column.value(arm)) for column in columns))
        for arm in summary.rows
    ]
    return Table(
        caption,
        ''.join([*align, *(column.align for column in columns)]),
        (*map(formatting.words, axes), *(column.header for column in columns)),
        (*(_teacher(summary, len(axes), columns) if teacher else []), *rows),
    )


def _teacher(summary: Summary, axes: int, columns: Sequence[_Column]) -> list[tuple[TableCell, ...]]:
    """The line of the teacher, where there is one alone: its score in the first column, and 1 in that of seeds."""
    if len(summary.teachers) != 1:
        return []
    score = next(iter(summary.teachers.values())).metrics.get(SCORE.name)
    cells = [TableCell(formatting.value(score), score), *[EMPTY] * (len(columns) - 2), TableCell('1', 1)]
    return [(TableCell('teacher', 'teacher'), *[EMPTY] * (axes - 1), *cells)]


def _test(arm: Arm) -> PairedDifference:
    return arm.difference or PairedDifference(None, None, None, None, 0, 'no baseline arm', None, '')


def _verdict(arm: Arm) -> str:
    return 'baseline' if arm.is_baseline else _test(arm).verdict


def _gap(arm: Arm) -> str:
    gap = arm.gap_recovered
    ends = gap.ci95 if gap else None
    return formatting.interval(100 * gap.value if gap else None, ends and (100 * ends[0], 100 * ends[1]), '.0f')


def _mean(metric: Metric) -> _Column:
    name = metric.name
    return _Column(
        metric.head, lambda arm: formatting.value(arm.last[name].mean, metric), lambda arm: arm.last[name].mean
    )


_LAST = _Column(f'{SCORE.title} {UNIT}', lambda arm: formatting.half(arm.score), lambda arm: arm.score.mean)
_BEST = _Column(f'best step {UNIT}', lambda arm: formatting.half(arm.best[SCORE.name]),
                lambda arm: arm.best[SCORE.name].mean)  # fmt: skip
_GAIN = _Column(f'gain ({SCORE.difference})', lambda arm: formatting.gain(arm.difference), lambda arm: _test(arm).mean)
_P = _Column('p', lambda arm: formatting.p(_test(arm).p), lambda arm: _test(arm).p)
_P_HOLM = _Column('p (Holm)', lambda arm: formatting.p(_test(arm).p_holm), lambda arm: _test(arm).p_holm)
_VERDICT = _Column('verdict', _verdict, _verdict, 'l')
_PAIRS = _Column('pairs', lambda arm: str(_test(arm).n) if arm.difference else formatting.NOTHING,
                 lambda arm: _test(arm).n if arm.difference else None)  # fmt: skip
_SEEDS = _Column('seeds', lambda arm: seeds(arm), lambda arm: arm.n)
_SD = _Column('sd', lambda arm: formatting.value(arm.score.sd), lambda arm: arm.score.sd)
_GAP = _Column('gap (%)', _gap, lambda arm: arm.gap_recovered.value if arm.gap_recovered else None)
_DETECTABLE = _Column(
    'would find', lambda arm: formatting.value(_test(arm).detectable), lambda arm: _test(arm).detectable
)
_VALIDATION = _Column(f'validation {SCORE.title} {UNIT}', lambda arm: formatting.value(arm.validation.mean),
                      lambda arm: arm.validation.mean)  # fmt: skip
_CHOSEN = _Column('chosen', lambda arm: formatting.knobs(arm.chosen), lambda arm: formatting.knobs(arm.chosen), 'l')


# ---- one axis across


def pivots(summary: Summary) -> list[Table]:
    """One table for each axis beside the method that has between two and MOST_COLUMNS values."""
    axes = comparison.varied_axes(summary)[1:]
    return [pivot(summary, axis) for axis in axes if 1 < len(comparison.settings(axis, summary.rows)) <= MOST_COLUMNS]


def pivot(summary: Summary, axis: str) -> Table:
    """Methods, and what else varies, as rows; the values of `axis` as columns; the best of a column in bold.

    An arm that lacks the axis does not depend on it and has the same number in every column.
    """
    columns = comparison.settings(axis, summary.rows)
    usual = max(Counter(arm.n for arm in summary.rows if arm.n).most_common(1), default=(0, 0))[0]
    rows: dict[tuple[str, bool], dict[Any, Arm]] = defaultdict(dict)
    others = [other for other in comparison.varied_axes(summary) if other != axis]
    for arm in summary.rows:
        name, concerned = comparison.label(arm.point, others), axis in arm.point
        rows[name, concerned] |= {value: arm for value in ([arm.point[axis]] if concerned else columns)}
    tops = {value: _top([row[value] for row in rows.values() if value in row]) for value in columns}

    def cell(arm: Arm | None, value: Any) -> TableCell:
        if arm is None or arm.score.mean is None:
            return EMPTY
        few = '' if arm.n == usual else f' (n={arm.n})'
        text = formatting.spread(arm.score.mean, arm.score.sd) + MARKS.get(_verdict(arm), '') + few
        return TableCell(text, arm.score.mean, best=arm is tops[value])

    body = tuple(
        (TableCell(name, name), *(cell(row.get(value), value) for value in columns)) for (name, _), row in rows.items()
    )
    return Table(
        f'{TITLE} {UNIT} after the last step, mean ± sd over {formatting.plural(usual, "seed")} where nothing else '
        f'is said, by {formatting.words(axis)}; {MARKED.format(summary.baseline, family_size(summary))}'
        + _lacking(summary, axis),
        'l' + 'r' * len(columns),
        (f'{formatting.words(others[0])} / {formatting.words(axis)}', *map(formatting.setting, columns)),
        body,
    )


def _top(arms: Sequence[Arm]) -> Arm | None:
    """The arm with the best mean, where there is something to be better than."""
    order = comparison.ranked(arms)
    return order[0] if len(order) > 1 else None


def _lacking(summary: Summary, axis: str) -> str:
    lacking = list(dict.fromkeys(arm.method for arm in summary.rows if axis not in arm.point))
    if not lacking:
        return ''
    return f'; without {formatting.words(axis)}, the same number in every column: {", ".join(lacking)}'


# ---- beside a paper, and against criteria


def paper(summary: Summary) -> Table:
    """Published numbers beside ours, in the unit of the metric."""
    source, numbers = (summary.published.source, summary.published.rows) if summary.published else ('', ())
    header = ('arm', 'metric', 'step', 'paper', 'ours', 'difference', 'p', 'verdict', 'seeds', 'how sure', 'note')
    caption = f'{source}: its numbers and ours, mean ± sd, and the difference with its 95 % interval'
    return Table(caption, 'lllrrrrlrll', header, tuple(map(_paper_row, numbers)))


def _paper_row(number: PublishedNumber) -> tuple[str | TableCell, ...]:
    metric, ours, difference = METRICS[number.metric], number.ours, number.difference
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
        (str(place), formatting.knobs(attempt.override), *_criterion_row(criterion))
        for place, attempt in enumerate(summary.acceptance.attempts if summary.acceptance else (), 1)
        for criterion in attempt.criteria
    )
    return Table('Attempts', 'rllrrl', ('attempt', 'changed', 'bar', 'wanted', 'got', 'met'), rows)


def _criterion_row(criterion: Criterion) -> tuple[str, ...]:
    limit = criterion.name.startswith('max_')
    form = formatting.exactly if limit else formatting.share
    wanted = f'{"≤" if limit else "≥"} {form(criterion.wanted)}'
    return criterion.name, wanted, formatting.or_nothing(form, criterion.got), 'yes' if criterion.met else 'no'


# ---- words that tables, text and figures share


def terse(arm: Arm, summary: Summary) -> str:
    """'kd, 4, 0.5': an arm by the values of all axes that vary, where there is no room for its name."""
    return ', '.join(cell.text for cell in _place(arm, comparison.varied_axes(summary)))


def family_size(summary: Summary) -> int:
    """How many arms stand against a baseline: the size of the family."""
    return sum(arm.difference is not None for arm in summary.rows)


def seeds(arm: Arm) -> str:
    """'20', or '18 of 20' where runs failed or are yet to come."""
    return str(arm.n) if arm.n == arm.counts.runs else f'{arm.n} of {arm.counts.runs}'


def _place(arm: Arm, axes: Sequence[str]) -> tuple[TableCell, ...]:
    return tuple(
        TableCell(formatting.setting(arm.point[axis]), arm.point[axis]) if axis in arm.point else EMPTY for axis in axes
    )
