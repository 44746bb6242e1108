"""Makes a finished sweep the one that the project shows.

Command: KDJAX_DATA=FOLDER python experiments/phuong2019_linear/publish.py [WORKDIR]

Holds every student against the teacher's weights projected on the span of its examples, and writes results/ and the
part of README.md between the marks. A test holds README.md to results/linear.json.
"""

import functools
import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

from experiments import students
from experiments.pages import filled
from experiments.phuong2019_linear import config
from kdjax import trees
from kdjax.dataset import Dataset
from kdjax.study.recipe import build, feeding
from kdjax.study.recipe.context import Datasets
from kdjax.study.report import document, figure_style, formatting, statistics
from kdjax.study.sweep import expand, grids
from kdjax.study.sweep.expand import Run, Sweep
from kdjax.train.checkpoint import load_variables
from kdjax.train.ledger import plain
from kdjax.types import Tree

Results = Mapping[str, Any]

BEGIN = '<!-- results: written by experiments/phuong2019_linear/publish.py -->'
SMALL = 0.1  # percent, below which a disagreement with the exact one is called none
Line = tuple[str, int]  # a method, and how many layers
LINES: tuple[Line, ...] = ((config.SOFT, 1), (config.SOFT, 2), (config.HARD, 1), (config.HARD, 2))


def weights(variables: Tree) -> np.ndarray:
    """w of a linear network, (D,)."""
    layers = variables['params']
    kernels = [np.asarray(layers[name]['kernel'], np.float64) for name in sorted(layers)]  # the head is the last
    return functools.reduce(np.matmul, kernels)[:, 0]


def projected(teacher: np.ndarray, examples: np.ndarray) -> np.ndarray:
    """X (X'X)^-1 X' w, what the theorem says that a student of the examples X' (N, D) learns."""
    return np.linalg.pinv(examples) @ (examples @ teacher)


def disagreement(w: np.ndarray, teacher: np.ndarray, points: np.ndarray) -> float:
    """Share of points that two hyperplanes have on different sides: the transfer risk, of a sample."""
    return float(np.mean((points @ w > 0) != (points @ teacher > 0)))


def measured(planned: Sweep, workdir: Path) -> list[dict[str, Any]]:
    """Of every arm, by seed: disagreement with the teacher on the test split, that of the projection, and how far the
    student is from it, over the norm of the teacher."""
    index, datasets = grids.ResultIndex(workdir), Datasets()
    index.refresh()
    arms: dict[str, dict[str, Any]] = {}
    for run in planned.runs:
        place = index.places[run.cells[-1].key]
        own = weights(trees.take(_variables(place.folder), place.position))
        teacher, data = weights(_variables(workdir / run.teacher.folder)), datasets(run.cells[-1].inputs.data)
        exact, test = projected(teacher, _examples(run, data)), _flat(data.splits['test'].inputs)
        arm = arms.setdefault(str(run.point), {**run.point, 'risk': [], 'exact': [], 'far': []})
        for name, w in (('risk', own), ('exact', exact)):
            arm[name].append(round(disagreement(w, teacher, test), 6))
        arm['far'].append(round(float(np.linalg.norm(own - exact) / np.linalg.norm(teacher)), 6))
    return list(arms.values())


@functools.lru_cache(maxsize=8)
def _variables(folder: Path) -> Tree:
    return load_variables(folder / 'variables')


def _examples(run: Run, data: Dataset) -> np.ndarray:
    """What a student was shown."""
    inputs, split = run.cells[-1].inputs, data.splits['train']
    (stream,) = feeding.streams(build.task(inputs.task), split, [run.cells[-1].drawn], inputs.seed)
    return _flat(np.asarray(split.inputs)[stream.pool])


def _flat(inputs: Any) -> np.ndarray:
    return np.asarray(inputs, np.float64).reshape(len(inputs), -1)


def of(found: Results, data: str, line: Line, examples: int) -> Mapping[str, Any]:
    """An arm."""
    wanted = {'data': data, 'method': line[0], 'layers': line[1], 'examples': examples}
    return next(arm for arm in found['arms'] if wanted.items() <= arm.items())


def risk(found: Results, data: str, line: Line, examples: int) -> float:
    """Mean disagreement with the teacher, percent."""
    return 100 * float(np.mean(of(found, data, line, examples)['risk']))


def exact(found: Results, data: str, examples: int) -> float:
    """That of the theorem."""
    return 100 * float(np.mean(of(found, data, LINES[0], examples)['exact']))


