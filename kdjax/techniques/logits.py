"""Logit matching: the student's logits approach the teacher's, before any softmax."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from kdjax.techniques.algebra import same_classes, wide
from kdjax.techniques.base import AtTeacher, Knobs, Paper, Term
from kdjax.types import Array, TermInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogitMatching(Term):
    """1/2 || z_s - z_t ||^2 (eq. 1). Values: (B,), or (B, N) for logits (B, N, K).

    A class that a side rules out (logit -inf) adds 0: no finite logit could match it. Forms: 'paper' is the above;
    'mean': the mean over classes of (z_s - z_t)^2 (Knowledge-Distillation-Zoo, and TextBrewer, whose logits over T are
    a weight of 1 / T^2); 'centred': as 'mean' after each side's mean is taken off, which a softmax does not see: twice
    the limit of T^2 KL at high temperature (Hinton et al., 2015, sec. 2.1).

    Attributes:
      form: which of the above.
    """

    PAPER: ClassVar[Paper] = Paper('Ba, Caruana', 'Do Deep Nets Really Need to be Deep?', 'NIPS', 2014, '1312.6184')
    FORMS: ClassVar[tuple[str, ...]] = ('paper', 'mean', 'centred')
    at_teacher: ClassVar[AtTeacher] = 'zero'
    TASKS: ClassVar[tuple[str, ...]] = ('classification', 'multilabel', 'regression', 'tagging')

    form: str = 'paper'

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        student, teacher = same_classes(inputs)
        possible = jnp.isfinite(student) & jnp.isfinite(teacher)
        gap = jnp.where(possible, wide(student), 0) - jnp.where(possible, wide(teacher), 0)
        if self.form == 'centred':
            count = jnp.sum(possible, axis=-1, keepdims=True).astype(gap.dtype)
            gap = jnp.where(possible, gap - jnp.sum(gap, axis=-1, keepdims=True) / jnp.maximum(count, 1), 0)
        square = jnp.sum(jnp.square(gap), axis=-1)
        return square / 2 if self.form == 'paper' else square / student.shape[-1]
