"""Training steps of recommendation and of speech: ours beside our own plain PyTorch loops of the same steps.

An epoch of BPR on CiteULike (20 numbers for each user and item, batches of 1,024); the step of configs/fsdd.py, a
keyword network with what its teacher says; and that of configs/fsdd_ctc.py, CTC and the teacher's frames. Steps are
whole: draws of negatives, augmentation and log-mel are theirs. Alone, and as a grid of students that each see examples
of their own, which PyTorch trains one after the other. Both sides start with the same weights and examples, and their
first losses agree. Each is a process of its own; they take turns, and what is shown are medians.

Command: KDJAX_DATA=folder python experiments/speed/tasks.py     (the folder has recsys/; extra bench: PyTorch)
         of some alone: python experiments/speed/tasks.py keywords:1,ctc:8; without, of those that have no results yet
Cost:    about six minutes on 2 CPU cores
"""

import functools
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

import jax
import numpy as np

from experiments import pages
from experiments.speed import cases, kdjax_tasks, measure
from experiments.speed.kdjax_tasks import MEL, MELS, SYMBOLS
from kdjax import trees
from kdjax.data import audio, citeulike
from kdjax.data.order import drawn
from kdjax.study.report import document
from kdjax.train import ledger

RESULTS, PAGE = HERE / 'results' / 'tasks.json', HERE / 'README.md'
BEGIN, END = '<!-- tasks: written by experiments/speed/tasks.py -->', '<!-- end of tasks -->'
ROUNDS, FIRST = 3, 4
PLAIN, ONE = 'torch', 'torch, one thread'  # steps as small as these may take longer with several
CLOSE = 1e-3  # of the first losses of both
GOALS = {1: 1.0, 8: 2.0}  # how many times faster, by students
EPOCH, INTERACTIONS = 2.0, 115_142  # the goal of an epoch of BPR, and how many steps that has times its batch
NAMES = ('bpr', 'keywords', 'keywords asked', 'ctc', 'ctc asked')
ROWS = tuple((name, students) for students in GOALS for name in NAMES)  # a step, and how many students


