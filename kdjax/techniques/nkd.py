"""Normalised distillation: the teacher's probability of the label, and its other classes normalised by themselves."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from kdjax.techniques.algebra import log_softmax, same_classes
from kdjax.techniques.base import Knobs, Paper, Term, knob
from kdjax.techniques.distributions import cross_entropy, label_loss, rivals
from kdjax.types import Array, TermInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class NormalizedTargets(Term):
    """-p^t_y log p^s_y + gamma T^2 H(q^t_T, q^s_T) (sec. 3.1). Values: (B,), or (B, N) for logits (B, N, K).

    p is at temperature 1; q is the softmax over the classes other than the label y. The label's own cross-entropy,
    which the paper adds with weight 1, is a term of its own.

    Attributes:
      gamma: weight of the other classes; knob, >= 0.
      temperature: T of the other classes; knob, > 0.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Yang, Zeng, Li, Zhang, Yuan, Li',
        'From Knowledge Distillation to Self-Knowledge Distillation: A Unified Approach with Normalized Loss and '
        'Customized Soft Labels',
        'ICCV',
        2023,
        '2303.13005',
    )
    LABELS: ClassVar[bool] = True

    gamma: float = knob(1.5, minimum=0.0)
    temperature: float = knob(1.0, above=0.0)

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        student, teacher = same_classes(inputs)
        labels, temperature = inputs.batch['labels'], knobs['temperature']
        others = (log_softmax(rivals(logits, labels), temperature) for logits in (teacher, student))
        target = jnp.exp(-label_loss(teacher, labels)) * label_loss(student, labels)
        rest = jnp.square(temperature) * cross_entropy(*others)
        return target + knobs['gamma'] * rest
