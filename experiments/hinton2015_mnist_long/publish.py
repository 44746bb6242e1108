"""Makes a sweep, finished or not, the one that the project shows.

Command: KDJAX_DATA=FOLDER python run.py --config=experiments/hinton2015_mnist_long/config.py --mode=report, then
         python experiments/hinton2015_mnist_long/publish.py [WORKDIR]

Writes results/ and the part of README.md between the marks. A test holds README.md to results/lengths.json.
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
from experiments.hinton2015_mnist.publish import CASES, holds, interval
from experiments.hinton2015_mnist_long import config
from experiments.pages import filled
from kdjax.study.report import document, figure_style, formatting, statistics
from kdjax.study.sweep import expand

Results = Mapping[str, Any]
BySeed = Mapping[int, int]

BEGIN = '<!-- results: written by experiments/hinton2015_mnist_long/publish.py -->'
PAPER = {'hard labels': 146, 'distilled': 74}  # errors with 800 units
EPOCHS = tuple(map(float, config.STEPS))
MIDDLE = (2.5, 3, 4)  # temperatures that are best with 30 units, by the paper


def errors(found: Results, units: int, epochs: float, temperature: float | None = None) -> BySeed:
    """Test errors by seed, of hard labels or of a temperature; {} where nothing is finished."""
    method = {'method': 'hard labels'} if temperature is None else {
        'method': 'distilled', 'temperature': temperature,
    }  # fmt: skip
    seeds = students.arm(found, units=units, epochs=epochs, **method)
    return {int(seed): round(CASES * (1 - one['accuracy'])) for seed, one in seeds.items()}


def teacher_errors(found: Results) -> int:
    """Of the one teacher of all."""
    (teacher,) = found['teachers'].values()
    return round(CASES * (1 - teacher['metrics']['accuracy']))


def said(values: BySeed) -> str:
    """Mean and standard deviation over seeds."""
    ours = statistics.estimate(values.values())
    if ours.mean is None:
        return formatting.NOTHING
    return f'{ours.mean:.0f}' if ours.sd is None else f'{ours.mean:.0f} ± {ours.sd:.0f}'


def wide(found: Results) -> document.Table:
    """800 units: what distillation gives at every length."""
    rows, teacher = [], teacher_errors(found)
    for epochs in EPOCHS:
        hard, taught = errors(found, 800, epochs), errors(found, 800, epochs, 20)
        if not hard or not taught:
            continue
        pair = statistics.paired(taught, hard)
        share = means.mean(100 * (hard[seed] - taught[seed]) / (hard[seed] - teacher) for seed in taught)
        rows.append((f'{epochs:g}', said(hard), said(taught), f'{pair.mean:+.1f}{interval(pair)}', f'{share:.0f}',
                     str(len(taught))))  # fmt: skip
    rows.append(
        ('paper', *(str(PAPER[method]) for method in PAPER), str(PAPER['distilled'] - PAPER['hard labels']), '91', '1')
    )
    header = ('epochs', 'hard labels', 'T = 20', 'difference, 95 % interval', 'of the gap (%)', 'seeds')
    says = f'800 units: test errors of {CASES:,}, ± sd over seeds; of the gap to the teacher ({teacher}) that is closed'
    return document.Table(says, 'lrrrrr', header, tuple(rows))


def narrow(found: Results) -> document.Table:
    """30 units: errors by length and temperature."""
    temperatures = config.short.TEMPERATURES[30]
    rows = [
        (f'{epochs:g}', said(errors(found, 30, epochs)), *(said(errors(found, 30, epochs, t)) for t in temperatures))
        for epochs in EPOCHS if errors(found, 30, epochs)
    ]  # fmt: skip
    header = ('epochs', 'hard labels', *(f'T = {t:g}' for t in temperatures))
    return document.Table('30 units: test errors, ± sd over seeds', 'l' + 'r' * (len(header) - 1), header, tuple(rows))


def findings(found: Results) -> list[str]:
    """What the paper claims, at every length."""
    says = []
    for epochs in EPOCHS:
        by = {t: errors(found, 30, epochs, t) for t in config.short.TEMPERATURES[30]}
        middle = [by[t] for t in MIDDLE if by[t]]
        if not middle or not by[1] or not by[20]:
            continue
        mean = {seed: means.mean(each[seed] for each in middle) for seed in by[1]}
        low, high = (statistics.paired(mean, by[t]) for t in (1, 20))
        better = [pair.p is not None and pair.p < statistics.LEVEL and pair.mean < 0 for pair in (low, high)]
        says.append(
            f'{holds(all(better))} after {epochs:g} epochs: with 30 units temperatures of 2.5 to 4 do better than '
            f'lower and higher ones. They make {low.mean:+.1f} errors against T = 1{interval(low)} and '
            f'{high.mean:+.1f} against T = 20{interval(high)}.'
        )
    for epochs in EPOCHS:
        taught = errors(found, 800, epochs, 20)
        if len(taught) > 2:  # of fewer a test tells nothing apart
            told = statistics.against(taught.values(), PAPER['distilled'])
            same = statistics.verdict(told.mean, told.p, words=statistics.BESIDE_A_PAPER) == statistics.CONSISTENT
            says.append(
                f'{holds(same)} after {epochs:g} epochs: a distilled student of 800 units makes the 74 errors of the '
                f'paper. It makes {means.mean(taught.values()):.0f} ({min(taught.values())} to {max(taught.values())}).'
            )
    return says


def drawn(found: Results) -> bytes:
    """Errors against temperature with 30 units, a curve for each length; and against length with 800."""
    figure = figure_style.blank(8.6, 3.4)
    left, right = figure.subplots(1, 2)
    figure_style.dress(left, 'test errors', '')
    left.set_title('30 units', fontsize=figure_style.FONT)
    temperatures = config.short.TEMPERATURES[30]
    for place, epochs in enumerate(EPOCHS):
        curve = [(t, statistics.estimate(errors(found, 30, epochs, t).values())) for t in temperatures
                 if errors(found, 30, epochs, t)]  # fmt: skip
        if curve:
            look = figure_style.style(place)
            figure_style.curve(left, curve, f'{epochs:g} epochs', look)
            left.axhline(means.mean(errors(found, 30, epochs).values()), color=look['color'], linestyle=':')
    figure_style.number_axis(left, temperatures, 'temperature; dotted: hard labels')
    figure_style.dress(right, '', '')
    right.set_title('800 units', fontsize=figure_style.FONT)
    lengths = [epochs for epochs in EPOCHS if errors(found, 800, epochs) and errors(found, 800, epochs, 20)]
    for place, (name, temperature) in enumerate((('hard labels', None), ('T = 20', 20)) if lengths else ()):
        curve = [(epochs, statistics.estimate(errors(found, 800, epochs, temperature).values())) for epochs in lengths]
        figure_style.curve(right, curve, name, figure_style.style(place + len(EPOCHS)))
    right.axhline(teacher_errors(found), color=figure_style.INK, linestyle=':', label='teacher')
    figure_style.number_axis(right, lengths or EPOCHS, 'epochs')
    figure_style.legend(figure, left, right)
    return figure_style.png(figure)


def content(found: Results) -> str:
    """The Markdown between the marks."""
    picture = document.Picture('results/lengths.png', 'Test errors against temperature and against length')
    blocks: Sequence[Any] = [
        wide(found), narrow(found), document.Items(tuple(findings(found))), picture,
        document.Text(students.where(found)),
    ]  # fmt: skip
    return document.markdown(blocks).strip()


def main(workdir: Path) -> None:
    """Publishes what is in `workdir`."""
    (HERE / 'results').mkdir(exist_ok=True)
    found = students.results(expand.expand(config.get_config(), config.sweep()), workdir)
    (HERE / 'results' / 'lengths.json').write_text(json.dumps(found, indent=1) + '\n')
    (HERE / 'results' / 'lengths.png').write_bytes(drawn(found))
    readme = HERE / 'README.md'
    readme.write_text(filled(readme.read_text(), BEGIN, content(found)))


if __name__ == '__main__':
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / 'runs' / 'hinton2015_mnist_long'))
