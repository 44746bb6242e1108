"""The hint as a residual: a small head learns what the teacher's logits have and the student's lack."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import jax
import jax.numpy as jnp
from flax import linen as nn

from kdjax.techniques.algebra import flat, same_classes, wide
from kdjax.techniques.base import Knobs, Paper, Taps, Term, apply_module, init_module, number
from kdjax.types import Array, Outputs, TermInputs, TermOut, Tree


class _Head(nn.Module):
    """Starts near 0, so that the corrected student starts as the student; not at 0, where no gradient would pass."""

    width: int
    classes: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = x.reshape(x.shape[0], -1)
        if self.width:
            x = nn.relu(nn.Dense(self.width)(x))
        return nn.Dense(self.classes, kernel_init=nn.initializers.variance_scaling(0.01, 'fan_in', 'normal'))(x)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResidualHint(Term):
    """1/K || r(u_s) - (z_t - z_s) ||^2: the head r predicts the hint z_t - z_s from a student layer. Values: (B,).

    The corrected student answers z_s + r(u_s): the `answer` of the term. Forms: 'joint': the student's logits take
    part, so student and head together approach the teacher; 'detached': z_s is a constant in the hint, and the student
    learns only through the layer u_s that the head reads, as when the head is trained after the student.

    Attributes:
      layer: the student's tap that the head reads, (B, ...).
      width: hidden ReLU units of the head; 0 for a linear head.
      form: which of the above.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Li, Li, Omar, Wu, Li', 'ResKD: Residual-Guided Knowledge Distillation', 'IEEE TIP', 2021, '2006.04719'
    )
    FORMS: ClassVar[tuple[str, ...]] = ('joint', 'detached')
    reads_logits: ClassVar[tuple[bool, bool]] = (True, True)

    layer: str = 'penult'
    width: int = number(32, minimum=0)
    form: str = 'joint'

    def taps(self) -> Taps:
        return Taps((self.layer,))

    def init(self, key: Array, inputs: TermInputs) -> tuple[Tree, Tree]:
        return init_module(self._head(inputs.student), key, flat(inputs.student.features[self.layer])), {}

    def __call__(
        self, params: Tree, memory: Tree, inputs: TermInputs, knobs: Knobs, *, step: Array, key: Array
    ) -> TermOut:
        student, teacher = same_classes(inputs)
        if self.form == 'detached':
            student = jax.lax.stop_gradient(student)
        residual = self.residual(params, inputs.student)
        values = jnp.mean(jnp.square(residual - (wide(teacher) - wide(student))), axis=-1)
        return TermOut(values, memory, {'residual': jnp.mean(jnp.abs(residual))})

    def residual(self, params: Tree, student: Outputs) -> Array:
        """What the head adds to the student's logits. (B, K)"""
        return apply_module(self._head(student), params, flat(student.features[self.layer]))

    def answer(self, params: Tree, memory: Tree, student: Outputs) -> Array:
        """The corrected logits z_s + r(u_s). (B, K)"""
        return wide(student.logits) + self.residual(params, student)

    def _head(self, student: Outputs) -> nn.Module:
        return _Head(self.width, student.logits.shape[-1])

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(), cls(form='detached', width=0, layer='stage2')]
