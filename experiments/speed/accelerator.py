"""Measures grids of students on a GPU or TPU, in every layout and both precisions, beside the PyTorch loop compiled.

Command: python experiments/speed/accelerator.py [--cases NAME,...] [--rounds 3] [--out results/accelerator.json]

As measure.py, in turns and by case, so that the same command goes on with what is missing. The limit of the machine,
which utilisation is a share of, is measured for both precisions first.
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

from experiments.speed import cases, limit, measure
from kdjax.errors import UsageError
from kdjax.train import ledger

PRECISIONS = ('float32', 'bfloat16')


def limits() -> dict[str, float]:
    """What JAX multiplies large matrices at, by precision; GFLOP/s."""
    found = {}
    for precision in PRECISIONS:
        command = [sys.executable, limit.__file__, 'jax', f'--precision={precision}']
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        found[precision] = json.loads(said)['gflops']
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('--cases', help='names, with commas between [all]')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--threads', type=int, default=os.cpu_count())
    parser.add_argument('--out', type=Path, default=HERE / 'results' / 'accelerator.json')
    given = parser.parse_args()
    # Contenders are alive together, and none may take all of the device's memory.
    os.environ['XLA_PYTHON_CLIENT_PREALLOCATE'] = 'false'
    try:
        measure.run(given, cases.accelerated(), cases.accelerated_contenders)
    except UsageError as error:
        sys.exit(str(error))
    found = {**json.loads(given.out.read_text()), 'limits': limits()}
    ledger.replace(given.out, json.dumps(found, indent=1) + '\n')


if __name__ == '__main__':
    main()
