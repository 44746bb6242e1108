"""Dynamic temperatures: each example is softened by how hard it is within its batch."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import jax
import jax.numpy as jnp

from kdjax.techniques.algebra import example_mask, norm, same_classes, wide
from kdjax.techniques.base import AtTeacher, Knobs, Paper, Scope, Term, knob
from kdjax.techniques.distributions import soft_cross_entropy
from kdjax.types import Array, TermInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class DynamicTemperature(Term):
    """H(p^t_{T_i}, p^s_{T_i}) with a temperature per example, T_i = T_0 + (mean_j w_j - w_i) beta. Values: (B,).

    A hard example, with a large w, gets a low temperature and so sharper targets (sec. 3.3 of the paper); the mean is
    over the real examples of the global batch. No gradient flows through T_i, and T_i^2 does not multiply the value.

    | form | w_i                           | name in the paper and in TextBrewer |
    |------|-------------------------------|-------------------------------------|
    | flsw | (1 - cos(z^s_i, z^t_i))^gamma | focal loss style weights            |
    | cwsm | 1 / (max_c p^s_c + 1e-3)      | confidence weighted by student max  |

    Attributes:
      temperature: T_0; knob, > 0.
      beta: how far temperatures spread; knob, >= 0.
      gamma: of 'flsw'; a positive number.
      lowest: temperatures below it are raised to it; 0 or less leaves them, as TextBrewer does, even where they are
        negative.
      form: which of the above.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Wen, Lai, Qian',
        'Preparing Lessons: Improve Knowledge Distillation with Better Supervision',
        'Neurocomputing',
        2021,
        '1911.07471',
    )
    FORMS: ClassVar[tuple[str, ...]] = ('flsw', 'cwsm')
    scope: ClassVar[Scope] = 'batch'
    at_teacher: ClassVar[AtTeacher] = 'stationary'
    TASKS: ClassVar[tuple[str, ...]] = ('classification',)

    temperature: float = knob(8.0, above=0.0)
    beta: float = knob(1.0, minimum=0.0)
    gamma: float = 1.0
    lowest: float = 0.1
    form: str = 'flsw'

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        student, teacher = same_classes(inputs)
        values = soft_cross_entropy(teacher, student, self.temperatures(inputs, knobs)[..., None])
        return values

    def temperatures(self, inputs: TermInputs, knobs: Knobs) -> Array:
        """T_i. (B,)"""
        hardness_B, mask_B = self._hardness(*same_classes(inputs)), example_mask(inputs) > 0
        mean = jnp.sum(jnp.where(mask_B, hardness_B, 0)) / jnp.maximum(jnp.sum(mask_B), 1).astype(hardness_B.dtype)
        temperature_B = knobs['temperature'] + (mean - hardness_B) * knobs['beta']
        return jax.lax.stop_gradient(jnp.maximum(temperature_B, self.lowest) if self.lowest > 0 else temperature_B)

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(form=form, temperature=2.0) for form in cls.FORMS]

    def _hardness(self, student: Array, teacher: Array) -> Array:
        if self.form == 'cwsm':
            return 1 / (jnp.max(jax.nn.softmax(wide(student), axis=-1), axis=-1) + 1e-3)
        # Rounding may leave the cosine of parallel logits above 1, and a power of a negative number is nan.
        return jnp.maximum(1 - _cosine(student, teacher), 0) ** self.gamma


def _cosine(student: Array, teacher: Array) -> Array:
    # TextBrewer's guard against a length of 0 stays: with it, temperatures are the same to the last bit.
    student, teacher = (wide(logits) / (norm(wide(logits)) + 1e-4) for logits in (student, teacher))
    return jnp.sum(student * teacher, axis=-1)
