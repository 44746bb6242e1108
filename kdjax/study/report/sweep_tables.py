"""The tables of a sweep, from what `sweep_report.summarise` found: to be read, to be sorted, and to be computed with.

Accuracies are shown in percent and differences in points; values, by which tables sort and which CSV holds, are shares.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kdjax.study.report import comparison, formatting, statistics
from kdjax.study.report.document import Table, TableCell
from kdjax.study.report.published import SHARES

Row = Mapping[str, Any]

MARKS = {statistics.HELPS: ' ↑', statistics.HURTS: ' ↓'}
MARKED = '↑ better, ↓ worse than {} (paired t test at the 5 % level, Holm-corrected over the {} compared arms)'
COLUMNS = 12  # of a pivot; more would not be read side by side
NETWORK = ('params', 'bytes', 'flops')


def main(found: Row) -> Table:
    """Every arm: accuracy after the last and the best step, gain, p-values, verdict, seeds."""
    axes = varied(found)

    def cells(row: Row) -> tuple[TableCell, ...]:
        gain = row['difference'] or dict.fromkeys(('mean', 'ci95', 'p', 'p_holm', 'n'))
        last, best = (row[checkpoint]['accuracy'] for checkpoint in comparison.CHECKPOINTS)
        return (
            *_place(row, axes),
            TableCell(formatting.half(last), last['mean']),
            TableCell(formatting.half(best), best['mean']),
            TableCell(formatting.estimate(gain, signed=True), gain['mean']),
            TableCell(formatting.p(gain['p']), gain['p']),
            TableCell(formatting.p(gain['p_holm']), gain['p_holm']),
            TableCell(_verdict(row), _verdict(row)),
            TableCell(formatting.or_nothing(formatting.exactly, gain['n']), gain['n']),
            TableCell(seeds(row), row['n']),
        )

    named = ('last step (%)', 'best step (%)', 'gain (points)', 'p', 'p (Holm)', 'verdict', 'pairs', 'seeds')
    return Table(
        'Test accuracy, ± half its 95 % interval, after the last step and at the best step in validation; and gain '
        f'over {found["baseline"]} after the last step, over the pairs, with its own 95 % interval',
        _align(axes, found) + 'rrrrrlrr',
        (*map(_words, axes), *named),
        tuple(map(cells, found['arms'])),
    )


def short(found: Row, most: int) -> Table:
    """For a terminal: the baselines and the most accurate arms, so many at most."""
    rows = found['arms']
    kept = {row['name'] for row in best(rows, most)}
    cells = tuple(
        (
            terse(row, found),
            formatting.half(row['last']['accuracy']),
            formatting.estimate(row['difference'] or {'mean': None}, signed=True) + MARKS.get(_verdict(row), ''),
            formatting.p((row['difference'] or {'p_holm': None})['p_holm']),
            seeds(row),
        )
        for row in rows
        if row['name'] in kept
    )
    which = (
        '' if len(kept) == len(rows) else f'; the {len(kept)} most accurate of {len(rows)} arms, baselines among them'
    )
    return Table(
        f'Test accuracy after the last step, and gain over {found["baseline"]}, with 95 % intervals{which}',
        'lrrrr',
        (', '.join(map(_words, varied(found))), 'accuracy (%)', 'gain (points)', 'p (Holm)', 'seeds'),
        cells,
    )


def pivots(found: Row) -> list[Table]:
    """One table for each axis beside the method that has between two and COLUMNS values."""
    return [
        pivot(found, axis)
        for axis in varied(found)
        if axis != 'method' and 1 < len(values(axis, found['arms'])) <= COLUMNS
    ]


def pivot(found: Row, axis: str) -> Table:
    """Methods, and what else varies, as rows; the values of `axis` as columns; the best of a column in bold.

    An arm that lacks the axis does not depend on it and shows the same number in every column.
    """
    columns = values(axis, found['arms'])
    usual = max(Counter(row['n'] for row in found['arms'] if row['n']).most_common(1), default=(0, 0))[0]
    rows: dict[tuple[str, bool], dict[Any, Row]] = defaultdict(dict)
    others = [other for other in varied(found) if other != axis]
    for row in found['arms']:
        name, concerned = comparison.label(row['point'], others), axis in row['point']
        rows[name, concerned] |= {value: row for value in ([row['point'][axis]] if concerned else columns)}
    tops = {value: _top([row[value] for row in rows.values() if value in row]) for value in columns}

    def cell(row: Row | None, value: Any) -> TableCell:
        if row is None or row['last']['accuracy']['mean'] is None:
            return TableCell(formatting.NOTHING, None)
        few = '' if row['n'] == usual else f' (n={row["n"]})'
        text = formatting.spread(row['last']['accuracy']) + MARKS.get(_verdict(row), '') + few
        return TableCell(text, row['last']['accuracy']['mean'], best=row is tops[value])

    body = tuple(
        (TableCell(name, name), *(cell(row.get(value), value) for value in columns)) for (name, _), row in rows.items()
    )
    return Table(
        f'Test accuracy (%) after the last step, mean ± sd over {formatting.plural(usual, "seed")} where nothing else '
        f'is said, by {_words(axis)}; {MARKED.format(found["baseline"], compared(found))}' + _lacking(found, axis),
        'l' + 'r' * len(columns),
        (f'{_words(others[0])} / {_words(axis)}', *map(formatting.value, columns)),
        body,
    )


def beyond(found: Row) -> Table:
    """Spread, share of the gap, what could have been found, likelihood, calibration, fidelity; after the last step."""
    axes = varied(found)

    def cells(row: Row) -> tuple[TableCell, ...]:
        last, gap = row['last'], row['gap_recovered'] or {'value': None, 'ci95': None}
        finds = (row['difference'] or {'detectable': None})['detectable']
        means = {metric: last[metric]['mean'] for metric in comparison.METRICS}
        return (
            *_place(row, axes),
            TableCell(formatting.percent(last['accuracy']['sd']), last['accuracy']['sd']),
            TableCell(formatting.estimate({'mean': gap['value'], 'ci95': gap['ci95']}, digits=0), gap['value']),
            TableCell(formatting.percent(finds), finds),
            TableCell(formatting.number(means['nll']), means['nll']),
            TableCell(formatting.percent(means['ece']), means['ece']),
            TableCell(formatting.percent(means['agreement']), means['agreement']),
            TableCell(formatting.number(means['kl']), means['kl']),
        )

    return Table(
        'Beyond accuracy, after the last step: sd over seeds (points); share of the gap to the teacher that is '
        'recovered, with its 95 % interval (%); the difference to the baseline that this many seeds would find with '
        'probability 0.8 (points); negative log-likelihood (nats), calibration error (%), top-1 agreement with the '
        'teacher (%), KL to it (nats)',
        _align(axes, found) + 'rrrrrrr',
        (*map(_words, axes), 'sd', 'gap (%)', 'would find', 'NLL', 'ECE', 'agrees', 'KL'),
        tuple(map(cells, found['arms'])),
    )


def costs(found: Row) -> Table:
    """Every network once, teachers first: parameters, size, FLOPs, latency."""
    networks = [(teacher_name(key), teacher) for key, teacher in found['teachers'].items()]
    networks += students(found['arms'])
    batches = list(dict.fromkeys(batch for _, cost in networks for batch in cost['latency_ms']))

    def cells(name: str, cost: Row) -> tuple[TableCell, ...]:
        shows: tuple[Callable[[float], str], ...] = (formatting.thousands, formatting.mebibytes, formatting.thousands)
        counts = (
            TableCell(formatting.or_nothing(show, cost[key]), cost[key])
            for show, key in zip(shows, NETWORK, strict=True)
        )
        times = (cost['latency_ms'].get(batch) for batch in batches)
        return (
            TableCell(name, name),
            *counts,
            *(TableCell(formatting.or_nothing(formatting.milliseconds, time), time) for time in times),
        )

    return Table(
        'What each network costs: parameters, their size, FLOPs per example, latency (median) by size of the batch',
        'lrrr' + 'r' * len(batches),
        ('network', 'parameters', 'size', 'FLOPs', *(f'batch of {batch}' for batch in batches)),
        tuple(cells(name, cost) for name, cost in networks),
    )


def students(rows: Sequence[Row]) -> list[tuple[str, Row]]:
    """Each student network that was trained, named by what its arms share, with its cost."""
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        if row['cost']:
            groups[network(row['cost'])].append(row)
    return [(_network(group, rows), comparison.cost([row['cost'] for row in group])) for group in groups.values()]


def network(cost: Row) -> tuple[float, ...]:
    """What tells one network from another by its cost: parameters, bytes, FLOPs; latency is never twice the same."""
    return tuple(cost[key] for key in NETWORK)


def teacher_name(key: str) -> str:
    """'teacher', or 'teacher big' where it has a name of its own."""
    return key if key == 'teacher' else f'teacher {key}'


def teachers(found: Row) -> Table:
    """What the teachers know."""
    rows = tuple(
        (
            teacher_name(key),
            formatting.percent(teacher['accuracy']),
            formatting.number(teacher['nll']),
            formatting.percent(teacher['ece']),
        )
        for key, teacher in found['teachers'].items()
    )
    header = ('teacher', 'accuracy (%)', 'NLL', 'ECE (%)')
    return Table('Teachers: test accuracy, negative log-likelihood (nats), calibration error', 'lrrr', header, rows)


def paper(found: Row) -> Table:
    """The paper's numbers beside ours, in the unit of the metric: percent, or nats."""
    rows = tuple(map(_paper_row, found['expected']['rows']))
    header = ('arm', 'metric', 'step', 'paper', 'ours', 'difference', 'p', 'verdict', 'seeds', 'how sure', 'note')
    caption = (
        f'{found["expected"]["source"]}: its numbers and ours, mean ± sd, and the difference with its 95 % interval'
    )
    return Table(caption, 'lllrrrrlrll', header, rows)


