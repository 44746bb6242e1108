"""Measures a distillation step of kdjax against our own PyTorch loops of the same step, in turns.

Command: python experiments/speed/measure.py [--cases NAME,...] [--rounds 3] [--threads 2] [--out results/speed.json]

Every contender is a process of its own (worker.py). Those of a case are alive together, at most four at a time, and
take turns, A B C D A B C D; the first is in every group, and ratios are of times from the same turn. What other
processes used of the CPU meanwhile is noted with each sample. The file is written after every case: the same command
goes on with what is missing.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

import kdjax
from experiments.speed import cases, limit, worker
from kdjax.cpu import onednn
from kdjax.errors import UsageError
from kdjax.train import ledger
from kdjax.train.screen import Screen

ALIVE = 4  # with more contenders alive at once, those of PyTorch were seen to get slower
WARM_UP = 6  # steps: in those of a large grid the heap still grows
ROUND = 1e11  # FLOPs of a round, about a second
QUIET = 0.2  # cores that other processes may use before a sample is called noisy
TICKS = os.sysconf('SC_CLK_TCK')


class Peer(Protocol):
    """A contender that is alive."""

    pid: int
    ready: Mapping[str, Any]  # its first answer

    def __enter__(self) -> Self: ...
    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None: ...
    def round(self, steps: int) -> Mapping[str, Any]: ...


Start = Callable[[], Peer]


class Worker:
    """A process that speaks as worker.py does."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self._process.pid
        self.ready = self._answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._process.communicate()  # closes its input, at which it ends

    def round(self, steps: int) -> Mapping[str, Any]:
        """So many steps: 'wall' and 'cpu' seconds, 'losses', 'peak_mb'."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the answer is then missing
            print(json.dumps({'steps': steps}), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> Mapping[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        self._process.communicate()
        raise UsageError(f'{" ".join(self._command[1:])} ended with code {self._process.returncode}; it has said why')


class Sample(NamedTuple):
    """A round of one contender, by step."""

    seconds: float
    cpu: float  # seconds of all its threads
    foreign: float | None  # cores that other processes used meanwhile; None where /proc does not say


def interleaved(
    case: cases.Case,
    contenders: Mapping[str, Start],
    rounds: int,
    steps: int,
    tick: Callable[[], None] = lambda: None,
) -> dict[str, dict[str, Any]]:
    """Measures contenders in turns.

    Args:
      case: what they all do.
      contenders: by name, what starts each; the first is what the others are compared with.
      rounds: how often each has its turn.
      steps: of a turn.
      tick: called after each turn.

    Returns:
      By name: 'seconds' per step of each round, and their 'median', 'min' and 'max'; 'images_per_s' and
      'student_images_per_s'; 'ratios', the first contender's time over its own in each round, and their median 'ratio'
      (over 1 is faster); 'cpu_per_step'; 'foreign' and 'noisy' by round; 'peak_mb'; 'build_seconds',
      'first_step_seconds'; and 'losses' from the first step on.
    """
    first, *others = contenders
    found: dict[str, dict[str, Any]] = {}
    for group in groups(others):
        turns = _turns({name: contenders[name] for name in (first, *group)}, rounds, steps, tick)
        for name, (samples, facts) in turns.items():
            # The first contender keeps what it did in the first group; each group is compared with it in its own.
            found.setdefault(name, {**summary(case, samples, turns[first][0]), **facts})
    return found


def groups(others: Sequence[Any]) -> list[Sequence[Any]]:
    """Who is alive together, besides the first contender."""
    return [others[start : start + ALIVE - 1] for start in range(0, len(others), ALIVE - 1)] or [()]


def summary(case: cases.Case, samples: Sequence[Sample], first: Sequence[Sample]) -> dict[str, Any]:
    """What is said of samples, which are compared with those of the first contender, turn by turn."""
    seconds = [sample.seconds for sample in samples]
    median = statistics.median(seconds)
    ratios = [other.seconds / own for other, own in zip(first, seconds, strict=True)]
    return {
        'seconds': seconds, 'median': median, 'min': min(seconds), 'max': max(seconds),
        'images_per_s': case.batch / median, 'student_images_per_s': case.students * case.batch / median,
        'ratios': ratios, 'ratio': statistics.median(ratios),
        'cpu_per_step': statistics.median(sample.cpu for sample in samples),
        'foreign': [sample.foreign for sample in samples],
        'noisy': [sample.foreign is not None and sample.foreign > QUIET for sample in samples],
    }  # fmt: skip


def foreign_seconds(pids: Sequence[int]) -> float | None:
    """CPU seconds of everything but these processes since the machine started, with what its host kept from it."""
    try:
        fields = Path('/proc/stat').read_text().partition('\n')[0].split()[1:]
        own = [Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[11:13] for pid in pids]
    except OSError:
        return None
    user, nice, system, _, _, irq, softirq, steal, *_ = map(int, fields)
    busy = user + nice + system + irq + softirq + steal
    return (busy - sum(int(ticks) for pair in own for ticks in pair)) / TICKS


def steps_of(case: cases.Case) -> int:
    """How many steps make a round of some seconds."""
    return max(1, round(ROUND / cases.step_flops(case)))


def measured(
    case: cases.Case, names: Sequence[tuple[str, str]], rounds: int, threads: int, screen: Screen
) -> dict[str, Any]:
    """Everything about a case, all contenders (side, variant) starting from the same weights."""
    turns, done = rounds * (len(names) - 1 + len(groups(names[1:]))), 0

    def tick() -> None:
        nonlocal done
        done += 1
        screen.step(done)

    screen.stage(case.name, turns)
    with tempfile.TemporaryDirectory() as scratch:
        weights = Path(scratch) / 'weights.safetensors'
        options: tuple[str, ...] = (f'--threads={threads}',)
        if has_torch():
            from experiments.speed import torch_nets

            torch_nets.save(weights, case)
            options += (f'--weights={weights}',)
        contenders = {
            f'{side} {variant}': _starting(variant, worker.__file__, side, case.name, variant, *options)
            for side, variant in names
        }
        steps = steps_of(case)
        found = interleaved(case, contenders, rounds, steps, tick)
    return {
        'case': {**case._asdict(), 'teacher': case.teacher._asdict(), 'student': case.student._asdict()},
        'steps': steps, 'step_gflop': cases.step_flops(case) / 1e9, 'limit_gflops': limits(threads),
        'git_commit': ledger.git_commit(), 'contenders': found,
    }  # fmt: skip


def has_torch() -> bool:
    """Whether PyTorch is there to be measured beside."""
    return importlib.util.find_spec('torch') is not None


def limits(threads: int) -> dict[str, float]:
    """What the machine can do at this moment, by library; GFLOP/s."""
    found = {}
    for library in limit.LIMITS if has_torch() else ('jax',):
        command = [sys.executable, limit.__file__, library, f'--threads={threads}']
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        found[library] = json.loads(said)['gflops']
    return found


def opened(path: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What is in a file of results, to go on with; or empty results.

    Raises:
      UsageError: it was measured with other settings.
    """
    if not path.exists():
        return {**settings, 'cases': {}}
    found = json.loads(path.read_text())
    for name, value in settings.items():
        if found.get(name) != value:
            raise UsageError(f'{path} was measured with {name} {found.get(name)}, not {value}: give another --out')
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('--cases', help='names, with commas between [all]')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--out', type=Path, default=HERE / 'results' / 'speed.json')
    given = parser.parse_args()
    try:
        run(given, cases.cases(), cases.contenders)
    except UsageError as error:
        sys.exit(str(error))


