"""Makes a finished sweep the one that the project shows.

Command: KDJAX_DATA=FOLDER python experiments/wide_sparse/publish.py [WORKDIR]

Writes results/ (every accuracy and size by seed, the figure) and the part of README.md between the marks. A test holds
README.md to results/mnist.json.
"""

import json
import statistics as means
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

from experiments import students
from experiments.pages import difference, filled, percent
from experiments.students import accuracies, arm
from experiments.wide_sparse import config
from kdjax.study.report import document, figure_style, formatting, statistics
from kdjax.study.sweep import expand

Results = Mapping[str, Any]

BEGIN = '<!-- results: written by experiments/wide_sparse/publish.py -->'
BUDGETS = tuple(config.parameters(widths) for widths in config.NARROW)
WIDE = config.parameters(config.WIDE)
SIZES = ('bytes', 'indexed', 'deflated')


def content(found: Results) -> str:
    """The Markdown between the marks."""
    picture = document.Picture('results/accuracy.png', 'Test accuracy against parameters that are not zero')
    blocks = [
        *(compared(found, taught) for taught in config.TEACHERS), document.Items(tuple(findings(found))), picture,
        taught(found), sizes(found), document.Text(students.where(found)),
    ]  # fmt: skip
    return document.markdown(blocks).strip()


def scores(found: Results, form: str, taught: str, nonzeros: int) -> dict[int, float | None]:
    """Accuracy (%) of an arm by seed."""
    return accuracies(arm(found, method=f'{form}, {taught}', nonzeros=nonzeros))


def pairs(found: Results, taught: str) -> dict[int, statistics.Test]:
    """Wide and sparse minus narrow and dense, by budget."""
    return {budget: statistics.paired(*(scores(found, form, taught, budget) for form in ('sparse', 'dense')))
            for budget in BUDGETS}  # fmt: skip


def compared(found: Results, taught: str) -> document.Table:
    """The two networks of every budget beside each other."""
    tests = pairs(found, taught)
    adjusted = statistics.holm([test.p for test in tests.values()])

    def row(budget: int, widths: Sequence[int], p: float | None) -> tuple[str, ...]:
        cells = (percent(scores(found, form, taught, budget)) for form in ('dense', 'sparse'))
        gone = f'{100 * config.sparsity(budget):.1f}'
        return f'{budget:,}', '-'.join(map(str, widths)), gone, *cells, difference(tests[budget]), formatting.p(p)

    whole = (f'{WIDE:,}', '-'.join(map(str, config.WIDE)), '0.0', percent(scores(found, 'dense', taught, WIDE)), *'–––')
    header = ('parameters', 'narrow', 'zeros of the wide (%)', 'narrow and dense (%)', 'wide and sparse (%)',
              'difference (points)', 'p (Holm)')  # fmt: skip
    rows = (whole, *(row(*each) for each in zip(BUDGETS, config.NARROW, adjusted, strict=True)))
    says = (f'{taught}: test accuracy, ± half its 95 % interval, of two networks with as many parameters that are not '
            'zero, and the paired difference')  # fmt: skip
    return document.Table(says, 'r' * len(header), header, rows)


def findings(found: Results) -> list[str]:
    """What the paper claims, and whether it holds here."""
    result = []
    for taught in config.TEACHERS:
        tests = pairs(found, taught)
        adjusted = statistics.holm([test.p for test in tests.values()])
        words = [statistics.verdict(test.mean, p) for test, p in zip(tests.values(), adjusted, strict=True)]
        won, lost = (words.count(word) for word in (statistics.HELPS, statistics.HURTS))
        result.append(
            f'{"Holds" if won == len(tests) else "Does not hold everywhere"}, {taught}: wide and sparse is better than '
            f'narrow and dense at {won} of {len(tests)} budgets, worse at {lost} (paired t test, Holm over budgets).'
        )
    return result + _smallest(found)


def _smallest(found: Results) -> list[str]:
    """Sparse networks beside dense ones of about twice as many parameters."""
    result = []
    for taught in config.TEACHERS:
        for fewer, more in ((BUDGETS[place], BUDGETS[place - 1]) for place in range(1, len(BUDGETS))):
            test = statistics.paired(scores(found, 'sparse', taught, fewer), scores(found, 'dense', taught, more))
            what = f'{taught}, sparse with {fewer:,} parameters minus dense with {more:,}'
            result.append(f'{what}: {difference(test)} points.')
    return result


def taught(found: Results) -> document.Table:
    """What a teacher adds to each form."""

    def row(form: str, budget: int) -> tuple[str, ...]:
        test = statistics.paired(*(scores(found, form, taught, budget) for taught in ('KD', 'hard labels')))
        return f'{budget:,}', form, difference(test), formatting.p(test.p)

    rows = [row('dense', WIDE), *(row(form, budget) for budget in BUDGETS for form in ('dense', 'sparse'))]
    says = 'KD minus hard labels, paired, each by itself'
    return document.Table(says, 'rlrr', ('parameters', 'form', 'difference (points)', 'p'), tuple(rows))


def sizes(found: Results) -> document.Table:
    """As many parameters are not as many bytes: where a weight is has to be stored too."""

    def row(budget: int, form: str) -> tuple[str, ...]:
        seeds = arm(found, method=f'{form}, hard labels', nonzeros=budget).values()
        each = (means.mean(one['sizes'][name] for one in seeds) for name in ('nonzeros', *SIZES))
        return f'{budget:,}', form, *(f'{number:,.0f}' for number in each)

    rows = tuple(row(budget, form) for budget in BUDGETS for form in ('dense', 'sparse'))
    header = ('parameters', 'form', 'nonzeros', 'bytes as they are', 'bytes with places of nonzeros', 'bytes deflated')
    return document.Table('What the students of hard labels take, mean over seeds', 'rlrrrr', header, rows)


def drawn(found: Results) -> bytes:
    """Accuracy against parameters, with intervals over seeds."""
    figure, axes = figure_style.single(5.8, 3.9, 'test accuracy (%)')
    lines = [(form, taught) for taught in config.TEACHERS for form in ('sparse', 'dense')]
    for place, (form, taught) in enumerate(lines):
        budgets = BUDGETS if form == 'sparse' else (WIDE, *BUDGETS)
        estimates = [(budget, statistics.estimate(scores(found, form, taught, budget).values())) for budget in budgets]
        points = [(float(budget), one) for budget, one in estimates if one.mean is not None]
        name = 'wide, sparse' if form == 'sparse' else 'narrow, dense'
        figure_style.curve(axes, points, f'{name}, {taught}', figure_style.style(place))
    figure_style.number_axis(axes, sorted((WIDE, *BUDGETS)), 'parameters that are not zero')
    figure_style.legend(figure, axes)
    return figure_style.png(figure)


def main(workdir: Path) -> None:
    """Measures and publishes what is in `workdir`."""
    (HERE / 'results').mkdir(exist_ok=True)
    found = students.results(expand.expand(config.get_config(), config.sweep()), workdir)
    (HERE / 'results' / 'mnist.json').write_text(json.dumps(found, indent=1) + '\n')
    (HERE / 'results' / 'accuracy.png').write_bytes(drawn(found))
    readme = HERE / 'README.md'
    readme.write_text(filled(readme.read_text(), BEGIN, content(found)))


if __name__ == '__main__':
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / 'runs' / 'wide_sparse'))
