"""What the report of a sweep says, section by section, in words that the numbers carry and no others.

`found` is what `sweep_report.summarise` returns, `results` what the sweep handed over, `plots` the figures by topic.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kdjax.study.report import formatting, published, run_text, statistics, sweep_tables
from kdjax.study.report.document import Block, Heading, Items, Listing, Picture, Text
from kdjax.study.report.figure_style import Plot

Row = Mapping[str, Any]
Plots = Mapping[str, Sequence[Plot]]

NAMED = 8  # arms that a sentence names; the others are counted
REASONS = 40  # failed runs that are listed; the others are in runs.csv
ARMS = 40  # of the terminal's table

COVERS = (
    'What an interval covers: n seeds. An arm is compared with its baseline seed by seed: runs of one seed share what '
    'the seed decides. An interval is the 95 % Student-t interval over seeds, of one arm by itself and not corrected '
    "for the number of arms (Fieller's interval for the share of the gap). It does not cover another teacher, another "
    'pool of data or another test set. What is judged is the test accuracy after the last step; that of the step which '
    'was best in validation is shown beside it.'
)
PAPER = (
    '"Consistent" means that our seeds are not told apart from the number of the paper, not that they are equal: the '
    'interval says how far apart they may be. Where the paper gives its spread and its number of runs, the test is '
    "Welch's; where it does not, its number is taken as exact, and a difference is found too easily. The p-values "
    'are of each number by itself.'
)


def full(results: Row, found: Row, plots: Plots) -> list[Block]:
    """The whole page, for the files."""
    costs = sweep_tables.costs(found)
    return [
        Heading(results['title'], 1),
        *_state(found),
        *_finding(found),
        Text(COVERS),
        Heading('Results'),
        *sweep_tables.pivots(found),
        *_pictures(plots, 'along', 'heat', 'gains'),
        sweep_tables.main(found),
        *_paper(found),
        Heading('Beyond accuracy'),
        sweep_tables.beyond(found),
        *_pictures(plots, 'fidelity'),
        *_section('What it costs', [costs] if costs.rows else [], _pictures(plots, 'pareto')),
        *_section('During training', [], _pictures(plots, 'learning', 'anatomy')),
        *_section(
            'Teachers', [sweep_tables.teachers(found)] if found['teachers'] else [], _pictures(plots, 'teachers')
        ),
        Heading('Failed runs'),
        *_failures(found),
        Heading('Provenance'),
        run_text.provenance(found),
        Listing('Configuration', json.dumps(results['provenance']['config'], indent=2)),
    ]


def brief(results: Row, found: Row) -> list[Block]:
    """The main table and, last and so nearest to the prompt, the finding: for the terminal."""
    failed = found['counts']['failed']
    return [
        Heading(results['title'], 1),
        sweep_tables.short(found, ARMS),
        *(
            [Text(f'{formatting.plural(failed, "run")} failed, left out of every mean and every pair.')]
            if failed
            else []
        ),
        *_state(found),
        *_finding(found),
    ]


def _section(title: str, tables: Sequence[Block], pictures: Sequence[Block]) -> list[Block]:
    return [Heading(title), *tables, *pictures] if tables or pictures else []


def _pictures(plots: Plots, *topics: str) -> list[Block]:
    return [Picture(plot.file, plot.says) for topic in topics for plot in plots[topic]]


def _state(found: Row) -> list[Block]:
    """How far it is, and what was compared."""
    counts = found['counts']
    if counts['running'] or counts['missing']:
        state = (
            f'Half-way: {counts["done"]} of {counts["runs"]} runs are finished, {counts["failed"]} failed, '
            f'{counts["running"]} are running, {counts["missing"]} are missing. What follows is of the finished runs '
            'and will change; a p-value that is looked at while runs still come in promises more than it keeps.'
        )
    else:
        failed = f'; {counts["failed"]} of them failed' if counts['failed'] else ''
        state = f'All {counts["runs"]} runs have ended{failed}.'
    return [Text(f'{state} {_design(found)}')]


def _design(found: Row) -> str:
    rows, varied = found['arms'], sweep_tables.varied(found)
    runs = sorted({row['runs'] for row in rows})
    seeds = str(runs[0]) if len(runs) == 1 else f'{runs[0]} to {runs[-1]}'
    fixed = [f'{axis.replace("_", " ")} {_values(axis, rows)}' for axis in found['axes'] if axis not in varied]
    same = f' Not varied: {", ".join(fixed)}.' if fixed else ''
    what = '; '.join(f'{axis.replace("_", " ")}: {_values(axis, rows)}' for axis in varied)
    return f'{formatting.plural(len(rows), "arm")} of {seeds} seeds; {what}.{same}'


def _values(axis: str, rows: Sequence[Row]) -> str:
    values = [formatting.value(value) for value in sweep_tables.values(axis, rows)]
    return f'{len(values)} values' if len(values) > 2 * NAMED else ', '.join(values)


def _finding(found: Row) -> list[Block]:
    compared = [row for row in found['arms'] if row['difference'] is not None]
    if not compared:
        return [Text(f'No arm can be compared: none but those of {found["baseline"]} has a baseline arm.')]
    by_verdict = defaultdict(list)
    for row in compared:
        by_verdict[row['difference']['verdict']].append(row)
    counts = ', '.join(
        f'{verdict} {len(by_verdict[verdict])}' for verdict in statistics.VERDICTS if by_verdict[verdict]
    )
    lead = (
        f'Each arm against {found["baseline"]} with the same settings, on the same seeds, '
        f'{formatting.plural(len(compared), "comparison")} in all: {counts} (two-sided paired t test of the test '
        "accuracy after the last step at the 5 % level, with Holm's correction over all of them). Gains in points, "
        'each with its own 95 % interval:'
    )
    plainly = [] if by_verdict[statistics.HELPS] else [f'no arm is significantly better than {found["baseline"]}']
    said = [_listed(verdict, by_verdict[verdict]) for verdict in statistics.VERDICTS if by_verdict[verdict]]
    return [Text(lead), Items(tuple(plainly + said)), *_resolution(compared), *_highest(found)]


def _listed(verdict: str, rows: Sequence[Row]) -> str:
    """The arms of one verdict, the largest differences first."""
    ranked = sorted(rows, key=lambda row: -abs(row['difference']['mean'] or 0))
    more = f'; and {len(rows) - NAMED} more' if len(rows) > NAMED else ''
    return f'{verdict} – {"; ".join(map(_gain, ranked[:NAMED]))}{more}'


def _gain(row: Row) -> str:
    difference = row['difference']
    if difference['mean'] is None:
        return f'{row["name"]} (no common seed)'
    pairs = '' if difference['n'] == row['runs'] else f', n = {difference["n"]}'
    return f'{row["name"]} ({formatting.estimate(difference, signed=True)}{pairs})'


def _resolution(compared: Sequence[Row]) -> list[Block]:
    """What these seeds could have found."""
    sizes = [row['difference']['detectable'] for row in compared if row['difference']['detectable'] is not None]
    if not sizes:
        return []
    low, middle, high = (formatting.percent(float(of(sizes))) for of in (np.min, np.median, np.max))
    size = middle if low == high else f'{low} to {high} (median {middle})'
    return [
        Text(
            'Not told apart is not equal: with the seeds and the spread that there were, a single test at the 5 % '
            f'level finds a true difference of {size} points with probability 0.8; with the correction it takes more.'
        )
    ]


def _highest(found: Row) -> list[Block]:
    known = [row for row in found['arms'] if row['last']['accuracy']['mean'] is not None]
    if len(known) < 3:
        return []
    row = max(known, key=lambda row: row['last']['accuracy']['mean'])
    return [
        Text(
            f'The highest mean is that of {row["name"]}, {formatting.half(row["last"]["accuracy"])} % '
            f'(n = {row["n"]}). The highest of {len(known)} means tends to be too '
            'high, and nothing here tests it against the next.'
        )
    ]


def _paper(found: Row) -> list[Block]:
    if found['expected'] is None:
        return []
    rows = found['expected']['rows']
    counts = '; '.join(f'{verdict}: {count}' for verdict, count in Counter(row['verdict'] for row in rows).items())
    recalled = sum(row['certainty'] == published.RECALLED for row in rows)
    doubt = f' From memory, and so shown and not judged: {recalled}.' if recalled else ''
    source = found['expected']['source']
    lead = f'{formatting.plural(len(rows), "number")} of {source}, held against ours: {counts}. {PAPER}'
    return [Heading('Beside the paper'), Text(lead + doubt), sweep_tables.paper(found)]


def _failures(found: Row) -> list[Block]:
    if not found['counts']['failed']:
        return [Text('No run failed.')]
    items = [f'{failure["arm"]}, seed {failure["seed"]}: {_reason(failure)}' for failure in found['failures']]
    more = [f'and {len(items) - REASONS} more, in runs.csv'] if len(items) > REASONS else []
    lead = (
        f'{found["counts"]["failed"]} of {found["counts"]["runs"]} runs failed. They are left out of every mean and '
        'every pair, so that the numbers of their arms are those of the runs that survived:'
    )
    return [Text(lead), Items(tuple(items[:REASONS] + more))]


def _reason(failure: Row) -> str:
    if failure['step'] is None:
        return 'no reason was recorded'
    return f'not finite at step {failure["step"]}, in {failure["term"]}'
