"""Decoupled distillation: how sure the teacher is of the label, and how it ranks the other classes, weighed apart."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import jax
import jax.numpy as jnp

from kdjax.techniques.algebra import same_classes, wide
from kdjax.techniques.base import AtTeacher, Knobs, Paper, Term, knob
from kdjax.techniques.distributions import divergence, rivals, standardized
from kdjax.types import Array, TermInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoupledTargets(Term):
    """T^2 [alpha KL(b^t || b^s) + beta KL(q^t || q^s)] (eq. 7). Values: (B,), or (B, N) for logits (B, N, K).

    At temperature T, b = (p_y, 1 - p_y) is the label against the rest (TCKD), q the softmax over the other classes
    alone (NCKD). alpha = 1 and beta = 1 - p^t_y give the soft targets back (eq. 6). Everything is a difference of
    logarithms, so that a label of which a network is certain gives no log of 0.

    Attributes:
      alpha: weight of TCKD; knob, >= 0.
      beta: weight of NCKD; knob, >= 0.
      temperature: T; knob, > 0.
      standardized: whether logits are standardised first (Sun et al., 2024).
    """

    PAPER: ClassVar[Paper] = Paper(
        'Zhao, Cui, Song, Qiu, Liang', 'Decoupled Knowledge Distillation', 'CVPR', 2022, '2203.08679'
    )
    LABELS: ClassVar[bool] = True
    at_teacher: ClassVar[AtTeacher] = 'zero'

    alpha: float = knob(1.0, minimum=0.0)
    beta: float = knob(8.0, minimum=0.0)
    temperature: float = knob(4.0, above=0.0)
    standardized: bool = False

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        student, teacher = same_classes(inputs)
        if self.standardized:
            student, teacher = standardized(student), standardized(teacher)
        labels, temperature = inputs.batch['labels'], knobs['temperature']
        others = rivals(teacher, labels), rivals(student, labels)
        odds = _odds(teacher, others[0], labels, temperature), _odds(student, others[1], labels, temperature)
        values = knobs['alpha'] * _binary(*odds) + knobs['beta'] * divergence(*others, temperature)
        return jnp.square(temperature) * values

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(), cls(standardized=True)]


def _odds(logits: Array, others: Array, labels: Array, temperature: Array) -> Array:
    """log p_y / (1 - p_y)."""
    label = jnp.take_along_axis(wide(logits), labels[..., None], axis=-1)[..., 0] / temperature
    odds = label - jax.nn.logsumexp(others / temperature, axis=-1)
    return jnp.clip(odds, -1e30, 1e30)  # a ruled-out label (logit -inf) is as improbable as can be written


def _binary(teacher: Array, student: Array) -> Array:
    """KL of two Bernoulli distributions, given by their log odds."""
    label = jax.nn.sigmoid(teacher) * (jax.nn.log_sigmoid(teacher) - jax.nn.log_sigmoid(student))
    return label + jax.nn.sigmoid(-teacher) * (jax.nn.log_sigmoid(-teacher) - jax.nn.log_sigmoid(-student))
