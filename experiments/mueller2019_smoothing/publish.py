"""Makes a finished sweep the one that the project shows.

Command: KDJAX_DATA=FOLDER python experiments/mueller2019_smoothing/publish.py [WORKDIR]

Writes results/ and the part of README.md between the marks. A test holds README.md to results/smoothing.json.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

from experiments import own_teachers, students
from experiments.mueller2019_smoothing import config
from experiments.own_teachers import Question, values
from experiments.pages import filled, percent
from kdjax.study.report import document, figure_style, statistics
from kdjax.study.sweep import expand

Results = Mapping[str, Any]

BEGIN = '<!-- results: written by experiments/mueller2019_smoothing/publish.py -->'
HARD, SMOOTH = config.SMOOTHING
METRICS = ('accuracy', 'ece', 'nll')


def alone(data: str, smoothing: float) -> dict[str, Any]:
    """A student of labels."""
    return {'data': data, 'method': config.ALONE, 'own': smoothing}


def taught(data: str, smoothing: float, temperature: float) -> dict[str, Any]:
    """A student of a teacher of such labels."""
    return {'data': data, 'method': config.DISTILLED, "teacher's": smoothing, 'temperature': temperature}


def teachers(found: Results) -> document.Table:
    """How good the teachers are."""
    rows = [
        (data, f'{smoothing:g}', *(percent(values(found, taught(data, smoothing, 1.0), metric, 'teacher'))
                                   for metric in METRICS))
        for data in config.DATA for smoothing in config.SMOOTHING
    ]  # fmt: skip
    header = ('', 'smoothing', 'test accuracy (%)', 'calibration error (%)', 'NLL (nats)')
    return document.Table('Teachers: mean ± half its 95 % interval over seeds', 'lrrrr', header, tuple(rows))


def scored(found: Results, data: str) -> document.Table:
    """How good students are, by their teacher."""
    rows = [
        (f'smoothing {smoothing:g}', percent(values(found, alone(data, smoothing))),
         *(percent(values(found, taught(data, smoothing, temperature))) for temperature in config.TEMPERATURES))
        for smoothing in config.SMOOTHING
    ]  # fmt: skip
    header = ('labels of the teacher, or its own', 'alone', *(f'taught, T = {t:g}' for t in config.TEMPERATURES))
    says = f'{data}: test accuracy (%) of students, mean ± half its 95 % interval over seeds'
    return document.Table(says, 'l' + 'r' * (len(header) - 1), header, tuple(rows))


def questions(data: str) -> list[Question]:
    """What the paper claims."""
    one, other = taught(data, SMOOTH, 1.0), taught(data, HARD, 1.0)
    return [
        Question('Smoothing makes teachers more accurate', one, other, of='teacher'),
        Question('Smoothing lowers the calibration error of teachers', one, other, 'ece', -1, 'teacher'),
        Question('Smoothing makes students alone more accurate', alone(data, SMOOTH), alone(data, HARD)),
        *(Question(f'Students of smoothed teachers are worse, T = {t:g}', taught(data, SMOOTH, t),
                   taught(data, HARD, t), sign=-1) for t in config.TEMPERATURES),
        *(Question(f'Teachers of plain labels help, T = {t:g}', taught(data, HARD, t), alone(data, HARD))
          for t in config.TEMPERATURES),
        *(Question(f'Students of smoothed teachers are worse than students alone that smooth, T = {t:g}',
                   taught(data, SMOOTH, t), alone(data, SMOOTH), sign=-1) for t in config.TEMPERATURES),
    ]  # fmt: skip


def drawn(found: Results) -> bytes:
    """Accuracy of students against temperature."""
    figure = figure_style.blank(8.6, 3.2)
    panels = figure.subplots(1, len(config.DATA))
    for axes, data in zip(panels, config.DATA, strict=True):
        figure_style.dress(axes, 'test accuracy (%)', '')
        axes.set_title(data, fontsize=figure_style.FONT)
        for place, smoothing in enumerate(config.SMOOTHING):
            look = figure_style.style(place)
            curve = [(t, statistics.estimate(values(found, taught(data, smoothing, t)).values()))
                     for t in config.TEMPERATURES]  # fmt: skip
            figure_style.curve(axes, curve, f'taught, smoothing {smoothing:g}', look)
            level = statistics.estimate(values(found, alone(data, smoothing)).values()).mean
            axes.axhline(level, color=look['color'], linestyle=':', label=f'alone, smoothing {smoothing:g}')
        figure_style.number_axis(axes, config.TEMPERATURES, 'temperature')
    figure_style.legend(figure, panels[0])
    return figure_style.png(figure)


def content(found: Results) -> str:
    """The Markdown between the marks."""
    picture = document.Picture('results/students.png', 'Test accuracy of students against temperature')
    claims = {data: questions(data) for data in config.DATA}
    blocks: Sequence[Any] = [
        teachers(found), *(scored(found, data) for data in config.DATA), picture,
        own_teachers.asked(found, 'Claims (points)', claims), document.Text(students.where(found)),
    ]  # fmt: skip
    return document.markdown(blocks).strip()


def main(workdir: Path) -> None:
    """Publishes what is in `workdir`."""
    (HERE / 'results').mkdir(exist_ok=True)
    found = own_teachers.results(expand.expand(config.get_config(), config.sweep()), workdir)
    (HERE / 'results' / 'smoothing.json').write_text(json.dumps(found, indent=1) + '\n')
    (HERE / 'results' / 'students.png').write_bytes(drawn(found))
    readme = HERE / 'README.md'
    readme.write_text(filled(readme.read_text(), BEGIN, content(found)))


if __name__ == '__main__':
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / 'runs' / 'mueller2019_smoothing'))
