"""Localization distillation: where a box ends, as a distribution over bins, is soft knowledge too."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from kdjax.errors import UsageError
from kdjax.techniques.algebra import log_softmax, real, wide
from kdjax.techniques.base import AtTeacher, Knobs, Paper, knob
from kdjax.techniques.distributions import kl_divergence
from kdjax.techniques.layers import LayerTerm, Pair
from kdjax.types import Array, TermInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class Localization(LayerTerm):
    """T^2 KL(p_T || q_T) over the bins of a box edge (sec. 3), mean over edges of an example's anchors. Values: (B,).

    How much an anchor counts, such as 1 in the valuable region of the paper or its overlap with an object, says
    batch['anchor_mask'] (B, M) where there is one; an example without any has the value 0. Forms: 'paper', as above;
    'code', the authors': the mean over bins instead of their sum.

    Attributes:
      layer: 'tap' or 'student_tap:teacher_tap', logits of edges (B, M, 4, bins).
      temperature: T; knob, > 0.
      form: which of the above.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Zheng, Ye, Wang, Ren, Zuo, Hou, Cheng',
        'Localization Distillation for Dense Object Detection',
        'CVPR',
        2022,
        '2102.12252',
    )
    FORMS: ClassVar[tuple[str, ...]] = ('paper', 'code')
    at_teacher: ClassVar[AtTeacher] = 'zero'

    layer: str = 'edges'
    temperature: float = knob(10.0, above=0.0)
    form: str = 'paper'

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        student, teacher = self.features(inputs)
        weight_BM = self._weights(inputs, student)
        counted = weight_BM[..., None, None] > 0
        log_p, log_q = (log_softmax(jnp.where(counted, side, 0), knobs['temperature']) for side in (teacher, student))
        anchors = jnp.mean(kl_divergence(log_p, log_q), axis=2) * jnp.square(knobs['temperature'])
        if self.form == 'code':
            anchors = anchors / student.shape[-1]
        whole_B = jnp.sum(weight_BM, axis=1)
        return jnp.sum(weight_BM * anchors, axis=1) / jnp.where(whole_B > 0, whole_B, 1)

    def _weights(self, inputs: TermInputs, edges: Array) -> Array:
        """How much anchors count. (B, M)"""
        given = inputs.batch.get('anchor_mask', jnp.ones(edges.shape[:2], edges.dtype))
        if given.shape != edges.shape[:2]:
            raise UsageError(f"batch['anchor_mask'] {given.shape} does not fit edges {edges.shape}")
        return jnp.where(real(inputs, 1)[:, None], given.astype(edges.dtype), 0)

    def features(self, inputs: TermInputs) -> Pair:
        student, teacher = map(wide, super().features(inputs))
        if student.shape != teacher.shape or student.ndim != 4 or student.shape[2] != 4:
            raise UsageError(f'edges {self.layer!r} {student.shape} and {teacher.shape} must both be (B, M, 4, bins)')
        return student, teacher
