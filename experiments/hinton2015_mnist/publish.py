"""Makes a finished or half-finished sweep the one that the project shows.

Command: KDJAX_DATA=FOLDER python experiments/hinton2015_mnist/publish.py [WORKDIR]

Measures the students in WORKDIR (`measure.py`), writes results/, and the part of README.md between the marks. A test
holds README.md to results/mnist.json.
"""

import json
import statistics as means
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

from experiments.hinton2015_mnist import config
from experiments.hinton2015_mnist.measure import measure
from experiments.pages import filled
from kdjax.study.report import document, figure_style, formatting, statistics
from kdjax.study.report.statistics import CONSISTENT, HIGHER, LOWER
from kdjax.study.sweep import expand

Results = Mapping[str, Any]

COMMAND = 'python run.py --config=experiments/hinton2015_mnist/config.py --mode=sweep'
CASES = 10_000  # of the test set
SIMILAR = 0.1  # errors that differ by less than this share of them are called similar
BEGIN = '<!-- results: written by experiments/hinton2015_mnist/publish.py -->'
VERDICTS = {CONSISTENT: 'as in the paper', LOWER: 'lower', HIGHER: 'higher', statistics.UNTESTED: 'one run'}
DISTILLED = {'method': 'distilled', 'temperature': 20, 'transfer set': 'all'}


class Line(NamedTuple):
    """A number of the paper and ours, one per seed."""

    what: str
    paper: float
    ours: Sequence[float]
    digits: int = 0


def content(results: Results) -> str:
    """The Markdown between the marks."""
    machine, runs = results['machine'], results['runs']
    done = 'all' if runs['finished'] == runs['planned'] else f'{runs["finished"]} of'
    where = (
        f'{results["seeds"]} seeds; {done} {runs["planned"]} runs; {machine["processor"]}, {machine["cores"]} cores, '
        f'JAX {results["versions"]["jax"]}; {results["seconds"]["teachers"] / 60:.0f} minutes for the teacher, '
        f'{results["seconds"]["grids"] / 60:.0f} for the students; configuration {results["config_hash"]}; {COMMAND}.'
    )
    picture = document.Picture('results/errors.png', 'Test errors against temperature at four widths')
    tables = [
        compared(lines(results)), document.Items(tuple(findings(results))), tempered(results), picture,
        document.Text(where),
    ]  # fmt: skip
    return document.markdown(tables).strip()


def lines(results: Results) -> list[Line]:
    """What the paper reports, beside ours."""
    teacher, hard = results['teacher']['errors'], errors(results, 800, {'method': 'hard labels'})
    distilled = errors(results, 800, DISTILLED)
    three, seven = (bias(results, name) for name in ('without 3', '7 and 8'))
    gap = [
        100 * (hard[s] - distilled[s]) / (hard[s] - teacher[0]) for s in hard if s in distilled and hard[s] > teacher[0]
    ]
    found = [
        Line('teacher: errors', 67, teacher),
        Line('hard labels: errors', 146, list(hard.values())),
        Line('distilled, T = 20: errors', 74, list(distilled.values())),
        Line('share of the gap to the teacher that is closed (%)', 91, gap),
        Line('without 3: errors', 206, of(three, 'before', 'errors')),
        Line('without 3: errors on threes', 133, of(three, 'before', 'own')),
        Line('without 3: shift of the bias', 3.5, three['shift'], 1),
        Line('without 3, shifted: errors', 109, of(three, 'after', 'errors')),
        Line('without 3, shifted: errors on threes', 14, of(three, 'after', 'own')),
        Line('7 and 8 only: errors (%)', 47.3, percent(of(seven, 'before', 'errors')), 1),
        Line('7 and 8 only: shift of the biases', -7.6, seven['shift'], 1),
        Line('7 and 8 only, shifted: errors (%)', 13.2, percent(of(seven, 'after', 'errors')), 1),
    ]
    return [line for line in found if len(line.ours)]