def best(rows: Sequence[Row], most: int) -> list[Row]:
    """Baselines, a quarter at most, then the other arms: those with the highest mean accuracy after the last step."""
    ranked = sorted(rows, key=lambda row: -(row['last']['accuracy']['mean'] or -1))
    baselines = [row for row in ranked if row['is_baseline']][: max(most // 4, 1)]
    return (baselines + [row for row in ranked if not row['is_baseline']])[:most]


def terse(row: Row, found: Row) -> str:
    """'kd, 4, 0.5': an arm by the values of all axes that vary, where there is no room for its name."""
    return ', '.join(cell.text for cell in _place(row, varied(found)))


def varied(found: Row) -> list[str]:
    """The method, and the axes with more than one value: the others tell no arms apart."""
    return ['method', *(axis for axis in found['axes'][1:] if len(values(axis, found['arms'])) > 1)]


def values(axis: str, rows: Sequence[Row]) -> list[Any]:
    """The values of an axis: numbers in ascending order, others as they come."""
    return comparison.numeric(axis, rows) or list(
        dict.fromkeys(row['point'][axis] for row in rows if axis in row['point'])
    )


def compared(found: Row) -> int:
    """How many arms stand against a baseline: the size of the family."""
    return sum(row['difference'] is not None for row in found['arms'])


def seeds(row: Row) -> str:
    """'20', or '18 of 20' where runs failed or are yet to come."""
    return str(row['n']) if row['n'] == row['runs'] else f'{row["n"]} of {row["runs"]}'


def _verdict(row: Row) -> str:
    if row['is_baseline']:
        return 'baseline'
    return row['difference']['verdict'] if row['difference'] else 'no baseline arm'


def _place(row: Row, axes: Sequence[str]) -> tuple[TableCell, ...]:
    found = ((axis in row['point'], row['point'].get(axis)) for axis in axes)
    return tuple(TableCell(formatting.value(value) if there else formatting.NOTHING, value) for there, value in found)


def _align(axes: Sequence[str], found: Row) -> str:
    return ''.join('r' if comparison.numeric(axis, found['arms']) else 'l' for axis in axes)


def _words(axis: str) -> str:
    return axis.replace('_', ' ')


def _top(rows: Sequence[Row]) -> Row | None:
    """The row with the highest mean, where there is something to be better than."""
    known = [row for row in rows if row['last']['accuracy']['mean'] is not None]
    return max(known, key=lambda row: row['last']['accuracy']['mean']) if len(known) > 1 else None


def _lacking(found: Row, axis: str) -> str:
    lacking = list(dict.fromkeys(row['method'] for row in found['arms'] if axis not in row['point']))
    return f'; without {_words(axis)}, the same number in every column: {", ".join(lacking)}' if lacking else ''


def _network(group: Sequence[Row], rows: Sequence[Row]) -> str:
    if len(group) == sum(row['cost'] is not None for row in rows):
        return 'student'
    shared = [f'{_words(axis)} {formatting.value(value)}' for axis, value in group[0]['point'].items()
              if all(row['point'].get(axis) == value for row in group)
              and not all(row['point'].get(axis) == value for row in rows)]  # fmt: skip
    more = f' and {len(group) - 1} more' if len(group) > 1 else ''
    return f'student, {", ".join(shared)}' if shared else f'student of {group[0]["name"]}{more}'


def _paper_row(row: Row) -> tuple[str | TableCell, ...]:
    share, ours, gap = (
        row['metric'] in SHARES,
        row['ours'],
        row['difference'] or {'mean': None, 'ci95': None, 'p': None},
    )
    theirs = {'mean': row['value'], 'sd': row['sd'], 'ci95': None}
    runs = '' if row['n'] is None else f' (n={row["n"]})'
    arm = row['arm'] or ', '.join(f'{_words(axis)} {formatting.value(value)}' for axis, value in row['point'].items())
    return (
        arm,
        row['metric'],
        row['checkpoint'],
        TableCell(_spread(theirs, share) + runs, row['value']),
        TableCell(_spread(ours, share), ours['mean']) if ours else TableCell(formatting.NOTHING, None),
        TableCell(formatting.estimate(gap, signed=True) if share else formatting.plainly(gap), gap['mean']),
        TableCell(formatting.p(gap['p']), gap['p']),
        row['verdict'],
        TableCell(str(ours['n']), ours['n']) if ours else TableCell(formatting.NOTHING, None),
        row['certainty'],
        row['note'],
    )


def _spread(found: Row, share: bool) -> str:
    if share:
        return formatting.spread(found)
    return formatting.number(found['mean']) + ('' if found['sd'] is None else f' ± {formatting.number(found["sd"])}')
