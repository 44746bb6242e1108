"""Attention transfer: the student puts its activation where the teacher does."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from kdjax.techniques.algebra import magnitude, norm, per_example, same_maps, unit
from kdjax.techniques.base import AtTeacher, Knobs, Paper, number
from kdjax.techniques.layers import LayerwiseTerm
from kdjax.types import Array, TermInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttentionTransfer(LayerwiseTerm):
    """Distance of the normalised spatial attention maps Q, summed over pairs of layers. Values: (B,).

    Q = vec(A) / ||vec(A)||_2 with A = sum_c |f_c|^p over channels (F^p_sum, sec. 3.1). Forms:
    'paper': 1/2 || Q_s - Q_t ||_2, not squared (eq. 2); 'code': the mean over positions of (Q_s - Q_t)^2, which the
    authors' code, RepDistiller, mdistiller and mmrazor use (weight 1000); 'torchdistill': || Q_s - Q_t ||_2 without
    the half; 'kdzoo': as 'code' with 1e-6 added to the norm.

    Attributes:
      layers: pairs of maps (B, H, W, C), 'tap' or 'student_tap:teacher_tap'; the larger map is average-pooled.
      power: p, a positive integer.
      form: which of the above.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Zagoruyko, Komodakis',
        'Paying More Attention to Attention: Improving the Performance of Convolutional Neural Networks via '
        'Attention Transfer',
        'ICLR',
        2017,
        '1612.03928',
    )
    FORMS: ClassVar[tuple[str, ...]] = ('paper', 'code', 'torchdistill', 'kdzoo')
    at_teacher: ClassVar[AtTeacher] = 'zero'

    power: int = number(2, minimum=1)
    form: str = 'code'

    def distance(self, student: Array, teacher: Array, inputs: TermInputs, knobs: Knobs) -> Array:
        student, teacher = same_maps(student, teacher)
        difference = self._attention(student) - self._attention(teacher)
        if self.form in ('code', 'kdzoo'):
            return per_example(jnp.square(difference))
        return norm(difference)[:, 0] * (0.5 if self.form == 'paper' else 1.0)

    def _attention(self, feature: Array) -> Array:
        energy = feature**self.power if self.power % 2 == 0 else magnitude(feature) ** self.power
        if self.form == 'kdzoo':
            summed = jnp.sum(energy, axis=-1).reshape(feature.shape[0], -1)
            return summed / (norm(summed) + 1e-6)
        # A channel mean, as in the authors' code: the normalisation removes the factor from the paper's sum.
        return unit(jnp.mean(energy, axis=-1).reshape(feature.shape[0], -1))
