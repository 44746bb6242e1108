"""What starts the workers of a sweep: processes on this machine, or an array job of a cluster.

A worker is the same command again, as a process of its own; how workers divide the work among themselves is not known
here. A stop reaches them as SIGTERM or SIGINT, upon which they save and leave with exit code 130.
"""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from kdjax.errors import Interrupted, UsageError
from kdjax.train import screen

HERE = '--config.launch.where=here'  # what makes a worker of a command
STOPPED = (130, -signal.SIGTERM, -signal.SIGINT)  # exit codes of a worker that was asked to stop; the last two: at once
POLL = 0.1  # seconds between looks at the workers of a pool
NOTICE = 120  # seconds before its time is up at which a job is told to save
REQUEUES = 1000  # of a job whose time is up: whatever it does not finish it goes on with
GRACE = 30.0  # seconds


def start(
    launch: Mapping[str, Any], argv: Sequence[str], folder: Path, say: Callable[[str], None] = lambda line: None
) -> str:
    """Starts the workers of a command.

    Args:
      launch: as configs.base.launch; its 'where' is 'pool' or 'slurm'.
      argv: the command, program first.
      folder: for what the workers say.
      say: is told how those of a pool get on.

    Returns:
      What a person should know.

    Raises:
      UsageError: no submitit, no Slurm, or workers that failed.
      Interrupted: the workers were asked to stop, and saved.
    """
    again = [*argv, HERE]
    if launch['where'] == 'pool':
        return pool(again, launch['processes'], folder, say)
    jobs = slurm(again, launch['slurm'], folder)
    names = ', '.join(job.job_id for job in jobs)
    return f'{len(jobs)} workers submitted ({names}); what they say is in {folder}'


def pool(argv: Sequence[str], processes: int, folder: Path, say: Callable[[str], None] = lambda line: None) -> str:
    """Runs a command in several processes at once and waits for all; one that fails does not stop the others.

    Each keeps to cores of its own. A signal to stop is handed on to all, a second one as well.

    Args:
      argv: what Python is to run: script and flags.
      processes: how many.
      folder: for what they say, `worker-K.log`.
      say: is told where that is and, every half a minute, the latest line of each that has a new one.

    Returns:
      How it went, in a line.

    Raises:
      UsageError: some failed; says which, and the last line of each.
      Interrupted: they were asked to stop.
    """
    folder.mkdir(parents=True, exist_ok=True)
    logs = [folder / f'worker-{k}.log' for k in range(processes)]
    say(f'{processes} workers; what they say is in {folder}')
    latest, looked = [''] * processes, time.monotonic()
    with _heard() as signals:
        children = [_child(argv, log, cores) for log, cores in zip(logs, shares(_cores(), processes), strict=True)]
        told = 0
        while any([child.poll() is None for child in children]):
            for number in signals[told:]:
                for child in children:
                    child.send_signal(number)  # nothing happens where it has ended
                told += 1
            if time.monotonic() - looked >= screen.EVERY:
                before, latest, looked = latest, [_last_line(log) for log in logs], time.monotonic()
                for k, line in enumerate(latest):
                    if line != before[k]:
                        say(f'worker {k}: {line}')
            time.sleep(POLL)
    return _summary([child.returncode for child in children], logs, signals)


