"""Boxes of blood cells as they are published, and views that move pixels and boxes by one draw."""

import functools

import jax
import numpy as np
import pytest

from kdjax.data import augment, augment_boxes, bccd
from kdjax.data.feed import feed
from kdjax.data.order import Stream
from kdjax.errors import UsageError
from kdjax.train import cache
from kdjax.types import Outputs

HEIGHT, WIDTH = 24, 32
# Each a rectangle of a colour of its own, and one that is padding.
PLACES = np.asarray([[4, 6, 12, 14], [20, 2, 30, 20], [0, 0, 0, 0]])
IMAGE = np.full((HEIGHT, WIDTH, 3), 100, np.uint8)
for channel, (x0, y0, x1, y1) in enumerate(PLACES[:2]):
    IMAGE[y0:y1, x0:x1, channel] = 250
EXAMPLE = {'inputs': IMAGE, 'boxes': (PLACES / [WIDTH, HEIGHT, WIDTH, HEIGHT]).astype(np.float32),
           'labels': np.asarray([0, 1, -1], np.int32)}  # fmt: skip
CHAIN = augment.chain([augment_boxes.flip(vertical=0.5), augment_boxes.scale(), augment_boxes.shift(share=0.2),
                       augment_boxes.crop(share=0.6)])  # fmt: skip


@functools.cache
def drawn(count=48):
    columns = {name: np.broadcast_to(leaf, (count, *leaf.shape)) for name, leaf in EXAMPLE.items()}
    ask = jax.jit(lambda columns, ids: augment.views(CHAIN, 3, columns, ids, np.ones(count, np.int32)))
    return columns, jax.device_get(ask(columns, np.arange(count, dtype=np.int32)))


def test_boxes_go_where_their_pixels_go():
    columns, seen = drawn()
    assert seen['inputs'].dtype == np.uint8
    assert seen['inputs'].shape == columns['inputs'].shape
    np.testing.assert_array_equal(seen['labels'], columns['labels'])
    gone = 0
    for image, boxes in zip(seen['inputs'], seen['boxes'], strict=True):
        assert boxes.min() >= 0
        assert boxes.max() <= 1
        assert not boxes[2].any()
        for channel in range(2):
            bright = np.argwhere(image[..., channel] > 175)  # half way
            x0, y0, x1, y1 = boxes[channel] * [WIDTH, HEIGHT, WIDTH, HEIGHT]
            if not boxes[channel].any():
                gone += 1
                continue
            (top, left), (bottom, right) = bright.min(axis=0), bright.max(axis=0) + 1
            np.testing.assert_allclose([left, top, right, bottom], [x0, y0, x1, y1], atol=1.6)
    assert 0 < gone < 40


def test_of_a_box_too_little_of_which_is_left_nothing_is():
    before = np.asarray([[0.2, 0.2, 0.4, 0.4]] * 4 + [[0, 0, 0, 0]], np.float32)
    after = np.asarray(
        [[-0.1, 0.2, 0.1, 0.4], [-0.15, 0.2, 0.05, 0.4], [0.9, 0.8, 1.1, 1.2], [2, 2, 3, 3], [0, 0, 1, 1]]
    )
    wanted = np.asarray([[0, 0.2, 0.1, 0.4], [0] * 4, [0] * 4, [0] * 4, [0] * 4])
    np.testing.assert_allclose(augment_boxes.left(before, after.astype(np.float32)), wanted, atol=1e-6)


def test_flips_are_what_they_say_and_others_differ():
    _, seen = drawn()
    assert len({image.tobytes() for image in seen['inputs']}) == len(seen['inputs'])
    both = augment_boxes.flip(horizontal=1, vertical=1).apply(jax.random.key(0), EXAMPLE)
    np.testing.assert_array_equal(both['inputs'], IMAGE[::-1, ::-1])
    np.testing.assert_allclose(both['boxes'][:2], 1 - EXAMPLE['boxes'][:2][:, [2, 3, 0, 1]], atol=1e-6)
    assert not np.any(both['boxes'][2])


def mean_colours(variables, batch):
    return Outputs(batch['inputs'].mean(axis=(1, 2)), {})


def test_a_cache_has_what_the_teacher_says_of_the_very_views():
    columns, seen = drawn()
    tables = cache.compute(mean_colours, {}, columns, CHAIN, 3, 2, batch_size=48)
    np.testing.assert_allclose(tables['teacher/logits'][:, 1], seen['inputs'].mean(axis=(1, 2)) / 255, rtol=1e-4)
    np.testing.assert_allclose(tables['teacher/logits'][:, 0], columns['inputs'].mean(axis=(1, 2)) / 255, rtol=1e-4)
    # What a batch brings along is what the teacher says of it when asked, and its boxes are of the same draw.
    batch = feed([Stream(np.arange(48), 0)], 48, columns, CHAIN, 3, 2, tables)(1, 2)
    batch = {name: np.asarray(leaf)[0] for name, leaf in batch.items()}
    np.testing.assert_allclose(batch['teacher/logits'], mean_colours({}, batch).logits, rtol=1e-4)
    assert np.all(batch['view'] == 1)
    np.testing.assert_allclose(batch['boxes'], seen['boxes'][batch['id']], atol=1e-6)


@pytest.mark.parametrize('make', [augment_boxes.scale, augment_boxes.shift, augment_boxes.crop])
def test_shares_that_are_none_are_refused(make):
    with pytest.raises(UsageError, match=r'must be in \(0, 1\), got 1'):
        make(share=1)


def test_without_boxes_there_is_nothing_to_move():
    with pytest.raises(UsageError, match="an augmentation of boxes needs the column 'boxes', there are: inputs"):
        augment_boxes.flip().apply(jax.random.key(0), {'inputs': IMAGE})
    with pytest.raises(UsageError, match='probabilities of flip'):
        augment_boxes.flip(vertical=2)


ANNOTATION = """<object><name>WBC</name><bndbox><xmin>64</xmin><ymin>48</ymin><xmax>320</xmax><ymax>240</ymax></bndbox>
</object><object><name>Platelets</name><bndbox><xmin>5</xmin><ymin>7</ymin><xmax>5</xmax><ymax>9</ymax></bndbox>
</object>"""


def test_annotations_without_area_are_left_out():
    ((label, box),) = bccd.annotated(ANNOTATION)
    assert label == 1
    np.testing.assert_allclose(box, [0.1, 0.1, 0.5, 0.5])


@pytest.mark.slow
def test_blood_cells_are_as_published(restored):
    pytest.importorskip('PIL', reason="needs the extra 'detection'")
    data = bccd.boxes(folder=str(restored('bccd')), width=64, height=48)
    counts = {name: (split.size, int((split.labels >= 0).sum())) for name, split in data.splits.items()}
    assert counts == {'train': (205, 2804), 'validation': (87, 1137), 'test': (72, 945)}
    for split in data.splits.values():
        assert split.inputs.shape[1:] == (48, 64, 3)
        boxes, real = split.more['boxes'], split.labels >= 0
        assert np.all((boxes[..., 2:] > boxes[..., :2]).all(-1) == real)
        assert real.sum(axis=1).max() <= 30
    with pytest.raises(UsageError, match='width and height of bccd must be in 1 to 640 and 480'):
        bccd.boxes(width=0)
