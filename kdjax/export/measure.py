"""What a file takes where it runs: bytes, milliseconds of one example with one thread, memory of its interpreter.

A file is measured in a process of its own that is held on one core, in the runtime that its format is for. What is
measured is this machine: no number is scaled to another.
"""

import contextlib
import ctypes
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kdjax.compress import products
from kdjax.errors import UsageError
from kdjax.export import energy, formats, micro
from kdjax.export.bundle import Student
from kdjax.export.c import code
from kdjax.export.formats import FORMATS
from kdjax.export.program import named
from kdjax.train import ledger
from kdjax.types import Tree

CALLS, ROUND, WARM = 300, 15, 5  # that are timed, in rounds of so many, after so many that are not
PAUSE = 0.05  # seconds between rounds
SECONDS = 10.0  # after which no more calls are timed
FASTER = 0.95  # of the milliseconds of float32 what is faster takes less than
LIBRARIES = {'litert': 'ai_edge_litert.interpreter', 'onnx': 'onnxruntime', 'torch': 'torch', 'stablehlo': 'jax'}
STATUS = Path('/proc/self/status')
THREADS = ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS')


class Measured(NamedTuple):
    """A file, where it was measured."""

    bytes: int  # of the file; of C, which is text, of the constants that it puts into memory
    deflated: int | None  # of the file as zlib packs it; of text nothing
    p50_ms: float  # of a call with one example, from Python
    p90_ms: float
    calls: int
    memory_bytes: int | None  # by which its process grew at most, from before the file was opened; None if not known
    ram_bytes: int | None  # of C what it says itself, of LiteRT the lower bound from the graph; None of others
    micro: str  # of LiteRT whether TFLite-Micro has its operators; '' of others
    processor: str


def measured(name: str, path: Path, inputs: Mapping[str, np.ndarray], calls: int = CALLS) -> Measured:
    """Measures a file.

    Args:
      name: its format, of FORMATS.
      path: the file.
      inputs: {name: (N, ...)} as the network reads them, of which the first is asked for.
      calls: that are timed, at most.

    Raises:
      UsageError: the runtime is not installed.
    """
    formats.session(name, path)  # an error is met here
    with tempfile.TemporaryDirectory() as folder:
        given = Path(folder) / 'inputs.npz'
        arrays: Any = {key: np.asarray(array[:1]) for key, array in inputs.items()}
        np.savez(given, **arrays)
        command = [sys.executable, '-m', 'kdjax.export.measure', name, str(path), str(given), str(calls)]
        own = {**os.environ, **dict.fromkeys(THREADS, '1'), 'JAX_PLATFORMS': 'cpu',
               'PYTHONPATH': os.pathsep.join(filter(None, sys.path))}  # fmt: skip
        done = subprocess.run(command, env=own, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UsageError(f'{path} could not be measured: {(done.stderr.strip().splitlines() or ["no word of it"])[-1]}')
    told = json.loads(done.stdout.splitlines()[-1])
    content = path.read_bytes()
    asked = micro.asked(path) if FORMATS[name].module == 'litert' else None
    compiled = code.Compiled(path) if name == 'c' else None
    ram = compiled.ram if compiled else asked.ram if asked else None
    return Measured(
        compiled.constants if compiled else len(content),
        None if compiled else len(zlib.compress(content, 9)),
        told['p50_ms'],
        told['p90_ms'],
        told['calls'],
        told['memory_bytes'],
        ram,
        asked.says if asked else '',
        ledger.machine()['processor'],
    )


def speed(whole: Measured, plain: Measured) -> str:
    """What may be said of the speed of a file of whole numbers, beside that of float32."""
    times = plain.p50_ms / whole.p50_ms
    if whole.p50_ms < FASTER * plain.p50_ms:
        return f'{times:.2g} times as fast as float32'
    return f'not faster than float32 ({whole.p50_ms:.3g} ms against {plain.p50_ms:.3g} ms)'


def estimate(student: Student, seen: Tree, bits: int) -> energy.Energy:
    """Energy of an inference of a student, of which products are counted alone.

    Args:
      student: any whose products can be found.
      seen: examples (N, ...) as its network reads them; shapes are used.
      bits: of what is multiplied in the file: 32 or 8.
    """
    one = _shapes(seen)
    sites = [site for site in products.sites(student.net, student.variables, one) if site.weight is not None]
    kernels = sum(int(np.prod(site.shape)) for site in sites)
    made = sum(site.macs // max(int(np.prod([site.shape[axis] for axis in site.summed])), 1) for site in sites)
    read = sum(int(np.prod(leaf.shape[1:])) for leaf in named(one).values())
    return energy.energy(sum(site.macs for site in sites), bits, kernels * bits // 8, made + read)


def _shapes(seen: Tree) -> Tree:
    import jax

    return jax.tree.map(lambda leaf: np.zeros((1, *leaf.shape[1:]), leaf.dtype), seen)


@contextlib.contextmanager
def training() -> Iterator[Callable[[], float | None]]:
    """Energy of what runs inside in kWh, as codecarbon estimates it: afterwards; None where it is not installed."""
    found: list[float | None] = [None]
    try:
        from codecarbon import OfflineEmissionsTracker
    except ImportError:
        yield lambda: None
        return
    tracker = OfflineEmissionsTracker(country_iso_code='USA', save_to_file=False, log_level='critical',
                                      tracking_mode='process')  # fmt: skip
    tracker.start()
    try:
        yield lambda: found[0]
    finally:
        tracker.stop()
        found[0] = tracker.final_emissions_data.energy_consumed


def main(name: str, path: str, given: str, calls: str) -> str:
    """Measures in this process; what it found, as JSON."""
    _pin()
    inputs = dict(np.load(given))
    library = LIBRARIES.get(FORMATS[name].module)
    if library:
        importlib.import_module(library)
    before = _resident()
    answer = formats.session(name, Path(path))
    times: list[float] = []
    begun = time.perf_counter()
    while len(times) < int(calls) and time.perf_counter() - begun < SECONDS:
        for place in range(-WARM, ROUND):
            start = time.perf_counter()
            answer(inputs)
            if place >= 0:
                times.append(1e3 * (time.perf_counter() - start))
        time.sleep(PAUSE)  # so that what else runs here is not all that is seen
    p50, p90 = np.percentile(times, [50, 90])
    grown = None if before is None else max(_peak() - before, 0)
    return json.dumps({'p50_ms': float(p50), 'p90_ms': float(p90), 'calls': len(times), 'memory_bytes': grown})


def _pin() -> None:
    """One core; the last, which other work is least likely to be on."""
    if hasattr(os, 'sched_setaffinity'):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def _resident() -> int | None:
    """Bytes of this process; from here on its peak is counted anew. None where the system does not tell."""
    try:
        with contextlib.suppress(AttributeError, OSError):
            ctypes.CDLL(None).malloc_trim(0)
        Path('/proc/self/clear_refs').write_text('5')
        return _status('VmRSS')
    except OSError:
        return None


def _peak() -> int:
    return _status('VmHWM')


def _status(field: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f'{field}:'))
    return 1024 * int(line.split()[1])


if __name__ == '__main__':
    sys.stdout.write(main(*sys.argv[1:]) + '\n')
