"""Label noise: of its share, never the true class, and a function of (seed, id)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdjax.errors import UsageError
from kdjax.tasks.classification import symmetric

LABELS = np.arange(20000, dtype=np.int32) % 5


def test_the_share_of_wrong_labels_is_that_asked_for():
    for share in (0.0, 0.2, 0.5, 1.0):
        wrong = np.mean(symmetric(LABELS, share, 5, 3) != LABELS)
        assert abs(wrong - share) <= 4 * np.sqrt(share * (1 - share) / len(LABELS))


def test_a_wrong_label_is_each_of_the_other_classes_alike():
    found = symmetric(LABELS, 1.0, 5, 0)
    assert found.dtype == LABELS.dtype
    table = np.zeros((5, 5), int)
    np.add.at(table, (LABELS, found), 1)
    assert (np.diag(table) == 0).all()
    expected = 4000 / 4
    others = table[~np.eye(5, dtype=bool)]
    assert ((others - expected) ** 2 / expected).sum() < 40  # chi-squared with 15 degrees of freedom: p > 0.0004


@given(st.integers(0, 2**31), st.integers(2, 300), st.integers(1, 299))
def test_an_examples_label_depends_on_no_other_example(seed, count, part):
    whole = symmetric(LABELS[:count], 0.5, 5, seed)
    np.testing.assert_array_equal(symmetric(LABELS[:part], 0.5, 5, seed)[:count], whole[:part])


def test_a_larger_share_changes_what_a_smaller_one_changes_and_seeds_differ():
    few, many = (symmetric(LABELS, share, 5, 7) for share in (0.1, 0.4))
    changed = few != LABELS
    np.testing.assert_array_equal(many[changed], few[changed])
    assert (many != LABELS).sum() > changed.sum()
    assert not np.array_equal(symmetric(LABELS, 0.4, 5, 8), many)


@pytest.mark.parametrize(('share', 'classes'), [(-0.1, 5), (1.1, 5), (0.5, 1)])
def test_noise_that_cannot_be_is_refused(share, classes):
    with pytest.raises(UsageError, match=r'label noise needs a share in \[0, 1\] and 2 classes'):
        symmetric(LABELS, share, classes, 0)
