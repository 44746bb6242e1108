"""Gradient-based attention transfer: the student's loss is as sensitive to each input as the teacher's."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from kdjax.errors import UsageError
from kdjax.techniques.algebra import flat, norm, wide
from kdjax.techniques.base import AtTeacher, Knobs, Paper
from kdjax.techniques.layers import LayerTerm
from kdjax.types import Array, Outputs, TermInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class GradientAttention(LayerTerm):
    """1/2 || J_s - J_t ||_2, not squared, J = dCE / dx of the hard label y (sec. 3.2). Values: (B,).

    J = sum_k (p_k - y_k) dz_k / dx, with p = softmax(z): from the logits and their derivatives.

    Attributes:
      layer: 'tap' or 'student_tap:teacher_tap', derivatives dz_k / dx (B, K, ...) by the inputs.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Zagoruyko, Komodakis',
        'Paying More Attention to Attention: Improving the Performance of Convolutional Neural Networks via '
        'Attention Transfer',
        'ICLR',
        2017,
        '1612.03928',
    )
    LABELS: ClassVar[bool] = True
    OTHER_CLASSES: ClassVar[bool] = False
    at_teacher: ClassVar[AtTeacher] = 'zero'
    reads_logits: ClassVar[tuple[bool, bool]] = (True, True)
    TASKS: ClassVar[tuple[str, ...]] = ('classification',)

    layer: str = 'jacobian'

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        student, teacher = (
            _sensitivity(side, tap, inputs.batch['labels'])
            for side, (tap,) in zip(inputs[:2], self.taps(), strict=True)
        )  # fmt: skip
        if student.shape != teacher.shape:
            raise UsageError(f'{self.layer!r}: inputs of {student.shape[1]} and {teacher.shape[1]} numbers differ')
        return 0.5 * norm(student - teacher)[:, 0]


def _sensitivity(side: Outputs, tap: str, labels_B: Array) -> Array:
    """dCE / dx, flattened. (B, D)"""
    jacobian, logits = side.features[tap], side.logits
    if logits.ndim != 2 or jacobian.shape[:2] != logits.shape:
        raise UsageError(f'{tap!r} must be (B, K, ...) of the logits (B, K), got {jacobian.shape} and {logits.shape}')
    error_BK = jax.nn.softmax(wide(logits), axis=-1) - jax.nn.one_hot(labels_B, logits.shape[-1])
    derivatives_BKD = wide(jacobian).reshape(*logits.shape, -1)
    return flat(jnp.einsum('bk,bkd->bd', error_BK.astype(derivatives_BKD.dtype), derivatives_BKD))
