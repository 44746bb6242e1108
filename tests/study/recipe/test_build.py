"""Which examples a cell sees."""

import numpy as np
import pytest

from kdjax.dataset import Split
from kdjax.errors import UsageError
from kdjax.study.recipe import feeding
from kdjax.study.recipe.recipe import GridCell
from kdjax.tasks.classification import Classification

LABELS = np.random.default_rng(0).integers(0, 5, 200)
CELLS = [GridCell(size, seed, {}) for size in (200, 50) for seed in (0, 1)]


def seen(classes):
    return feeding.streams(Classification(), Split(LABELS, LABELS), CELLS, 0, classes)


def test_a_transfer_set_without_a_class_is_the_whole_one_without_its_examples():
    for whole, part in zip(seen(()), seen((0, 1, 2, 4)), strict=True):
        assert list(part.pool) == [example for example in whole.pool if LABELS[example] != 3]
        assert 0 < len(part.pool) < len(whole.pool)
        assert part.seed == whole.seed


def test_of_two_classes_only_these_are_seen():
    assert all(set(LABELS[stream.pool]) == {1, 3} for stream in seen((1, 3)))


def test_transfer_sets_may_be_drawn_group_by_group():
    speakers = np.arange(200) % 4
    streams = feeding.streams(
        Classification(), Split(LABELS, LABELS, {'groups': speakers}), CELLS, 0, draw='groups'
    )  # 50 of 200 are one of four speakers
    assert [len(set(speakers[stream.pool])) for stream in streams] == [4, 4, 1, 1]
    with pytest.raises(UsageError, match=r"data\.draw must be 'examples' where the data have no column 'groups'"):
        feeding.streams(Classification(), Split(LABELS, LABELS), CELLS, 0, draw='groups')


def test_in_a_shared_order_cells_of_all_examples_have_one_stream():
    streams = feeding.streams(Classification(), Split(LABELS, LABELS), CELLS, 7, order=feeding.SHARED)
    assert streams[0] is streams[1]
    assert list(streams[0].pool) == list(range(200))
    assert {stream.seed for stream in streams} == {7}
    own = feeding.streams(Classification(), Split(LABELS, LABELS), CELLS, 7)
    assert [list(stream.pool) for stream in streams] == [list(stream.pool) for stream in own]
    assert [stream.seed for stream in own] == [7, 8, 7, 8]


@pytest.mark.parametrize('label', [5, -1, True, 'three'])
def test_a_class_that_the_data_does_not_have_is_met_before_anything_trains(label):
    with pytest.raises(UsageError, match=r'data.classes must be numbers of classes, \[0, 1, 2, 3, 4\], got'):
        seen((1, label))
