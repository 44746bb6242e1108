"""The shift of biases, against counting predictions."""

import numpy as np
import pytest

from experiments.hinton2015_mnist import bias
from kdjax.errors import UsageError


@pytest.mark.parametrize('classes', [(3,), (1, 2)])
@pytest.mark.parametrize('seed', range(3))
def test_with_the_shift_the_classes_are_predicted_as_often_as_they_are_labels(seed, classes):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 5, 400)
    logits = random.normal(size=(400, 5)) + 2 * np.eye(5)[labels]
    logits[:, list(classes)] -= 4.0  # of these the student knows nothing
    wanted = np.isin(labels, classes).sum()
    counts = {
        moved: np.isin(bias.shifted(logits, classes, moved).argmax(axis=1), classes).sum()
        for moved in (0.0, bias.matching(logits, labels, classes))
    }
    before, after = counts.values()
    assert before < wanted / 2
    assert after == wanted


def test_a_student_that_was_robbed_of_a_constant_gets_it_back():
    """Where the labels are the predictions, the shift undoes what was done to a bias, up to the nearest examples."""
    logits = np.random.default_rng(0).normal(size=(5000, 4))
    labels = logits.argmax(axis=1)
    robbed = bias.shifted(logits, [2], -1.5)
    assert bias.matching(robbed, labels, [2]) == pytest.approx(1.5, abs=0.02)
    assert bias.matching(bias.shifted(logits, [0, 1], 3.0), labels, [0, 1]) == pytest.approx(-3.0, abs=0.02)


def test_only_the_named_classes_move_and_the_logits_given_stay():
    logits = np.zeros((2, 3), np.float32)
    moved = bias.shifted(logits, [1], 2.5)
    np.testing.assert_array_equal(moved, [[0, 2.5, 0]] * 2)
    assert moved.dtype == np.float32
    assert not logits.any()


@pytest.mark.parametrize('labels', [[0, 0], [1, 1]])
def test_what_cannot_be_matched_is_refused(labels):
    with pytest.raises(UsageError, match=r'of 2 examples are of classes \[1\]'):
        bias.matching(np.zeros((2, 2)), np.array(labels), [1])