def table(found: Results, data: str) -> document.Table:
    """Students of one kind of points beside the theorem."""
    header = ('examples', 'theorem (%)', *map(named, LINES), 'from the projection, 1 layer')

    def row(count: int) -> tuple[str, ...]:
        far = float(np.median(of(found, data, LINES[0], count)['far']))
        risks = (f'{risk(found, data, line, count):.2f}' for line in LINES)
        return str(count), f'{exact(found, data, count):.2f}', *risks, f'{far:.1e}'

    says = (f'{data}: test points that student and teacher have on different sides, mean over seeds; and the distance '
            'of weights from those of the theorem, over the norm of the teacher, median')  # fmt: skip
    return document.Table(says, 'r' * len(header), header, tuple(map(row, found['sizes'])))


def named(line: Line) -> str:
    """A method and its depth, as tables call it."""
    return f'{line[0]}, {formatting.plural(line[1], "layer")}'


def findings(found: Results) -> list[str]:
    """What the theorems say, and whether it is so here."""
    return [say for data in found['data']
            for say in (*(_as_exact(found, data, line) for line in LINES[:2]), _falls(found, data))]  # fmt: skip


def _as_exact(found: Results, data: str, line: Line) -> str:
    gaps = {size: abs(risk(found, data, line, size) - exact(found, data, size)) for size in found['sizes']}
    worst = max(gaps, key=lambda size: gaps[size])
    ends = 'end where theorem 1 says' if np.median([*gaps.values()]) < SMALL else 'do not end where theorem 1 says'
    return (
        f'{data}: students of {named(line)} {ends}: their mean risk is off by {np.median([*gaps.values()]):.2f} points '
        f'(median over sizes), at most by {gaps[worst]:.2f}, of {worst} examples.'
    )


def _falls(found: Results, data: str) -> str:
    risks = np.array([of(found, data, LINES[0], size)['risk'] for size in found['sizes']])
    steps = [statistics.paired(dict(enumerate(after)), dict(enumerate(before)))
             for before, after in itertools.pairwise(risks)]  # fmt: skip
    adjusted = statistics.holm([step.p for step in steps])
    rises = sum(
        statistics.verdict(step.mean, p, -1) == statistics.HURTS for step, p in zip(steps, adjusted, strict=True)
    )
    most = found['sizes'][-1]
    soft, hard = (risk(found, data, (method, 1), most) for method in (config.SOFT, config.HARD))
    return (
        f'{data}: with more examples the risk rises significantly {formatting.plural(rises, "time")} in {len(steps)} '
        f'(paired t tests, Holm); of {most} examples it is {soft:.2f} % with soft labels, {hard:.2f} % with hard ones.'
    )


def drawn(found: Results) -> bytes:
    """Disagreement against the number of examples."""
    figure = figure_style.blank(9.6, 3.2)
    every = figure.subplots(1, len(found['data']))
    for axes, data in zip(every, found['data'], strict=True):
        figure_style.dress(axes, 'differs from the teacher (%)', '')
        axes.set_title(data, fontsize=figure_style.FONT)
        for place, line in enumerate(LINES):
            points = [(float(size), statistics.estimate(100 * np.array(of(found, data, line, size)['risk'])))
                      for size in found['sizes']]  # fmt: skip
            figure_style.curve(axes, points, named(line), figure_style.style(place), shade=0.08)
        line = [exact(found, data, size) for size in found['sizes']]
        axes.plot(found['sizes'], line, color=figure_style.INK, linestyle=':', label='theorem 1')
        axes.set_xlabel('examples', **figure_style.LABEL)
    figure_style.legend(figure, every[0])
    return figure_style.png(figure)


def content(found: Results) -> str:
    """The Markdown between the marks."""
    picture = document.Picture('results/risk.png', 'Disagreement with the teacher against examples')
    blocks: Sequence[Any] = [
        document.Items(tuple(findings(found))), picture, *(table(found, data) for data in found['data']),
        document.Text(students.where(found)),
    ]  # fmt: skip
    return document.markdown(blocks).strip()


def main(workdir: Path) -> None:
    """Measures and publishes what is in `workdir`."""
    (HERE / 'results').mkdir(exist_ok=True)
    planned = expand.expand(config.get_config(), config.sweep())
    report = json.loads((workdir / 'report' / 'summary.json').read_text())
    found = plain({
        'data': list(config.DATA), 'sizes': config.SIZES, 'seeds': planned.config.seeds,
        'runs': {'finished': len(planned.runs), 'planned': len(planned.runs)},
        'arms': measured(planned, workdir), **report['provenance'],
    })  # fmt: skip
    (HERE / 'results' / 'linear.json').write_text(json.dumps(found) + '\n')
    (HERE / 'results' / 'risk.png').write_bytes(drawn(found))
    readme = HERE / 'README.md'
    readme.write_text(filled(readme.read_text(), BEGIN, content(found)))


if __name__ == '__main__':
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / 'runs' / 'phuong2019_linear'))
