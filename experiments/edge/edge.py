"""A camera, a home hub, an assistant: trained, made small, written to files, and measured where they run.

Command: KDJAX_DATA=folder python experiments/edge/edge.py [camera voice text] [--quick] [--workdir=DIR]
         (extra 'litert'; the folder has fsdd/recordings and sst2/*.tsv; camera alone needs neither)

A teacher, soft labels, a student, half of its weights zero, the rest of 8 bits, a file, and what that file takes on
this machine. Writes results/edge.json and the table of README.md; --quick writes into the workdir alone.
"""

import argparse
import importlib.util
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

import kdjax
from experiments import pages
from experiments.edge import config as configs
from kdjax.dataset import Dataset
from kdjax.errors import UsageError
from kdjax.export import energy, files, measure
from kdjax.export.bundle import Student, build
from kdjax.export.formats import FORMATS
from kdjax.export.program import unnamed
from kdjax.study import run
from kdjax.study.recipe import students
from kdjax.study.report import document, figure_style, scatter, statistics
from kdjax.study.report.scatter import Point
from kdjax.train import ledger, storage
from kdjax.train.checkpoint import load_variables

BEGIN = '<!-- results: written by experiments/edge/edge.py -->'
DATA = {'voice': 'fsdd', 'text': 'sst2'}  # folder under KDJAX_DATA
TITLES = {'camera': 'a camera: handwritten digits', 'voice': 'a home hub: spoken digits, by a speaker nobody heard',
          'text': 'an assistant: sentiment of sentences'}  # fmt: skip
Row = dict[str, Any]


def main(tasks: Sequence[str], workdir: Path, quick: bool) -> None:
    """Runs the tasks whose data are here, and shows the table; of others it keeps what was measured before."""
    path = workdir / 'edge.json' if quick else HERE / 'results' / 'edge.json'
    found: dict[str, Any] = storage.read_json(path)['tasks'] if path.exists() else {}
    for task in tasks:
        if absent := missing(task):
            print(f'{task}: left out, {absent}')
            continue
        found[task] = {**measured(task, workdir / task, quick), 'provenance': provenance()}
        path.parent.mkdir(parents=True, exist_ok=True)
        storage.write_json(path, {'tasks': found}, indent=1)
        draw(found[task], path.with_name(f'pareto_{task}.png'))
        if not quick:
            page = HERE / 'README.md'
            page.write_text(pages.filled(page.read_text(), BEGIN, content(json.loads(path.read_text()))))
    if not found:
        raise UsageError('there is nothing to measure')
    print(content(json.loads(path.read_text())))


def missing(task: str) -> str:
    """Why a task cannot be run here; '' if it can."""
    if importlib.util.find_spec('ai_edge_litert') is None:
        return "LiteRT is not installed: pip install 'kdjax[litert]'"
    folder = Path(os.environ.get('KDJAX_DATA', '')) / DATA.get(task, '')
    return '' if task not in DATA or ('KDJAX_DATA' in os.environ and folder.is_dir()) else (
        f'KDJAX_DATA has no {DATA[task]}')  # fmt: skip


def measured(task: str, workdir: Path, quick: bool) -> dict[str, Any]:
    """Trains, exports and measures; the rows of a task."""
    config = configs.get_config(f'task={task}' + (',quick' if quick else ''))
    begun = time.perf_counter()
    with measure.training() as kwh:
        run.run(config, workdir, f'python experiments/edge/edge.py {task}')
    seconds = time.perf_counter() - begun
    score = kdjax.load(workdir).task.judged
    best = {name: kdjax.load(workdir, name) for name in config.methods}
    dataset, small = students.dataset_of(best[configs.SMALL]), configs.SMALL
    teacher = taught(best['soft labels'], workdir, config)
    plain = [row('teacher', 'litert', teacher, dataset, workdir)]
    for name in ('hard labels', 'soft labels'):
        plain.append(row(name, 'litert', best[name], dataset, workdir))
        plain[-1]['scores'] = [one.about['metrics']['test'][score.name] for one in seeds(workdir, name, config.seeds)]
    every = seeds(workdir, small, config.seeds)
    whole = []
    for name in ('litert-int8', 'c'):
        try:
            whole.append(row(small, name, best[small], dataset, workdir))
        except UsageError as error:
            print(f'{task}: {error}')
            whole.append({'method': small, 'format': name, 'why': str(error)})
            continue
        whole[-1]['scores'] = [told(one, name, dataset, workdir)['test'][score.name] for one in every]
    for one in whole:
        if 'measured' in one:
            one['speed'] = measure.speed(measure.Measured(**one['measured']), measure.Measured(**plain[2]['measured']))
    return {'rows': [*plain, *whole], 'score': score._asdict(), 'seeds': config.seeds, 'seconds': seconds,
            'training_kwh': kwh(), 'test_size': dataset.splits['test'].size}  # fmt: skip


