"""Logit standardisation: soft targets of z-scores, so that the student matches relations and not magnitudes."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from kdjax.techniques.algebra import same_classes
from kdjax.techniques.base import AtTeacher, Knobs, Paper, Term, knob, number
from kdjax.techniques.distributions import divergence, standardized
from kdjax.types import Array, TermInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class StandardizedTargets(Term):
    """T^2 KL(softmax(Z^t / T) || softmax(Z^s / T)), Z = (z - mean) / (std + epsilon) (alg. 1-2).

    The standard deviation has K - 1 degrees of freedom, as in the authors' code. Values: (B,), or (B, N) for logits
    (B, N, K). Forms: 'paper' is the above; 'unscaled' without T^2 (torchdistill without labels).

    Attributes:
      temperature: T, the base temperature; knob, > 0.
      epsilon: keeps a constant row finite; > 0.
      form: which of the above.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Sun, Ren, Li, Wang, Cao', 'Logit Standardization in Knowledge Distillation', 'CVPR', 2024, '2403.01427'
    )
    FORMS: ClassVar[tuple[str, ...]] = ('paper', 'unscaled')
    at_teacher: ClassVar[AtTeacher] = 'zero'

    temperature: float = knob(2.0, above=0.0)
    epsilon: float = number(1e-7, above=0.0)
    form: str = 'paper'

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        student, teacher = (standardized(logits, self.epsilon) for logits in same_classes(inputs))
        factor = jnp.square(knobs['temperature']) if self.form == 'paper' else 1.0
        return factor * divergence(teacher, student, knobs['temperature'])
