"""Workers: real processes and jobs, of a trivial command, that are told to stop, fail, and go on."""

import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from submitit.core.utils import DelayedSubmission

from configs import base
from kdjax.errors import Interrupted, UsageError
from kdjax.study.sweep import launchers

# Asked to stop, it notes that it saved and leaves as run.py does. The second time it finds that, and is done.
SCRIPT = """
import json, os, pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
me = folder / f'{os.getpid()}'
def save(number, frame):
    (folder / 'saved').write_text(signal.Signals(number).name)
    sys.exit(130)
signal.signal(signal.SIGTERM, save)
signal.signal(signal.SIGINT, save)
cores = sorted(os.sched_getaffinity(0))
print('working', flush=True)
me.write_text(json.dumps({'cores': cores, 'argv': sys.argv[2:], 'saved': (folder / 'saved').exists()}))
deadline = time.time() + (60 if 'long' in sys.argv and not (folder / 'saved').exists() else 0)
while time.time() < deadline:
    time.sleep(0.01)
if 'fail' in sys.argv and not list(folder.glob('claimed')):
    (folder / 'claimed').write_text('')
    print('error: it cannot be')
    sys.exit(2)
(folder / 'done').write_text('')
"""


@pytest.fixture
def command(tmp_path):
    """The arguments of Python that run the script in a folder of this test, and that folder."""
    script, folder = tmp_path / 'script.py', tmp_path / 'work'
    script.write_text(SCRIPT)
    folder.mkdir()
    return [str(script), str(folder)], folder


def notes(folder):
    return [json.loads(path.read_text()) for path in folder.iterdir() if path.name.isdigit()]


def started(folder):
    """Processes of the script that wait for what comes."""
    return [int(path.name) for path in folder.iterdir() if path.name.isdigit() and path.stat().st_size]


def until(condition):
    """Waits until something is so, and returns it."""
    deadline, pause = time.monotonic() + 60, threading.Event()
    while not (found := condition()):
        assert time.monotonic() < deadline
        pause.wait(0.02)
    return found


@contextlib.contextmanager
def meanwhile(folder, count, action):
    """While open, does something to the processes of the script as soon as there are so many, in a thread."""
    thread = threading.Thread(target=lambda: action(until(lambda: len(started(folder)) == count and started(folder))))
    thread.start()
    yield
    thread.join()


def test_a_pool_runs_the_command_in_every_process_each_on_cores_of_its_own(command, tmp_path):
    argv, folder = command
    before = os.sched_getaffinity(0)
    said = launchers.pool([*argv, 'x y'], 3, tmp_path / 'logs')
    assert said == f'3 workers are done; what they said is in {tmp_path / "logs"}'
    assert [note['argv'] for note in notes(folder)] == [['x y']] * 3
    wanted = [sorted(cores) for cores in launchers.shares(sorted(before), 3)]
    assert sorted(note['cores'] for note in notes(folder)) == sorted(wanted)
    assert os.sched_getaffinity(0) == before
    assert [(tmp_path / 'logs' / f'worker-{k}.log').read_text() for k in range(3)] == ['working\n'] * 3


def test_a_pool_says_how_its_workers_get_on(command, tmp_path, monkeypatch):
    monkeypatch.setattr(launchers.screen, 'EVERY', 0.0)
    argv, folder = command
    lines = []
    working = {'worker 0: working', 'worker 1: working'}
    ask = meanwhile(
        folder, 2, lambda pids: until(lambda: working <= set(lines)) and os.kill(os.getpid(), signal.SIGTERM)
    )
    with ask, pytest.raises(Interrupted):
        launchers.pool([*argv, 'long'], 2, tmp_path / 'logs', lines.append)
    assert lines[0] == f'2 workers; what they say is in {tmp_path / "logs"}'
    assert all(lines.count(line) == 1 for line in working)


def test_a_worker_that_fails_is_named_and_does_not_stop_the_others(command, tmp_path):
    argv, folder = command
    with pytest.raises(UsageError, match=r'^1 of 2 workers failed; worker \d left with exit code 2: error: it cannot'):
        launchers.pool([*argv, 'fail'], 2, tmp_path / 'logs')
    assert (folder / 'done').exists()


