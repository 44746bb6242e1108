"""Data: fixed stratified splits, an order that is a function of the step, views that belong to examples."""

import functools
import itertools

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from kdjax.data import feed as feeding
from kdjax.data.augment import identity, shift, views
from kdjax.data.base import checked
from kdjax.data.digits import digits
from kdjax.data.feed import feed
from kdjax.data.mix import mixup
from kdjax.data.order import Stream, order
from kdjax.data.preprocess import normalise
from kdjax.dataset import Dataset, Split, group_by_group, stratified
from kdjax.errors import UsageError
from kdjax.jit_cache import bound, compiled

PIXELS = 2
IMAGES = np.random.default_rng(0).normal(size=(10, 3, 4)).astype(np.float32)
IDS = np.arange(10, dtype=np.int32)
seeds = st.integers(0, 2**31 - 1)


@functools.cache
def original():
    raw = load_digits()
    return (raw.images / 16).astype(np.float32), raw.target


def positions(images):
    """Where in the original data the images are; no two there are alike."""
    where = {image.tobytes(): position for position, image in enumerate(original()[0])}
    assert len(where) == 1797
    return [where[image.tobytes()] for image in images]


def test_the_digits_are_cut_into_disjoint_parts_of_the_documented_sizes():
    splits = digits().splits
    assert {name: len(split.labels) for name, split in splits.items()} == {
        'train': 1000,
        'validation': 297,
        'test': 500,
    }
    found = {name: positions(split.inputs) for name, split in splits.items()}
    assert sorted(itertools.chain(*found.values())) == list(range(1797))
    for name, split in splits.items():
        np.testing.assert_array_equal(split.labels, original()[1][found[name]])


def test_each_part_of_the_digits_has_each_class_in_its_proportion_within_one_example():
    overall = np.bincount(original()[1]) / 1797
    for split in digits().splits.values():
        assert np.abs(np.bincount(split.labels) - overall * len(split.labels)).max() <= 1


def test_the_digits_are_cut_alike_at_every_load_and_a_checksum_notices_one_pixel():
    once, again = digits(), digits()
    assert once.checksum() == again.checksum()
    again.splits['test'].inputs[3, 2, 1] += 1e-3
    assert once.checksum() != again.checksum()


label_lists = st.lists(st.integers(0, 3), min_size=6, max_size=60).map(np.array)


@given(label_lists, seeds, st.data())
def test_stratified_parts_are_disjoint_of_their_sizes_and_in_proportion(labels, seed, data):
    first = data.draw(st.integers(1, len(labels) - 1))
    second = data.draw(st.integers(1, len(labels) - first))
    parts = stratified(labels, (first, second), seed)
    drawn = np.concatenate(parts)
    assert [len(part) for part in parts] == [first, second]
    assert len(set(drawn)) == first + second
    assert all((np.diff(part) > 0).all() for part in parts)
    present, counts = np.unique(labels, return_counts=True)
    for label, count in zip(present, counts, strict=True):
        share = count / len(labels)
        # A class is dealt to within one example, and the border of a part lies within one example per class.
        slack = 1 + share * len(present)
        assert abs((labels[parts[0]] == label).sum() - share * first) <= slack
        assert abs((labels[parts[1]] == label).sum() - share * second) <= 2 * slack


@given(label_lists, seeds, st.data())
def test_of_two_stratified_draws_with_one_seed_the_larger_holds_the_smaller(labels, seed, data):
    small = data.draw(st.integers(1, len(labels)))
    large = data.draw(st.integers(small, len(labels)))
    (few,), (many,) = stratified(labels, (small,), seed), stratified(labels, (large,), seed)
    assert set(few) <= set(many)


def test_another_seed_draws_another_set():
    labels = np.arange(100) % 4
    assert not np.array_equal(*stratified(labels, (20,), 0), *stratified(labels, (20,), 1))


@pytest.mark.parametrize('sizes', [(0,), (5, 6), (-1, 3)])
def test_more_than_there_is_or_nothing_cannot_be_drawn(sizes):
    with pytest.raises(UsageError, match=r'cannot draw sets of .* from 10 examples'):
        stratified(np.zeros(10, int), sizes, 0)


@pytest.mark.parametrize(
    ('changed', 'message'),
    [
        ({'test': None}, "unknown split 'test'; there is: 'train', 'validation'"),
        ({'train': Split(IMAGES[:0], IDS[:0])}, "split 'train' is empty"),
        ({'train': Split(IMAGES, IDS[:3])}, "split 'train' has 10 inputs and 3 labels"),
        ({'validation': Split(IMAGES, IDS)}, "split 'validation' has labels 0 to 9; there are 2 classes"),
    ],
)
def test_a_dataset_that_cannot_be_used_is_refused(changed, message):
    splits = {name: Split(IMAGES, IDS % 2) for name in ('train', 'validation', 'test')} | changed
    dataset = Dataset({name: split for name, split in splits.items() if split is not None}, ('even', 'odd'))
    with pytest.raises(UsageError, match=message):
        checked(dataset)


