"""Self-supervised distillation: the student also matches how the teacher tells rotated images apart."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from kdjax.errors import UsageError
from kdjax.techniques.algebra import example_mask, total, unit, wide
from kdjax.techniques.base import Knobs, Paper, Scope, Taps, Term, knob, number
from kdjax.techniques.distributions import divergence, label_loss
from kdjax.types import Array, TermInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class SelfSupervised(Term):
    """l1 CE + l2 T^2 KL + l3 T_ss^2 KL(ss) + l4 T_tf^2 KL(tf) (eq. 4-8). Values: (B,).

    CE and KL are of the upright view; tf is the KL of the class probabilities of the three rotated views; ss that of
    the softmax of cosines between a rotated view and the upright views of the whole batch (eq. 2), each network with
    its own features. Of the rotated views that the teacher gets wrong only the least wrong are kept (sec. 3.3): all
    that it gets right, and a share of the others by the rank of the truth. The paper compares the outputs of a learned
    module on the features; here a tap may be such, or the features themselves.

    Attributes:
      tap: of the four views' logits, (B, 4, K), the upright one first.
      embedding: of their features, (B, 4, D); widths of the two networks may differ.
      hard, soft, similarity, rotated: l1 to l4; knobs, >= 0.
      temperature, similarity_temperature, rotated_temperature: T, T_ss and T_tf; knobs, > 0.
      similarity_share, rotated_share: of the wrong views that ss and tf keep, in [0, 1].
    """

    PAPER: ClassVar[Paper] = Paper(
        'Xu, Liu, Li, Loy', 'Knowledge Distillation Meets Self-Supervision', 'ECCV', 2020, '2006.07114'
    )
    LABELS: ClassVar[bool] = True
    scope: ClassVar[Scope] = 'batch'
    TASKS: ClassVar[tuple[str, ...]] = ('classification',)

    tap: str = 'rotated'
    embedding: str = 'rotated_penult'
    hard: float = knob(1.0, minimum=0.0)
    soft: float = knob(0.9, minimum=0.0)
    similarity: float = knob(10.0, minimum=0.0)
    rotated: float = knob(2.7, minimum=0.0)
    temperature: float = knob(4.0, above=0.0)
    similarity_temperature: float = knob(0.5, above=0.0)
    rotated_temperature: float = knob(4.0, above=0.0)
    similarity_share: float = number(0.75, minimum=0.0, maximum=1.0)
    rotated_share: float = number(1.0, minimum=0.0, maximum=1.0)

    def taps(self) -> Taps:
        return Taps((self.tap, self.embedding), (self.tap, self.embedding))

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        student_BVK, teacher_BVK = self._read(inputs)
        labels_B = inputs.batch['labels']
        hard_B = label_loss(student_BVK[:, 0], labels_B)
        soft_B = _softened(student_BVK[:, 0], teacher_BVK[:, 0], knobs['temperature'])

        classes_B3 = jnp.broadcast_to(labels_B[:, None], (len(labels_B), 3))
        turned_B = self._kept_mean(
            _softened(student_BVK[:, 1:], teacher_BVK[:, 1:], knobs['rotated_temperature']),
            _rank(wide(teacher_BVK[:, 1:]), classes_B3), inputs, self.rotated_share,
        )  # fmt: skip
        student_B3B, teacher_B3B = (_cosines(side.features[self.embedding], inputs) for side in inputs[:2])
        places_B3 = jnp.broadcast_to(jnp.arange(len(labels_B))[:, None], classes_B3.shape)
        alike_B = self._kept_mean(
            _softened(student_B3B, teacher_B3B, knobs['similarity_temperature']),
            _rank(teacher_B3B, places_B3), inputs, self.similarity_share,
        )  # fmt: skip
        parts = ('hard', hard_B), ('soft', soft_B), ('similarity', alike_B), ('rotated', turned_B)
        weighted = [knobs[name] * part_B for name, part_B in parts]
        return total(weighted)

    def _kept_mean(self, values_B3: Array, rank_B3: Array, inputs: TermInputs, share: float) -> Array:
        """Per example what makes the mean over real examples that over the kept views. (B,)"""
        mask_B = example_mask(inputs)
        real_B3 = jnp.broadcast_to(mask_B[:, None] > 0, rank_B3.shape)
        right_B3 = real_B3 & (rank_B3 == 0)
        wrong = jnp.sum(real_B3 & (rank_B3 > 0)).astype(values_B3.dtype)
        count = jnp.sum(right_B3) + jnp.floor(wrong * share).astype(jnp.int32)
        # Ties of rank go by the example's id, so that the order of the batch does not matter.
        turns = jnp.tile(jnp.arange(3), rank_B3.shape[0])
        own = [jnp.repeat(inputs.batch[name], 3) for name in ('view', 'id')]
        ranks = jnp.where(real_B3, rank_B3, jnp.iinfo(jnp.int32).max).reshape(-1)
        place = jnp.argsort(jnp.lexsort((turns, *own, ranks)))
        kept_B3 = (place < count).reshape(rank_B3.shape) & real_B3
        scale = jnp.sum(mask_B > 0) / jnp.maximum(jnp.sum(kept_B3), 1)
        return jnp.sum(jnp.where(kept_B3, values_B3, 0), axis=1) * scale.astype(values_B3.dtype)

    def _read(self, inputs: TermInputs) -> tuple[Array, Array]:
        student, teacher = inputs.student.features[self.tap], inputs.teacher.features[self.tap]
        if student.shape != teacher.shape or student.ndim != 3 or student.shape[1] != 4:
            raise UsageError(f'{self.tap!r} must be logits of four views (B, 4, K) on both sides, got {student.shape} '
                             f'and {teacher.shape}')  # fmt: skip
        return student, teacher


def _softened(student: Array, teacher: Array, temperature: Array) -> Array:
    return divergence(teacher, student, temperature) * jnp.square(temperature)


def _cosines(feature_B4D: Array, inputs: TermInputs) -> Array:
    """Of each rotated view with each upright one; padding is as far away as can be. (B, 3, B)"""
    real_B = example_mask(inputs) > 0
    unit_B4D = unit(jnp.where(real_B[:, None, None], wide(feature_B4D), 0))
    cosine_B3B = jnp.einsum('bvd,cd->bvc', unit_B4D[:, 1:], unit_B4D[:, 0])
    return jnp.where(real_B, cosine_B3B, -1e30)


def _rank(score_B3C: Array, truth_B3: Array) -> Array:
    """How many entries are above the true one. (B, 3)"""
    true_B31 = jnp.take_along_axis(score_B3C, truth_B3[..., None], axis=-1)
    return jnp.sum(score_B3C > true_B31, axis=-1)