def test_a_worker_that_is_killed_or_says_nothing_is_named(command, tmp_path):
    argv, folder = command
    kill = meanwhile(folder, 1, lambda pids: os.kill(pids[0], signal.SIGKILL))
    with kill, pytest.raises(UsageError, match='worker 0 was ended by SIGKILL: working'):
        launchers.pool([*argv, 'long'], 1, tmp_path / 'logs')
    with pytest.raises(UsageError, match='worker 0 left with exit code 3: it said nothing'):
        launchers.pool(['-c', 'raise SystemExit(3)'], 1, tmp_path / 'logs')


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_handed_on_and_the_workers_save(number, command, tmp_path):
    argv, folder = command
    handler = signal.getsignal(number)
    ask = meanwhile(folder, 2, lambda pids: os.kill(os.getpid(), number))
    with ask, pytest.raises(Interrupted, match=f'^stopped by {number.name}, as were 2 workers$'):
        launchers.pool([*argv, 'long'], 2, tmp_path / 'logs')
    assert (folder / 'saved').read_text() == number.name
    assert not (folder / 'done').exists()
    assert signal.getsignal(number) is handler


@pytest.mark.parametrize(('count', 'processes'), [*itertools.product((1, 2, 7, 8), (1, 2, 3, 9))])
def test_cores_are_divided_evenly_and_none_is_idle(count, processes):
    cores = list(range(10, 10 + count))
    parts = launchers.shares(cores, processes)
    sizes = [len(part) for part in parts]
    assert len(parts) == processes
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1
    if processes <= count:
        assert sorted(core for part in parts for core in part) == cores
    else:
        assert set().union(*parts) == set(cores)


def settings(**changes):
    return {**base.slurm().to_dict(), 'tasks': 2, 'cluster': 'local', **changes}


@pytest.fixture
def sbatch(tmp_path, monkeypatch):
    """Commands of Slurm that note what they are given: the function returns the lines of the submitted script."""
    folder, record = tmp_path / 'bin', tmp_path / 'submitted.sh'
    folder.mkdir()
    for name, text in (('srun', ''), ('sbatch', f'cat "$1" >> {record}; echo Submitted batch job 12')):
        (folder / name).write_text(f'#!/bin/sh\n{text}\n')
        (folder / name).chmod(0o755)
    monkeypatch.setenv('PATH', f'{folder}:{os.environ["PATH"]}')
    return lambda: record.read_text().splitlines()


def test_an_array_of_jobs_is_submitted_as_one_script(sbatch, tmp_path):
    given = settings(cluster='slurm', tasks=8, parallel=3, partition='short', minutes=90, cpus=6, gpus=1, memory=12.5,
                     extra={'account': 'us', 'constraint': 'a100'})  # fmt: skip
    jobs = launchers.slurm(['run.py'], given, tmp_path / 'logs')
    assert [job.job_id for job in jobs] == [f'12_{k}' for k in range(8)]
    lines = sbatch()
    assert lines.count('#!/bin/bash') == 1
    assert {
        '#SBATCH --array=0-7%3', '#SBATCH --time=90', '#SBATCH --signal=USR2@120', '#SBATCH --requeue',
        '#SBATCH --partition=short', '#SBATCH --cpus-per-task=6', '#SBATCH --gpus-per-node=1', '#SBATCH --mem=12800MB',
        '#SBATCH --account=us', '#SBATCH --constraint=a100', '#SBATCH --job-name=kdjax', '#SBATCH --open-mode=append',
    } <= set(lines)  # fmt: skip
    tasks = [DelayedSubmission.load(job.paths.submitted_pickle) for job in jobs]
    assert [vars(task.function) for task in tasks] == [vars(launchers.Worker(['run.py']))] * 8
    assert {task._timeout_countdown for task in tasks} == {launchers.REQUEUES}


def test_what_is_left_empty_is_left_to_the_cluster(sbatch, tmp_path):
    launchers.slurm(['run.py'], settings(cluster='slurm', tasks=4), tmp_path / 'logs')
    assert '#SBATCH --array=0-3%4' in sbatch()
    assert not [line for line in sbatch() if re.match(r'#SBATCH --(partition|gpus-per-node|mem|account)\b', line)]


