"""What the report of a study says, section by section, in words that the numbers carry and no others."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from statistics import median

from kdjax.metrics import Metric
from kdjax.study.report import comparison, formatting, networks, published, statistics, tables
from kdjax.study.report.document import Block, Fold, Heading, Items, Listing, Picture, Table, Text
from kdjax.study.report.figure_style import Plot
from kdjax.study.report.records import Arm, PairedDifference, Provenance, Results, Summary

Plots = Mapping[str, Sequence[Plot]]  # figures by topic

NAMED = 8  # arms that a sentence names; the others are counted
REASONS = 40  # failed runs that are listed; the others are in runs.csv
ARMS = 40  # of the terminal's table

COVERS = (
    'What an interval covers: n seeds. Runs of one seed share what the seed decides (common random numbers): which '
    'transfer set is drawn from the pool, the initial weights, the order of the batches. So an arm is compared with '
    'its baseline seed by seed. An interval is the 95 % Student-t interval over seeds, of one arm by itself and not '
    "corrected for the number of arms (Fieller's interval for the share of the gap). It covers no other teacher, no "
    'other pool of data and no other test set. What is judged is the test {score} after the last step; that of '
    'the step which was best in validation is shown beside it. Nothing is chosen by test data.'
)
PAPER = (
    '"Consistent" means that our seeds are not told apart from the number of the paper, not that they are equal: the '
    'interval says how far apart they may be. Where the paper gives its spread and its number of runs, the test is '
    "Welch's; where it does not, its number is taken as exact, and a difference is found too easily. The p-values "
    'are of each number by itself.'
)
BARS = (
    'Bars are held against validation data, so that trying again does not use up the test set. A retry changes the '
    'judged method alone (or gives all methods more data); the baseline stays as it was chosen.'
)


def full(results: Results, summary: Summary, plots: Plots) -> list[Block]:
    """The whole page, for the files."""
    return [
        Heading(summary.title, 1),
        *networks.card(summary),
        Text(_state(summary)),
        *_said(_in_short(summary)),
        Fold('Every comparison', tuple(_finding(summary))),
        Fold(
            'How to read this',
            tuple(
                _said(
                    _judgement(summary),
                    _resolution(summary),
                    _highest(summary),
                    COVERS.format(score=summary.judged.title),
                    networks.savings(summary),
                    _balance(results.balance or {}),
                )
            ),
        ),
        Heading('Results'),
        *tables.pivots(summary),
        *_pictures(plots, 'sizes', 'along', 'heat', 'gains'),
        tables.main(summary),
        *_paper(summary),
        Heading(f'Beyond {summary.judged.title}'),
        tables.beyond(summary),
        *tables.further(summary),
        *_pictures(plots, 'fidelity'),
        *_section('Class by class', *_pictures(plots, 'classes')),
        *_section('What it costs', networks.costs(summary), *networks.steps(summary), *_pictures(plots, 'pareto')),
        *_section(
            'How it was trained',
            *_training(summary),
            *_said(_started(results)),
            *_pictures(plots, 'learning', 'gradients'),
        ),
        *_section('Teachers', networks.teachers(summary), *_pictures(plots, 'exhibit')),
        *_section('Acceptance', *_acceptance(summary)),
        Heading('Failed runs'),
        *_failures(summary),
        *_section('What next', *_next(results, summary)),
        Heading('Provenance'),
        _provenance(summary.provenance),
        Listing('Configuration', json.dumps(results.config, indent=2)),
    ]


def brief(summary: Summary) -> list[Block]:
    """The main table and, last and so nearest to the prompt, the finding: for the terminal."""
    lost = formatting.plural(summary.counts.failed, 'run') if summary.counts.failed else ''
    return [
        Heading(summary.title, 1),
        tables.short(summary, ARMS),
        *_said(lost and f'{lost} failed, left out of every mean and every pair.', networks.savings(summary)),
        Text(_state(summary)),
        *_said(_judgement(summary)),
        *_finding(summary),
        *_said(_resolution(summary), _highest(summary)),
    ]


def _section(title: str, *blocks: Block) -> list[Block]:
    """What there is under a heading, without tables and lists that are empty; nothing where there is nothing."""
    filled = [block for block in blocks if not (isinstance(block, Table | Items) and not block[-1])]
    return [Heading(title), *filled] if filled else []


def _said(*sentences: str) -> list[Block]:
    """What there is to say."""
    return [Text(sentence) for sentence in sentences if sentence]


def _pictures(plots: Plots, *topics: str) -> list[Block]:
    return [Picture(plot.file, plot.says, topic != 'exhibit') for topic in topics for plot in plots[topic]]


# ---- how far it is


def _state(summary: Summary) -> str:
    """How far it is, and what was compared."""
    counts = summary.counts
    if counts.running or counts.missing:
        state = (
            f'Half-way: {counts.done} of {counts.runs} runs are finished, {counts.failed} failed, '
            f'{counts.running} are running, {counts.missing} are missing. What follows is of the finished runs '
            'and will change; a p-value that is looked at while runs still come in promises more than it keeps.'
        )
    else:
        failed = f'; {counts.failed} of them failed' if counts.failed else ''
        state = f'All {counts.runs} runs have ended{failed}.'
    return f'{state} {_design(summary)}'


def _design(summary: Summary) -> str:
    varied = comparison.varied_axes(summary)
    runs = sorted({arm.counts.runs for arm in summary.rows})
    seeds = str(runs[0]) if len(runs) == 1 else f'{runs[0]} to {runs[-1]}'
    fixed = [f'{formatting.words(axis)} {_settings(axis, summary)}' for axis in summary.axes if axis not in varied]
    same = f' Not varied: {", ".join(fixed)}.' if fixed else ''
    what = '; '.join(f'{formatting.words(axis)}: {_settings(axis, summary)}' for axis in varied)
    return f'{formatting.plural(len(summary.rows), "arm")} of {seeds} seeds; {what}.{same}'


def _settings(axis: str, summary: Summary) -> str:
    values = [formatting.setting(value) for value in comparison.settings(axis, summary.rows)]
    return f'{len(values)} values' if len(values) > 2 * NAMED else ', '.join(values)


def _balance(labels: Mapping[str, int]) -> str:
    """How even the classes are; '' where that is not known."""
    if not labels:
        return ''
    largest, smallest = max(labels, key=labels.__getitem__), min(labels, key=labels.__getitem__)
    total = sum(labels.values())
    most, least = (f'{100 * labels[name] / total:.2f} %' for name in (largest, smallest))
    return (
        f'Of the {total:,} labels of the training split, {most} are {largest!r}, the largest of {len(labels)} classes, '
        f'and {least} are {smallest!r}, the smallest: always guessing {largest!r} is right for {most} of them.'
    )


# ---- what came of it


def _by_verdict(summary: Summary) -> dict[str, list[tuple[Arm, PairedDifference]]]:
    """The arms that are compared with a baseline arm."""
    found: dict[str, list[tuple[Arm, PairedDifference]]] = defaultdict(list)
    for arm in summary.rows:
        if arm.difference:
            found[arm.difference.verdict].append((arm, arm.difference))
    return {verdict: found[verdict] for verdict in statistics.VERDICTS if verdict in found}


def _judgement(summary: Summary) -> str:
    """What was tested and how it came out; '' where nothing was."""
    counts = ', '.join(f'{verdict} {len(arms)}' for verdict, arms in _by_verdict(summary).items())
    comparisons = formatting.plural(tables.family_size(summary), 'comparison')
    return counts and (
        f'Each arm against {summary.baseline} with the same settings, on the same seeds, {comparisons} in all: '
        f'{counts} (two-sided paired t test of the test {summary.judged.title} after the last step at the 5 % level, '
        "with Holm's correction over all of them)."
    )


def _in_short(summary: Summary) -> str:
    """How many arms are better, and how many worse."""
    found, total = {verdict: len(arms) for verdict, arms in _by_verdict(summary).items()}, tables.family_size(summary)
    better, worse = found.get(statistics.HELPS, 0), found.get(statistics.HURTS, 0)
    if not total:
        return ''
    return (
        f'Of {formatting.plural(total, "arm")} compared with {summary.baseline}, {better} '
        f'{"is" if better == 1 else "are"} significantly better and {worse} significantly worse.'
    )


def _finding(summary: Summary) -> list[Block]:
    by_verdict, metric = _by_verdict(summary), summary.judged
    if not by_verdict:
        return [Text(f'No arm can be compared: none but those of {summary.baseline} has a baseline arm.')]
    gains = 'Gains' if metric.sign > 0 else 'Differences, of which the lower are better,'
    unit = f' in {metric.difference}' if metric.difference else ''
    lead = f'{gains}{unit}, each with its own 95 % interval:'
    none = [] if statistics.HELPS in by_verdict else [f'no arm is significantly better than {summary.baseline}']
    items = [_list_arms(verdict, arms, metric) for verdict, arms in by_verdict.items()]
    return [Text(lead), Items(tuple(none + items))]


def _list_arms(verdict: str, pairs: Sequence[tuple[Arm, PairedDifference]], metric: Metric) -> str:
    """The arms of one verdict, the largest differences first."""
    order = sorted(pairs, key=lambda pair: -abs(pair[1].mean or 0))
    more = f'; and {len(order) - NAMED} more' if len(order) > NAMED else ''
    return f'{verdict} – {"; ".join(_gain(*pair, metric) for pair in order[:NAMED])}{more}'


def _gain(arm: Arm, difference: PairedDifference, metric: Metric) -> str:
    if difference.mean is None:
        return f'{arm.name} (no common seed)'
    pairs = '' if difference.n == arm.counts.runs else f', n = {difference.n}'
    return f'{arm.name} ({formatting.gain(difference, metric)}{pairs})'


def _resolution(summary: Summary) -> str:
    """What these seeds could have found; '' where they have no spread."""
    sizes = [size for arm in summary.rows if arm.difference and (size := arm.difference.detectable) is not None]
    if not sizes:
        return ''
    metric = summary.judged
    low, middle, high = (formatting.value(of(sizes), metric) for of in (min, median, max))
    power = formatting.with_unit(middle if low == high else f'{low} to {high} (median {middle})', metric.difference)
    return (
        'Not told apart is not equal: with the seeds and the spread that there were, a single test at the 5 % level '
        f'finds a true difference of {power} with probability 0.8; with the correction it takes '
        'more.'
    )


def _highest(summary: Summary) -> str:
    """The best arm, with a warning; '' where there are fewer than three."""
    metric = summary.judged
    order, highest = comparison.ranked(summary.rows, metric.sign), formatting.highest(metric)
    if len(order) < 3:
        return ''
    top = order[0]
    mean = formatting.with_unit(formatting.half(top.score, metric), metric.unit)
    return (
        f'The {highest} mean is that of {top.name}, {mean} (n = {top.n}). '
        f'The {highest} of {len(order)} means tends to be too {highest.removesuffix("est")}, and nothing here tests '
        'it against the next.'
    )


def _paper(summary: Summary) -> list[Block]:
    paper = summary.published
    if paper is None:
        return []
    counts = '; '.join(f'{verdict}: {count}' for verdict, count in Counter(row.verdict for row in paper.rows).items())
    recalled = sum(row.certainty == published.RECALLED for row in paper.rows)
    doubt = f' From memory, and so shown and not judged: {recalled}.' if recalled else ''
    lead = f'{formatting.plural(len(paper.rows), "number")} of {paper.source}, held against ours: {counts}.'
    return [
        Heading('Beside the paper'),
        Text(lead + doubt),
        tables.paper(summary),
        Fold('How to read it', (Text(PAPER),)),
    ]


# ---- how it came about


def _training(summary: Summary) -> list[Block]:
    fits = dict.fromkeys(f'{arm.method}: {" → ".join(arm.stages)}' for arm in summary.rows if len(arm.stages) > 1)
    return [Items(tuple(fits)), *([tables.chosen(summary)] if any(arm.chosen for arm in summary.rows) else [])]


def _started(results: Results) -> str:
    """What students take over from their teacher before they learn; '' where that is nothing."""
    start = results.config.get('student', {}).get('start', {})
    named = [own if own == other else f"{own} as the teacher's {other}" for own, other in start.items()]
    return f'Students start with modules of their teacher: {", ".join(named)}.' if named else ''


def _acceptance(summary: Summary) -> list[Block]:
    acceptance = summary.acceptance
    if acceptance is None:
        return []
    if not any(attempt.criteria for attempt in acceptance.attempts):
        return [Text('No acceptance bar was set.')]
    met = 'met' if acceptance.met else 'NOT met'
    return [
        Text(
            f'{acceptance.method} with {acceptance.transfer_size} transfer examples: the bars were {met} after '
            f'{formatting.plural(len(acceptance.attempts), "attempt")}; the tables show attempt '
            f'{acceptance.attempt + 1}.'
        ),
        Fold('How bars are held', (Text(BARS),)),
        tables.attempts(summary),
    ]


def _failures(summary: Summary) -> list[Block]:
    counts = summary.counts
    if not counts.failed:
        return [Text('No run failed.')]
    items = [
        f'{run.arm}, seed {run.seed}: '
        + ('no reason was recorded' if run.step is None else f'not finite at step {run.step}, in {run.term}')
        for run in summary.failures
    ]
    more = [f'and {len(items) - REASONS} more, in runs.csv'] if len(items) > REASONS else []
    lead = (
        f'{counts.failed} of {counts.runs} runs failed. They are left out of every mean and '
        'every pair, so that the numbers of their arms are those of the runs that survived:'
    )
    return [Text(lead), Items(tuple(items[:REASONS] + more))]


def _next(results: Results, summary: Summary) -> list[Block]:
    """The command that goes on, and where the weights of the best student lie."""
    says = ['The same command goes on where something is missing or was changed; what is done is not done again:']
    top = next(iter(comparison.ranked([arm for arm in summary.rows if not arm.is_baseline], summary.judged.sign)), None)
    runs = [run for run in results.runs if run.status == 'done' and run.weights and top and top.method == run.method
            and top.transfer_size == run.transfer_size and top.point.items() <= run.place.items()]  # fmt: skip
    kept = (
        f'The weights of {top.name}, seed {runs[0].seed}, lie in {runs[0].weights} of the workdir, those of every run '
        'where its line of runs.csv says; kdjax.train.checkpoint.load_variables(folder) reads them, and each leaf has '
        'the cells of the grid as its first axis.'
    ) if top and runs else ''  # fmt: skip
    return [Text(says[0]), Listing('', summary.provenance.command), *_said(kept)]


def _provenance(provenance: Provenance) -> Items:
    """How to come to the same numbers: command, configuration, commit, data, versions, machine, time."""
    facts = {
        'command': provenance.command,
        'configuration': provenance.config_hash,
        'git commit': provenance.git_commit or 'none',
        'data checksum': provenance.data_checksum,
        'versions': formatting.facts(provenance.versions),
        'machine': formatting.facts(provenance.machine),
        **{f'{stage} was begun with': formatting.facts(of) for stage, of in provenance.earlier.items()},
        'time': ', '.join(f'{stage} {time:.1f} s' for stage, time in provenance.seconds.items()),
    }
    return Items(tuple(f'{name}: {fact}' for name, fact in facts.items()))
