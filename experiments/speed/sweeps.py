"""Measures whole sweeps, from the start of the process: kdjax, one PyTorch process, a PyTorch process for each run.

Command: python experiments/speed/sweeps.py [--rounds 3]      writes results/sweeps.json

Contenders take turns. Compiled programs are there from a first sweep that is not counted, as they are in daily use;
what the first one takes is written down. Of the processes of the large sweep some are timed, and their median counts
for all.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

from experiments.speed.cases import RUNS
from kdjax.train import ledger

ALONE = 5  # processes of one run each that are timed


def seconds(*command: str, **environment: str) -> float:
    """Wall time of a whole process."""
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, *command], cwd=ROOT, check=True, capture_output=True, env={**os.environ, **environment}
    )
    return time.perf_counter() - start


def measured(runs: int, rounds: int, scratch: Path) -> dict[str, float | list[float]]:
    """One size of sweep."""
    cache = {'JAX_COMPILATION_CACHE_DIR': str(scratch / 'xla')}

    def ours(called: str) -> float:
        flags = (f'--config=experiments/speed/digits.py:runs={runs}', '--mode=sweep', f'--workdir={scratch / called}')
        return seconds('run.py', *flags, **cache)

    def theirs(called: str, *options: str) -> float:
        return seconds('experiments/speed/torch_digits.py', str(scratch / called), f'--runs={runs}', *options)

    first = ours(f'first{runs}')
    kdjax, loop = [], []
    for k in range(rounds):
        kdjax.append(ours(f'kdjax{runs}-{k}'))
        loop.append(theirs(f'loop{runs}-{k}'))
    # Without the teacher, whose answers are there; it is counted once, as the first process trains it.
    alone = [theirs(f'loop{runs}-0', f'--only={k * runs // ALONE}') for k in range(ALONE)]
    teacher = theirs(f'alone{runs}', '--only=0') - alone[0]
    return {
        'kdjax': statistics.median(kdjax), 'loop': statistics.median(loop),
        'processes': runs * statistics.median(alone) + max(teacher, 0), 'cold': first,
        'samples': {'kdjax': kdjax, 'loop': loop, 'alone': alone},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('--rounds', type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        cells = {str(runs): measured(runs, given.rounds, Path(scratch)) for runs in RUNS}
    found = {
        'cells': cells, 'rounds': given.rounds, 'versions': {**ledger.versions(), 'torch': metadata.version('torch')},
        'machine': ledger.machine(), 'git_commit': ledger.git_commit(),
    }  # fmt: skip
    (HERE / 'results').mkdir(exist_ok=True)
    (HERE / 'results' / 'sweeps.json').write_text(json.dumps(ledger.plain(found), indent=1) + '\n')


if __name__ == '__main__':
    main()
