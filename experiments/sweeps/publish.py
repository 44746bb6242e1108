"""What a sweep costs and survives: python experiments/sweeps/publish.py [--kills=5] writes results/ and README.md.

The temperature sweep is run whole; again with kill -9 at random moments; and, for a sample of its runs, one by one in
one process and in a process each, with the same teacher. Wall time and CPU time are those of whole processes.
"""

import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from kdjax.study.report import formatting
from kdjax.train import ledger

FOLDER = Path(__file__).resolve().parent
SWEEP = '--config=configs/sweeps/temperature.py'
SAMPLE = [
    ('combined', 2.0, 3), ('decoupled', 6.0, 7), ('combined', 10.0, 11), ('decoupled', 1.5, 15), ('combined', 4.0, 19),
]  # fmt: skip
MARK = '<!-- results: written by experiments/sweeps/publish.py -->'


class Took(NamedTuple):
    """Seconds of a process: on the clock, and of all cores together."""

    wall: float
    cpu: float


def took(workdir: Path, *flags: str) -> Took:
    """Runs a sweep, whole, and times it."""
    before, start = os.times(), time.perf_counter()
    subprocess.run(command(workdir, *flags), cwd=ROOT, check=True, capture_output=True)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Took(time.perf_counter() - start, cpu)


def command(workdir: Path, *flags: str) -> list[str]:
    return [sys.executable, 'run.py', *flags, '--mode=sweep', f'--workdir={workdir}']


def killed(workdir: Path, kills: int, length: float) -> list[float]:
    """Kills the sweep at so many random moments, then lets it end; when it was killed."""
    moments = [random.uniform(0.1, 0.6) * length for _ in range(kills)]
    for moment in moments:
        process = subprocess.Popen(
            command(workdir, SWEEP), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        process.wait()
    took(workdir, SWEEP)
    return moments


def tables(workdir: Path) -> dict[str, Any]:
    """The numbers of the report, without times, latencies and the command."""
    summary = json.loads((workdir / 'report' / 'summary.json').read_text())
    for name in ('seconds', 'command'):
        summary['provenance'].pop(name)
    for part in (*summary['rows'], *summary['teachers'].values()):
        part['cost'].pop('latency_ms')
    return summary


def with_teacher(whole: Path, workdir: Path) -> Path:
    """A workdir in which the teacher of another is there already."""
    workdir.mkdir()
    for name in ('teacher', 'cache', 'examine'):
        for folder in whole.glob(f'{name}-*'):
            shutil.copytree(folder, workdir / folder.name)
    return workdir


def measured(kills: int) -> dict[str, Any]:
    """Runs everything; minutes."""
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        whole = [took(place / f'whole{k}', SWEEP) for k in range(2)]
        rerun = took(with_teacher(place / 'whole0', place / 'again'), SWEEP)
        moments = killed(place / 'killed', kills, rerun.wall)
        # One grid per run; the difference of two sizes is what 17 runs take, without start and end.
        single = ('--config.run.cells=1', '--config.run.layout=map')
        few, more = (
            took(with_teacher(place / 'whole0', place / f'loop{seeds}'), SWEEP, *single, f'--config.seeds={seeds}')
            for seeds in (1, 2)
        )
        alone = with_teacher(place / 'whole0', place / 'alone')
        separate = [
            took(alone, f'--config=experiments/sweeps/one.py:method={m},temperature={t},seed={s}') for m, t, s in SAMPLE
        ]
        summary = json.loads((place / 'whole0' / 'report' / 'summary.json').read_text())
        return {
            'runs': summary['counts'],
            'whole': [each._asdict() for each in whole],
            'without_teacher': rerun._asdict(),
            'one_process': {'few': few._asdict(), 'more': more._asdict(), 'runs_between': 17},
            'separate': [each._asdict() for each in separate],
            'killed_after': [round(moment, 1) for moment in moments],
            'tables_equal': tables(place / 'killed') == tables(place / 'whole0') == tables(place / 'whole1'),
            'versions': ledger.versions(),
            'machine': ledger.machine(),
            'git_commit': ledger.git_commit(),
            'config_hash': summary['provenance']['config_hash'],
        }


def page(found: dict[str, Any]) -> str:
    """README.md: what stands before the mark, and the results."""
    before = (FOLDER / 'README.md').read_text().partition(MARK)[0]
    return before + MARK + '\n\n' + table(found)


def table(found: dict[str, Any]) -> str:
    """The results as Markdown."""
    runs = found['runs']['runs']
    grid, loop = found['without_teacher'], found['one_process']
    each = {kind: (loop['more'][kind] - loop['few'][kind]) / loop['runs_between'] for kind in Took._fields}
    whole_loop = {kind: loop['few'][kind] + (runs - loop['runs_between']) * each[kind] for kind in Took._fields}
    separate = {kind: runs * statistics.median(own[kind] for own in found['separate']) for kind in Took._fields}
    lines = [
        ('as one sweep', grid, 'measured'),
        ('one by one in one process', whole_loop, f'from {2 * loop["runs_between"]} runs'),
        ('a process each', separate, f'from {len(found["separate"])} runs'),
    ]
    rows = '\n'.join(
        f'| {name} | {took["wall"]:,.0f} | {took["cpu"]:,.0f} | {took["wall"] / grid["wall"]:.1f} | '
        f'{took["cpu"] / grid["cpu"]:.1f} | {how} |'
        for name, took, how in lines
    )
    machine = ', '.join(
        formatting.facts(value) if isinstance(value, dict) else str(value) for value in found['machine'].values()
    )
    same = 'the same tables, to the last digit,' if found['tables_equal'] else 'OTHER TABLES'
    return (
        f'{runs} runs of 1,000 steps, the teacher being there:\n\n'
        '| how | wall (s) | CPU (s) | wall ratio | CPU ratio | |\n| --- | ---: | ---: | ---: | ---: | --- |\n'
        f'{rows}\n\n'
        f'Killed (kill -9) {len(found["killed_after"])} times, after '
        f'{", ".join(f"{moment:g}" for moment in found["killed_after"])} seconds, and then run to its end: {same} as '
        'unbroken.\n\n'
        f'{machine}; JAX {found["versions"]["jax"]}; configuration {found["config_hash"]}; '
        f'`python experiments/sweeps/publish.py`.\n'
    )


def main(kills: int = 5) -> None:
    found = measured(kills)
    (FOLDER / 'results').mkdir(exist_ok=True)
    ledger.replace(FOLDER / 'results' / 'sweep.json', json.dumps(found, indent=1) + '\n')
    ledger.replace(FOLDER / 'README.md', page(found))


if __name__ == '__main__':
    main(*(int(word.removeprefix('--kills=')) for word in sys.argv[1:]))
