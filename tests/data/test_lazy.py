"""Columns that are read when they are asked for: like arrays, and never more than was asked."""

import numpy as np
import pytest

from kdjax import trees
from kdjax.data.base import divided
from kdjax.data.lazy import Lazy, subset
from kdjax.dataset import Split, chosen
from kdjax.errors import UsageError

ARRAY = np.random.default_rng(0).integers(0, 256, (23, 2, 3), np.uint8)


class Rows:
    """A source that notes what was read."""

    def __init__(self):
        self.read = []

    def __len__(self):
        return len(ARRAY)

    def __getitem__(self, position):
        self.read.append(position)
        return {'image': ARRAY[position]}


class ByBatch(Rows):
    """One that reads many at once."""

    def __getitems__(self, positions):
        assert isinstance(positions, list)
        return [self[position] for position in positions]


def decode(example):
    return example['image']


@pytest.mark.parametrize('kind', [Rows, ByBatch])
@pytest.mark.parametrize('key', [3, -1, slice(None), slice(2, 9), slice(4, 4), [5, 0, 5], [[1, 2], [3, 4]]], ids=str)
def test_it_is_indexed_like_an_array(kind, key):
    column, key = Lazy(kind(), decode), np.array(key) if isinstance(key, list) else key
    assert (column.shape, column.dtype, len(column)) == (ARRAY.shape, ARRAY.dtype, len(ARRAY))
    np.testing.assert_array_equal(column[key], ARRAY[key])
    assert column[key].dtype == ARRAY.dtype


def test_nothing_is_read_that_was_not_asked_for():
    source = Rows()
    column = Lazy(source, decode)
    assert source.read == [0]
    part = subset(column, np.array([7, 3, 9]))
    source.read.clear()
    np.testing.assert_array_equal(part[1:], ARRAY[[3, 9]])
    assert sorted(source.read) == [3, 9]


def test_of_what_is_chosen_several_times_each_is_read_once():
    source = Rows()
    column = Lazy(source, decode)
    source.read.clear()
    ids = np.array([[4, 2, 4], [2, 4, 8]])
    np.testing.assert_array_equal(chosen(column, ids), ARRAY[ids])
    assert sorted(source.read) == [2, 4, 8]


def test_its_hash_is_that_of_the_array_and_is_made_in_parts(monkeypatch, tmp_path):
    np.save(tmp_path / 'array.npy', ARRAY)
    columns = [ARRAY, np.asfortranarray(ARRAY), Lazy(Rows(), decode), np.load(tmp_path / 'array.npy', mmap_mode='r')]
    whole = {trees.fingerprint(column) for column in columns}
    monkeypatch.setattr(trees, 'PART', 4 * ARRAY[0].nbytes)
    asked = []
    monkeypatch.setattr(Lazy, '_read', lambda self, positions, read=Lazy._read: asked.append(len(positions)) or
                        read(self, positions))  # fmt: skip
    assert {trees.fingerprint(column) for column in columns} == whole
    assert len(whole) == 1
    assert max(asked) == 4
    assert trees.fingerprint(ARRAY[:-1]) not in whole


def test_what_is_held_out_of_a_lazy_split_stays_lazy():
    labels = np.arange(len(ARRAY), dtype=np.int32) % 2
    test = Split(ARRAY[:4], labels[:4])
    found, wanted = (divided(Split(inputs, labels), test, ('a', 'b'), 6) for inputs in (Lazy(Rows(), decode), ARRAY))
    assert isinstance(found.splits['train'].inputs, Lazy)
    assert isinstance(found.splits['validation'].inputs, Lazy)
    assert found.checksum() == wanted.checksum()


def test_what_is_no_column_is_refused():
    with pytest.raises(UsageError, match='has no examples'):
        Lazy([])
    ragged = Lazy([np.zeros(1), np.zeros(2)])
    with pytest.raises(UsageError, match=r'decode gives examples of several shapes, \(1,\) and \(2,\)'):
        ragged[:]