def data(name: str) -> dict[str, np.ndarray]:
    """What a step trains on, by name: interactions (N, 2), or clips and what is known of them."""
    of = kdjax_tasks.step(name)
    if not of.clips[0]:
        train = citeulike.interactions(candidates=1).splits['train']
        return {'taken': np.stack([train.inputs['user'], train.labels], axis=1)}
    (count, longest), random = of.clips, np.random.default_rng(0)
    sounds = [(3000 * random.normal(size=size)).astype(np.int16)
              for size in random.integers(longest // 2, longest + 1, count)]  # fmt: skip
    found = {f'clips/{part}': leaf for part, leaf in audio.clips(sounds, longest).items()}
    if name.startswith('ctc'):
        found['columns/labels'] = random.integers(0, len(SYMBOLS), (count, 5)).astype(np.int32)
        found['columns/label_length'] = random.integers(3, 6, count).astype(np.int32)
    else:
        found['columns/labels'] = random.integers(0, len(SYMBOLS), count).astype(np.int32)
    if of.teacher is None:
        answers = (60, len(SYMBOLS) + 1) if name.startswith('ctc') else (len(SYMBOLS),)
        found['answers'] = 3 * random.normal(size=(count, of.views, *answers)).astype(np.float32)
    return found


def commands(name: str, students: int, scratch: Path, arrays: Mapping[str, np.ndarray]) -> dict[str, Sequence[str]]:
    """What starts each contender, all with the same weights and examples, which lie in `scratch`."""
    of = kdjax_tasks.step(name)
    batches, streams = kdjax_tasks.fed(of, arrays, students)
    first = batches(0, FIRST)
    first = first if students > 1 else jax.tree.map(lambda leaf: leaf[:, None], first)
    teacher, student = kdjax_tasks.variables_of(of, trees.take(trees.take(first, 0), 0))
    told = {**of.told, 'batch': of.batch, 'students': students}
    given: dict[str, Any] = {**arrays, **_flat('params', student['params']), 'told': json.dumps(told)}
    if 'taken' in arrays:
        inputs = first['inputs']
        seen = {'user': inputs['user'], **{group: ids[..., 0] for group, ids in inputs['items'].items()}}
        given |= {f'first/{group}': np.asarray(ids).swapaxes(0, 1) for group, ids in seen.items()}
    else:
        order = drawn(streams, 0, len(arrays['columns/labels']) // of.batch, of.batch)[0]
        given['order'] = np.swapaxes(order if students > 1 else order[:, None], 0, 1)
        given['bank'] = audio.filters(rate=8000, fft=MEL['fft'], mels=MELS, low=20.0, high=4000.0,
                                      scale='slaney').astype(np.float32)  # fmt: skip
        given |= _flat('teacher', teacher['params']) if teacher else {}
    there = scratch / f'{name}.npz'
    np.savez(there, **given)
    own = (sys.executable, str(HERE / 'kdjax_tasks.py'), name, str(students), str(there))
    loop = (sys.executable, str(HERE / of.loop), str(there))
    return {PLAIN: (*loop, str(os.cpu_count() or 1)), ONE: (*loop, '1'), 'kdjax': own}


def _flat(prefix: str, params: Any) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {f'{prefix}/{"/".join(key.key for key in path)}': np.asarray(leaf) for path, leaf in leaves}


def measured(name: str, students: int) -> dict[str, Any]:
    """Seconds of a step by contender, and how many times faster than the faster plain loop, medians over turns."""
    of, nothing = kdjax_tasks.step(name), cases.Network('', {})
    case = cases.Case(name, nothing, nothing, 0, (), of.batch, 'kd', students)
    with tempfile.TemporaryDirectory() as scratch:
        starting = {who: functools.partial(measure.Worker, command)
                    for who, command in commands(name, students, Path(scratch), data(name)).items()}  # fmt: skip
        found = measure.interleaved(case, starting, ROUNDS, of.chunk)
    first = {who: each['losses'][:FIRST] for who, each in found.items()}
    apart = max(float(np.max(np.abs(np.divide(first['kdjax'], losses) - 1))) for losses in first.values())
    if apart > CLOSE:
        raise SystemExit(f'{name} of {students}: first losses are {first}: not the same step')
    for each in found.values():
        each['losses'] = each['losses'][: 2 * FIRST]
    own, plain = found['kdjax'], min((found[PLAIN], found[ONE]), key=lambda each: each['median'])
    ratio = statistics.median(np.divide(plain['seconds'], own['seconds']).tolist())
    return {'step': name, 'says': of.says, 'students': students, 'batch': of.batch, 'apart': apart, 'by': found,
            'ratio': ratio, 'cpu_ratio': plain['cpu_per_step'] / own['cpu_per_step']}  # fmt: skip


def table(found: Mapping[str, Any]) -> document.Table:
    """How fast steps of recommendation and speech are, beside the loops of PyTorch."""
    rows = []
    for row in found['rows']:
        epoch = row['step'] == 'bpr'
        goal = EPOCH if epoch else GOALS[row['students']]
        factor = INTERACTIONS / row['batch'] if epoch else 1.0
        times = [1e3 * factor * row['by'][who]['median'] for who in (PLAIN, ONE, 'kdjax')]
        rows.append((row['says'], str(row['students']), *(f'{each:.{1 if each < 100 else 0}f}' for each in times),
                     f'{row["ratio"]:.2f}', f'{goal:.1f}, {"met" if row["ratio"] >= goal else "not met"}',
                     f'{row["cpu_ratio"]:.2f}', f'{row["apart"]:.0e}'))  # fmt: skip
    machine, versions = found['machine'], found['versions']
    says = (
        f'Recommendation and speech, all students of a row; {machine["processor"]}, {machine["cores"]} cores, '
        f'JAX {versions["jax"]}, PyTorch {versions["torch"]}; ratio: how many times faster than the faster loop of '
        f'PyTorch, a median over {ROUNDS} turns (tasks.py)'
    )
    header = ('step', 'students', f'{PLAIN} (ms)', f'{ONE} (ms)', 'kdjax (ms)', 'ratio', 'goal', 'of processor time',
              'first losses differ by')  # fmt: skip
    return document.Table(says, 'lrrrrrlrr', header, tuple(rows))


def page(found: Mapping[str, Any]) -> str:
    """The Markdown of the page, from what tasks.json holds."""
    return document.markdown([table(found)]).strip()


def main(chosen: str = '') -> None:
    """Measures what is named, or what results/tasks.json does not have yet, and writes the page."""
    known = json.loads(RESULTS.read_text())['rows'] if RESULTS.exists() else []
    rows = {(row['step'], row['students']): row for row in known}
    named = [(name, int(students)) for name, students in (each.split(':') for each in chosen.split(',') if chosen)]
    for name, students in named or [each for each in ROWS if each not in rows]:
        rows[name, students] = row = measured(name, students)
        print(f'{row["says"]}, {students}: {row["ratio"]:.2f}, of processor time {row["cpu_ratio"]:.2f}', flush=True)
        versions = {**ledger.versions(), 'torch': metadata.version('torch')}
        found = ledger.plain({'rows': [rows[each] for each in ROWS if each in rows], 'versions': versions,
                              'machine': ledger.machine(), 'git_commit': ledger.git_commit()})  # fmt: skip
        RESULTS.write_text(json.dumps(found, indent=1) + '\n')
        PAGE.write_text(pages.filled(PAGE.read_text(), BEGIN, page(found), END))


if __name__ == '__main__':
    main(*sys.argv[1:])
