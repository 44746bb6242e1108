"""Makes a finished sweep the one that the project shows.

Command: KDJAX_DATA=FOLDER python experiments/transfer/publish.py transfer [WORKDIR]
         KDJAX_DATA=FOLDER python experiments/transfer/publish.py transfer_convolutions [WORKDIR]

Writes the experiment's results/ (every accuracy by seed, operations of training by arm, features judged as embeddings,
the figure) and the part of its README.md between the marks. A test holds README.md to results/transfer.json.
"""

import functools
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
from experiments.pages import difference, filled, percent
from experiments.students import Student, accuracies, arm
from experiments.transfer import config, pairs
from experiments.transfer.pairs import Pair
from kdjax.dataset import Dataset
from kdjax.errors import unknown
from kdjax.study.recipe import build
from kdjax.study.recipe.context import Datasets
from kdjax.study.recipe.recipe import DataSource, NetSpec
from kdjax.study.report import document, figure_style, formatting, statistics
from kdjax.study.sweep import expand
from kdjax.study.sweep.expand import Run, Sweep
from kdjax.tasks.classification import Classification
from kdjax.tasks.embedding import Embedding

Results = Mapping[str, Any]
Arm = tuple[str, str, int]  # network, method, teacher

BEGIN = '<!-- results: written by experiments/transfer/publish.py -->'
NAMES = {'transfer': 'perceptrons', 'transfer_convolutions': 'convolutions'}  # experiments, and their pairs
PAIRS: Mapping[str, Pair] = {name: pair for pairs in config.PAIRS.values() for name, pair in pairs.items()}
ALL, FEW, BEGUN = range(3)  # teachers, in the order of `config.teachers`
SHOWN = 2000  # test examples that features are judged on
COUNTS = ('source', 'teacher', 'student')  # whose operations are told apart
# What is shown.
ARMS: tuple[Arm, ...] = (
    ('small', 'from scratch', ALL),
    ('small', 'pretrained, head', ALL),
    ('small', 'pretrained', ALL),
    ('small', 'distilled', ALL),
    ('small', 'pretrained, distilled', ALL),
    ('small', 'distilled', FEW),
    ('small', 'distilled', BEGUN),
    ('small', 'pretrained, distilled', BEGUN),
    ('small', 'label-free features, head', ALL),
    ('large', 'from scratch', ALL),
    ('large', 'pretrained once', ALL),
)
# The arms of the figure.
DRAWN = tuple(ARMS[place] for place in (0, 1, 2, 3, 4, 8, 9, 10))
# What is asked: a sentence, one arm and the other; 'few' is how many labels of a class such a teacher has seen.
QUESTIONS = (
    ('Learning something else first helps', 2, 0),
    ('Training its last layer alone is better than training all of it', 1, 2),
    ('A teacher that knows all labels helps', 3, 0),
    ('A teacher that knows all labels helps more than learning something else first', 3, 2),
    ('After something else, that teacher still helps', 4, 2),
    ('With that teacher, something else still helps', 4, 3),
    ('A teacher of {few} labels a class is worse than one of all', 3, 5),
    ('A teacher of {few} labels a class teaches better after something else', 6, 5),
    ('Features learned of a teacher without labels are better than those of other data', 8, 1),
    ('The large network from scratch is better than the small one', 9, 0),
    ('Learning something else first helps the large one', 10, 9),
    ('The small network with the teacher is better than the large one pretrained', 3, 10),
)


def content(found: Results) -> str:
    """The Markdown between the marks."""
    says = 'Test accuracy against labels a class, and against the operations of all training that it took'
    blocks = [
        *(scored(found, pair) for pair in pairs_of(found)), document.Picture('results/aims.png', says),
        *(asked(found, pair) for pair in pairs_of(found)), teachers(found),
        *(judged(found, pair) for pair in pairs_of(found)), document.Text(students.where(found)),
    ]  # fmt: skip
    return document.markdown(blocks).strip()