def compared(found: Sequence[Line]) -> document.Table:
    """Paper, ours, verdict."""

    def row(line: Line) -> tuple[str, ...]:
        ours, form = statistics.estimate(line.ours), f'.{line.digits}f'
        told = statistics.against(line.ours, line.paper)
        verdict = statistics.verdict(told.mean, told.p, words=statistics.BESIDE_A_PAPER)
        least, most = min(line.ours), max(line.ours)
        reach = '' if least == most else f' ({least:{form}} to {most:{form}})'
        return line.what, f'{line.paper:{form}}', f'{ours.mean:{form}}{reach}', VERDICTS[verdict]

    says = f'Test errors of {CASES:,}: the paper, ours as mean and range over seeds, and a one-sample t test at 5 %'
    return document.Table(says, 'lrrl', ('quantity', 'paper', 'ours', 'verdict'), tuple(map(row, found)))


def findings(results: Results) -> list[str]:
    """What the paper claims, and whether it holds here."""
    found = [*_helps(results), *_unseen(results)]
    for units in (800, 300):
        found += _flat(results, units)
    return found + _narrow(results)


def _helps(results: Results) -> list[str]:
    tests = results['mcnemar']
    if not tests:
        return []
    better = sum(test['p'] < statistics.LEVEL and test['only_ours'] < test['only_theirs'] for test in tests)
    pairs = ', '.join(f'{test["only_theirs"]} : {test["only_ours"]}' for test in tests)
    return [
        f"{holds(better == len(tests))}: distillation helps. By McNemar's exact test on the {CASES:,} cases the "
        f'distilled student is better in {better} of {len(tests)} seeds (cases that only hard labels : only distilled '
        f'get wrong: {pairs}; largest p {formatting.p(max(test["p"] for test in tests))}).'
    ]


def _unseen(results: Results) -> list[str]:
    three, seven = (bias(results, name) for name in ('without 3', '7 and 8'))
    found = []
    if three['shift']:
        right = [100 * (1 - wrong / three['cases']) for wrong in of(three, 'after', 'own')]
        found.append(
            f'{holds(min(right) >= 95)}: a digit that the student never saw is known. With the bias found on the '
            f'training set {means.mean(right):.1f} % of the test threes are right (worst seed {min(right):.1f} %; '
            'paper 98.6 %).'
        )
    if seven['shift']:
        before, after = (percent(of(seven, when, 'errors')) for when in ('before', 'after'))
        found.append(
            f'{holds(max(after) < min(before) / 2)}: from sevens and eights alone much of the other digits is learned: '
            f'{means.mean(before):.1f} % of errors become {means.mean(after):.1f} % with the biases found on the '
            'training set (paper 47.3 to 13.2 %).'
        )
    return found


def _flat(results: Results, units: int) -> list[str]:
    """With 300 units or more, temperatures above 8 do about as well as each other."""
    hot = at(results, units)
    others = [temperature for temperature in hot if 8 <= temperature < 20]
    if 20 not in hot or not others:
        return []
    near, pair = others[-1], statistics.paired(hot[20], hot[others[-1]])
    same = abs(pair.mean) <= SIMILAR * means.mean(hot[20].values())
    return [
        f'{holds(same)}: with {units} units high temperatures do about as well as each other. T = 20 makes '
        f'{pair.mean:+.1f} errors against T = {near:g}{interval(pair)}, of {means.mean(hot[20].values()):.0f}.'
    ]


def _narrow(results: Results) -> list[str]:
    """With 30 units, temperatures of 2.5 to 4 are better than higher and lower ones."""
    by = at(results, 30)
    middle = [temperature for temperature in by if 2.5 <= temperature <= 4]
    if not middle or not {1, 20} <= set(by):
        return []
    seeds = set.intersection(*(set(by[t]) for t in (*middle, 1, 20)))
    mean = {seed: means.mean(by[t][seed] for t in middle) for seed in seeds}
    low, high = (statistics.paired(mean, by[t]) for t in (1, 20))
    better = [pair.p is not None and pair.p < statistics.LEVEL and pair.mean < 0 for pair in (low, high)]
    return [
        f'{holds(all(better))}: with 30 units temperatures of 2.5 to 4 do better than lower and higher ones. They make '
        f'{low.mean:+.1f} errors against T = 1{interval(low)} and {high.mean:+.1f} against T = 20'
        f'{interval(high)}.'
    ]


