"""Buckets: one width a step, a pure function of (seed, step), every example as often as its fellows."""

import numpy as np
import pytest

from kdjax.data.augment import OfExample, chain, identity, shift
from kdjax.data.buckets import Buckets
from kdjax.data.feed import TeacherView, feed
from kdjax.data.order import Stream
from kdjax.data.stream import streamed
from kdjax.errors import UsageError

EXAMPLES, LONGEST, BATCH = 40, 12, 4
LENGTHS = np.random.default_rng(0).integers(1, LONGEST + 1, EXAMPLES).astype(np.int32)
LENGTHS[:3] = (2, 5, 12)
TOKENS = np.where(np.arange(LONGEST) < LENGTHS[:, None], 1 + np.arange(EXAMPLES)[:, None], 0).astype(np.int32)
LABELS = np.arange(EXAMPLES, dtype=np.int32) % 3
COLUMNS = {'inputs': TOKENS, 'labels': LABELS, 'length': LENGTHS}
TABLES = {
    'teacher/logits': np.repeat(TOKENS[:, None, :, None], 5, axis=3).astype(np.float32),
    'teacher/attention1': (TOKENS[:, None, None, :, None] * TOKENS[:, None, None, None, :]).astype(np.float32),
    'teacher/penult': LABELS[:, None, None].astype(np.float32),
}
PADDED = {'inputs': 1, 'teacher/logits': 1, 'teacher/attention1': 2}


def buckets(pools=(np.arange(EXAMPLES),), known=(4, 8), run=2, seed=0):
    return Buckets(known, LENGTHS, list(pools), BATCH, run, seed)


def test_a_narrower_batch_has_a_whole_multiple_of_the_examples_of_the_widest():
    assert buckets().widths == (4, 8, 12)
    assert buckets().rows == (12, 4, 4)


@pytest.mark.parametrize('run', [1, 3])
def test_the_turn_of_a_step_needs_no_other_step(run):
    """Steps of one bucket are counted on, whatever was asked for before, and end where another may begin."""
    turns = [buckets(run=run).at(step) for step in range(200)]
    seen = [0, 0, 0]
    for step, turn in enumerate(turns):
        assert turn.before == seen[turn.bucket]
        assert turn.end == (step // run + 1) * run
        seen[turn.bucket] += 1
    assert min(seen) > 0
    fresh = buckets(run=run)
    assert [fresh.at(step) for step in (150, 3, 77)] == [turns[step] for step in (150, 3, 77)]


@pytest.mark.parametrize('make', [feed, streamed])
def test_every_batch_is_cut_to_a_width_that_holds_it_and_tables_with_it(make):
    known = buckets()
    batches = make([Stream(np.arange(EXAMPLES), 1)], BATCH, COLUMNS, identity(), 0, 1, TABLES, buckets=known,
                   padded=PADDED)  # fmt: skip
    start, widths = 0, set()
    while start < 24:
        stop = batches.reach(start, 24)
        batch, turn = batches(start, stop), known.at(start)
        width, ids = known.widths[turn.bucket], np.asarray(batch['id'])
        assert batch['inputs'].shape == (stop - start, known.rows[turn.bucket], width)
        np.testing.assert_array_equal(batch['inputs'], TOKENS[ids][..., :width])
        assert LENGTHS[ids].max() <= width
        np.testing.assert_array_equal(batch['teacher/logits'], TABLES['teacher/logits'][ids, 0, :width])
        scores = TABLES['teacher/attention1'][ids, 0, :, :width, :width]
        np.testing.assert_array_equal(batch['teacher/attention1'], scores)
        np.testing.assert_array_equal(batch['teacher/penult'], TABLES['teacher/penult'][ids, 0])
        widths.add(width)
        start = stop
    assert widths == {4, 8, 12}


def test_within_a_bucket_every_example_is_seen_equally_often_and_views_count_its_visits():
    known = buckets(run=1)
    batches = feed([Stream(np.arange(EXAMPLES), 1)], BATCH, COLUMNS, identity(), 0, 3, buckets=known, padded=PADDED)
    visits = np.zeros(EXAMPLES, int)
    for step in range(60):
        batch = batches(step, step + 1)
        for example, view in zip(np.asarray(batch['id'][0]), np.asarray(batch['view'][0]), strict=True):
            assert view == visits[example] % 3
            visits[example] += 1
    for bucket in range(3):
        own = visits[known.of == bucket]
        assert own.max() - own.min() <= 1


def test_cells_of_a_grid_share_the_width_of_a_step_and_see_their_own_examples():
    pools = (np.arange(30), np.arange(10, 40))
    known = buckets(pools)
    streams = [Stream(pool, seed) for seed, pool in enumerate(pools)]
    batch = feed(streams, BATCH, COLUMNS, identity(), 0, 1, buckets=known, padded=PADDED)(0, 2)
    ids = np.asarray(batch['id'])
    assert ids.shape == (2, 2, known.rows[known.at(0).bucket])
    for cell, pool in enumerate(pools):
        assert set(ids[:, cell].ravel()) <= set(pool)
        alone = feed([streams[cell]], BATCH, COLUMNS, identity(), 0, 1, buckets=known, padded=PADDED)(0, 2)
        np.testing.assert_array_equal(alone['inputs'], batch['inputs'][:, cell])


def test_a_part_of_a_wider_batch_is_that_part_of_all_its_examples():
    known = buckets(run=1)
    batches = feed([Stream(np.arange(EXAMPLES), 1)], BATCH, COLUMNS, identity(), 0, 1, buckets=known, padded=PADDED)
    for step in range(6):
        whole = np.asarray(batches(step, step + 1)['id'])
        halves = [np.asarray(batches(step, step + 1, part)['id']) for part in (slice(0, 2), slice(2, 4))]
        np.testing.assert_array_equal(np.concatenate(halves, axis=1), whole)


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        ({'known': (8, 4)}, r'data.buckets must be increasing widths >= 1, got \(8, 4\)'),
        ({'known': (0, 4)}, 'data.buckets must be increasing'),
        ({'run': 0}, 'steps in a row with one width must be >= 1, got 0'),
        ({'pools': (np.flatnonzero(LENGTHS < 5),)}, 'has none of width 8; choose fewer'),
    ],
)
def test_what_makes_no_buckets_is_met_at_once(wrong, message):
    with pytest.raises(UsageError, match=message):
        buckets(**wrong)


