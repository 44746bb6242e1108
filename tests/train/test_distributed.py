"""What several processes agree upon, as far as one can show; two real ones are in tests/study/test_processes.py."""

import signal
from typing import NamedTuple

import jax
import numpy as np
import pytest

from kdjax.data.augment import identity
from kdjax.data.feed import feed
from kdjax.data.order import Stream
from kdjax.errors import Interrupted, UsageError
from kdjax.train import distributed, parallel
from kdjax.train.ledger import Ledger, NullLogger, read
from kdjax.train.stop import StopSignals


def test_a_place_in_a_job_is_read_from_the_flag_or_from_our_variables():
    wanted = {
        'coordinator_address': 'node0:1234', 'num_processes': 4, 'process_id': 3,
        'cluster_detection_method': 'deactivate',
    }  # fmt: skip
    assert distributed.given('node0:1234,4,3', {}) == wanted
    variables = dict(zip(distributed.VARIABLES, ('node0:1234', '4', '3'), strict=True))
    assert distributed.given('auto', variables) == wanted
    assert distributed.given('auto', {}) == {}  # what JAX finds of Slurm and others


@pytest.mark.parametrize(
    ('text', 'environment', 'message'),
    [
        ('node0:1234', {}, "^--distributed=node0:1234 is 'node0:1234'; it must be 'auto' or HOST:PORT,COUNT,INDEX"),
        ('node0,4,3', {}, "it must be 'auto' or HOST:PORT,COUNT,INDEX, such as node0:1234,4,0"),
        ('node0:1234,4,-1', {}, "it must be 'auto' or"),
        ('node0:1234,4,4', {}, r'INDEX must be in 0 to 3, got 4'),
        ('auto', {'KDJAX_PROCESS': '1'}, '^--distributed=auto: KDJAX_COORDINATOR, KDJAX_PROCESSES must be set as well'),
        (
            'auto',
            {'KDJAX_COORDINATOR': 'node0:1', 'KDJAX_PROCESSES': 'two', 'KDJAX_PROCESS': '1'},
            "^KDJAX_COORDINATOR, KDJAX_PROCESSES, KDJAX_PROCESS is 'node0:1,two,1'; it must be",
        ),
    ],
)
def test_a_malformed_place_is_named(text, environment, message):
    with pytest.raises(UsageError, match=message):
        distributed.given(text, environment)


def test_a_process_of_its_own_does_everything_itself():
    done = []
    assert distributed.first()
    assert not distributed.several()
    assert distributed.gathered(7) == [7]
    distributed.by_first(lambda: done.append(1))
    assert done == [1]
    tree = {'weights': np.ones(3)}
    assert distributed.of_first(tree) is tree
    assert parallel.local(tree) == tree
    assert parallel.everywhere(tree, jax.devices()) is tree


class Others:
    """Stands for a process of several: what it sends out is noted, and what `heard` says comes back."""

    def __init__(self, monkeypatch, index, heard=None):
        monkeypatch.setattr(jax, 'process_count', lambda: 2)
        monkeypatch.setattr(jax, 'process_index', lambda: index)
        monkeypatch.setattr(distributed.multihost_utils, 'broadcast_one_to_all', self._broadcast)
        self.sent, self._index, self._heard = [], index, heard

    def _broadcast(self, told):
        self.sent.append(told)
        return told if self._index == 0 else self._heard


def fails():
    raise UsageError('the workdir is taken')


def test_what_the_first_process_cannot_do_is_said_by_all(monkeypatch):
    others = Others(monkeypatch, 0)
    with pytest.raises(UsageError, match='the workdir is taken'):
        distributed.by_first(fails)
    Others(monkeypatch, 1, others.sent[0])
    with pytest.raises(UsageError, match=r'^the workdir is taken$'):
        distributed.by_first(lambda: pytest.fail('only the first may do it'))


def test_a_stop_is_said_once_and_an_error_leaves_others_the_time_to_say_it(monkeypatch):
    monkeypatch.setattr(distributed, 'LEAVING', 0.0)
    for index, wanted in ((0, Interrupted), (1, SystemExit)):
        Others(monkeypatch, index)
        with pytest.raises(wanted), distributed.job(None, {}):
            raise Interrupted('stopped')
        with pytest.raises(UsageError), distributed.job(None, {}):
            fails()


def test_a_signal_to_any_process_stops_all(monkeypatch):
    stop = StopSignals()
    assert stop.agreed() is None
    monkeypatch.setattr(distributed, 'gathered', lambda number: [number, signal.SIGTERM])
    assert stop.agreed() is signal.SIGTERM
    assert stop.asked is None