def tempered(results: Results) -> document.Table:
    """Mean errors by width and temperature."""
    widths = (800, 300, 100, 30)
    temperatures = sorted({temperature for units in widths for temperature in at(results, units)})
    hard = {units: errors(results, units, {'method': 'hard labels'}) for units in widths}

    def cell(values: Mapping[int, float]) -> str:
        ours = statistics.estimate(values.values())
        return '–' if ours.mean is None else f'{ours.mean:.0f}' + ('' if ours.sd is None else f' ± {ours.sd:.0f}')

    def row(units: int) -> tuple[str, ...]:
        return str(units), cell(hard[units]), *(cell(at(results, units).get(t, {})) for t in temperatures)

    header = ('units', 'hard labels', *(f'T = {t:g}' for t in temperatures))
    says = 'Test errors by units of each hidden layer and temperature, ± sd over seeds'
    return document.Table(says, 'r' * len(header), header, tuple(row(units) for units in widths if hard[units]))


def drawn(results: Results) -> bytes:
    """Errors against temperature for every width, with hard labels as a line."""
    figure = figure_style.blank(5.8, 4.9)
    panels = list(figure.subplots(2, 2).flat)  # each on its own scale: widths differ by far more than temperatures
    for position, (axes, units) in enumerate(zip(panels, (800, 300, 100, 30), strict=True)):
        hard, by = errors(results, units, {'method': 'hard labels'}), at(results, units)
        figure_style.dress(axes, 'test errors' if position % 2 == 0 else '', 'temperature')
        axes.set_title(f'{units} units per layer', fontsize=figure_style.FONT, color=figure_style.INK)
        if not by or not hard:
            continue
        for temperature, values in by.items():
            axes.plot([temperature] * len(values), list(values.values()), '.', color=figure_style.FAINT, zorder=1)
        centre = [means.mean(values.values()) for values in by.values()]
        axes.plot(list(by), centre, label='distilled, mean of seeds', **figure_style.style(0))
        axes.axhline(means.mean(hard.values()), label='hard labels', color=figure_style.COLOURS[1], linestyle='--')
        figure_style.number_axis(axes, list(by), 'temperature')
    figure_style.legend(figure, *panels)
    return figure_style.png(figure)


def errors(results: Results, units: int, point: Mapping[str, Any]) -> dict[int, int]:
    """Test errors of an arm by seed; {} where nothing is finished."""
    wanted = {'units': units, **point}
    found = [arm['errors'] for arm in results['arms'] if arm['point'] == wanted]
    return {int(seed): count for seed, count in found[0].items()} if found else {}


def at(results: Results, units: int) -> dict[float, dict[int, int]]:
    """Errors of the students of all digits by temperature, in ascending order."""
    chosen = [
        arm for arm in results['arms']
        if arm['point']['units'] == units and arm['point'].get('transfer set') == 'all'
    ]  # fmt: skip
    by = {arm['point']['temperature']: errors(results, units, _rest(arm['point'])) for arm in chosen}
    return dict(sorted(by.items()))


def bias(results: Results, transfer: str) -> Mapping[str, Any]:
    """What moving biases did for one transfer set."""
    return next(found for found in results['biases'] if found['transfer set'] == transfer)


def of(found: Mapping[str, Any], when: str, which: str) -> list[int]:
    """Counts by seed."""
    return [counts[which] for counts in found[when]]


def percent(counts: Sequence[int]) -> list[float]:
    """Errors in percent of the test set."""
    return [100 * count / CASES for count in counts]


def holds(true: bool) -> str:
    """How a finding begins."""
    return 'Holds' if true else 'Does not hold'


def interval(pair: statistics.Test) -> str:
    """The 95 % interval of a paired difference and its p-value."""
    if pair.ci95 is None:
        return ''
    low, high = pair.ci95
    return f' [{low:+.1f}, {high:+.1f}], p {formatting.p(pair.p)}'


def _rest(point: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in point.items() if name != 'units'}


def main(workdir: Path) -> None:
    """Measures and publishes what is in `workdir`."""
    planned = expand.expand(config.get_config(), config.sweep())
    (HERE / 'results').mkdir(exist_ok=True)
    results = measure(planned, workdir, COMMAND)
    (HERE / 'results' / 'mnist.json').write_text(json.dumps(results, indent=1) + '\n')
    (HERE / 'results' / 'errors.png').write_bytes(drawn(results))
    readme = HERE / 'README.md'
    readme.write_text(filled(readme.read_text(), BEGIN, content(results)))


if __name__ == '__main__':
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / 'runs' / 'hinton2015_mnist'))