pools = st.lists(st.integers(0, 999), min_size=1, max_size=20, unique=True).map(np.array)


@given(pools, seeds, st.integers(1, 7))
def test_every_epoch_has_each_example_once_whatever_the_batch_size(pool, seed, batch_size):
    steps = -(-3 * len(pool) // batch_size)
    ids, epochs = order(Stream(pool, seed), 0, steps, batch_size)
    assert ids.shape == epochs.shape == (steps, batch_size)
    assert (np.diff(epochs.ravel()) >= 0).all()
    for epoch in range(3):
        assert sorted(ids[epochs == epoch]) == sorted(pool)


@given(pools, seeds, st.integers(1, 7), st.integers(0, 20), st.integers(0, 20))
def test_the_order_is_a_function_of_the_step_alone(pool, seed, batch_size, start, length):
    stream = Stream(pool, seed)
    whole, part = order(stream, 0, 40, batch_size), order(stream, start, start + length, batch_size)
    for all_steps, asked in zip(whole, part, strict=True):
        np.testing.assert_array_equal(asked, all_steps[start : start + length])


def test_epochs_and_seeds_have_orders_of_their_own():
    (one, _), (two, _) = (order(Stream(np.arange(50), seed), 0, 2, 50) for seed in (1, 2))
    assert not np.array_equal(one[0], two[0])
    assert not np.array_equal(one[0], one[1])


def moved(image, down, right):
    """`image` moved by whole pixels, with zeros coming in."""
    found = np.zeros_like(image)
    height, width = image.shape[:2]
    for row, column in itertools.product(range(height), range(width)):
        if 0 <= row - down < height and 0 <= column - right < width:
            found[row, column] = image[row - down, column - right]
    return found


@functools.cache
def seen(seed=0, channels=()):
    """Views 0 ... 31 of every image: (example, view, ...)."""
    images = np.broadcast_to(IMAGES.reshape(10, 1, 3, 4, *channels), (10, 32, 3, 4, *channels))
    ids, numbers = np.meshgrid(IDS, np.arange(32, dtype=np.int32), indexing='ij')
    return np.asarray(
        jax.jit(functools.partial(views, shift(pixels=PIXELS), seed))({'inputs': images}, ids, numbers)['inputs']
    )


def test_view_0_is_the_image_itself():
    np.testing.assert_array_equal(seen()[:, 0], IMAGES)


def test_other_views_are_the_image_moved_by_each_offset_with_zeros_coming_in():
    offsets = list(itertools.product(range(-PIXELS, PIXELS + 1), repeat=2))
    drawn = set()
    for image, own in zip(IMAGES, seen(), strict=True):
        places = {moved(image, *offset).tobytes(): offset for offset in offsets}
        drawn |= {places[view.tobytes()] for view in own[1:]}
    assert drawn == set(offsets)


def test_channels_move_together():
    np.testing.assert_array_equal(seen(channels=(1,))[..., 0], seen())


def test_views_differ_by_seed_example_and_number():
    assert not np.array_equal(seen(seed=1), seen())
    one_image = np.broadcast_to(IMAGES[:1], IMAGES.shape)
    same = np.full(10, 3, np.int32)
    by_example = views(shift(pixels=PIXELS), 0, {'inputs': one_image}, IDS, same)['inputs']
    by_number = views(shift(pixels=PIXELS), 0, {'inputs': one_image}, same, IDS)['inputs']
    assert len({np.asarray(view).tobytes() for view in by_example}) > 1
    assert len({np.asarray(view).tobytes() for view in by_number}) > 1


def test_a_view_does_not_depend_on_where_in_which_batch_its_example_lies():
    random = np.random.default_rng(1)
    ids, numbers = random.permutation(IDS), random.integers(0, 32, 10).astype(np.int32)
    found = views(shift(pixels=PIXELS), 0, {'inputs': IMAGES[ids]}, ids, numbers)['inputs']
    np.testing.assert_array_equal(found, seen()[ids, numbers])


def test_a_shift_needs_a_pixel():
    with pytest.raises(UsageError, match='pixels of shift must be >= 1, got 0'):
        shift(pixels=0)


LABELS = np.arange(10, dtype=np.int32) * 7 % 5
COLUMNS = {'inputs': IMAGES, 'labels': LABELS}
# A teacher whose answer says which example and view it is of.
TABLE = {'teacher/logits': np.stack(np.meshgrid(IDS, np.arange(3), indexing='ij'), axis=-1).astype(np.float32)}


def batches(streams, start=0, stop=10, *, batch_size=4, augment=None, view_count=3, tables=None, **more):
    return feed(streams, batch_size, COLUMNS, augment or identity(), 0, view_count, tables, **more)(start, stop)


def assert_fits(batch):
    """Everything in the batch is of the example and view that it says."""
    np.testing.assert_array_equal(batch['labels'], LABELS[batch['id']])
    np.testing.assert_array_equal(batch['inputs'], seen()[batch['id'], batch['view']])
    np.testing.assert_array_equal(batch['teacher/logits'], np.stack([batch['id'], batch['view']], axis=-1))
    np.testing.assert_array_equal(batch['mask'], np.ones(batch['id'].shape))


def test_cells_with_one_stream_share_batches_that_are_looked_up_by_id_and_view():
    stream = Stream(np.array([1, 3, 4, 6, 8, 9]), 5)
    batch = batches([stream], augment=shift(pixels=PIXELS), tables=TABLE)
    ids, epochs = order(stream, 0, 10, 4)
    np.testing.assert_array_equal(batch['id'], ids)
    np.testing.assert_array_equal(batch['view'], epochs % 3)
    assert set(np.asarray(batch['view']).ravel()) == {0, 1, 2}
    assert_fits(batch)


def test_what_a_teacher_says_needs_no_other_program_of_the_batch():
    stream, look = Stream(np.arange(10), 0), normalise(mean=(0.25,), std=(0.5,))
    plain, told = (batches([stream], preprocess=look, tables=tables) for tables in (None, TABLE))
    assert told.keys() - plain.keys() == TABLE.keys()
    shown = bound(feeding.shown, augment=identity(), seed=0, preprocess=look, mix=None, task=None, teacher=None)
    assert compiled(bound(feeding._assemble, look=shown, width=None, padded=()))._cache_size() == 1


def test_cells_with_streams_of_their_own_get_batches_of_their_own():
    streams = [Stream(np.arange(10), 0), Stream(np.arange(5), 0), Stream(np.arange(10), 1)]
    batch = batches(streams, augment=shift(pixels=PIXELS), tables=TABLE)
    assert batch['inputs'].shape == (10, 3, 4, *IMAGES.shape[1:])
    for cell, stream in enumerate(streams):
        ids, epochs = order(stream, 0, 10, 4)
        np.testing.assert_array_equal(batch['id'][:, cell], ids)
        np.testing.assert_array_equal(batch['view'][:, cell], epochs % 3)
    assert_fits(batch)


def test_a_resumed_feed_gives_what_an_unbroken_one_would_have():
    streams = [Stream(np.arange(7), 3)]
    whole, part = batches(streams), batches(streams, 7, 9)
    for name, leaf in part.items():
        np.testing.assert_array_equal(leaf, whole[name][7:9])


BYTES = np.random.default_rng(2).integers(0, 256, (10, 3, 4, 2), np.uint8)
LOOK = normalise(mean=(0.2, 0.3), std=(0.5, 0.7))


def as_seen(images):
    return (images / 255 - [0.2, 0.3]) / [0.5, 0.7]


def shown(streams, start=0, stop=10, part=slice(None), tables=None, **more):
    columns = {'inputs': BYTES, 'labels': LABELS}
    return feed(streams, 4, columns, shift(pixels=PIXELS), 0, 3, tables, preprocess=LOOK, **more)(
        start, stop, part=part
    )


@functools.cache
def raw(count=3):
    """Views 0 ... 2 of every image, as stored: (example, view, ...)."""
    ids, numbers = np.meshgrid(IDS, np.arange(count, dtype=np.int32), indexing='ij')
    images = np.broadcast_to(BYTES[:, None], (10, count, *BYTES.shape[1:]))
    return np.asarray(
        jax.jit(functools.partial(views, shift(pixels=PIXELS), 0))({'inputs': images}, ids, numbers)['inputs']
    )


@pytest.mark.parametrize('seeds', [(5,), (5, 6)])
def test_bytes_are_augmented_as_bytes_and_every_view_is_preprocessed(seeds):
    batch = shown([Stream(IDS, seed) for seed in seeds])
    assert raw().dtype == np.uint8
    np.testing.assert_array_equal(raw()[:, 0], BYTES)
    assert set(np.asarray(batch['view']).ravel()) == {0, 1, 2}
    np.testing.assert_allclose(batch['inputs'], as_seen(raw()[batch['id'], batch['view']]), rtol=1e-5, atol=1e-5)
    assert batch['inputs'].dtype == np.float32
    assert 'teacher_inputs' not in batch


@pytest.mark.parametrize('seeds', [(5,), (5, 6)])
def test_an_inconsistent_teacher_sees_the_next_view(seeds):
    streams = [Stream(IDS, seed) for seed in seeds]
    batch, plain = shown(streams, consistent=False), shown(streams)
    for name, leaf in plain.items():
        np.testing.assert_array_equal(batch[name], leaf)
    other = raw()[batch['id'], (batch['view'] + 1) % 3]
    np.testing.assert_allclose(batch['teacher_inputs'], as_seen(other), rtol=1e-5, atol=1e-5)
    cached = shown(streams, consistent=False, tables=TABLE)
    np.testing.assert_array_equal(cached['teacher/logits'], np.stack([batch['id'], (batch['view'] + 1) % 3], axis=-1))
    assert 'teacher_inputs' not in cached


@pytest.mark.parametrize('seeds', [(5,), (5, 6)])
@pytest.mark.parametrize('mix', [None, mixup(alpha=1.0)])
def test_the_parts_of_several_processes_are_those_of_the_whole_batch(seeds, mix):
    streams = [Stream(IDS, seed) for seed in seeds]
    whole = shown(streams, mix=mix, consistent=False)
    for part in (slice(0, 2), slice(2, 4)):
        own = shown(streams, part=part, mix=mix, consistent=False)
        assert set(own) == set(whole)
        for name, leaf in own.items():
            np.testing.assert_allclose(leaf, whole[name][..., part] if leaf.ndim == len(seeds) + 1 else
                                       np.moveaxis(np.moveaxis(whole[name], len(seeds), 0)[part], 0, len(seeds)),
                                       atol=1e-6, err_msg=name)  # fmt: skip


def test_a_mixed_batch_is_the_mixture_of_the_plain_one():
    streams = [Stream(IDS, 5)]
    plain, mixed = shown(streams, 3, 6), shown(streams, 3, 6, mix=mixup(alpha=1.0))
    share = np.asarray(mixed['mix'])[..., :1, None, None]
    assert 0.01 < share.min() < 0.99
    for step in range(3):
        partners = [
            [k for k in range(4) if plain['labels'][step, k] == label] for label in mixed['labels_mixed'][step, :, 1]
        ]
        inputs = plain['inputs'][step]
        wanted = [
            [share[step, b] * inputs[b] + (1 - share[step, b]) * inputs[k] for k in partners[b]] for b in range(4)
        ]
        for found, possible in zip(mixed['inputs'][step], wanted, strict=True):
            assert min(float(np.abs(found - one).max()) for one in possible) < 1e-5


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        (
            {'mix': mixup(), 'tables': TABLE},
            'mixed anew in every step, so what a teacher says of them cannot be looked up',
        ),
        ({'consistent': False, 'view_count': 1}, 'for a teacher that sees another view .* at least 2 views'),
        ({'view_count': 2, 'tables': TABLE}, "table 'teacher/logits' has 3 views per example, the feed 2"),
        ({'batch_size': 0}, 'batch_size and views must be >= 1, got 0 and 3'),
        ({'view_count': 0}, 'batch_size and views must be >= 1, got 4 and 0'),
        ({'streams': [Stream(IDS, 0), Stream(IDS[:0], 0)]}, 'a stream has no examples'),
    ],
)
def test_a_feed_that_cannot_be_is_refused(wrong, message):
    with pytest.raises(UsageError, match=message):
        batches(**{'streams': [Stream(IDS, 0)], **wrong})


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), min_size=1, max_size=40), seeds, st.data())
def test_a_draw_by_groups_ends_one_before_it_begins_the_next(pairs, seed, data):
    groups, labels = np.asarray(pairs).T
    small = data.draw(st.integers(1, len(pairs)))
    large = data.draw(st.integers(small, len(pairs)))
    few, many = group_by_group(groups, labels, small, seed), group_by_group(groups, labels, large, seed)
    assert len(few) == small
    assert set(few) <= set(many)
    taken = {group: np.sum(groups[few] == group) for group in np.unique(groups[few])}
    assert sum(count < np.sum(groups == group) for group, count in taken.items()) <= 1  # the last one may be cut


def test_the_group_that_is_cut_keeps_the_proportions_of_its_classes():
    drawn = group_by_group(np.zeros(30, int), np.arange(30) % 3, 12, 0)
    assert np.bincount(drawn % 3).tolist() == [4, 4, 4]


@pytest.mark.parametrize('size', [0, 11])
def test_groups_give_no_more_than_they_have(size):
    with pytest.raises(UsageError, match=f'cannot draw {size} from 10 examples'):
        group_by_group(np.arange(10), np.zeros(10, int), size, 0)
