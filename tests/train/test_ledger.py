"""The ledger: whole lines of JSON, rewound to a step, whatever a crash left behind."""

import json
import math
import os
import struct
import sys
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.errors import UsageError
from kdjax.train import ledger
from kdjax.train.ledger import Ledger, read


def written(folder, steps):
    with Ledger(folder) as book:
        book.write('begin', cells=2)
        for step in steps:
            book.scalars('train', step, {'loss': np.float32([step, 2 * step])})
    return book.path


def test_a_ledger_is_one_json_object_a_line(tmp_path):
    lines = written(tmp_path / 'new' / 'run', [1, 2]).read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {'kind': 'begin', 'cells': 2},
        {'kind': 'train', 'step': 1, 'loss': [1.0, 2.0]},
        {'kind': 'train', 'step': 2, 'loss': [2.0, 4.0]},
    ]


def test_a_ledger_opened_again_is_continued(tmp_path):
    written(tmp_path, [1])
    assert [line.get('step') for line in read(written(tmp_path, [2]))] == [None, 1, None, 2]


def test_flushed_lines_are_there_before_the_ledger_is_closed(tmp_path):
    with Ledger(tmp_path) as book:
        book.write('begin')
        book.flush()
        assert list(read(book.path)) == [{'kind': 'begin'}]


def test_numbers_that_json_cannot_say_are_null(tmp_path):
    with Ledger(tmp_path) as book:
        book.scalars('train', 1, {'loss': jnp.array([1.5, jnp.nan, jnp.inf]), 'rate': math.nan, 'none': -math.inf})
    assert list(read(book.path)) == [
        {'kind': 'train', 'step': 1, 'loss': [1.5, None, None], 'rate': None, 'none': None}
    ]


def test_what_is_written_reads_as_plain_python(tmp_path):
    with Ledger(tmp_path) as book:
        book.write(
            'event', path=Path('a/b'), count=np.int32(3), flag=np.bool_(True), nested={'x': (jnp.float32(0.1), 'y')}
        )
    (line,) = read(book.path)
    assert line == {'kind': 'event', 'path': 'a/b', 'count': 3, 'flag': True, 'nested': {'x': [0.1, 'y']}}


def test_rewinding_drops_later_lines_and_one_cut_short_and_writing_goes_on(tmp_path):
    path = written(tmp_path, [1, 2, 3])
    with path.open('a') as file:
        file.write('{"kind": "train", "st')
    with Ledger(tmp_path) as book:
        book.rewind(2)
        book.scalars('train', 3, {'loss': 0.5})
    steps = [json.loads(line).get('step') for line in path.read_text().splitlines()]
    assert steps == [None, 1, 2, 3]
    assert list(read(path))[-1]['loss'] == 0.5


def test_a_last_line_cut_short_is_left_out(tmp_path):
    path = tmp_path / 'ledger.jsonl'
    path.write_text('{"step": 1}\n{"step": 2')
    assert list(read(path)) == [{'step': 1}]


def test_a_spoiled_line_before_the_last_is_named(tmp_path):
    path = tmp_path / 'ledger.jsonl'
    path.write_text('{"step": 1}\nspoiled\n{"step": 3}\n')
    with pytest.raises(UsageError, match=f"{path} line 2 is damaged: b'spoiled'"):
        list(read(path))


def test_a_ledger_that_is_not_there_has_no_lines(tmp_path):
    assert list(read(tmp_path / 'ledger.jsonl')) == []


@pytest.mark.parametrize('content', ['new', b'new'])
def test_a_replaced_file_has_the_new_content_and_no_neighbour(tmp_path, content):
    path = tmp_path / 'artifact.json'
    path.write_text('old')
    ledger.replace(path, content)
    assert path.read_text() == 'new'
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_whose_replacement_failed_is_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / 'artifact.json'
    path.write_text('old')

    def full(descriptor, target):
        assert path.read_text() == 'old'
        raise OSError('disk full')

    monkeypatch.setattr(os, 'replace', full)
    with pytest.raises(OSError, match='disk full'):
        ledger.replace(path, 'new')
    assert path.read_text() == 'old'


def test_a_run_says_what_it_ran_with_and_on():
    versions, machine = ledger.versions(), ledger.machine()
    assert set(versions) == {'python', *ledger.PACKAGES}
    assert versions['numpy'] == np.__version__
    assert set(machine) == {'system', 'processor', 'cores', 'devices', 'convolutions'}
    assert machine['convolutions'] == {'float32': 'XLA', 'bfloat16': 'XLA'}  # there are several devices
    assert machine['cores'] >= 1


def test_a_package_that_is_missing_is_said_to_be(monkeypatch):
    monkeypatch.setattr(ledger, 'PACKAGES', ('no-such-package',))
    assert ledger.versions()['no-such-package'] == 'not installed'


@pytest.mark.parametrize(('extra', 'package'), [('tensorboard', 'tensorboardX'), ('wandb', 'wandb')])
def test_a_mirror_asked_for_but_not_installed_is_said(tmp_path, monkeypatch, extra, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=rf"track.{extra} .* {package} is not .*: pip install 'kdjax\[{extra}\]'"):
        Ledger(tmp_path, **{extra: {'name': 'digits'}})
    assert list(tmp_path.iterdir()) == []
    written(tmp_path, [1])
    assert [path.name for path in tmp_path.iterdir()] == ['ledger.jsonl']


def test_tensorboard_shows_the_finite_means_over_cells(tmp_path):
    with Ledger(tmp_path, tensorboard=True) as book:
        book.scalars('train', 1, {'loss': np.float32([1, 3, np.nan]), 'lost': np.float32([np.nan])})
        book.scalars('validation', 2, {'accuracy': 0.5})
    (path,) = (tmp_path / 'tensorboard').iterdir()
    assert scalars(path) == [(1, 'train/loss', 2.0), (2, 'validation/accuracy', 0.5)]


def scalars(path):
    """(step, name, value) of everything in a file of TensorBoard's: records, each 12 bytes, an event, 4 bytes."""
    from tensorboardX.proto.event_pb2 import Event

    content, found = path.read_bytes(), []
    while content:
        (length,) = struct.unpack('<Q', content[:8])
        event = Event.FromString(content[12 : 12 + length])
        found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
        content = content[12 + length + 4 :]
    return found


def test_weights_and_biases_is_told_the_finite_means_under_a_run_named_after_the_folder(tmp_path, monkeypatch):
    told = []
    run = SimpleNamespace(log=lambda values, step: told.append((step, values)), finish=lambda: told.append('finished'))
    fake = SimpleNamespace(
        init=lambda **options: told.append((options['id'], options['name'], options['config'])) or run
    )
    monkeypatch.setitem(sys.modules, 'wandb', fake)
    about = {'name': 'digits/combined', 'config': {'seed': 0, 'terms': {'soft': {'temperature': 4.0}}}}
    with Ledger(tmp_path / 'combined-1', wandb=about) as book:
        book.scalars('train', 1, {'loss': np.float32([1, 3]), 'lost': math.nan})
    assert told == [('combined-1', *about.values()), (1, {'train/loss': 2.0}), 'finished']


@pytest.mark.parametrize(
    'line', [b'3', b'[]', b'"word"', b'{"kind": "train", "step": "two"}', b'\xff\xfe{}', b'{"kind']
)
def test_what_is_no_line_of_a_ledger_is_named_with_its_file(tmp_path, line):
    path = written(tmp_path, [1])
    path.write_bytes(line + b'\n' + path.read_bytes())
    with pytest.raises(UsageError, match=f'^{path} line 1 is damaged: .*; delete that file'):
        list(read(path))
