"""Makes a finished sweep the one that the project shows.

Command: KDJAX_DATA=FOLDER python experiments/lopez_paz2016/publish.py [WORKDIR]

Counts what every network answers rightly on the test examples of every draw, and writes results/ and the part of
README.md between the marks. A test holds README.md to results/privileged.json.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

from experiments.hinton2015_mnist.measure import Students
from experiments.lopez_paz2016 import config, sets
from experiments.pages import difference, filled
from kdjax.study.recipe.context import Datasets
from kdjax.study.recipe.evaluation import TEST_LOGITS
from kdjax.study.report import document, figure_style, formatting, statistics
from kdjax.study.sweep import expand, grids
from kdjax.study.sweep.expand import Run, Sweep
from kdjax.train.ledger import plain

Results = Mapping[str, Any]

BEGIN = '<!-- results: written by experiments/lopez_paz2016/publish.py -->'
EXPECTED = json.loads((HERE / 'expected.json').read_text())
NETWORKS = ('privileged', 'regular', 'distilled')
ROUNDING = 0.5  # percent, by which a published mean may be off
WORDS = statistics.BESIDE_A_PAPER


def measured(planned: Sweep, workdir: Path) -> dict[str, Any]:
    """Accuracy on the test examples of every draw: of points by setting and network, of digits by form, temperature and
    imitation."""
    students = Students(planned, grids.ResultIndex(workdir), Datasets())
    students.index.refresh()
    points: dict[str, Any] = {name: {} for name in sets.SETTINGS}
    digits = {str(count): {'students': {}} for count in config.EXAMPLES}
    for run in planned.runs:
        labels = students.datasets(run.cells[-1].inputs.data).splits['test'].labels
        own = _right(students.logits(run, 'test'), labels)
        taught = run.method == config.DISTILLED
        name = run.point['data']
        if name in points:
            points[name]['distilled' if taught else 'regular'] = own
            points[name]['privileged'] = _right(_teacher(planned, workdir, run), labels)
        elif taught:
            found = digits[name.removesuffix(' digits')]
            of_form = found['students'].setdefault(run.point['form'], {})
            of_form.setdefault(f'{run.point["temperature"]:g}', []).append(own)
            found['teacher'] = _right(_teacher(planned, workdir, run), labels)
        else:
            digits[name.removesuffix(' digits')].setdefault('alone', {})[str(run.point['loss times'])] = own
    return {'points': points, 'digits': digits}


def _right(logits: np.ndarray, labels: np.ndarray) -> list[float]:
    """Percent of every draw, of logits (examples, N, K)."""
    return (100 * np.mean(logits.argmax(axis=-1) == labels, axis=0)).round(3).tolist()


def _teacher(planned: Sweep, workdir: Path, run: Run) -> np.ndarray:
    return np.load(workdir / planned.stages[planned.judges[run.cells[-1].key]].folder / TEST_LOGITS)


def published(setting: str, network: str) -> tuple[float, float]:
    """Mean and sd, percent."""
    mean, sd = EXPECTED['points'][setting.partition(',')[0]][network]  # of three readings there is one number
    return mean, sd


def beside(ours: Sequence[float], mean: float, sd: float) -> str:
    """Whether ours are higher or lower than a rounded mean by more than it may be off."""
    test = statistics.against(ours, mean, sd, EXPECTED['draws'])
    low, high = test.ci95 or (0.0, 0.0)
    return WORDS[0] if low > ROUNDING else WORDS[1] if high < -ROUNDING else WORDS[2]


def points(found: Results) -> document.Table:
    """Published and ours, by setting."""
    rows = []
    for setting, of in found['points'].items():
        told = [beside(of[name], *published(setting, name)) for name in NETWORKS]
        gain = _gain(of)
        rows.append((
            setting, *(f'{mean:.0f} ± {sd:.0f}' for mean, sd in (published(setting, name) for name in NETWORKS)),
            *(spread(of[name]) for name in NETWORKS), ', '.join(told), difference(gain),
        ))  # fmt: skip
    header = ('setting', *(f'{name}, published' for name in NETWORKS), *(f'{name}, ours' for name in NETWORKS),
              'ours beside it', 'distilled minus regular')  # fmt: skip
    says = (f'Test accuracy (%), mean ± sd over {EXPECTED["draws"]} draws, as published (in whole percent) and ours; '
            'ours is higher or lower where the 95 % interval of the difference (Welch) lies beyond half a percent; and '
            'the paired difference in points with its 95 % interval')  # fmt: skip
    return document.Table(says, 'l' + 'r' * 6 + 'lr', header, tuple(rows))


def _gain(of: Mapping[str, Sequence[float]]) -> statistics.Test:
    return statistics.paired(dict(enumerate(of['distilled'])), dict(enumerate(of['regular'])))


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation."""
    one = statistics.estimate(values)
    return f'{one.mean:.1f} ± {one.sd:.1f}'


