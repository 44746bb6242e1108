"""Streams give the batches that the same examples in memory would give, wherever they are entered."""

import functools
import sys
import threading

import jax
import numpy as np
import pytest

from kdjax.data.augment import shift
from kdjax.data.feed import feed
from kdjax.data.lazy import Lazy
from kdjax.data.mix import mixup
from kdjax.data.order import Stream, drawn
from kdjax.data.preprocess import normalise
from kdjax.data.stream import streamed, training_feed
from kdjax.errors import UsageError

BYTES = np.random.default_rng(0).integers(0, 256, (30, 4, 4, 1), np.uint8)
LABELS = np.arange(30, dtype=np.int32) % 7
TABLE = {'teacher/logits': np.random.default_rng(1).normal(size=(30, 3, 7)).astype(np.float32)}
LOOK = {'preprocess': normalise(mean=(0.4,), std=(0.3,))}
AUGMENT = shift(pixels=1)
ONE = (Stream(np.arange(3, 26), 5),)
SEVERAL = (*ONE, Stream(np.arange(3, 26), 6), Stream(np.arange(10, 20), 5))


class Examples:
    """A source that counts what is read, and in which threads."""

    def __init__(self):
        self.read, self.threads = [], set()

    def __len__(self):
        return len(BYTES)

    def __getitem__(self, position):
        self.read.append(position)
        self.threads.add(threading.get_ident())
        return BYTES[position].tobytes()


def decode(example):
    return np.frombuffer(example, np.uint8).reshape(4, 4, 1)


def stream(source=None, streams=ONE, **more):
    columns = {'inputs': Lazy(source or Examples(), decode), 'labels': LABELS}
    return streamed(streams, 6, columns, AUGMENT, 0, 3, **{**LOOK, **more})


def options(mixed=False, consistent=True, taught=False):
    return {'mix': mixup(alpha=1.0) if mixed else None, 'consistent': consistent, 'tables': TABLE if taught else None}


@functools.cache
def in_memory(streams, start, stop, **more):
    columns = {'inputs': BYTES, 'labels': LABELS}
    return feed(STREAMS[streams], 6, columns, AUGMENT, 0, 3, **LOOK, **options(**more))(start, stop)


STREAMS = {'one': ONE, 'several': SEVERAL}


def assert_same(found, wanted):
    assert set(found) == set(wanted)
    for name, leaf in found.items():
        assert (leaf.shape, leaf.dtype) == (wanted[name].shape, wanted[name].dtype)
        np.testing.assert_allclose(leaf, wanted[name], atol=1e-6, err_msg=name)


@pytest.mark.parametrize('streams', STREAMS)
@pytest.mark.parametrize(
    'more', [{}, {'consistent': False}, {'mixed': True}, {'taught': True}, {'taught': True, 'consistent': False}]
)
def test_its_batches_are_those_of_the_same_examples_in_memory(streams, more):
    """Over the borders of epochs, whose orders differ."""
    batches = stream(streams=STREAMS[streams], **options(**more))
    for start in (0, 4):
        assert_same(batches(start, start + 4), in_memory(streams, start, start + 4, **more))


def test_wherever_it_is_entered_it_gives_the_same():
    batches = stream()
    for start in (0, 4, 8, 2, 6, 1000):
        assert_same(batches(start, start + 4), in_memory('one', start, start + 4))


@pytest.mark.parametrize('streams', STREAMS)
@pytest.mark.parametrize('mixed', [False, True])
def test_each_process_reads_its_part_and_the_parts_are_the_whole(streams, mixed):
    for part in (slice(0, 2), slice(2, 6)):
        source = Examples()
        batches = stream(source, STREAMS[streams], **options(mixed))
        source.read.clear()  # of the first example, for its shape
        found = batches(0, 4, part=part)
        wanted = in_memory(streams, 0, 4, mixed=mixed)
        assert_same(found, {name: leaf[..., part] if leaf.ndim == wanted['id'].ndim else
                            np.moveaxis(np.moveaxis(leaf, wanted['id'].ndim - 1, 0)[part], 0, wanted['id'].ndim - 1)
                            for name, leaf in wanted.items()})  # fmt: skip
        own = set(drawn(STREAMS[streams], 0, 60, 6)[0][..., part].ravel().tolist())
        assert mixed or set(source.read) <= own


def test_it_reads_ahead_in_threads_of_its_own_and_goes_on_where_it_stands():
    source = Examples()
    batches = stream(source, threads=2, ahead=4)
    source.read.clear()
    source.threads.clear()
    batches(0, 4)
    batches(4, 8)
    assert threading.get_ident() not in source.threads
    # What was read ahead was not read again: at most the eight steps that may be ready or under way.
    assert 8 * 6 <= len(source.read) <= (8 + 8) * 6


def test_what_several_cells_see_in_a_step_is_read_once():
    source = Examples()
    same = [Stream(np.arange(6), seed) for seed in range(5)]  # every cell sees all of them in every step
    batches = stream(source, same, threads=1, ahead=1)
    source.read.clear()
    assert batches(0, 2)['inputs'].shape == (2, 5, 6, 4, 4, 1)
    assert 2 * 6 <= len(source.read) <= (2 + 3) * 6


def test_a_batch_is_augmented_on_the_device_and_only_decoded_before():
    found = stream()(0, 1)
    assert isinstance(found['inputs'], jax.Array)
    assert found['inputs'].dtype == np.float32


def whole(make):
    """Names of the columns and tables that lie on the device while batches are made, of 9999 examples each."""
    given = {'inputs': np.zeros((9999, 4, 4), np.float32), 'labels': np.zeros(9999, np.int32)}
    table = {'teacher/logits': np.zeros((9999, 3, 5), np.float32)}
    batches = make(ONE, 6, given, AUGMENT, 0, 3, table)
    batches(0, 3)
    shapes = {array.shape for array in jax.live_arrays()}
    return {name for name, column in {**given, **table}.items() if column.shape in shapes}


def test_columns_and_tables_are_never_on_the_device_whole():
    assert whole(training_feed(True)) == set()
    assert whole(training_feed(False)) == {'inputs', 'labels', 'teacher/logits'}


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        ({'batch_size': 0}, 'batch_size and views must be >= 1, got 0 and 3'),
        ({'streams': (Stream(np.arange(0), 0),)}, 'a stream has no examples'),
        ({'streams': (*ONE, Stream(np.arange(31), 0))}, 'a stream needs ids in 0 to 29'),
        ({'view_count': 1, 'consistent': False}, 'another view than the student there must be at least 2 views'),
        ({'tables': {'teacher/logits': np.zeros((30, 2, 7))}}, "'teacher/logits' has 2 views per example, the feed 3"),
    ],
)
def test_a_stream_that_cannot_be_is_refused(wrong, message):
    arguments = {'streams': ONE, 'batch_size': 6, 'columns': {'inputs': BYTES, 'labels': LABELS}, 'augment': AUGMENT,
                 'seed': 0, 'view_count': 3}  # fmt: skip
    with pytest.raises(UsageError, match=message):
        streamed(**{**arguments, **wrong})


def test_a_stream_without_its_extra_is_refused_and_nobody_else_needs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, 'grain', None)
    assert training_feed(False) is feed
    with pytest.raises(UsageError, match=r"data.stream=True needs the extra 'stream': pip install 'kdjax\[stream\]'"):
        training_feed(True)
    with pytest.raises(UsageError, match=r"data\.stream must be True or False, got 'yes'"):
        training_feed('yes')
