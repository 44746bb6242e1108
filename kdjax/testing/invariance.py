"""Laws of what must not change an answer, or spoil it: padding, order, labels that are not there, extremes."""

from typing import Any

import jax
import numpy as np

from kdjax.dataset import UNLABELLED
from kdjax.testing import world
from kdjax.testing.world import Subject
from kdjax.types import TermInputs

HUGE = 1e4  # large, and finite after the few squarings that a technique may do
REAL = np.asarray(world.MASK, bool)


def real(tree: object) -> object:
    """The rows of `tree` that are not padding."""
    return jax.tree.map(lambda leaf: leaf[REAL], tree)


def finite(tree: object) -> bool:
    """Whether no entry is nan or infinite."""
    return all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(tree))


def padding_changes_nothing(subject: Subject) -> None:
    """Whatever stands where nothing is real, values, gradients and memory are as they were."""
    clean = world.compiled(*subject)
    labels = subject.inputs.batch['labels']
    batch = {**subject.inputs.batch, 'labels': np.where(REAL, labels, world.CLASSES - 1 - labels)}
    student, teacher = jax.tree.map(
        lambda leaf: np.where(REAL.reshape(-1, *[1] * (leaf.ndim - 1)), leaf, leaf.dtype.type(HUGE)),
        subject.inputs[:2],
    )
    dirty = world.compiled(*subject._replace(inputs=TermInputs(student, teacher, batch)))
    world.assert_same_answer(dirty, clean)
    world.assert_close(real(dirty.values), real(clean.values))


def the_order_of_examples_does_not_matter(subject: Subject) -> None:
    """A permutation of the batch permutes values and gradients."""
    order = np.random.default_rng(3).permutation(len(REAL))
    straight = world.compiled(*subject)
    shuffled = world.compiled(*subject._replace(inputs=jax.tree.map(lambda leaf: leaf[order], subject.inputs)))
    world.assert_close(shuffled.loss, straight.loss)
    world.assert_close(shuffled.params, straight.params)
    by_row = (straight.student, straight.values)
    world.assert_close((shuffled.student, shuffled.values), jax.tree.map(lambda leaf: np.asarray(leaf)[order], by_row))


def no_label_is_padding_to_what_reads_labels_and_nothing_to_others(subject: Subject) -> None:
    """A term that reads labels sees no example without one; the others see all alike."""
    batch, nameless = subject.inputs.batch, np.arange(len(REAL)) == np.flatnonzero(REAL)[1]
    unlabelled = {**batch, 'labels': np.where(nameless, UNLABELLED, batch['labels']).astype(np.int32)}
    masked = {**batch, 'mask': np.where(nameless, 0, batch['mask']).astype(np.float32)}
    got, want = (
        world.compiled(*subject._replace(inputs=subject.inputs._replace(batch=seen)))
        for seen in (unlabelled, masked if subject.term.reads_labels else batch)
    )
    world.assert_same_answer(got, want)
    if not subject.term.reads_labels:
        world.assert_close(real(got.values), real(want.values))


def confident_logits_stay_finite(subject: Subject) -> None:
    """Logits of +-1e4: values, gradients and memory."""
    inputs, extremes = subject.inputs, np.asarray([-HUGE, HUGE], np.float32)
    drawn: Any = [
        np.random.default_rng(seed).choice(extremes, side.logits.shape) for seed, side in enumerate(inputs[:2])
    ]
    student, teacher = (side._replace(logits=logits) for side, logits in zip(inputs[:2], drawn, strict=True))
    answer = world.compiled(*subject._replace(inputs=TermInputs(student, teacher, inputs.batch)))
    assert finite(answer), 'logits of +-1e4 give nan or infinity'


def a_batch_of_padding_is_no_trouble(subject: Subject) -> None:
    """Its loss is 0, and so are its gradients."""
    answer = _with_real(subject, 0)
    assert answer.loss == 0, f'a batch of padding has the loss {answer.loss}'
    assert world.size((answer.params, answer.student)) == 0, 'a batch of padding has a gradient'


def a_batch_of_one_example_is_no_trouble(subject: Subject) -> None:
    """Nothing divides by what is one less."""
    _with_real(subject, 1)


def _with_real(subject: Subject, count: int) -> world.Answer:
    batch = {**subject.inputs.batch, 'mask': (np.arange(len(REAL)) < count).astype(np.float32)}
    answer = world.compiled(*subject._replace(inputs=subject.inputs._replace(batch=batch)))
    assert finite(answer), f'{count} real examples give nan or infinity'
    return answer


def features_and_logits_of_0_stay_finite(subject: Subject) -> None:
    """A dead layer: every norm, variance and correlation is 0."""
    sides = jax.tree.map(lambda leaf: 0 * leaf if leaf.dtype == np.float32 else leaf, subject.inputs[:2])
    answer = world.compiled(*subject._replace(inputs=TermInputs(sides[0], sides[1], subject.inputs.batch)))
    assert finite(answer), 'features and logits of 0 give nan or infinity'