def seeds(workdir: Path, method: str, count: int) -> list[Student]:
    """The students of a method, one for each seed that did not diverge."""
    found = []
    for seed in range(count):
        try:
            found.append(kdjax.load(workdir, method, seed=seed))
        except UsageError as error:
            print(error)
    return found


def taught(student: Student, workdir: Path, config: Any) -> Student:
    """The teacher of a run, as a student of it is held."""
    (folder,) = workdir.glob('teacher-*')
    own = {name: value for name, value in student.about['network']['args'].items() if name not in config.student.args}
    args = {**own, **json.loads(json.dumps(config.teacher.args.to_dict()))}
    network = {**student.about['network'], 'net': config.teacher.net, 'args': args}
    about = {**student.about, 'network': network, 'method': 'teacher', 'metrics': {}}
    return build(about, {'params': {}, 'stats': {}, **load_variables(folder / 'variables')})


def place(student: Student, workdir: Path) -> Path:
    """The folder of a student's files."""
    return workdir / 'files' / f'{student.method} {student.seed}'.replace(' ', '-').replace(',', '')


def told(student: Student, name: str, dataset: Dataset, workdir: Path) -> Mapping[str, Any]:
    """What is said of the file of a student, which is written."""
    return files.export(student, place(student, workdir), [name], dataset).about['files'][name]


def row(method: str, name: str, student: Student, dataset: Dataset, workdir: Path) -> Row:
    """A file, held against the student and measured, as the table shows it."""
    said = told(student, name, dataset, workdir)
    path, seen, _ = files.measurable(student, place(student, workdir), name, dataset, 'test')
    found = measure.measured(name, path, seen)
    bits = 8 if FORMATS[name].int8 else 32
    return {
        'method': method,
        'format': name,
        'equal': said['equal'],
        'agreement': said['agreement'],
        'scores': [said['test'][student.task.judged.name]],
        'measured': found._asdict(),
        'energy': measure.estimate(student, unnamed(seen), bits)._asdict(),
    }


def provenance() -> dict[str, Any]:
    """What the numbers were measured with."""
    return {'machine': ledger.machine(), 'versions': ledger.versions(), 'git_commit': ledger.git_commit()}


def content(found: Mapping[str, Any]) -> str:
    """The Markdown between the marks."""
    blocks: list[document.Block] = []
    for task in (task for task in configs.TASKS if task in found['tasks']):
        one = found['tasks'][task]
        picture = document.Picture(f'results/pareto_{task}.png', f'Score against bytes of {TITLES[task]}')
        blocks += [
            document.Heading(TITLES[task].capitalize(), 3),
            table(one),
            *map(document.Text, remarks(one)),
            picture,
            document.Text(where(one['provenance'])),
        ]
    return document.markdown(blocks).strip()


def where(made: Mapping[str, Any]) -> str:
    """On what the files of a task were measured."""
    return (f'{made["machine"]["processor"]}, one core and one thread for each file, batch 1; JAX '
            f'{made["versions"]["jax"]}; commit {(made["git_commit"] or "none")[:12]}.')  # fmt: skip


def table(one: Mapping[str, Any]) -> document.Table:
    """The rows of a task."""
    score = f'test {one["score"]["title"]} (%)'
    head = ('student', 'file', score, 'kB', 'deflated', 'ms (p50)', 'p90', 'RAM kB', 'energy')
    teacher = energy.Energy(**one['rows'][0]['energy'])
    rows = tuple(line(row, teacher, one) for row in one['rows'] if 'measured' in row)
    return document.Table('One row per file; ± is half a 95 % interval', 'llrrrrrrr', head, rows)


