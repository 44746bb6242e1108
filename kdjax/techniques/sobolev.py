"""Sobolev training: the student's derivatives by its inputs approach the teacher's, beside its values."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from kdjax.errors import UsageError
from kdjax.techniques.algebra import same_classes, wide
from kdjax.techniques.base import AtTeacher, Knobs, Paper
from kdjax.techniques.layers import LayerTerm
from kdjax.types import Array, TermInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sobolev(LayerTerm):
    """E_v || D_v f_s - D_v f_t ||^2 over random directions v in the space of inputs (stochastic form, eq. 3). (B,).

    For directions of unit covariance it is || J_s - J_t ||_F^2, the term of first order of eq. 1, and for those of
    length 1 in a space of D inputs its D-th part. The term of order zero is one of its own, such as soft targets.
    Forms: 'logits': f = z; 'log_probabilities': f = log softmax z, whose derivative is D_v z - sum_k p_k D_v z_k.

    Attributes:
      layer: 'tap' or 'student_tap:teacher_tap', derivatives of the logits along M directions (B, M, K), the same
        directions on both sides.
      form: which of the above.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Czarnecki, Osindero, Jaderberg, Swirszcz, Pascanu',
        'Sobolev Training for Neural Networks',
        'NIPS',
        2017,
        '1706.04859',
    )
    FORMS: ClassVar[tuple[str, ...]] = ('logits', 'log_probabilities')
    OTHER_CLASSES: ClassVar[bool] = False
    at_teacher: ClassVar[AtTeacher] = 'zero'

    layer: str = 'tangents'
    form: str = 'logits'

    @property
    def reads_logits(self) -> tuple[bool, bool]:
        return (self.form == 'log_probabilities',) * 2

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        slopes = [wide(slope) for slope in self.features(inputs)]
        if slopes[0].ndim != 3 or slopes[0].shape != slopes[1].shape:
            raise UsageError(f'{self.layer!r} must be (B, M, K) on both sides, got {[x.shape for x in slopes]}')
        if self.form == 'log_probabilities':
            slopes = [_of_log_softmax(z, slope) for z, slope in zip(same_classes(inputs), slopes, strict=True)]
        return jnp.mean(jnp.sum(jnp.square(slopes[0] - slopes[1]), axis=-1), axis=1)


def _of_log_softmax(logits_BK: Array, slope_BMK: Array) -> Array:
    """Derivatives of log softmax z along the directions of those of z. (B, M, K)"""
    probability = jax.nn.softmax(wide(logits_BK), axis=-1)[:, None, :]
    return slope_BMK - jnp.sum(probability * slope_BMK, axis=-1, keepdims=True)