def test_sigterm_may_come_twice():
    with StopSignals() as stop:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert stop.asked == signal.SIGTERM


class Device(NamedTuple):
    """As much of a device as says whose it is."""

    process_index: int
    platform: str = 'cpu'


def test_a_process_holds_the_examples_of_its_devices(monkeypatch):
    devices = [Device(0), Device(1), Device(1), Device(2)]
    parts = []
    for index in range(3):
        monkeypatch.setattr(jax, 'process_index', lambda index=index: index)
        parts.append(list(range(8))[parallel.own_part(devices, 8)])
        assert parallel.spans(devices)
    assert parts == [[0, 1], [2, 3, 4, 5], [6, 7]]


def test_what_several_processes_cannot_share_is_named_before_anything_trains():
    devices = [Device(0), Device(1), Device(2)]
    parallel.check_processes('sharded', devices)
    parallel.check_processes('fsdp', devices)
    parallel.check_processes('pmap', devices[:1])
    parallel.check_batches('sharded', devices, [3, 9])
    with pytest.raises(UsageError, match=r"runner 'cells' stays within one process, .*; use 'sharded' or 'fsdp'"):
        parallel.check_processes('cells', devices)
    with pytest.raises(UsageError, match='a batch of 32 does not divide over 3 devices; use a multiple of 3'):
        parallel.check_batches('sharded', devices, [3, 32])


def test_only_the_devices_of_this_process_need_its_threads():
    parallel.check_host_devices([Device(0), Device(1), Device(2)], {})
    with pytest.raises(UsageError, match='2 host devices need the environment variable NPROC >= 4'):
        parallel.check_host_devices([Device(0), Device(0), Device(1)], {})


@pytest.mark.parametrize('cells', [1, 2])
def test_the_parts_of_processes_are_the_batch(cells):
    columns = {'inputs': np.arange(40, dtype=np.float32).reshape(20, 2), 'labels': np.arange(20, dtype=np.int32)}
    streams = [Stream(np.arange(20), seed) for seed in range(cells)]
    tables = {'teacher/logits': np.arange(80, dtype=np.float32).reshape(20, 2, 2)}
    batches = feed(streams, 6, columns, identity(), 0, 2, tables)
    whole, *parts = (batches(3, 8, part) for part in (slice(None), slice(0, 4), slice(4, 6)))
    for name, column in whole.items():
        axis = 1 if cells == 1 else 2
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts], axis=axis), column)


def test_a_process_that_does_not_write_reads_what_the_first_wrote(tmp_path):
    with Ledger(tmp_path) as ledger, NullLogger(tmp_path) as reader:
        ledger.scalars('train', 1, {'loss': 2.0})
        ledger.flush()
        before = {path: path.read_bytes() for path in tmp_path.rglob('*') if path.is_file()}
        reader.write('note', text='no')
        reader.scalars('train', 2, {'loss': 1.0})
        reader.rewind(0)
        reader.flush()
        assert {path: path.read_bytes() for path in tmp_path.rglob('*') if path.is_file()} == before
        assert list(read(reader.path)) == [{'kind': 'train', 'step': 1, 'loss': 2.0}]


def test_a_process_that_does_not_write_makes_no_folder(tmp_path):
    with NullLogger(tmp_path / 'absent'):
        pass
    assert not (tmp_path / 'absent').exists()


@pytest.mark.parametrize(
    ('count', 'cells', 'batch', 'platform', 'runner'),
    [
        (1, 12, 32, 'gpu', 'single'),
        (4, 12, 32, 'gpu', 'cells'),
        (4, 1, 32, 'gpu', 'pmap'),
        (4, 1, 30, 'gpu', 'single'),
        (4, 6, 32, 'gpu', 'pmap'),  # four devices by examples, two by cells
        (4, 6, 30, 'gpu', 'cells'),
        (4, 12, 32, 'cpu', 'single'),  # they share its cores
    ],
)
def test_auto_uses_as_many_devices_as_a_grid_or_its_batches_divide_over(count, cells, batch, platform, runner):
    assert parallel.chosen('auto', [Device(0, platform)] * count, cells, batch) == runner
    assert parallel.chosen('shard_map', [Device(0, platform)] * count, cells, batch) == 'shard_map'


def test_auto_of_several_processes_is_the_runner_that_they_can_share():
    assert parallel.chosen('auto', [Device(0, 'gpu'), Device(1, 'gpu')], 1, 32) == 'sharded'