def run(
    given: argparse.Namespace,
    everything: Sequence[cases.Case],
    contenders: Callable[[cases.Case], Sequence[tuple[str, str]]],
) -> None:
    """Measures what the command line asks for, and of everything what the file does not have yet."""
    chosen = [worker.found(name) for name in given.cases.split(',')] if given.cases else everything
    results = opened(given.out, ledger.plain(settings(given)))
    given.out.parent.mkdir(parents=True, exist_ok=True)
    with Screen() as screen:
        screen.whole('speed', len(chosen))
        for number, case in enumerate(chosen):
            screen.so_far(number)
            if case.name not in results['cases']:
                start = time.perf_counter()
                found = measured(case, contenders(case), given.rounds, given.threads, screen)
                results['cases'][case.name] = {**found, 'seconds': time.perf_counter() - start}
                ledger.replace(given.out, json.dumps(ledger.plain(results), indent=1) + '\n')
        screen.so_far(len(chosen))


def settings(given: argparse.Namespace) -> dict[str, Any]:
    """What all cases of a file have in common."""
    return {
        'versions': {**ledger.versions(), 'kdjax': kdjax.__version__,
                     'torch': metadata.version('torch') if has_torch() else None},
        'machine': ledger.machine(), 'seed': cases.SEED, 'rounds': given.rounds, 'threads': given.threads,
    }  # fmt: skip


def _starting(variant: str, *words: str) -> Start:
    environment = ['env', f'{onednn.OPT_OUT}=xla'] if variant == cases.WITHOUT else []
    return lambda: Worker([*environment, sys.executable, *words])


def _turns(
    contenders: Mapping[str, Start], rounds: int, steps: int, tick: Callable[[], None]
) -> dict[str, tuple[list[Sample], dict[str, Any]]]:
    """Samples of contenders that are alive together, and the rest of what they said."""
    with contextlib.ExitStack() as stack:
        peers = {name: stack.enter_context(start()) for name, start in contenders.items()}
        pids = [os.getpid(), *(peer.pid for peer in peers.values())]
        losses = {name: [*peer.ready['losses'], *peer.round(WARM_UP)['losses']] for name, peer in peers.items()}
        samples: dict[str, list[Sample]] = {name: [] for name in peers}
        facts: dict[str, dict[str, Any]] = {name: {} for name in peers}
        for _ in range(rounds):
            for name, peer in peers.items():
                before, answer, after = foreign_seconds(pids), peer.round(steps), foreign_seconds(pids)
                foreign = None if before is None or after is None else max(after - before, 0) / answer['wall']
                samples[name].append(Sample(answer['wall'] / steps, answer['cpu'] / steps, foreign))
                losses[name] += answer['losses']
                facts[name] = {'peak_mb': answer['peak_mb']}
                tick()
        for name, peer in peers.items():
            starts = {what: peer.ready[what] for what in ('build_seconds', 'first_step_seconds')}
            facts[name] |= {**starts, 'losses': losses[name]}
        return {name: (samples[name], facts[name]) for name in peers}


if __name__ == '__main__':
    main()
