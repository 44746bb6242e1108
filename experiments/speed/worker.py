"""One contender in a process of its own, kept alive between the rounds of a measurement.

Command: python experiments/speed/worker.py torch|kdjax CASE VARIANT [--threads 2] [--weights FILE]

Builds the contender, takes one step and answers on standard output, one JSON object a line:

  {"ready": true, "build_seconds": ..., "first_step_seconds": ..., "losses": [...]}

Then every line {"steps": n} on standard input is a round of n steps, answered by

  {"wall": ..., "cpu": ..., "losses": [...], "peak_mb": ...}

in seconds, the CPU's those of all threads; peak_mb is the most memory that the process has had. It ends with its input.
"""

import argparse
import importlib
import importlib.util
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TextIO

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from experiments.speed import cases
from kdjax.errors import UsageError, unknown

LOOPS = {'torch': 'experiments.speed.torch_loop', 'kdjax': 'experiments.speed.kdjax_loop'}
UNIT = 1 if sys.platform == 'darwin' else 1024  # of ru_maxrss, in bytes


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays by 'a/b/c' as mappings in mappings."""
    found: dict[str, Any] = {}
    for name, array in flat.items():
        *way, last = name.split('/')
        node = found
        for part in way:
            node = node.setdefault(part, {})
        node[last] = array
    return found


def found(name: str) -> cases.Case:
    """The case of that name.

    Raises:
      UsageError: there is none.
    """
    known = {case.name: case for case in (*cases.accelerated(), *cases.cases())}
    if name not in known:
        raise unknown('case', name, known)
    return known[name]


def builder(side: str, threads: int) -> Callable[..., Any]:
    """The function that builds loops of a side, which then uses so many threads.

    Raises:
      UsageError: no such side, or its loop is not there.
    """
    if side not in LOOPS:
        raise unknown('side', side, LOOPS)
    if importlib.util.find_spec(LOOPS[side]) is None:
        raise UsageError(f'side {side!r} needs the module {LOOPS[side]}, which is not there')
    # Read when JAX and OpenMP start.
    os.environ['NPROC'] = os.environ['OMP_NUM_THREADS'] = str(threads)
    if side == 'torch':
        import torch

        torch.set_num_threads(threads)
    return importlib.import_module(LOOPS[side]).build


def peak_mb() -> float:
    """The most memory that this process has had.

    On Linux ru_maxrss will not do: a process starts with that of the one which started it.
    """
    status = Path('/proc/self/status')
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith('VmHWM:'))
        return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT / 1e6


def serve(build: Callable[[], Any], requests: Iterable[str], answers: TextIO) -> None:
    """Builds a loop and answers requests for rounds until there are no more."""

    def answer(**fields: Any) -> None:
        print(json.dumps(fields), file=answers, flush=True)

    start = time.perf_counter()
    loop = build()
    built = time.perf_counter()
    losses = loop.round(1)
    first = time.perf_counter() - built
    answer(ready=True, build_seconds=built - start, first_step_seconds=first, losses=losses)
    for line in requests:
        wall, cpu = time.perf_counter(), time.process_time()
        losses = loop.round(json.loads(line)['steps'])
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        answer(wall=wall, cpu=cpu, losses=losses, peak_mb=peak_mb())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    for argument in ('side', 'case', 'variant'):
        parser.add_argument(argument)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--weights')
    given = parser.parse_args()
    try:
        case, build = found(given.case), builder(given.side, given.threads)
        arguments = {} if given.weights is None else {'weights': given.weights}
        serve(lambda: build(case, given.variant, **arguments), sys.stdin, sys.stdout)
    except UsageError as error:
        sys.exit(str(error))


if __name__ == '__main__':
    main()
