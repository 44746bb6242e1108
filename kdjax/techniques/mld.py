"""Multi-label knowledge distillation: the teacher's answer to every label is a distribution over yes and no."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from kdjax.techniques.algebra import same_classes, wide
from kdjax.techniques.base import AtTeacher, Knobs, Paper, Term, knob
from kdjax.techniques.distributions import binary_cross_entropy
from kdjax.types import Array, TermInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class MultiLabelTargets(Term):
    """T^2 sum_k KL(p^t_k || p^s_k), p_k the yes-or-no of label k with the probability sigmoid(z_k / T) of a yes.

    Values: (B,) for logits (B, K), or (B, N). The paper's multi-label logits distillation (MLD) has T = 1; T
    and its square are those of soft targets (Hinton et al., 2015), and keep the size of the gradient. The mean over
    labels in the place of the sum is `bkd.BinaryTargets` of form 'kl', at T = 1.

    Attributes:
      temperature: T; knob, > 0.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Yang, Xie, Zong, Feng, Niu, Sugiyama, Huang', 'Multi-Label Knowledge Distillation', 'ICCV', 2023, '2308.06453'
    )
    at_teacher: ClassVar[AtTeacher] = 'zero'
    TASKS: ClassVar[tuple[str, ...]] = ('multilabel', 'detection')

    temperature: float = knob(1.0, above=0.0)

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        temperature = knobs['temperature']
        student, teacher = (wide(logits) / temperature for logits in same_classes(inputs))
        yes = jax.nn.sigmoid(teacher)
        divergence = binary_cross_entropy(yes, student) - binary_cross_entropy(yes, teacher)
        return jnp.square(temperature) * jnp.sum(divergence, axis=-1)
