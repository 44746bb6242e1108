"""Weighted soft labels: a soft label counts more where the student lags behind the teacher."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from kdjax.techniques.algebra import same_classes
from kdjax.techniques.base import AtTeacher, Knobs, Paper, Term, knob
from kdjax.techniques.distributions import label_loss, soft_cross_entropy
from kdjax.types import Array, TermInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightedSoftLabels(Term):
    """w_i T^2 H(p^t_T, p^s_T), w_i = 1 - exp(-CE^s_i / CE^t_i) (eq. 7-8). Values: (B,), or (B, N) for (B, N, K).

    CE is that of the label at temperature 1; no gradient flows through w. Also mmrazor's WSLD.

    Attributes:
      temperature: T; knob, > 0.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Zhou, Song, Chen, Zhou, Wang, Yuan, Zhang',
        'Rethinking Soft Labels for Knowledge Distillation: A Bias-Variance Tradeoff Perspective',
        'ICLR',
        2021,
        '2102.00650',
    )
    LABELS: ClassVar[bool] = True
    at_teacher: ClassVar[AtTeacher] = 'stationary'

    temperature: float = knob(4.0, above=0.0)

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        student, teacher = same_classes(inputs)
        labels, temperature = inputs.batch['labels'], knobs['temperature']
        # A teacher that is certain of the label counts as 1e-7 away from it, as in the authors' code.
        ratio = label_loss(student, labels) / (label_loss(teacher, labels) + 1e-7)
        share = jax.lax.stop_gradient(-jnp.expm1(-ratio))
        soft = soft_cross_entropy(teacher, student, temperature)
        return share * jnp.square(temperature) * soft
