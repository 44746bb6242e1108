"""One run in several processes: real ones, on this machine, that meet over a port of it."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from processes import QUICK

from kdjax import trees
from kdjax.train.checkpoint import load_variables
from kdjax.train.ledger import read

ROOT = Path(__file__).resolve().parents[2]
PAIR = f'--config={ROOT / "tests" / "configs" / "pair.py"}'
# One device each, and no strictness of the tests; compiled faster, and less well.
DROPPED = ('JAX_NUMPY_DTYPE_PROMOTION', 'NPROC')
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in DROPPED}
ENVIRONMENT |= {'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': QUICK, 'PYTHONPATH': str(ROOT / 'tests')}
PATIENCE = 300  # seconds; a tenth is enough where nothing else runs
pytestmark = pytest.mark.xdist_group('processes')  # they share what takes them seconds


def free_port():
    with socket.socket() as probe:
        probe.bind(('localhost', 0))
        return probe.getsockname()[1]


def by_flag(port, count, index):
    """How a process is told its place: flags and variables."""
    return [f'--distributed=localhost:{port},{count},{index}'], {}


def by_variables(port, count, index):
    given = {'COORDINATOR': f'localhost:{port}', 'PROCESSES': f'{count}', 'PROCESS': f'{index}'}
    return ['--distributed=auto'], {f'KDJAX_{name}': value for name, value in given.items()}


def by_slurm(port, count, index):
    given = {'JOB_ID': '7', 'STEP_NODELIST': 'localhost', 'NTASKS': count, 'PROCID': index, 'LOCALID': index}
    variables = {f'SLURM_{name}': str(value) for name, value in given.items()}
    return ['--distributed=auto'], {**variables, 'JAX_COORDINATOR_PORT': str(port)}


def alone(port, count, index):
    return [], {}


class Job:
    """A run in processes, of which each says what it says into a file of its own."""

    def __init__(self, workdir, folder, *flags, place=by_flag):
        port, count, self.workdir = free_port(), 1 if place is alone else 2, workdir
        self.said = [folder / f'{workdir.name}-{time.monotonic_ns()}-{k}.log' for k in range(count)]
        self.processes = []
        for k, path in enumerate(self.said):
            own, variables = place(port, count, k)
            command = [sys.executable, str(ROOT / 'run.py'), PAIR, f'--workdir={workdir}', *own, *flags]
            with path.open('w') as file:
                process = subprocess.Popen(command, env=ENVIRONMENT | variables, stdout=file, stderr=file)
            self.processes.append(process)

    def reaches(self, stage, step):
        """Waits until a checkpoint of a stage at `step` or later is on disk."""
        deadline = time.monotonic() + PATIENCE
        while True:
            folders = self.workdir.glob(f'{stage}-*/checkpoints/latest/*')
            if any(folder.name.isdigit() and int(folder.name) >= step for folder in folders):
                return self
            if time.monotonic() > deadline or any(process.poll() is not None for process in self.processes):
                self.send(signal.SIGKILL, *range(len(self.processes)))
                raise AssertionError(f'{stage} did not reach step {step}: {self.output()}')
            time.sleep(0.02)

    def send(self, number, *which):
        for k in which:
            self.processes[k].send_signal(number)
        return self

    def ends(self, code):
        """Waits for all, which must leave with `code`; returns what they said."""
        try:
            codes = [process.wait(timeout=PATIENCE) for process in self.processes]
        except subprocess.TimeoutExpired as error:
            self.send(signal.SIGKILL, *range(len(self.processes)))
            raise AssertionError(self.output()) from error
        assert codes == [code] * len(codes), self.output()
        return self.output()

    def output(self):
        return [path.read_text() for path in self.said]


def variables(workdir):
    return {path.parent.name.partition('-')[0]: load_variables(path) for path in workdir.glob('*/variables')}


def ledger(workdir):
    (path,) = workdir.glob('combined-*/ledger.jsonl')
    return list(read(path))


@pytest.fixture(scope='module')
def two(tmp_path_factory):
    """A workdir that two processes left, unbroken, and what they said."""
    folder = tmp_path_factory.mktemp('two')
    said = Job(folder / 'two', folder, place=by_slurm).ends(0)
    return folder / 'two', said


@pytest.fixture(scope='module')
def one(tmp_path_factory):
    """The workdir of one process."""
    folder = tmp_path_factory.mktemp('one')
    Job(folder / 'one', folder, place=alone).ends(0)
    return folder / 'one'


every_other_day = pytest.mark.rotating(0, 2)


def assert_close(workdir, wanted):
    """Equal up to the order in which sums over examples are taken, which training makes no smaller."""
    found, wanted = variables(workdir), variables(wanted)
    assert set(found) == {'teacher', 'combined'}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-6), found, wanted)


@every_other_day
def test_two_processes_find_what_one_finds(one, two):
    assert_close(two[0], one)
    manifests = [json.loads(next(workdir.glob('combined-*/manifest.json')).read_text()) for workdir in (one, two[0])]
    assert [manifest['machine']['devices'] for manifest in manifests] == ['1 x cpu', '2 x cpu']
    assert manifests[0]['key'] == manifests[1]['key']


@every_other_day
def test_only_the_first_process_speaks_and_every_line_is_written_once(two):
    workdir, said = two
    assert 'Test accuracy' in said[0]
    assert [line for line in said[1].splitlines() if not line.startswith('[Gloo]')] == []
    assert [line['step'] for line in ledger(workdir) if line['kind'] == 'train'] == list(range(1, 121))
    assert len(list(workdir.glob('combined-*/tensorboard/events*'))) == 1


@pytest.mark.rotating(1, 3)  # of runs, of processes and of sweeps one is killed each day
def test_killed_and_stopped_it_ends_in_the_same_bits_and_one_process_goes_on_as_well(two, tmp_path):
    broken, copy = tmp_path / 'broken', tmp_path / 'copy'
    Job(broken, tmp_path).reaches('combined', 30).send(signal.SIGKILL, 0, 1).ends(-signal.SIGKILL)
    said = Job(broken, tmp_path).reaches('combined', 60).send(signal.SIGTERM, 1).ends(130)
    assert 'stopped by SIGTERM' in said[0]
    assert f'--workdir={broken}' in said[0]
    assert 'stopped' not in said[1]
    shutil.copytree(broken, copy)
    Job(broken, tmp_path).ends(0)
    assert trees.fingerprint(variables(broken)) == trees.fingerprint(variables(two[0]))
    assert ledger(broken) == ledger(two[0])
    Job(copy, tmp_path, place=alone).ends(0)
    assert_close(copy, two[0])


@every_other_day
def test_two_processes_go_on_where_one_was_cut_off(one, two, tmp_path):
    """As if it had been killed before the last checkpoint was whole."""
    workdir = tmp_path / 'cut'
    shutil.copytree(one, workdir)
    (stage,) = workdir.glob('combined-*')
    for path in (stage / 'artifact.json', stage / 'checkpoints' / 'latest' / '120', stage / 'variables'):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    Job(workdir, tmp_path, place=by_variables).ends(0)
    assert_close(workdir, two[0])
    assert [line['step'] for line in ledger(workdir) if line['kind'] == 'train'] == list(range(1, 121))


def test_a_runner_that_several_processes_cannot_share_is_one_line_in_each(tmp_path):
    for said in Job(tmp_path / 'unused', tmp_path, '--config.run.runner=pmap').ends(2):
        assert said.strip().splitlines()[-1].startswith('error: ')
        assert "runner 'pmap' stays within one process, and this job has several; use 'sharded' or 'fsdp'" in said
    assert not (tmp_path / 'unused').exists()


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        (['--distributed=here'], "--distributed=here is 'here'; it must be 'auto' or HOST:PORT,COUNT,INDEX"),
        (['--distributed=auto'], '--distributed=auto finds neither KDJAX_COORDINATOR'),
        (['--distributed=auto', '--mode=sweep'], '--distributed is for --mode=run'),
    ],
)
def test_a_place_that_does_not_exist_is_one_line(flags, message, tmp_path):
    (said,) = Job(tmp_path / 'unused', tmp_path, *flags, place=alone).ends(2)
    assert said.strip().splitlines()[-1].startswith('error: ')
    assert message in said
    assert not (tmp_path / 'unused').exists()
