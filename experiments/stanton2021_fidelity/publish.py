"""Makes a finished sweep the one that the project shows.

Command: KDJAX_DATA=FOLDER python experiments/stanton2021_fidelity/publish.py [WORKDIR]

Asks students and teachers about the images that teachers have learned from too, and writes results/ and the part of
README.md between the marks. A test holds README.md to results/fidelity.json.
"""

import functools
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

from experiments import own_teachers, students
from experiments.own_teachers import Question, values
from experiments.pages import filled, percent
from experiments.stanton2021_fidelity import config, unlabelled
from kdjax import trees
from kdjax.dataset import UNLABELLED
from kdjax.nets.mlp import mlp
from kdjax.study.report import document, figure_style
from kdjax.study.sweep import expand
from kdjax.study.sweep.expand import Run
from kdjax.train.checkpoint import load_variables
from kdjax.types import Tree

Results = Mapping[str, Any]

BEGIN = '<!-- results: written by experiments/stanton2021_fidelity/publish.py -->'
OWN = 'its images'
WIDTHS = (128, 128)
COLUMNS = (
    ('student', 'accuracy', 'test accuracy (%)'), ('student', 'agreement', 'agrees on test images (%)'),
    ('student', 'kl', 'KL to the teacher (mnats)'), ('own', 'agreement', "agrees on the teacher's images (%)"),
    ('own', 'kl', 'KL on them (mnats)'),
)  # fmt: skip


def arm(data: str, asked: str) -> dict[str, Any]:
    """A student of a teacher."""
    return {'data': data, 'method': config.TAUGHT, 'asked on': asked}


def other(data: str) -> dict[str, Any]:
    """A student of labels."""
    return {'data': data, 'method': config.LABELS, 'asked on': OWN}


@functools.lru_cache(maxsize=1)  # runs of a seed come one after the other
def _images(data: str, draw: int) -> np.ndarray:
    """What the teacher of a seed has learned from."""
    train = unlabelled.images(**config.DATA[data], draw=draw).splits['train']
    return np.asarray(train.inputs)[train.column('labels') != UNLABELLED].astype(np.float32) / 255


def answers(variables: Tree, inputs: np.ndarray) -> np.ndarray:
    """log-probabilities, (N, K)."""
    logits = mlp(classes=10, widths=WIDTHS).apply(variables, inputs, train=False, key=None)[0].logits
    return np.asarray(jax.nn.log_softmax(logits), np.float64)


def likeness(student: np.ndarray, teacher: np.ndarray) -> dict[str, float]:
    """Agreement of the most probable classes, and KL(teacher || student), of log-probabilities (N, K)."""
    kl = np.mean(np.sum(np.exp(teacher) * (teacher - student), axis=1))
    return {'agreement': float(np.mean(student.argmax(axis=1) == teacher.argmax(axis=1))), 'kl': float(kl)}


def more(workdir: Path) -> own_teachers.More:
    """How alike student and teacher are where the teacher has learned."""

    def of(run: Run, place: Any) -> dict[str, Any]:
        images = _images(run.point['data'], run.seed)
        student = trees.take(load_variables(place.folder / 'variables'), place.position)
        teacher = load_variables(workdir / run.teacher.folder / 'variables')
        return {'own': likeness(answers(student, images), answers(teacher, images))}

    return of


def scored(found: Results, data: str) -> document.Table:
    """Students and their likeness to their teachers."""
    arms = {'labels alone': other(data), **{f'asked on {name}': arm(data, name) for name in config.ASKED}}
    rows = [(name, *(percent(values(found, point, metric, of)) for of, metric, _ in COLUMNS))
            for name, point in arms.items()]  # fmt: skip
    rows.append(('the teachers', percent(values(found, other(data), of='teacher')), *[''] * (len(COLUMNS) - 1)))
    says = f'{data}: students and their likeness to their teachers, mean ± half its 95 % interval over seeds'
    return document.Table(says, 'l' + 'r' * len(COLUMNS), ('', *(title for *_, title in COLUMNS)), tuple(rows))


def questions(data: str) -> list[Question]:
    """What the paper claims, and what follows."""
    own = arm(data, OWN)
    found = [Question('A student agrees more than a network of the same labels does', own, other(data), 'agreement'),
             Question('It scores better than that', own, other(data))]  # fmt: skip
    for name in config.ASKED:
        if name != OWN:
            found += [Question(f'Asked on {name}, it agrees more', arm(data, name), own, 'agreement'),
                      Question(f'Asked on {name}, it scores better', arm(data, name), own)]  # fmt: skip
    return found


def drawn(found: Results) -> bytes:
    """Accuracy against agreement, one mark for each arm."""
    figure = figure_style.blank(6.4, 3.6)
    panels = figure.subplots(1, len(config.DATA), squeeze=False)[0]
    for axes, data in zip(panels, config.DATA, strict=True):
        figure_style.dress(axes, 'test accuracy (%)', '')
        axes.set_title(data, fontsize=figure_style.FONT)
        arms = {'labels alone': other(data), **{name: arm(data, name) for name in config.ASKED}}
        for place, (name, point) in enumerate(arms.items()):
            look = {**figure_style.style(place), 'linestyle': ''}
            both = (values(found, point, metric) for metric in ('agreement', 'accuracy'))
            axes.plot(*(list(one.values()) for one in both), label=name, markersize=5, **look)
        axes.set_xlabel('agrees with the teacher on test images (%)', **figure_style.LABEL)
    figure_style.legend(figure, panels[0])
    return figure_style.png(figure)


def content(found: Results) -> str:
    """The Markdown between the marks."""
    picture = document.Picture('results/fidelity.png', 'Accuracy against agreement with the teacher, a mark each seed')
    blocks: Sequence[Any] = [
        *(scored(found, data) for data in config.DATA), picture,
        own_teachers.asked(found, 'Claims (points)', {data: questions(data) for data in config.DATA}),
        document.Text(students.where(found)),
    ]  # fmt: skip
    return document.markdown(blocks).strip()


def main(workdir: Path) -> None:
    """Measures and publishes what is in `workdir`."""
    (HERE / 'results').mkdir(exist_ok=True)
    planned = expand.expand(config.get_config(), config.sweep())
    found = own_teachers.results(planned, workdir, more(workdir))
    (HERE / 'results' / 'fidelity.json').write_text(json.dumps(found, indent=1) + '\n')
    (HERE / 'results' / 'fidelity.png').write_bytes(drawn(found))
    readme = HERE / 'README.md'
    readme.write_text(filled(readme.read_text(), BEGIN, content(found)))


if __name__ == '__main__':
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / 'runs' / 'stanton2021_fidelity'))
