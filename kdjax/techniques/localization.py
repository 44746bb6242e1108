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

    Which anchors count, such as the positive ones or the valuable region of the paper, says batch['anchor_mask'] (B, M)
    where there is one; an example without any has the value 0. Forms: 'paper', as above; 'code', the authors': the mean
    over bins instead of their sum.

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
        counted = self._anchors(inputs, student)
        log_p, log_q = (
            log_softmax(jnp.where(counted[..., None, None], side, 0), knobs['temperature'])
            for side in (teacher, student)
        )
        anchors = jnp.mean(kl_divergence(log_p, log_q), axis=2) * jnp.square(knobs['temperature'])
        if self.form == 'code':
            anchors = anchors / student.shape[-1]
        count = jnp.maximum(jnp.sum(counted, axis=1), 1).astype(anchors.dtype)
        return jnp.sum(jnp.where(counted, anchors, 0), axis=1) / count

    def _anchors(self, inputs: TermInputs, edges: Array) -> Array:
        """Which anchors count. (B, M)"""
        given = inputs.batch.get('anchor_mask', jnp.ones(edges.shape[:2], edges.dtype))
        if given.shape != edges.shape[:2]:
            raise UsageError(f"batch['anchor_mask'] {given.shape} does not fit edges {edges.shape}")
        return (given > 0) & real(inputs, 1)[:, None]

    def features(self, inputs: TermInputs) -> Pair:
        student, teacher = map(wide, super().features(inputs))
        if student.shape != teacher.shape or student.ndim != 4 or student.shape[2] != 4:
            raise UsageError(f'edges {self.layer!r} {student.shape} and {teacher.shape} must both be (B, M, 4, bins)')
        return student, teacher
