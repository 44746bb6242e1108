"""What a report shows of classes is what the answers were, of all seeds together."""

import numpy as np
import pytest

from kdjax.dataset import Dataset, Split
from kdjax.metrics import BINS
from kdjax.tasks.classification import Classification
from kdjax.tasks.regression import Regression

LABELS = np.array([0, 0, 1, 2])
DATASET = Dataset({'test': Split(np.zeros((4, 3)), LABELS)}, ('a', 'b', 'c'))


def test_confusion_and_calibration_by_hand():
    sure = np.log([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8]])
    found = Classification().by_class(DATASET, iter([sure, sure]))
    assert found['class_names'] == ['a', 'b', 'c']
    assert found['confusion'] == [[0, 0, 2], [0, 1, 2], [1, 1, 2], [2, 2, 2]]
    confidence, right, answers = np.array(found['calibration'])
    assert answers[int(0.8 * BINS)] == right[int(0.8 * BINS)] == 4
    assert confidence[int(0.8 * BINS)] == pytest.approx(3.2)
    assert (answers[int(0.7 * BINS)], right[int(0.7 * BINS)]) == (4, 2)
    gap = np.abs(confidence - right).sum() / answers.sum()
    assert gap == pytest.approx(0.2)  # the calibration error: (4 * 0.2 + 4 * 0.2) / 8


def test_a_teacher_of_other_classes_is_confused_with_nothing():
    assert Classification().by_class(DATASET, [np.zeros((4, 5))])['confusion'] == []


def test_tasks_without_classes_have_none():
    assert Classification().has_classes
    assert not Regression().has_classes
