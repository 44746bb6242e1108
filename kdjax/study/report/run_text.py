"""What a report says, section by section, in words that the numbers carry and no others.

`found` is what `report.summarise` returns, `results` what the study handed over. Accuracies are shown in percent,
differences in points (percent of the test set), and a number that does not exist as a dash.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from kdjax.study.report import formatting, statistics
from kdjax.study.report.document import Block, Heading, Items, Listing, Picture, Table, Text

Row = Mapping[str, Any]

COVERS = (
    'What an interval covers: n seeds. Each seed draws its own transfer set from one pool, its own initialisation and '
    'its own batch order, and all methods share these draws (common random numbers), so differences are paired by '
    "seed. An interval is the 95 % Student-t interval over such draws (Fieller's for the share of the gap). It does "
    'not cover another teacher, another pool or another test set. The test set was looked at once.'
)


def full(results: Row, found: Row) -> list[Block]:
    """The whole page, for the files."""
    return [
        Heading(results['title'], 1),
        *_finding(found),
        Text(COVERS),
        Heading('Results'),
        accuracy_table(found),
        Picture('gain_vs_size.png', f'Paired difference to {found["baseline"]}, with 95 % intervals.'),
        Picture('accuracy_vs_size.png', 'Mean test accuracy over the seeds, with 95 % intervals.'),
        _beyond(found),
        Heading('What was saved'),
        *_costs(found),
        Heading('How it was trained'),
        Items(tuple(dict.fromkeys(f'{row["name"]}: {" → ".join(row["stages"])}' for row in students(found)))),
        _chosen(found),
        Picture('learning_curves.png', 'Mean validation accuracy during training, with 95 % bands over the seeds.'),
        *_anatomy(results),
        Picture('soft_labels.png', 'What the teacher says of one image, at several temperatures T.'),
        Heading('Acceptance'),
        *_acceptance(found['accept']),
        Heading('Failed runs'),
        *_failures(results, found),
        Heading('Provenance'),
        provenance(found),
        Listing('Configuration', json.dumps(results['provenance']['config'], indent=2)),
    ]


def brief(results: Row, found: Row) -> list[Block]:
    """The tables and, last and so nearest to the prompt, the finding: for the terminal."""
    return [
        Heading(results['title'], 1),
        *_costs(found),
        _beyond(found),
        accuracy_table(found),
        *(_failures(results, found) if _failed(found) else []),
        *_finding(found),
    ]


def students(found: Row) -> list[Row]:
    """The rows of `found` without the teacher's."""
    return [row for row in found['rows'] if row['transfer_size'] is not None]


def _finding(found: Row) -> list[Block]:
    compared = [row for row in students(found) if row['difference'] is not None]
    if not compared:
        return [Text(f'Only {found["baseline"]} was run: there is nothing to compare it with.')]
    counts = Counter(row['difference']['verdict'] for row in compared)
    lead = (
        f'Each method against {found["baseline"]} on the same seeds, '
        f'{formatting.plural(len(compared), "comparison")} in all: '
        + ', '.join(f'{verdict} {counts[verdict]}' for verdict in statistics.VERDICTS if counts[verdict])
        + ' (two-sided paired t test at the 5 % level, not corrected for the number of comparisons). Gains in points '
        'of accuracy, with their 95 % intervals:'
    )
    by_size = defaultdict(list)
    for row in compared:
        by_size[row['transfer_size']].append(row)
    return [Text(lead), Items(tuple(_at_size(size, rows, found['baseline']) for size, rows in by_size.items()))]


def _at_size(size: int, rows: Sequence[Row], baseline: str) -> str:
    by_verdict = defaultdict(list)
    for row in rows:
        by_verdict[row['difference']['verdict']].append(_gain(row))
    said = [f'{verdict} – {", ".join(by_verdict[verdict])}' for verdict in statistics.VERDICTS if verdict in by_verdict]
    plainly = [] if statistics.HELPS in by_verdict else [f'no method is significantly better than {baseline}']
    return f'{size} transfer examples: {"; ".join(plainly + said)}.'


def _gain(row: Row) -> str:
    gain = formatting.estimate(row['difference'], signed=True)
    return f'{row["name"]} (no common seed)' if gain == formatting.NOTHING else f'{row["name"]} ({gain})'


def accuracy_table(found: Row) -> Table:
    def cells(row: Row) -> tuple[str, ...]:
        gain = row['difference'] or {'mean': None, 'ci95': None, 'p': None}
        seeds = f'{row["n"]} of {row["n"] + row["failed"]}' if row['failed'] else str(row['n'])
        return (
            _size(row),
            row['name'],
            formatting.half(row['accuracy']),
            formatting.estimate(gain, signed=True),
            formatting.p(gain['p']),
            seeds,
        )

    return Table(
        f'Test accuracy, ± half its 95 % interval, and gain over {found["baseline"]} with its 95 % interval',
        'rlrrrr',
        ('size', 'method', 'accuracy (%)', 'gain (points)', 'p', 'seeds'),
        tuple(map(cells, found['rows'])),
    )


def _beyond(found: Row) -> Table:
    def cells(row: Row) -> tuple[str, ...]:
        gap = row['gap_recovered'] or {'value': None, 'ci95': None}
        share = formatting.estimate({'mean': gap['value'], 'ci95': gap['ci95']}, digits=0)
        percents = (
            formatting.percent(row['accuracy']['sd']),
            share,
            formatting.number(row['nll']),
            formatting.percent(row['ece']),
        )
        return _size(row), row['name'], *percents, formatting.percent(row['agreement']), formatting.number(row['kl'])

    return Table(
        'Beyond accuracy: sd over seeds (points), share of the gap to the teacher that is recovered (%), negative '
        'log-likelihood (nats), calibration error (%), top-1 agreement with the teacher (%), KL to it (nats)',
        'rlrrrrrr',
        ('size', 'method', 'sd', 'gap (%)', 'NLL', 'ECE', 'agrees', 'KL'),
        tuple(map(cells, found['rows'])),
    )