def shares(cores: Sequence[int], processes: int) -> list[set[int]]:
    """The cores of each process: neighbours, as many for each as divide; one at least, which several may share."""
    count = len(cores)
    if processes > count:
        return [{cores[k % count]} for k in range(processes)]
    return [set(cores[k * count // processes : (k + 1) * count // processes]) for k in range(processes)]


def slurm(argv: Sequence[str], settings: Mapping[str, Any], folder: Path) -> list[Any]:
    """Submits a command as the tasks of one array job, through submitit.

    A job whose time is up, or that is preempted, has its worker save and is queued again.

    Args:
      argv: what Python is to run: script and flags.
      settings: as configs.base.slurm.
      folder: for what the workers say and submitit keeps; all nodes must see it.

    Returns:
      submitit's jobs, one per worker; those of the cluster 'debug' have run.

    Raises:
      UsageError: no submitit, or no Slurm.
    """
    submitter = executor(settings, folder)
    with submitter.batch():
        jobs = [submitter.submit(Worker(argv)) for _ in range(settings['tasks'])]
    if settings['cluster'] == 'debug':  # it runs jobs in this process, when they are asked for their result
        for job in jobs:
            job.result()
    return jobs


def executor(settings: Mapping[str, Any], folder: Path) -> Any:
    """submitit's executor for such settings."""
    try:
        import submitit
    except ImportError as error:
        raise UsageError("launch.where is 'slurm' but submitit is not installed: pip install 'kdjax[slurm]'") from error
    try:
        submitter = submitit.AutoExecutor(folder, cluster=settings['cluster'], slurm_max_num_timeout=REQUEUES)
    except RuntimeError as error:
        raise UsageError(f"no Slurm here ({error}); submit where srun is, or say launch.where='pool'") from error
    submitter.update_parameters(
        name='kdjax',
        timeout_min=settings['minutes'],
        gpus_per_node=settings['gpus'] or None,
        cpus_per_task=settings['cpus'],
        mem_gb=settings['memory'] or None,
        slurm_partition=settings['partition'] or None,
        slurm_array_parallelism=settings['parallel'] or settings['tasks'],
        slurm_signal_delay_s=NOTICE,
        slurm_additional_parameters={'requeue': True, **settings['extra']},
    )
    return submitter


class Worker:
    """A command as submitit runs it: it is told to save where the job is about to end, and the job is queued again."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._argv, self._child = list(argv), 0

    def __call__(self) -> None:
        """Runs the command in a process of its own.

        Raises:
          RuntimeError: it failed.
        """
        # Waited for without subprocess: its lock would be held when submitit's signal interrupts the wait to call
        # `checkpoint`, which waits as well. Masked: Slurm may send the signal that is meant for submitit to all
        # processes of a job, and a worker would die of it.
        self._child = os.posix_spawn(
            sys.executable,
            [sys.executable, *self._argv],
            os.environ,
            setsigmask=[signal.SIGUSR1, signal.SIGUSR2],
        )
        try:
            code = os.waitstatus_to_exitcode(os.waitpid(self._child, 0)[1])
        except BaseException:
            self._stop()
            raise
        self._child = 0
        if code in STOPPED:
            time.sleep(GRACE)  # Slurm's SIGTERM was faster than its signal to submitit, which ends this
        if code:
            raise RuntimeError(f'{shlex.join(self._argv)} {_ended(code)}')

    def checkpoint(self) -> Any:
        """Has the command save and leave; returns what submitit is to run when the job's turn comes again."""
        from submitit.helpers import DelayedSubmission

        self._stop()
        return DelayedSubmission(Worker(self._argv))

    def _stop(self) -> None:
        if self._child:
            # It may have ended already, and the wait that was interrupted may know.
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(self._child, signal.SIGTERM)
                os.waitpid(self._child, 0)
        self._child = 0


@contextlib.contextmanager
def _heard() -> Iterator[list[signal.Signals]]:
    """While open, signals to stop are noted instead of obeyed."""
    heard: list[signal.Signals] = []

    def note(number: int, frame: FrameType | None) -> None:
        heard.append(signal.Signals(number))

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _child(argv: Sequence[str], log: Path, cores: set[int]) -> subprocess.Popen[bytes]:
    """Starts a worker. In a group of its own: Ctrl-C at a terminal would reach it twice, and the second stops at once.

    It inherits its cores rather than being told of them: the thread pools of XLA, Eigen, OpenMP and BLAS all take their
    size from the cores that a process may use, whereas each has a variable of its own, or none.
    """
    with log.open('wb') as file, _on(cores):
        return subprocess.Popen(
            [sys.executable, *argv], stdin=subprocess.DEVNULL, stdout=file, stderr=file, process_group=0
        )


@contextlib.contextmanager
def _on(cores: set[int]) -> Iterator[None]:
    """While open, this thread and what it starts keep to `cores`, where the system knows such a thing."""
    if not hasattr(os, 'sched_setaffinity'):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, 'sched_getaffinity'):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _summary(codes: Sequence[int], logs: Sequence[Path], signals: Sequence[signal.Signals]) -> str:
    """How a pool went."""
    stopped = [code for code in codes if signals and code in STOPPED]
    failed = [
        f'worker {k} {_ended(code)}: {_last_line(log)}'
        for k, (code, log) in enumerate(zip(codes, logs, strict=True))
        if code and not (signals and code in STOPPED)
    ]
    if stopped:
        raise Interrupted('; '.join([f'stopped by {signals[0].name}, as were {len(stopped)} workers', *failed]))
    if failed:
        raise UsageError(f'{len(failed)} of {len(codes)} workers failed; {"; ".join(failed)} (see {logs[0].parent})')
    return f'{len(codes)} workers are done; what they said is in {logs[0].parent}'


def _ended(code: int) -> str:
    return f'was ended by {signal.Signals(-code).name}' if code < 0 else f'left with exit code {code}'


def _last_line(log: Path) -> str:
    lines = log.read_text(errors='replace').split('\n')
    return next((line.strip()[:300] for line in reversed(lines) if line.strip()), 'it said nothing')