@pytest.mark.parametrize('make', [feed, streamed])
def test_examples_outside_the_labelled_ones_hide_their_labels(make):
    streams = [Stream(np.arange(EXAMPLES), 0, labelled=np.arange(5)), Stream(np.arange(EXAMPLES), 0)]
    batch = make(streams, 10, COLUMNS, identity(), 0, 1)(0, 4)
    ids, labels = np.asarray(batch['id']), np.asarray(batch['labels'])
    np.testing.assert_array_equal(labels[:, 0], np.where(ids[:, 0] < 5, LABELS[ids[:, 0]], -1))
    np.testing.assert_array_equal(labels[:, 1], LABELS[ids[:, 1]])


@pytest.mark.parametrize('make', [feed, streamed])
def test_a_teacher_may_read_a_column_of_its_own(make):
    columns = {**COLUMNS, 'teacher_inputs': TOKENS[:, ::-1]}
    teacher = TeacherView('teacher_inputs', lambda x: x + 100)
    batch = make([Stream(np.arange(EXAMPLES), 0)], 4, columns, identity(), 0, 1, teacher=teacher)(0, 2)
    np.testing.assert_array_equal(batch['teacher_inputs'], TOKENS[np.asarray(batch['id'])][..., ::-1] + 100)
    np.testing.assert_array_equal(batch['inputs'], TOKENS[np.asarray(batch['id'])])
    with pytest.raises(UsageError, match="the teacher reads a column of its own, 'teacher_inputs'"):
        make([Stream(np.arange(EXAMPLES), 0)], 4, columns, shift(pixels=1), 0, 2, teacher=teacher)


def test_an_augmentation_of_the_whole_example_moves_labels_with_its_inputs():
    def mirrored(key, example):
        return {**example, 'inputs': -example['inputs'], 'labels': example['labels'] + 10}

    augment = chain([OfExample(mirrored), lambda key, tokens: tokens - 1])
    batch = feed([Stream(np.arange(EXAMPLES), 0)], EXAMPLES, COLUMNS, augment, 0, 2)(0, 2)
    ids = np.asarray(batch['id'])
    np.testing.assert_array_equal(batch['inputs'][0], TOKENS[ids[0]])  # view 0 is the example itself
    np.testing.assert_array_equal(batch['inputs'][1], -TOKENS[ids[1]] - 1)
    np.testing.assert_array_equal(batch['labels'][1], LABELS[ids[1]] + 10)


def test_inputs_of_several_arrays_are_fed_as_they_are_and_need_augmentations_of_their_own():
    columns = {'inputs': {'source': TOKENS, 'target': TOKENS[:, :3]}, 'labels': LABELS}
    stream = [Stream(np.arange(EXAMPLES), 0)]
    batch = feed(stream, 4, columns, identity(), 0, 1)(0, 2)
    np.testing.assert_array_equal(batch['inputs']['target'], TOKENS[np.asarray(batch['id'])][..., :3])
    with pytest.raises(UsageError, match=r"inputs of several arrays, \['source', 'target'\], need an augmentation"):
        feed(stream, 4, columns, lambda key, x: x, 0, 2)(0, 1)


def test_large_tables_stay_on_the_host(monkeypatch):
    arguments = ([Stream(np.arange(EXAMPLES), 1)], BATCH, COLUMNS, identity(), 0, 1, TABLES)
    near = feed(*arguments, buckets=buckets(), padded=PADDED)
    monkeypatch.setattr('kdjax.data.feed.HOSTED', 10)
    far = feed(*arguments, buckets=buckets(), padded=PADDED)
    for start in (0, 2, 4):
        for name, value in near(start, start + 2).items():
            np.testing.assert_array_equal(value, far(start, start + 2)[name])
