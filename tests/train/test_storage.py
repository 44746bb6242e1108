"""What lies on disk is what was written there, or its file is named."""

import contextlib
import json
import math
import os
import random

import numpy as np
import pytest

from kdjax.errors import UsageError
from kdjax.train import cache, checkpoint, storage

VALUE = {'key': 'abc', 'seconds': 1.5, 'result': {'cells': [{'a': None, 'b': -0.0}], 'text': 'é', 'big': 2**70}}


@pytest.fixture
def path(tmp_path):
    storage.write_json(tmp_path / 'some.json', VALUE)
    return tmp_path / 'some.json'


def test_an_object_is_read_as_it_was_written(path):
    assert storage.read_json(path, key=str, seconds=(int, float), result=dict) == VALUE


def test_what_is_for_people_is_indented_and_may_have_numbers_that_json_lacks(tmp_path):
    storage.write_json(tmp_path / 'some.json', {'clip': math.inf, 'more': [1]}, indent=1, allow_nan=True)
    assert storage.read_json(tmp_path / 'some.json') == {'clip': math.inf, 'more': [1]}
    assert len((tmp_path / 'some.json').read_text().splitlines()) > 4
    with pytest.raises(ValueError, match='not JSON compliant'):
        storage.write_json(tmp_path / 'some.json', {'clip': math.inf})


def test_what_an_earlier_version_wrote_without_a_fingerprint_is_read(path):
    path.write_text(json.dumps(VALUE))
    assert storage.read_json(path) == VALUE


def test_every_flipped_bit_of_an_object_is_named_or_changes_nothing(path):
    """A bit of the name of the fingerprint itself takes it away, and leaves another word beside the values."""
    whole = path.read_bytes()
    for place in range(8 * len(whole)):
        raw = bytearray(whole)
        raw[place // 8] ^= 1 << place % 8
        path.write_bytes(raw)
        with contextlib.suppress(UsageError):
            found = storage.read_json(path, key=str, seconds=float, result=dict)
            assert {name: found[name] for name in VALUE} == VALUE


@pytest.mark.parametrize(
    'content', [b'', b'{', b'[]', b'3', b'null', b'\xff\xfe\x00', b'{}', b'{"key": 3}', b'[' * 10_000]
)
def test_what_is_no_such_object_is_named_with_what_to_do(path, content):
    path.write_bytes(content)
    with pytest.raises(UsageError, match=f'^{path} is damaged .*; delete its folder$') as caught:
        storage.read_json(path, 'delete its folder', key=str)
    assert len(str(caught.value).splitlines()) == 1


def test_a_folder_or_nothing_in_the_place_of_a_file_is_named(path, tmp_path):
    (tmp_path / 'folder').mkdir()
    for place, reason in ((tmp_path / 'folder', 'Is a directory'), (tmp_path / 'none', 'No such file')):
        with pytest.raises(UsageError, match=f'^{place} is damaged .*{reason}.*; delete it$'):
            storage.read_json(place)


@pytest.fixture
def stage(tmp_path):
    """The folder of a finished stage: variables, an array, and what nothing later reads."""
    variables = {'params': {'w': np.arange(6, dtype=np.float32).reshape(2, 3)}, 'stats': {}}
    checkpoint.save_variables(tmp_path / 'variables', variables)
    np.save(tmp_path / 'logits.npy', np.ones(3))
    (tmp_path / 'ledger.jsonl').write_text('{}\n')
    storage.write_json(tmp_path / storage.ARTIFACT, {'key': 'k', 'files': storage.fingerprints(tmp_path)})
    return tmp_path


def test_a_stage_that_is_as_it_was_left_is_read(stage):
    (stage / 'ledger.jsonl').unlink()
    assert np.load(storage.intact(stage / 'logits.npy')).sum() == 3
    assert checkpoint.load_variables(stage / 'variables')['params']['w'][1, 2] == 5


def test_without_an_artifact_or_fingerprints_nothing_is_compared(stage):
    checkpoint.save_variables(stage / 'variables', {'params': {'w': np.zeros(1)}})
    storage.write_json(stage / storage.ARTIFACT, {'key': 'k'})
    assert checkpoint.load_variables(stage / 'variables')['params']['w'] == 0
    (stage / storage.ARTIFACT).unlink()
    assert checkpoint.load_variables(stage / 'variables')['params']['w'] == 0


def flip(path):
    raw = bytearray(path.read_bytes())
    place = random.Random(0).randrange(8 * len(raw))
    raw[place // 8] ^= 1 << place % 8
    path.write_bytes(raw)


def read_both(stage):
    return checkpoint.load_variables(stage / 'variables'), np.load(storage.intact(stage / 'logits.npy'))


def folder_instead(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    'damage', [flip, folder_instead, lambda path: path.unlink(), lambda path: path.write_bytes(b'')]
)
def test_every_file_that_a_stage_left_is_compared_when_it_is_read(stage, damage):
    files = [path for path in sorted((stage / 'variables').rglob('*')) if path.is_file() and path.stat().st_size]
    assert len(files) > 3
    for path in (*files, stage / 'logits.npy'):
        whole = path.read_bytes()
        damage(path)
        with pytest.raises(UsageError, match=f'^{path} is damaged .*; delete {stage} to have that stage run again$'):
            read_both(stage)
        path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
        path.write_bytes(whole)
    assert checkpoint.load_variables(stage / 'variables')['params']['w'][1, 2] == 5


@pytest.mark.parametrize('damage', [flip, folder_instead, lambda path: path.unlink(),
                                    lambda path: path.write_bytes(b''),
                                    lambda path: os.truncate(path, path.stat().st_size - 1)])  # fmt: skip
@pytest.mark.parametrize('name', ['0.npy', '1.npy', cache.ADDRESS])
def test_a_damaged_table_is_named(tmp_path, name, damage):
    tables = {'teacher/logits': np.arange(8.0).reshape(4, 2), 'teacher/top_ids': np.arange(4)}
    address = cache.Address('t', 'd', 'p', 'a', 0, 1)
    cache.save(tmp_path / 'tables', tables, address)
    damage(tmp_path / 'tables' / name)
    with pytest.raises(UsageError, match=f'^(no complete teacher cache in )?{tmp_path / "tables"}'):
        cache.load(tmp_path / 'tables', address)


def test_what_a_killed_process_left_half_written_goes_and_nothing_else(tmp_path):
    for name in ('.artifact.json.123.partial', 'artifact.json', 'partial', '.lock'):
        (tmp_path / name).write_text('')
    (tmp_path / 'variables.orbax-checkpoint-tmp-7' / 'd').mkdir(parents=True)
    (tmp_path / 'variables').mkdir()
    storage.clean(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {'artifact.json', 'partial', '.lock', 'variables'}
