"""Measures from the start of a process to the end of its first training step.

Command: python experiments/speed/start.py [--rounds 3]      writes results/start.json

PyTorch as users write it; kdjax cold, with nothing compiled, and warm, with the programs that an earlier process
compiled. In turns.
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

from experiments.speed import cases, worker
from kdjax.train import ledger


def seconds(side: str, case: str, compiled: Path) -> float:
    """Wall time of a process that takes one step; it finds and leaves its programs in the folder `compiled`."""
    command = [sys.executable, worker.__file__, side, case, 'plain']
    environment = {
        **os.environ, 'JAX_COMPILATION_CACHE_DIR': str(compiled), 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    }  # fmt: skip
    start = time.perf_counter()
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        answered = process.stdout.readline()
        taken = time.perf_counter() - start
        process.communicate()
    if not answered:
        raise SystemExit(f'{" ".join(command)} ended with code {process.returncode}')
    return taken


def measured(case: str, rounds: int) -> dict[str, list[float]]:
    """Seconds by round."""
    found: dict[str, list[float]] = {'torch': [], 'kdjax, cold': [], 'kdjax, warm': []}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as compiled:
            found['torch'].append(seconds('torch', case, Path(compiled)))
            found['kdjax, cold'].append(seconds('kdjax', case, Path(compiled)))
            found['kdjax, warm'].append(seconds('kdjax', case, Path(compiled)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('--rounds', type=int, default=3)
    given = parser.parse_args()
    samples = {pair: measured(f'{pair}:kd', given.rounds) for pair in cases.PAIRS}
    medians = {pair: {name: statistics.median(each) for name, each in of.items()} for pair, of in samples.items()}
    found = {
        'seconds': medians, 'samples': samples, 'rounds': given.rounds,
        'versions': {**ledger.versions(), 'torch': metadata.version('torch')}, 'machine': ledger.machine(),
        'git_commit': ledger.git_commit(),
    }  # fmt: skip
    (HERE / 'results').mkdir(exist_ok=True)
    (HERE / 'results' / 'start.json').write_text(json.dumps(ledger.plain(found), indent=1) + '\n')


if __name__ == '__main__':
    main()
