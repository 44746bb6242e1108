"""A distillation term of its own; those of the library are listed by `kdjax list`."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from kdjax.techniques.algebra import log_softmax, same_classes
from kdjax.techniques.base import Knobs, Paper, Term, knob
from kdjax.types import TermInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class SureTargets(Term):
    """c T^2 KL(p^t_T || p^s_T), c the teacher's highest probability: where it is unsure, it counts less. Values: (B,).

    Attributes:
      temperature: T; knob, > 0.
    """

    PAPER: ClassVar[Paper] = Paper('Me', 'A term of my own', 'unpublished', 2026)

    temperature: float = knob(4.0, above=0.0)

    def values(self, inputs: TermInputs, knobs: Knobs) -> jax.Array:
        """One value per example; masks, means, weights and devices are the objective's affair."""
        # Change here: what the student's outputs (B, K) are to be beside the teacher's; features are in
        # inputs.student.features[TAP], labels in inputs.batch['labels'] of a term with LABELS = True.
        student, teacher = same_classes(inputs)
        log_student, log_teacher = (log_softmax(logits, knobs['temperature']) for logits in (student, teacher))
        divergence = jnp.sum(jnp.exp(log_teacher) * (log_teacher - log_student), axis=-1)
        sure = jnp.max(jax.nn.softmax(teacher, axis=-1), axis=-1)
        return sure * jnp.square(knobs['temperature']) * divergence