@pytest.mark.filterwarnings(r'ignore:subprocess \d+ is still running:ResourceWarning')  # they outlive who submits them
def test_local_jobs_do_the_work_and_say_where(command, tmp_path):
    argv, folder = command
    launch = {'where': 'slurm', 'processes': 1, 'slurm': settings()}
    said = launchers.start(launch, argv, tmp_path / 'logs')
    ids = re.fullmatch(rf'2 workers submitted \((\d+), (\d+)\); what they say is in {tmp_path / "logs"}', said).groups()
    until(lambda: all((tmp_path / 'logs' / f'{k}_0_result.pkl').exists() for k in ids))
    assert (folder / 'done').exists()
    assert [note['argv'] for note in notes(folder)] == [[launchers.HERE]] * 2


def test_a_preempted_job_has_its_worker_save_and_goes_on_when_its_turn_comes_again(command, tmp_path):
    argv, folder = command
    (job,) = launchers.slurm([*argv, 'long'], settings(tasks=1), tmp_path / 'logs')
    until(lambda: started(folder))
    (task,) = children(job._process.pid)  # the process that Slurm would signal; submitit's own test signals its parent
    (worker,) = children(task)
    os.kill(worker, signal.SIGUSR2)  # Slurm may send it to all processes of a job: it must not end the worker
    os.kill(task, signal.SIGUSR2)
    assert job.result() is None
    job._process.wait(30)
    assert [note['saved'] for note in sorted(notes(folder), key=lambda note: note['saved'])] == [False, True]
    assert (folder / 'saved').read_text() == 'SIGTERM'
    assert (folder / 'done').exists()
    assert 'Requeued job' in job.stderr() + job.stdout()


def children(pid):
    return [int(word) for word in Path(f'/proc/{pid}/task/{pid}/children').read_text().split()]


def test_a_job_whose_worker_fails_fails(command, tmp_path):
    argv, _ = command
    (job,) = launchers.slurm([*argv, 'fail'], settings(tasks=1), tmp_path / 'logs')
    assert 'left with exit code 2' in str(job.exception())
    job._process.wait(30)


def test_a_worker_that_slurm_stopped_waits_for_submitit_to_be_told(command, monkeypatch):
    """Slurm's SIGTERM reaches the worker itself; if it has left before submitit hears, it must not count as failed."""
    argv, folder = command
    slept = []
    monkeypatch.setattr(launchers.time, 'sleep', slept.append)
    stop = meanwhile(folder, 1, lambda pids: os.kill(pids[0], signal.SIGTERM))
    with stop, pytest.raises(RuntimeError, match='left with exit code 130'):
        launchers.Worker([*argv, 'long'])()
    assert slept == [launchers.GRACE]


@pytest.mark.filterwarnings('ignore:unclosed file:ResourceWarning')  # submitit leaves the logs of debugging open
def test_debugging_runs_the_command_before_it_returns(command, tmp_path):
    argv, folder = command
    launchers.slurm(argv, settings(cluster='debug'), tmp_path / 'logs')
    assert len(notes(folder)) == 2


def test_a_worker_before_its_command_runs_is_queued_again_as_it_is():
    again = launchers.Worker(['script.py', 'flag']).checkpoint()
    assert isinstance(again, DelayedSubmission)
    assert vars(again.function) == vars(launchers.Worker(['script.py', 'flag']))


def test_a_machine_without_slurm_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', str(tmp_path))  # no Slurm, whatever is installed
    with pytest.raises(UsageError, match=r"no Slurm here .*srun.*; submit where srun is, or say launch.where='pool'"):
        launchers.slurm(['script.py'], settings(cluster='slurm'), tmp_path)


def test_submitit_is_asked_for_only_where_it_is_used(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'submitit', None)
    with pytest.raises(UsageError, match=r"submitit is not installed: pip install 'kdjax\[slurm\]'"):
        launchers.slurm(['script.py'], settings(), tmp_path)


def test_xla_takes_as_many_threads_as_a_worker_has_cores():
    """Why cores are enough to keep workers apart."""
    code = (
        'import os, jax; jax.numpy.ones((64, 64)).sum().block_until_ready();'
        "print(len([1 for t in os.listdir('/proc/self/task') if 'Eigen' in open(f'/proc/self/task/{t}/comm').read()]))"
    )
    kept = {name: value for name, value in os.environ.items() if name not in ('NPROC', 'XLA_FLAGS')}
    counts, available = [], sorted(os.sched_getaffinity(0))
    if len(available) < 2:
        pytest.skip('one core cannot be divided')
    for cores in (set(available[:1]), set(available[:2])):
        with launchers._on(cores):
            done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env=kept, check=True)
        counts.append(int(done.stdout))
    assert counts[0] < counts[1]