def _costs(found: Row) -> list[Table]:
    networks = defaultdict(list)
    for row in students(found):
        networks[row['params'], row['bytes'], row['flops']].append(row)
    return [_cost(found['rows'][0], rows, alone=len(networks) == 1) for rows in networks.values()]


def _cost(teacher: Row, rows: Sequence[Row], alone: bool) -> Table:
    student = rows[0]
    lines: list[tuple[str, float | None, float | None, Callable[[float], str]]] = [
        ('parameters', teacher['params'], student['params'], formatting.thousands),
        ('size of the parameters', teacher['bytes'], student['bytes'], formatting.mebibytes),
        ('FLOPs per example', teacher['flops'], student['flops'], formatting.thousands),
    ]
    for batch, latency in teacher['latency_ms'].items():
        # Median: the same network timed once per row, and a busy machine only ever adds time.
        times = [row['latency_ms'][batch] for row in rows if row['latency_ms'].get(batch) is not None]
        lines.append(
            (f'latency, batch of {batch}', latency, float(np.median(times)) if times else None, formatting.milliseconds)
        )
    names = '' if alone else f' ({", ".join(dict.fromkeys(row["name"] for row in rows))})'
    cells = tuple(
        (name, formatting.or_nothing(show, big), formatting.or_nothing(show, small), formatting.ratio(big, small))
        for name, big, small, show in lines
    )
    return Table(f'Teacher and student{names}', 'lrrr', ('cost', 'teacher', 'student', 'teacher / student'), cells)


def _chosen(found: Row) -> Table:
    rows = tuple(
        (_size(row), row['name'], formatting.percent(row['validation_accuracy']), formatting.settings(row['chosen']))
        for row in students(found)
    )
    header = ('size', 'method', 'validation accuracy (%)', 'chosen')
    return Table('What validation chose, and the mean validation accuracy with it', 'rlrl', header, rows)


def _anatomy(results: Row) -> list[Block]:
    says = (
        "Gradients of each method's weighted terms by the student's parameters, with the largest transfer set: their "
        'norms, and the cosines between them (1: the terms pull the same way). Means over the seeds, with 95 % bands.'
    )
    return [Picture('anatomy.png', says)] if results.get('anatomy') else []


def _acceptance(accept: Row | None) -> list[Block]:
    if not accept or not any(attempt['bars'] for attempt in accept['attempts']):
        return [Text('No acceptance bar was set.')]
    attempts = accept['attempts']
    rows = tuple(
        (str(place), formatting.settings(attempt['override']), *_bar(bar))
        for place, attempt in enumerate(attempts, 1)
        for bar in attempt['bars']
    )
    met = 'met' if accept['met'] else 'NOT met'
    judged = f'{accept["method"]} with {accept["transfer_size"]} transfer examples'
    header = ('attempt', 'changed', 'bar', 'wanted', 'got', 'met')
    return [
        Text(
            f'{judged}: the bars were {met} after {formatting.plural(len(attempts), "attempt")}; the tables show '
            f'attempt {accept["shown"] + 1}.'
        ),
        Text(
            'Bars are held against validation data, so that trying again does not use up the test set. A retry changes '
            'the judged method alone (or gives all methods more data); the baseline stays as it was chosen.'
        ),
        Table('Attempts', 'rllrrl', header, rows),
    ]


def _bar(bar: Row) -> tuple[str, ...]:
    limit = bar['name'].startswith('max_')
    show = formatting.exactly if limit else formatting.share
    wanted = f'{"≤" if limit else "≥"} {show(bar["wanted"])}'
    return bar['name'], wanted, formatting.or_nothing(show, bar['got']), 'yes' if bar['met'] else 'no'


def _failed(found: Row) -> int:
    return sum(row['failed'] for row in found['rows'])


def _failures(results: Row, found: Row) -> list[Block]:
    if not _failed(found):
        return [Text('No run failed.')]
    runs = sum(row['n'] + row['failed'] for row in students(found))
    cells = tuple(
        f'{row["method"]}, {row["transfer_size"]} transfer examples, seed {cell["seed"]}: not finite at step '
        f'{cell["step"]}, in {cell["term"]}'
        for row in results['rows']
        for cell in row['failed']
    )
    return [Text(f'{_failed(found)} of {runs} runs failed, left out of every mean and every pair:'), Items(cells)]


def provenance(found: Row) -> Items:
    """How to come to the same numbers: command, configuration, commit, data, versions, machine, time."""
    stages = ', '.join(f'{stage} {formatting.number(seconds, 1)} s' for stage, seconds in found['seconds'].items())
    return Items(
        (
            f'command: {found["command"]}',
            f'configuration: {found["config_hash"]}',
            f'git commit: {found["git_commit"] or "none"}',
            f'data checksum: {found["data_checksum"]}',
            f'versions: {formatting.facts(found["versions"])}',
            f'machine: {formatting.facts(found["machine"])}',
            f'time: {stages}',
        )
    )


def _size(row: Row) -> str:
    return formatting.NOTHING if row['transfer_size'] is None else str(row['transfer_size'])