def pairs_of(found: Results) -> Sequence[str]:
    """The pairs that the results are of."""
    return tuple(found['operations'])


def named(pair: str, network: str, method: str, teacher: int) -> str:
    """What a table calls an arm."""
    return f'{network}: {method}' + ('' if teacher == ALL else f', teacher of {_taught_by(pair, teacher)}')


def _taught_by(pair: str, teacher: int) -> str:
    return tuple(config.teachers(PAIRS[pair]))[teacher]


def of(found: Results, pair: str, shown: Arm, count: int) -> Mapping[str, Any]:
    """An arm, by seed."""
    network, method, teacher = shown
    point = {'pair': pair, 'network': network, 'labels a class': count, 'teacher': _taught_by(pair, teacher),
             'method': method}  # fmt: skip
    return arm(found, **point)


def scored(found: Results, pair: str) -> document.Table:
    """Accuracy at every size, and what training took."""

    def row(shown: Arm) -> tuple[str, ...]:
        cells = (percent(accuracies(of(found, pair, shown, count))) for count in PAIRS[pair].sizes)
        took = (thousandth(counted(found, pair, shown)[name]) for name in COUNTS)
        return named(pair, *shown), *cells, *took

    header = ('network: method', *(f'{count} a class (%)' for count in PAIRS[pair].sizes),
              *(f'{name} (GFLOP)' for name in COUNTS))  # fmt: skip
    says = (f'{pair}: test accuracy, ± half its 95 % interval, with so many labels of each class, and operations of '
            'training: of what was learned first, of the teacher and its answers, of the student')  # fmt: skip
    return document.Table(says, 'l' + 'r' * (len(header) - 1), header, tuple(map(row, ARMS)))


def asked(found: Results, pair: str) -> document.Table:
    """Paired differences, and whether they hold."""
    sizes = PAIRS[pair].sizes
    tests = [[_test(found, pair, one, other, count) for count in sizes] for _, one, other in QUESTIONS]
    flat = iter(statistics.holm([test.p for row in tests for test in row]))
    rows = []
    for (says, _, _), line in zip(QUESTIONS, tests, strict=True):
        words = [statistics.verdict(test.mean, next(flat)) for test in line]
        won, lost = (
            ', '.join(str(count) for count, word in zip(sizes, words, strict=True) if word == which)
            for which in (statistics.HELPS, statistics.HURTS)
        )
        rows.append(
            (
                says.format(few=PAIRS[pair].few),
                *map(difference, line),
                won or formatting.NOTHING,
                lost or formatting.NOTHING,
            )
        )
    header = ('', *(f'{count} a class' for count in sizes), 'holds at', 'the contrary at')
    says = (f'{pair}: paired differences in points with 95 % intervals; holds where p < 0.05 in a paired t test, with '
            f"Holm's correction over the {len(QUESTIONS) * len(sizes)} of this table")  # fmt: skip
    return document.Table(says, 'l' + 'r' * (len(sizes) + 2), header, tuple(rows))


def _test(found: Results, pair: str, one: int, other: int, count: int) -> statistics.Test:
    return statistics.paired(*(accuracies(of(found, pair, ARMS[place], count)) for place in (one, other)))


def teachers(found: Results) -> document.Table:
    """Who taught."""
    rows = tuple((pair, name, f'{100 * one["accuracy"]:.2f}')
                 for pair in pairs_of(found) for name, one in found['taught'][pair].items())  # fmt: skip
    return document.Table('Teachers, one of each', 'llr', ('pair', 'teacher', 'test accuracy (%)'), rows)


