"""Localization distillation: where a box ends, as a distribution over bins, is soft knowledge too."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import jax
import jax.numpy as jnp

from kdjax.errors import UsageError, unknown
from kdjax.techniques.algebra import example_mask, log_softmax, real, wide
from kdjax.techniques.base import AtTeacher, Knobs, Paper, Taps, knob
from kdjax.techniques.distributions import kl_divergence
from kdjax.techniques.layers import LayerTerm, Pair
from kdjax.types import Array, Batch, TermInputs

PER = ('example', 'anchor')
LOGITS, MASK = 'logits', 'anchor_mask'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Localization(LayerTerm):
    """T^2 KL(p_T || q_T) over the bins of a box edge (sec. 3), mean over edges of an example's anchors. Values: (B,).

    How much an anchor counts, such as 1 where it has an object, or its overlap with one, says batch['anchor_mask']
    (B, M) where there is one; an example without any has the value 0. Forms: 'paper', as above; 'code', the authors':
    the mean over bins instead of their sum.

    Of a detector, `tasks.detection` prepares two such columns: 'anchor_mask' is the main region of the paper, the
    positive anchors, and 'anchor_valuable' the valuable localization region beside it.

    Attributes:
      layer: 'tap' or 'student_tap:teacher_tap', logits of edges (B, M, 4, bins).
      anchors: the column of how much anchors count.
      per: 'example', the mean over an example's anchors; 'anchor': their sum, which is divided by how much those of the
        whole batch count, as the authors do.
      confidence: the student's tap of logits (B, M, K) whose highest sigmoid an anchor counts by too, without a
        gradient, as in the authors' code; 'logits' is what the network answers, '' for none.
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
    COLUMNS: ClassVar[tuple[str, ...]] = ('anchors',)
    TASKS: ClassVar[tuple[str, ...]] = ('detection',)
    at_teacher: ClassVar[AtTeacher] = 'zero'

    layer: str = 'edges'
    anchors: str = MASK
    per: str = 'example'
    confidence: str = ''
    temperature: float = knob(10.0, above=0.0)
    form: str = 'paper'

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.per not in PER:
            raise unknown('per', self.per, PER, ' of Localization')

    def taps(self) -> Taps:
        student, teacher = super().taps()
        return Taps((*student, *((self.confidence,) if self.confidence not in ('', LOGITS) else ())), teacher)

    @property
    def weighing(self) -> tuple[str, ...]:
        return self.taps().student[1:]

    @property
    def reads_logits(self) -> tuple[bool, bool]:
        return self.confidence == LOGITS, False

    def divisor(self, batch: Batch) -> Array:
        mask = batch['mask']
        if self.per == 'example':
            return mask
        whole_B = jnp.sum(batch[self.anchors], axis=1).astype(mask.dtype)
        return jnp.where(mask > 0, mask * whole_B, 0)

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        student, teacher = self.features(inputs)
        weight_BM = self._weights(inputs, student)
        counted = weight_BM[..., None, None] > 0
        log_p, log_q = (log_softmax(jnp.where(counted, side, 0), knobs['temperature']) for side in (teacher, student))
        anchors = jnp.mean(kl_divergence(log_p, log_q), axis=2) * jnp.square(knobs['temperature'])
        if self.form == 'code':
            anchors = anchors / student.shape[-1]
        counts_BM = weight_BM * self._likely(inputs, weight_BM) if self.confidence else weight_BM
        summed_B = jnp.sum(counts_BM * anchors, axis=1)
        if self.per == 'anchor':
            return summed_B
        whole_B = jnp.sum(weight_BM, axis=1)
        return summed_B / jnp.where(whole_B > 0, whole_B, 1)

    def _likely(self, inputs: TermInputs, weight_BM: Array) -> Array:
        """The student's highest probability of a class. (B, M)"""
        student = inputs.student
        logits = student.logits if self.confidence == LOGITS else student.features[self.confidence]
        if logits is None or logits.shape[:-1] != weight_BM.shape:
            raise UsageError(f'confidence needs logits (B, M, K) of {weight_BM.shape} anchors, got '
                             f'{getattr(logits, "shape", None)}')  # fmt: skip
        likely = jax.lax.stop_gradient(jnp.max(jax.nn.sigmoid(wide(logits)), axis=-1))
        return jnp.where(example_mask(inputs)[:, None] > 0, likely, 0)

    def _weights(self, inputs: TermInputs, edges: Array) -> Array:
        """How much anchors count. (B, M)"""
        every = self.anchors == MASK and MASK not in inputs.batch
        given = jnp.ones(edges.shape[:2], edges.dtype) if every else inputs.batch[self.anchors]
        if given.shape != edges.shape[:2]:
            raise UsageError(f'batch[{self.anchors!r}] {given.shape} does not fit edges {edges.shape}')
        return jnp.where(real(inputs, 1)[:, None], given.astype(edges.dtype), 0)

    def features(self, inputs: TermInputs) -> Pair:
        student, teacher = map(wide, super().features(inputs))
        if student.shape != teacher.shape or student.ndim != 4 or student.shape[2] != 4:
            raise UsageError(f'edges {self.layer!r} {student.shape} and {teacher.shape} must both be (B, M, 4, bins)')
        return student, teacher

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [*super().specimens(), cls(per='anchor', anchors='anchor_valuable', confidence='anchor_logits')]
