"""Which examples a term sees, and over how many its mean is: those with labels, of the whole batch."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.errors import UsageError
from kdjax.techniques.base import Term
from kdjax.techniques.cross_entropy import CrossEntropy
from kdjax.techniques.dkd import DecoupledTargets
from kdjax.techniques.hinton import SoftTargets
from kdjax.testing import world
from kdjax.train.objective import Objective, shown

SIZE = 8
LABELS = np.asarray([3, -1, 0, -1, -1, -1, 9, 1], np.int32)  # the second quarter has none
TERMS = {'hard': CrossEntropy(), 'soft': SoftTargets(), 'decoupled': DecoupledTargets()}


def seen(**columns):
    inputs = world.drawn(5, SIZE, (1, 1, 1, 1, 1, 0, 1, 1))
    return inputs._replace(batch={**inputs.batch, 'labels': LABELS, **columns})


def shares(terms, inputs, **options):
    objective = Objective(tuple(terms.items()))
    nothing = {name: {} for name in terms}
    knobs = jax.tree.map(jnp.float32, objective.knobs())
    return objective.shares(nothing, nothing, inputs, knobs, step=jnp.int32(0), key=world.KEY, **options).parts


def test_the_mean_of_a_term_is_over_the_labels_that_there_are():
    inputs = seen()
    found = shares(TERMS, inputs)
    log_p = np.asarray(jax.nn.log_softmax(inputs.student.logits))
    known = np.flatnonzero((LABELS >= 0) & (inputs.batch['mask'] > 0))
    np.testing.assert_allclose(found['hard'], -np.mean(log_p[known, LABELS[known]]), rtol=1e-6)
    # The teacher speaks of all.
    blind = shares({'soft': TERMS['soft']}, inputs._replace(batch={'mask': inputs.batch['mask']}))
    np.testing.assert_allclose(found['soft'], blind['soft'], rtol=1e-6)
    assert blind['soft'] != shares({'soft': TERMS['soft']}, seen(mask=(LABELS >= 0).astype(np.float32)))['soft']


@pytest.mark.parametrize('parts', [2, 4])
def test_micro_batches_are_averaged_over_the_labels_of_all(parts):
    inputs = seen()
    cut = [jax.tree.map(lambda leaf, part=part: np.split(leaf, parts)[part], inputs) for part in range(parts)]
    each = [shares(TERMS, part, device_batch=inputs.batch) for part in cut]
    summed = {name: sum(part[name] for part in each) for name in TERMS}
    world.assert_close(summed, shares(TERMS, inputs))


@pytest.mark.parametrize('devices', [2, 4])
def test_devices_are_averaged_over_the_labels_of_all(devices):
    subject = world.placed(TERMS, seen())
    world.assert_same_answer(world.spread(*subject, devices), world.compiled(*subject))


def test_labels_of_tokens_count_one_by_one():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 3, 5)).astype(np.float32)
    labels = np.asarray([[0, -1, 4], [-1, -1, 2]], np.int32)
    mask = np.asarray([[1, 1, 1], [1, 1, 0]], np.float32)
    inputs = seen()._replace(batch={'labels': labels, 'mask': mask})
    inputs = inputs._replace(student=inputs.student._replace(logits=logits))
    log_p = np.asarray(jax.nn.log_softmax(logits))
    wanted = -(log_p[0, 0, 0] + log_p[0, 2, 4]) / 2
    np.testing.assert_allclose(shares({'hard': TERMS['hard']}, inputs)['hard'], wanted, rtol=1e-6)
    by_example = inputs._replace(batch={'labels': labels, 'mask': np.asarray([1, 0], np.float32)})
    np.testing.assert_allclose(shares({'hard': TERMS['hard']}, by_example)['hard'], wanted, rtol=1e-6)


def test_mixed_examples_need_both_of_their_labels():
    share = np.float32([0.7, 0.7, 0.7, 0.0, 1.0, 0.7, 1.0, 0.7])
    both = np.stack([LABELS, np.roll(LABELS, 1)], axis=-1)
    batch = {'labels_mixed': both, 'mix': np.stack([share, 1 - share], axis=-1), 'mask': np.ones(SIZE, np.float32)}
    found = shown('hard', TERMS['hard'], batch)
    wanted = [(share[k] == 0 or both[k, 0] >= 0) and (share[k] == 1 or both[k, 1] >= 0) for k in range(SIZE)]
    np.testing.assert_array_equal(found['mask'], np.float32(wanted))
    assert sum(wanted) == 4
    np.testing.assert_array_equal(found['labels_mixed'], np.maximum(both, 0))


@pytest.mark.parametrize(
    ('labels', 'known'),
    [
        (np.int32([[0, -1], [-1, -1], [1, 1]]), [[1, 0], [0, 0], [1, 1]]),
        (np.float32([[0, np.nan], [np.nan, np.nan], [-1, 2]]), [[1, 0], [0, 0], [1, 1]]),
        (np.float32([-1.5, np.nan, 0]), [1, 0, 1]),
        (np.uint8([0, 255, 1]), [1, 1, 1]),
    ],
)
def test_whole_numbers_below_0_and_nan_are_no_labels(labels, known):
    found = shown('hard', TERMS['hard'], {'labels': labels, 'mask': np.float32([1, 1, 1])})
    np.testing.assert_array_equal(found['mask'], np.float32(known))
    np.testing.assert_array_equal(found['labels'], np.where(known, labels, 0))
    assert found['labels'].dtype == labels.dtype


class Secret(Term):
    """A term that reads labels and does not say so."""

    PAPER: ClassVar = SoftTargets.PAPER

    def values(self, inputs, knobs):
        return inputs.batch['labels'].astype(jnp.float32)


def test_a_term_sees_labels_only_if_it_says_that_it_reads_them():
    assert 'labels' not in shown('soft', TERMS['soft'], seen().batch)
    with pytest.raises(UsageError, match="term 'own' reads labels and does not say so: set LABELS of Secret to True"):
        shares({'own': Secret()}, seen())


def test_of_mixed_examples_only_task_losses_know_the_labels():
    batch = {name: leaf for name, leaf in seen().batch.items() if name != 'labels'}
    batch |= {'labels_mixed': np.zeros((SIZE, 2), np.int32), 'mix': np.full((SIZE, 2), 0.5, np.float32)}
    inputs = seen()._replace(batch=batch)
    assert shares({'hard': TERMS['hard']}, inputs)['hard'] > 0
    with pytest.raises(UsageError, match="term 'decoupled' reads labels, and mixed examples have two"):
        shares({'decoupled': TERMS['decoupled']}, inputs)
