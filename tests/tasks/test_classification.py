"""Metrics of classification equal numpy's on the whole split, however it is cut into batches."""

import functools

import numpy as np
import pytest
from scipy.special import log_softmax

from kdjax.dataset import Split
from kdjax.tasks.classification import Classification
from kdjax.tasks.evaluation import evaluator
from kdjax.types import Net, Outputs

CELLS, EXAMPLES, WIDTH, CLASSES = 3, 23, 5, 4
RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.normal(size=(EXAMPLES, WIDTH)).astype(np.float32)
LABELS = RANDOM.integers(0, CLASSES, EXAMPLES).astype(np.int32)
WEIGHTS = RANDOM.normal(size=(CELLS, WIDTH, CLASSES)).astype(np.float32)
TEACHER = RANDOM.normal(size=(EXAMPLES, CLASSES)).astype(np.float32)
LINEAR = Net(
    init=lambda key, inputs: {'params': WEIGHTS[0], 'stats': {}},
    apply=lambda variables, inputs, *, train, key: (Outputs(inputs @ variables['params'], {}), variables['stats']),
    taps=(),
)


@functools.cache
def measured(batch_size, taught=True):
    evaluate = evaluator(
        Classification(), LINEAR, Split(INPUTS, LABELS), TEACHER if taught else None, batch_size=batch_size
    )
    return evaluate({'params': WEIGHTS, 'stats': {}})


def evaluated(inputs, teacher_logits=None, **options):
    return evaluator(Classification(), LINEAR, Split(inputs, LABELS), teacher_logits, batch_size=7, **options)


def calibration_error(probabilities):
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == LABELS
    bins = np.minimum(np.floor(confidence * 15), 14)
    return sum(abs((right - confidence)[bins == b].sum()) for b in range(15)) / EXAMPLES


def by_hand(weights):
    logits = np.float64(INPUTS) @ weights
    student, teacher = log_softmax(logits, axis=1), log_softmax(np.float64(TEACHER), axis=1)
    return {
        'accuracy': np.mean(logits.argmax(axis=1) == LABELS),
        'nll': -np.mean(student[np.arange(EXAMPLES), LABELS]),
        'ece': calibration_error(np.exp(student)),
        'agreement': np.mean(logits.argmax(axis=1) == TEACHER.argmax(axis=1)),
        'kl': np.mean(np.sum(np.exp(teacher) * (teacher - student), axis=1)),
    }


@pytest.mark.parametrize('batch_size', [1, 7, 23, 1024])
def test_metrics_of_every_cell_are_those_of_the_whole_split(batch_size):
    found = measured(batch_size)
    for cell, weights in enumerate(WEIGHTS):
        wanted = by_hand(weights)
        assert set(found) == set(wanted)
        for name, value in wanted.items():
            assert found[name].shape == (CELLS,)
            np.testing.assert_allclose(found[name][cell], value, rtol=1e-5, atol=1e-6, err_msg=name)


class Counted:
    """Inputs that are to be read in parts, and note how large those were."""

    shape, dtype = INPUTS.shape, INPUTS.dtype

    def __init__(self):
        self.parts = []

    def __len__(self):
        return EXAMPLES

    def __getitem__(self, key):
        self.parts.append(len(INPUTS[key]))
        return INPUTS[key]


@pytest.mark.parametrize('batch_size', [1, 7, 23, 1024])
def test_a_split_that_is_read_part_by_part_has_the_same_metrics(batch_size):
    inputs = Counted()
    found = evaluator(Classification(), LINEAR, Split(inputs, LABELS), TEACHER, batch_size=batch_size, stream=True)(
        {'params': WEIGHTS, 'stats': {}}
    )
    assert set(found) == set(measured(batch_size))
    for name, values in measured(batch_size).items():
        np.testing.assert_allclose(found[name], values, rtol=1e-6, err_msg=name)
    assert (sum(inputs.parts), max(inputs.parts)) == (EXAMPLES, min(batch_size, EXAMPLES))


def test_inputs_as_stored_are_made_what_the_network_sees():
    stored = np.round(INPUTS * 20).astype(np.int8)
    seen = evaluated(stored.astype(np.float32) / 20, TEACHER)({'params': WEIGHTS, 'stats': {}})
    found = evaluated(stored, TEACHER, preprocess=lambda x: x.astype(np.float32) / 20)
    for name, value in found({'params': WEIGHTS, 'stats': {}}).items():
        np.testing.assert_allclose(value, seen[name], rtol=1e-6)


def test_without_a_teacher_there_is_no_fidelity():
    alone = measured(7, taught=False)
    assert set(alone) == {'accuracy', 'nll', 'ece'}
    for name, values in alone.items():
        np.testing.assert_array_equal(values, measured(7)[name])


def test_a_student_that_is_its_teacher_agrees_with_it_wholly():
    logits = INPUTS @ WEIGHTS[0]
    found = evaluated(INPUTS, logits)({'params': WEIGHTS[:1], 'stats': {}})
    assert found['agreement'] == 1
    np.testing.assert_allclose(found['kl'], 0, atol=1e-6)


def test_far_logits_keep_their_likelihood_finite():
    found = evaluated(INPUTS)({'params': 1e4 * WEIGHTS, 'stats': {}})
    wanted = [-log_softmax(1e4 * np.float64(INPUTS) @ w, axis=1)[np.arange(EXAMPLES), LABELS].mean() for w in WEIGHTS]
    np.testing.assert_allclose(found['nll'], wanted, rtol=1e-4)


def test_a_teacher_of_other_classes_is_nothing_to_agree_with():
    found = evaluated(INPUTS, TEACHER[:, 1:])({'params': WEIGHTS, 'stats': {}})
    assert set(found) == {'accuracy', 'nll', 'ece'}
