"""Streams give the batches that the same examples in memory would give, wherever they are entered."""

import functools
import threading

import jax
import numpy as np
import pytest

from kdjax.data.augment import shift
from kdjax.data.feed import Stream, feed, order
from kdjax.data.mix import mixup
from kdjax.data.preprocess import normalise
from kdjax.data.stream import streamed
from kdjax.errors import UsageError

BYTES = np.random.default_rng(0).integers(0, 256, (30, 4, 4, 1), np.uint8)
LABELS = np.arange(30, dtype=np.int32) % 7
LOOK = {'preprocess': normalise(mean=(0.4,), std=(0.3,))}
AUGMENT, STREAM = shift(pixels=1), Stream(np.arange(3, 26), 5)


class Examples:
    """A source that counts what is read, and in which threads."""

    def __init__(self):
        self.read, self.threads = [], set()

    def __len__(self):
        return len(BYTES)

    def __getitem__(self, position):
        self.read.append(position)
        self.threads.add(threading.get_ident())
        return {'image': BYTES[position].tobytes(), 'label': int(LABELS[position])}


class ByBatch(Examples):
    """One that reads many at once."""

    def __getitem__(self, position):
        raise AssertionError('asked one by one')

    def __getitems__(self, positions):
        assert isinstance(positions, list)
        return [super(ByBatch, self).__getitem__(position) for position in positions]


def decode(example):
    return {'inputs': np.frombuffer(example['image'], np.uint8).reshape(4, 4, 1), 'labels': example['label']}


def stream(source=None, **more):
    return streamed(source or Examples(), decode, STREAM, 6, AUGMENT, 0, 3, **{**LOOK, **more})


@functools.cache
def in_memory(start, stop, mixed=False, consistent=True):
    columns = {'inputs': BYTES, 'labels': LABELS}
    more = {'mix': mixup(alpha=1.0) if mixed else None, 'consistent': consistent}
    return feed([STREAM], 6, columns, AUGMENT, 0, 3, **LOOK, **more)(start, stop)


def assert_same(found, wanted):
    assert set(found) == set(wanted)
    for name, leaf in found.items():
        assert (leaf.shape, leaf.dtype) == (wanted[name].shape, wanted[name].dtype)
        np.testing.assert_allclose(leaf, wanted[name], atol=1e-6, err_msg=name)


@pytest.mark.parametrize('kind', [Examples, ByBatch])
@pytest.mark.parametrize(('mixed', 'consistent'), [(False, True), (False, False), (True, False)])
def test_its_batches_are_those_of_the_same_examples_in_memory(kind, mixed, consistent):
    """Over the borders of epochs, whose orders differ."""
    batches = stream(kind(), mix=mixup(alpha=1.0) if mixed else None, consistent=consistent)
    for start in (0, 4):
        assert_same(batches(start, start + 4), in_memory(start, start + 4, mixed, consistent))


def test_wherever_it_is_entered_it_gives_the_same():
    batches = stream()
    for start in (0, 4, 8, 2, 6, 1000):
        assert_same(batches(start, start + 4), in_memory(start, start + 4))


@pytest.mark.parametrize('mixed', [False, True])
def test_each_process_reads_its_part_and_the_parts_are_the_whole(mixed):
    more = {'mix': mixup(alpha=1.0) if mixed else None}
    for part in (slice(0, 2), slice(2, 6)):
        source = Examples()
        found = stream(source, **more)(0, 4, part=part)
        assert_same(found, {name: leaf[:, part] for name, leaf in in_memory(0, 4, mixed).items()})
        own = set(order(STREAM, 0, 60, 6)[0][:, part].ravel().tolist())
        assert mixed or set(source.read) <= own


def test_it_reads_ahead_in_threads_of_its_own_and_goes_on_where_it_stands():
    source = Examples()
    batches = stream(source, threads=2, ahead=4)
    batches(0, 4)
    batches(4, 8)
    assert threading.get_ident() not in source.threads
    # What was read ahead was not read again: at most the eight steps that may be ready or under way.
    assert 8 * 6 <= len(source.read) <= (8 + 8) * 6


def test_a_batch_is_augmented_on_the_device_and_only_decoded_before():
    found = stream()(0, 1)
    assert isinstance(found['inputs'], jax.Array)
    assert found['inputs'].dtype == np.float32


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        ({'batch_size': 0}, 'batch_size and views must be >= 1, got 0 and 3'),
        ({'stream': Stream(np.arange(0), 0)}, 'a stream needs ids in 0 to 29'),
        ({'stream': Stream(np.arange(31), 0)}, 'a stream needs ids in 0 to 29'),
        ({'view_count': 1, 'consistent': False}, 'another view than the student there must be at least 2 views'),
    ],
)
def test_a_stream_that_cannot_be_is_refused(wrong, message):
    arguments = {'source': Examples(), 'decode': decode, 'stream': STREAM, 'batch_size': 6, 'augment': AUGMENT,
                 'seed': 0, 'view_count': 3}  # fmt: skip
    with pytest.raises(UsageError, match=message):
        streamed(**{**arguments, **wrong})


def test_inputs_of_several_shapes_are_refused():
    def ragged(example):
        return {'inputs': np.zeros(1 + example['label'] % 2), 'labels': 0}

    with pytest.raises(UsageError, match=r'decode gives inputs of several shapes, \(1,\) and \(2,\)'):
        streamed(Examples(), ragged, STREAM, 6, AUGMENT, 0, 3)(0, 1)
