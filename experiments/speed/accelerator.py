"""Measures grids of students on a GPU or TPU, in every layout and both precisions, beside the PyTorch loop compiled.

Command: python experiments/speed/accelerator.py [--cases NAME,...] [--rounds 3] [--out results/accelerator.json]

As measure.py, in turns and by case, so that the same command goes on with what is missing. The limit of the machine,
which utilisation is a share of, is measured for both precisions first. Without PyTorch kdjax is measured alone.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

import jax

from experiments.speed import cases, limit, measure
from kdjax.errors import UsageError
from kdjax.train import ledger

PRECISIONS = ('float32', 'bfloat16')
ROUND = 3e12  # FLOPs of a round there: some tenths of a second


def limits() -> dict[str, float]:
    """What JAX multiplies large matrices at, by precision; GFLOP/s."""
    found = {}
    for precision in PRECISIONS:
        command = [sys.executable, limit.__file__, 'jax', f'--precision={precision}']
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        found[precision] = json.loads(said)['gflops']
    return found


def contenders(case: cases.Case) -> list[tuple[str, str]]:
    """Who takes part in a case, of those that are there."""
    everybody = cases.accelerated_contenders(case)
    return everybody if measure.has_torch() else [one for one in everybody if one[0] != 'torch']


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('--cases', help='names, with commas between [all]')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--threads', type=int, default=os.cpu_count())
    parser.add_argument('--out', type=Path, default=HERE / 'results' / 'accelerator.json')
    given = parser.parse_args()
    # Contenders are alive together, and none may take all of the device's memory.
    os.environ['XLA_PYTHON_CLIENT_PREALLOCATE'] = 'false'
    if jax.devices()[0].platform != 'cpu':
        measure.ROUND = ROUND
    try:
        found = measure.opened(given.out, ledger.plain(measure.settings(given)))
        given.out.parent.mkdir(parents=True, exist_ok=True)
        ledger.replace(given.out, json.dumps({**found, 'limits': found.get('limits') or limits()}, indent=1) + '\n')
        measure.run(given, cases.accelerated(), contenders)
    except UsageError as error:
        sys.exit(str(error))


if __name__ == '__main__':
    main()