def judged(found: Results, pair: str) -> document.Table:
    """Features of the last hidden layer, judged without the head."""

    def row(shown: Arm) -> tuple[str, ...]:
        seeds = of(found, pair, shown, count).values()
        values = ({seed: 100 * one['embedding'][name] for seed, one in enumerate(seeds)} for name in metrics)
        return named(pair, *shown), str(count), *map(percent, values)

    metrics, count = ('recall_1', 'knn', 'linear_probe'), PAIRS[pair].sizes[-1]
    rows = [row(shown) for shown in (*ARMS[:5], ARMS[8], ARMS[9])]
    known = found['taught'][pair][_taught_by(pair, ALL)]['embedding']
    rows.append(('the teacher', '', *(f'{100 * known[name]:.2f}' for name in metrics)))
    header = ('network: method', 'labels a class', 'Recall@1 (%)', '5 nearest (%)', 'linear probe (%)')
    judged = found['judged'][pair]
    says = f'{pair}: features as embeddings of {judged} test examples, each held against all others of them'
    return document.Table(says, 'lrrrr', header, tuple(rows))


def drawn(found: Results) -> bytes:
    """Two aims: fewer labels (left), and less to train and to run (right)."""
    figure = figure_style.blank(7.6, 5.6)
    every = figure.subplots(len(pairs_of(found)), 2, sharey='row')
    for (left, right), pair in zip(every, pairs_of(found), strict=True):
        figure_style.dress(left, 'test accuracy (%)', '')
        figure_style.dress(right, '', '')
        left.set_title(f'{pair}: few labels', fontsize=figure_style.FONT)
        right.set_title('5 labels a class: what training took', fontsize=figure_style.FONT)
        for place, shown in enumerate(DRAWN):
            look = {**figure_style.style(place), 'linestyle': '--' if shown[0] == 'large' else '-'}
            points = [(float(count), statistics.estimate(accuracies(of(found, pair, shown, count)).values()))
                      for count in PAIRS[pair].sizes]  # fmt: skip
            known = [(count, one) for count, one in points if one.mean is not None]
            figure_style.curve(left, known, named(pair, *shown), look, shade=0.08)
            for count, one in known:
                if count == 5 and one.ci95:
                    took = sum(counted(found, pair, shown).values()) / 1e9
                    error = [[one.mean - one.ci95[0]], [one.ci95[1] - one.mean]]
                    form: dict[str, Any] = {'fillstyle': 'none'} if shown[0] == 'large' else {}
                    right.errorbar([took], [one.mean], error, color=look['color'], marker=look['marker'], **form)
        for axes in (left, right):  # what there is to be kept
            level = 100 * found['taught'][pair][_taught_by(pair, ALL)]['accuracy']
            axes.axhline(level, color=figure_style.INK, linestyle=':', label='the teacher')
        figure_style.number_axis(left, PAIRS[pair].sizes, 'labels a class')
        figure_style.scale(right, [sum(counted(found, pair, shown).values()) / 1e9 for shown in DRAWN],
                           'operations of all training (GFLOP)')  # fmt: skip
    figure_style.legend(figure, every[0][0])
    return figure_style.png(figure)


def counted(found: Results, pair: str, shown: Arm) -> Mapping[str, float]:
    """Operations of training of an arm."""
    return found['operations'][pair][named(pair, *shown)]


def operations(planned: Sweep, found: Results) -> dict[str, dict[str, dict[str, float]]]:
    """Of every arm, as counted in the programs: one run of it, with all that it needs."""
    datasets = Datasets()
    costs = expand.check_shapes(planned, datasets)
    answer = {cell: found['teachers'][judge]['cost']['flops'] for cell, judge in planned.judges.items()}
    result: dict[str, dict[str, dict[str, float]]] = {}
    for run in planned.runs:
        pair = run.point['pair']
        where = result.setdefault(pair, {})
        by = tuple(config.teachers(PAIRS[pair])).index(run.point['teacher'])
        shown = named(pair, run.point['network'], run.point['method'], by)
        if shown not in where:
            where[shown] = _counted(run, costs, answer, datasets)
    return result