def theirs(examples: int) -> np.ndarray:
    """Accuracies of the authors' runs, percent: (draws, temperatures, imitation), imitation from 0 on."""
    return 100 * np.array([one['students'] for one in EXPECTED['digits'][str(examples)]])


def ours(found: Results, examples: int, form: str) -> np.ndarray:
    """The same of ours, imitation from 0.1 on."""
    by = found['digits'][str(examples)]['students'][form]
    return np.stack([np.array(by[f'{temperature:g}']).T for temperature in config.TEMPERATURES], axis=1)


def welch(left: np.ndarray, right: np.ndarray) -> statistics.Test:
    """Difference of the means of two samples."""
    return statistics.against(left.tolist(), float(right.mean()), float(right.std(ddof=1)), len(right))


def digits(found: Results, examples: int) -> document.Table:
    """The authors' runs and ours by temperature, mean over imitation."""
    of = found['digits'][str(examples)]
    runs = theirs(examples)
    plain_runs = {'the teacher': (np.array([100 * one['teacher'] for one in EXPECTED['digits'][str(examples)]]),
                                  np.array(of['teacher'])),
                  'the student alone': (runs[:, :, 0].mean(axis=1), alone(found, examples))}  # fmt: skip
    nothing = (formatting.NOTHING,) * len(config.FORMS)
    rows = [(name, spread(left), _cell(right, left), *nothing) for name, (left, right) in plain_runs.items()]
    for place, temperature in enumerate(config.TEMPERATURES):
        left = runs[:, place, 1:].mean(axis=1)
        mine = [ours(found, examples, form)[:, place].mean(axis=1) for form in config.FORMS]
        larger = spread(alone(found, examples, temperature).tolist())
        rows.append((f'taught, T = {temperature}', spread(left), *(_cell(right, left) for right in mine), larger))
    says = (f'{examples} digits: test accuracy (%), mean ± sd over 10 draws, of each the mean over imitation 0.1 to 1; '
            "the authors' runs, and ours in three forms with the p-value of Welch's t test against theirs")  # fmt: skip
    header = ('', "the authors' runs", *config.FORMS, 'alone, loss times T²')
    return document.Table(says, 'l' + 'r' * (len(header) - 1), header, tuple(rows))


def alone(found: Results, examples: int, temperature: int = 1) -> np.ndarray:
    """Accuracies of students alone whose loss is multiplied with T^2, by draw."""
    return np.array(found['digits'][str(examples)]['alone'][str(temperature**2)])


def _cell(right: np.ndarray, left: np.ndarray) -> str:
    return f'{spread(right.tolist())} (p {formatting.p(welch(right, left).p)})'


def findings(found: Results) -> list[str]:
    """What the paper claims, and whether it holds."""
    says = []
    for setting, of in found['points'].items():
        gain, wanted = _gain(of), published(setting, 'distilled')[0] - published(setting, 'regular')[0]
        verdict = statistics.verdict(gain.mean, gain.p)
        says.append(f'{setting}: distillation {verdict} ({difference(gain)} points; published {wanted:+.0f}).')
    for examples in config.EXAMPLES:
        plain_student = dict(enumerate(alone(found, examples)))
        for form in config.FORMS:
            runs = ours(found, examples, form)
            gains = [statistics.paired(dict(enumerate(runs[:, place].mean(axis=1))), plain_student)
                     for place in range(len(config.TEMPERATURES))]  # fmt: skip
            best = max(range(len(gains)), key=lambda place: gains[place].mean or 0.0)
            tests = [welch(runs[:, t, share], theirs(examples)[:, t, share + 1])
                     for t in range(runs.shape[1]) for share in range(runs.shape[2])]  # fmt: skip
            apart = sum(p is not None and p < statistics.LEVEL for p in statistics.holm([test.p for test in tests]))
            says.append(
                f'{examples} digits, {form}: most is gained at T = {config.TEMPERATURES[best]} '
                f'({difference(gains[best])} points over the student alone, mean over imitation); {apart} of '
                f"{len(tests)} settings differ from the authors' runs (Welch, Holm)."
            )
        says.append(_larger(found, examples))
    return says


