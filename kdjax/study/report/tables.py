"""The tables of a report, from its summary: to be read, to be sorted, and to be computed with.

Cells show a metric in its unit; their values, by which tables sort, are as stored: shares, not percent.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from kdjax.study.report import comparison, formatting, statistics
from kdjax.study.report.document import Table, TableCell
from kdjax.study.report.records import METRICS, SCORE, Arm, Criterion, PairedDifference, PublishedNumber, Summary

MARKS = {statistics.HELPS: ' ↑', statistics.HURTS: ' ↓'}
MARKED = '↑ better, ↓ worse than {} (paired t test at the 5 % level, Holm-corrected over the {} compared arms)'
MOST_COLUMNS = 12  # of a pivot; more would not be read side by side
EMPTY = TableCell(formatting.NOTHING, None)
TITLE, UNIT = f'Test {SCORE.title}', f'({SCORE.unit})'


class _Column(NamedTuple):
    """A column of a table of arms."""

    header: str
    align: str
    cell: Callable[[Arm], TableCell]


# ---- arms


def main(summary: Summary) -> Table:
    """The teacher, if there is one, and every arm: score after the last and the best step, gain, p, verdict, seeds."""
    caption = (
        f'{TITLE}, ± half its 95 % interval, after the last step and at the best step in validation; and gain over '
        f'{summary.baseline} after the last step, over the pairs, with its own 95 % interval; p of each comparison by '
        f"itself, and p and the verdict with Holm's correction over the {compared(summary)} compared arms"
    )
    last = _Column(f'last step {UNIT}', 'r', _last)
    return _results(summary, caption, [last, _BEST, _GAIN, _P, _P_HOLM, _VERDICT, _PAIRS, _SEEDS])


def plain(summary: Summary) -> Table:
    """The teacher, if there is one, and every arm: score after the last step, gain, its p-value by itself, seeds."""
    caption = (
        f'{TITLE}, ± half its 95 % interval, and gain over {summary.baseline} with its 95 % interval and p-value, each '
        'by itself'
    )
    return _results(summary, caption, [_Column(f'{SCORE.title} {UNIT}', 'r', _last), _GAIN, _P, _SEEDS])


def short(summary: Summary, most: int) -> Table:
    """For a terminal: the teacher, if there is one, the baselines and the best arms, so many arms at most."""
    arms = summary.rows
    kept = {arm.name for arm in comparison.best(arms, most)}
    rows = tuple(
        (
            terse(arm, summary),
            formatting.half(arm.score),
            formatting.gain(arm.difference) + MARKS.get(_verdict(arm), ''),
            formatting.p(arm.difference.p_holm if arm.difference else None),
            seeds(arm),
        )
        for arm in arms
        if arm.name in kept
    )
    teacher = [
        ('teacher', formatting.value(score), *[formatting.NOTHING] * 2, '1') for score in _teacher_score(summary)
    ]
    which = '' if len(kept) == len(arms) else f'; the {len(kept)} best of {len(arms)} arms, baselines among them'
    header = (
        ', '.join(map(formatting.words, comparison.varied(summary))),
        f'{SCORE.title} {UNIT}', f'gain ({SCORE.difference})', 'p (Holm)', 'seeds',
    )  # fmt: skip
    caption = f'{TITLE} after the last step, and gain over {summary.baseline}, with 95 % intervals{which}'
    return Table(caption, 'lrrrr', header, (*teacher, *rows))


def beyond(summary: Summary) -> Table:
    """Spread, share of the gap, what could have been found, and the other metrics; after the last step."""
    others = {name: metric for name, metric in METRICS.items() if name != SCORE.name}
    known = (
        f'sd over seeds ({SCORE.difference}); share of the gap to the teacher that is recovered, with its 95 % '
        'interval (%); the difference to the baseline that this many seeds would find with probability 0.8 '
        f'({SCORE.difference})'
    )
    named = ', '.join(f'{metric.title} ({metric.unit})' for metric in others.values())
    columns = [
        _Column('sd', 'r', lambda arm: TableCell(formatting.value(arm.score.sd), arm.score.sd)),
        _Column('gap (%)', 'r', _gap),
        _Column('would find', 'r', _detectable),
        *(_Column(metric.head, 'r', _mean(name)) for name, metric in others.items()),
    ]
    return _arms(summary, f'Beyond {SCORE.title}, after the last step: {known}; {named}', columns)


def chosen(summary: Summary) -> Table:
    """What validation chose for each arm, and the validation score with it."""
    columns = [
        _Column(
            f'validation {SCORE.title} {UNIT}', 'r',
            lambda arm: TableCell(formatting.value(arm.validation.mean), arm.validation.mean),
        ),
        _Column('chosen', 'l', lambda arm: TableCell(formatting.knobs(arm.chosen), formatting.knobs(arm.chosen))),
    ]  # fmt: skip
    return _arms(summary, f'What validation chose, and the mean validation {SCORE.title} with it', columns)


def _results(summary: Summary, caption: str, columns: Sequence[_Column]) -> Table:
    """The teacher, where there is one alone, and the arms; the first column is of the score, the last of seeds."""
    table, axes = _arms(summary, caption, columns), comparison.varied(summary)
    teacher = tuple(
        (TableCell('teacher', 'teacher'), *[EMPTY] * (len(axes) - 1), TableCell(formatting.value(score), score),
         *[EMPTY] * (len(columns) - 2), TableCell('1', 1))
        for score in _teacher_score(summary)
    )  # fmt: skip
    return table._replace(rows=teacher + table.rows)


def _arms(summary: Summary, caption: str, columns: Sequence[_Column]) -> Table:
    """A line per arm: where it stands on the axes, and then these columns."""
    axes = comparison.varied(summary)
    align = ''.join('r' if comparison.numeric(axis, summary.rows) else 'l' for axis in axes)
    header = (*map(formatting.words, axes), *(column.header for column in columns))
    rows = tuple((*_place(arm, axes), *(column.cell(arm) for column in columns)) for arm in summary.rows)
    return Table(caption, align + ''.join(column.align for column in columns), header, rows)


def _teacher_score(summary: Summary) -> list[float | None]:
    """The score of the teacher, where there is one alone; several have a table of their own."""
    scores = [teacher.metrics.get(SCORE.name) for teacher in summary.teachers.values()]
    return scores if len(scores) == 1 else []


def _last(arm: Arm) -> TableCell:
    return TableCell(formatting.half(arm.score), arm.score.mean)


def _best(arm: Arm) -> TableCell:
    return TableCell(formatting.half(arm.best[SCORE.name]), arm.best[SCORE.name].mean)


def _of_difference(
    form: Callable[[PairedDifference], str], value: Callable[[PairedDifference], float | None]
) -> Callable[[Arm], TableCell]:
    return lambda arm: TableCell(form(arm.difference), value(arm.difference)) if arm.difference else EMPTY


def _verdict(arm: Arm) -> str:
    if arm.is_baseline:
        return 'baseline'
    return arm.difference.verdict if arm.difference else 'no baseline arm'


def _gap(arm: Arm) -> TableCell:
    gap = arm.gap_recovered
    if gap is None:
        return EMPTY
    ends = gap.ci95 and (100 * gap.ci95[0], 100 * gap.ci95[1])
    return TableCell(formatting.interval(100 * gap.value, ends, '.0f'), gap.value)


def _detectable(arm: Arm) -> TableCell:
    size = arm.difference.detectable if arm.difference else None
    return TableCell(formatting.value(size), size)


def _mean(name: str) -> Callable[[Arm], TableCell]:
    return lambda arm: TableCell(formatting.value(arm.last[name].mean, METRICS[name]), arm.last[name].mean)


_BEST = _Column(f'best step {UNIT}', 'r', _best)
_GAIN = _Column(f'gain ({SCORE.difference})', 'r', _of_difference(formatting.gain, lambda test: test.mean))
_P = _Column('p', 'r', _of_difference(lambda test: formatting.p(test.p), lambda test: test.p))
_P_HOLM = _Column('p (Holm)', 'r', _of_difference(lambda test: formatting.p(test.p_holm), lambda test: test.p_holm))
_VERDICT = _Column('verdict', 'l', lambda arm: TableCell(_verdict(arm), _verdict(arm)))
_PAIRS = _Column('pairs', 'r', _of_difference(lambda test: str(test.n), lambda test: test.n))
_SEEDS = _Column('seeds', 'r', lambda arm: TableCell(seeds(arm), arm.n))


# ---- one axis across


def pivots(summary: Summary) -> list[Table]:
    """One table for each axis beside the method that has between two and MOST_COLUMNS values."""
    axes = comparison.varied(summary)[1:]
    return [pivot(summary, axis) for axis in axes if 1 < len(comparison.settings(axis, summary.rows)) <= MOST_COLUMNS]


def pivot(summary: Summary, axis: str) -> Table:
    """Methods, and what else varies, as rows; the values of `axis` as columns; the best of a column in bold.

    An arm that lacks the axis does not depend on it and has the same number in every column.
    """
    columns = comparison.settings(axis, summary.rows)
    usual = max(Counter(arm.n for arm in summary.rows if arm.n).most_common(1), default=(0, 0))[0]
    rows: dict[tuple[str, bool], dict[Any, Arm]] = defaultdict(dict)
    others = [other for other in comparison.varied(summary) if other != axis]
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
        f'is said, by {formatting.words(axis)}; {MARKED.format(summary.baseline, compared(summary))}'
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
        number.arm or ', '.join(comparison.described(number.point, list(number.point))),
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
    return ', '.join(cell.text for cell in _place(arm, comparison.varied(summary)))


def compared(summary: Summary) -> int:
    """How many arms stand against a baseline: the size of the family."""
    return sum(arm.difference is not None for arm in summary.rows)


def seeds(arm: Arm) -> str:
    """'20', or '18 of 20' where runs failed or are yet to come."""
    return str(arm.n) if arm.n == arm.counts.runs else f'{arm.n} of {arm.counts.runs}'


def _place(arm: Arm, axes: Sequence[str]) -> tuple[TableCell, ...]:
    return tuple(
        TableCell(formatting.setting(arm.point[axis]), arm.point[axis]) if axis in arm.point else EMPTY for axis in axes
    )