def draw(one: Mapping[str, Any], path: Path) -> None:
    """The score of every file, with its interval, against its bytes; those that no other file beats are joined."""
    from matplotlib.ticker import LogLocator, NullLocator

    rows = [row for row in one['rows'] if 'measured' in row]
    points = [Point(row['measured']['bytes'] / 1000, 100 * float(np.mean(row['scores'])), name(row), row['method'])
              for row in rows]  # fmt: skip
    label = f'test {one["score"]["title"]} (%)'
    figure, axes = figure_style.single(6.2, 3.8, label, 'kB of the file (1,000 bytes)')
    best = scatter.front(points)
    axes.step([point.x for point in best], [point.y for point in best], where='post', linestyle='--', linewidth=1,
              color=figure_style.INK, zorder=1)  # fmt: skip
    for place, (row, point) in enumerate(zip(rows, points, strict=True)):
        look = {**figure_style.style(place), 'linestyle': '', 'label': point.name}
        axes.errorbar(point.x, point.y, 100 * half(row['scores'], one), capsize=3, **look)
    axes.set_xscale('log')
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter('{x:g}')
    axes.xaxis.set_minor_locator(NullLocator())
    axes.legend(fontsize=8, frameon=False, loc='center left', bbox_to_anchor=(1, 0.5))
    path.write_bytes(figure_style.png(figure))


def name(row: Row) -> str:
    """Of a file, in a figure."""
    return f'{row["method"]}, {FORMATS[row["format"]].title}'


def line(row: Row, teacher: energy.Energy, one: Mapping[str, Any]) -> tuple[str, ...]:
    """A file."""
    found = row['measured']
    low, high = energy.ratio(energy.Energy(**row['energy']), teacher)
    less = '1' if row['method'] == 'teacher' else f'1/{low:.0f}' if round(low) == round(high) else (
        f'1/{low:.0f} to 1/{high:.0f}')  # fmt: skip
    ram = '–' if found['ram_bytes'] is None else f'{found["ram_bytes"] / 1000:.2f}'
    return (row['method'], FORMATS[row['format']].title + ('' if row['equal'] else ' (NOT equal)'),
            interval(row['scores'], one), f'{found["bytes"] / 1000:.1f}',
            '–' if found['deflated'] is None else f'{found["deflated"] / 1000:.1f}',
            f'{found["p50_ms"]:.3g}', f'{found["p90_ms"]:.3g}', ram, less)  # fmt: skip


def interval(scores: Sequence[float], one: Mapping[str, Any]) -> str:
    """A mean over seeds with half its 95 % interval; of one network that over test examples."""
    over, reach = '' if len(scores) > 1 else ' (examples)', half(scores, one)
    spread = '' if np.isnan(reach) else f' ± {100 * reach:.2f}'
    return f'{100 * np.mean(scores):.2f}{spread}{over}'


def half(scores: Sequence[float], one: Mapping[str, Any]) -> float:
    """Half the 95 % interval of a mean; NaN where seeds do not differ."""
    if len(scores) == 1:
        return 1.96 * (scores[0] * (1 - scores[0]) / one['test_size']) ** 0.5
    found = statistics.estimate(scores)
    return (found.ci95[1] - found.ci95[0]) / 2 if found.ci95 else float('nan')


def remarks(one: Mapping[str, Any]) -> list[str]:
    """What the table does not say."""
    said = []
    for row in one['rows']:
        if 'why' in row:
            said.append(f'No {FORMATS[row["format"]].title} file: {row["why"]}.')
        elif 'speed' in row:
            micro = f'; for TFLite-Micro: {row["measured"]["micro"]}' if row['measured']['micro'] else ''
            alike = f'{100 * row["agreement"]["top1"]:.1f} % of decisions as the student in JAX'
            said.append(f'{FORMATS[row["format"]].title}: {row["speed"]}{micro}; {alike}.')
    kwh = one['training_kwh']
    spent = '' if kwh is None else f' and {1000 * kwh:.2g} Wh of energy as codecarbon estimates it'
    said.append(f'Training, {one["seeds"]} seeds of each student, took {one["seconds"]:.0f} s{spent}.')
    return said


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        'tasks', nargs='*', default=['camera'], choices=[*configs.TASKS, []], metavar='camera|voice|text'
    )
    parser.add_argument('--quick', action='store_true', help='a look at the machinery, not a result')
    parser.add_argument('--workdir', type=Path, default=ROOT / 'runs' / 'edge')
    given = parser.parse_args()
    if wrong := sorted({*given.tasks} - {*configs.TASKS}):
        parser.error(f'a task is one of {", ".join(configs.TASKS)}, got {wrong[0]!r}')
    try:
        main(given.tasks or ['camera'], given.workdir, given.quick)
    except UsageError as error:
        sys.exit(f'error: {error}')