def _larger(found: Results, examples: int) -> str:
    """What of the gain is left where a student alone has as large a loss."""
    runs = ours(found, examples, 'as in the code')
    best = max(range(len(config.TEMPERATURES)), key=lambda place: runs[:, place].mean())
    temperature = config.TEMPERATURES[best]
    left = statistics.paired(dict(enumerate(runs[:, best].mean(axis=1))),
                             dict(enumerate(alone(found, examples, temperature))))  # fmt: skip
    return (
        f'{examples} digits, as in the code: against students alone whose loss is multiplied with T² too, distillation '
        f'{statistics.verdict(left.mean, left.p)} at T = {temperature} ({difference(left)} points).'
    )


def drawn(found: Results) -> bytes:
    """Accuracy against temperature, of digits."""
    figure = figure_style.blank(8.6, 3.2)
    panels = figure.subplots(1, len(config.EXAMPLES))
    for axes, examples in zip(panels, config.EXAMPLES, strict=True):
        figure_style.dress(axes, 'test accuracy (%)', '')
        axes.set_title(f'{examples} digits', fontsize=figure_style.FONT)
        lines = {"the authors' runs": theirs(examples)[:, :, 1:], **{form: ours(found, examples, form)
                                                                     for form in config.FORMS}}  # fmt: skip
        for place, (name, runs) in enumerate(lines.items()):
            curve = [(float(t), statistics.estimate(runs[:, at].mean(axis=1)))
                     for at, t in enumerate(config.TEMPERATURES)]  # fmt: skip
            figure_style.curve(axes, curve, name, figure_style.style(place), shade=0.1)
        scaled = [(float(t), statistics.estimate(alone(found, examples, t))) for t in config.TEMPERATURES]
        figure_style.curve(axes, scaled, 'alone, loss times T²', figure_style.style(len(lines)), shade=0.1)
        axes.axhline(alone(found, examples).mean(), color=figure_style.INK, linestyle=':', label='alone')
        figure_style.number_axis(axes, config.TEMPERATURES, 'temperature')
    figure_style.legend(figure, panels[0])
    return figure_style.png(figure)


def content(found: Results) -> str:
    """The Markdown between the marks."""
    machine, minutes = found['machine'], sum(found['seconds'].values()) / 60
    where = (
        f'{config.DRAWS["points"]} draws of points, {config.DRAWS["digits"]} of digits; all {found["runs"]} runs; '
        f'{machine["processor"]}, {machine["cores"]} cores, JAX {found["versions"]["jax"]}; {minutes:.0f} minutes in '
        f'all stages, beside other work; configuration {found["config_hash"]}; {found["command"]}.'
    )
    picture = document.Picture('results/digits.png', 'Test accuracy against temperature, mean over imitation')
    blocks: Sequence[Any] = [
        points(found), document.Items(tuple(findings(found))), picture,
        *(digits(found, examples) for examples in config.EXAMPLES), document.Text(where),
    ]  # fmt: skip
    return document.markdown(blocks).strip()


def main(workdir: Path) -> None:
    """Measures and publishes what is in `workdir`."""
    (HERE / 'results').mkdir(exist_ok=True)
    planned = expand.expand(config.get_config(), config.sweep())
    report = json.loads((workdir / 'report' / 'summary.json').read_text())
    found = plain({'runs': len(planned.runs), **measured(planned, workdir), **report['provenance']})
    (HERE / 'results' / 'privileged.json').write_text(json.dumps(found) + '\n')
    (HERE / 'results' / 'digits.png').write_bytes(drawn(found))
    readme = HERE / 'README.md'
    readme.write_text(filled(readme.read_text(), BEGIN, content(found)))


if __name__ == '__main__':
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / 'runs' / 'lopez_paz2016'))