def _counted(run: Run, costs: Mapping[str, Any], answer: Mapping[str, float], datasets: Datasets) -> dict[str, float]:
    took = dict.fromkeys(COUNTS, 0.0)
    for cell in run.cells:
        took['source' if cell.fit.upstream else 'student'] += cell.fit.steps * costs[cell.structure].flops
    for stage in {stage.key: stage for cell in run.cells for stage in cell.needs}.values():
        if stage.name == 'cache':
            examples = datasets(stage.inputs.data).splits['train'].size
            took['teacher'] += examples * answer[run.cells[-1].key]
        else:
            upstream = stage.inputs.fit.upstream
            took['source' if upstream else 'teacher'] += stage.inputs.fit.steps * costs[stage.key].flops
    return took


@functools.cache
def _test_split(pair: str) -> Dataset:
    made, then = getattr(pairs, PAIRS[pair].source.partition(':')[2]), PAIRS[pair].then
    whole = made(**then)
    return made(**then, test=SHOWN) if whole.splits['test'].size > SHOWN else whole


def embedded(pair: str, network: Mapping[str, Any], variables: Any) -> dict[str, float]:
    """What the features of a network are worth."""
    data, kind = _test_split(pair), PAIRS[pair]
    spec = NetSpec(network['net'], network['args'])
    net = build.net(spec, build.told(spec, Classification(), data), 'float32', None)
    seen = build.preprocess(DataSource(kind.source, {}, kind.preprocess))(data.splits['test'].inputs)
    outputs, _ = net.apply(variables, seen, train=False, key=None)
    judge = Embedding(tap=kind.layer, recall=(1,))
    vectors = np.asarray(outputs.features[judge.tap])
    return judge.measure({'vector': vectors, 'class': np.asarray(outputs.logits).argmax(1)}, data.splits['test'])


def more(student: Student) -> dict[str, Any]:
    """Features as embeddings, of the arms that are shown so."""
    point = student.point
    kind = PAIRS[point['pair']]
    if point['teacher'] != _taught_by(point['pair'], ALL) or point['labels a class'] != kind.sizes[-1]:
        return {}
    network = {'small': kind.small, 'large': kind.large}[point['network']]
    return {'embedding': embedded(point['pair'], network, student.variables)}


def taught(planned: Sweep, workdir: Path, found: Results) -> dict[str, dict[str, Any]]:
    """The teachers, by pair and by what they had learned from."""
    result: dict[str, dict[str, Any]] = {}
    for run in planned.runs:
        pair, name, stage = run.point['pair'], run.point['teacher'], run.teacher
        if name not in result.setdefault(pair, {}) and run.method in config.TAUGHT:
            variables = students.load_variables(workdir / stage.folder / 'variables')
            accuracy = found['teachers'][planned.judges[run.cells[-1].key]]['metrics']['accuracy']
            result[pair][name] = {'accuracy': accuracy, 'embedding': embedded(pair, PAIRS[pair].large, variables)}
    return result


def thousandth(count: float) -> str:
    """Operations in units of 10^9."""
    return f'{count / 1e9:.3g}' if count else formatting.NOTHING


def main(name: str, workdir: Path) -> None:
    """Measures and publishes what is in `workdir`.

    Raises:
      UsageError: no such experiment.
    """
    if name not in NAMES:
        raise unknown('experiment', name, NAMES)
    folder, arg = HERE.parent / name, f'pairs={NAMES[name]}'
    (folder / 'results').mkdir(exist_ok=True)
    planned = expand.expand(config.get_config(arg), config.sweep(arg))
    found = students.results(planned, workdir, more)
    found |= {'operations': operations(planned, found), 'taught': taught(planned, workdir, found)}
    found['judged'] = {pair: _test_split(pair).splits['test'].size for pair in pairs_of(found)}
    (folder / 'results' / 'transfer.json').write_text(json.dumps(found, indent=1) + '\n')
    (folder / 'results' / 'aims.png').write_bytes(drawn(found))
    readme = folder / 'README.md'
    readme.write_text(filled(readme.read_text(), BEGIN, content(found)))


if __name__ == '__main__':
    main(sys.argv[1], Path(sys.argv[2] if len(sys.argv) > 2 else ROOT / 'runs' / 'transfer'))
