"""Frame-level distillation of CTC: the student says of every frame what the teacher says of it."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import jax.numpy as jnp

from kdjax.errors import unknown
from kdjax.techniques.algebra import example_mask, log_softmax
from kdjax.techniques.alignments import Frames, FrameTerm
from kdjax.techniques.base import AtTeacher, Knobs, Paper, Scope, knob, number
from kdjax.types import Array, TermInputs

KINDS = ('all', 'nonblank', 'around')
UNITS = ('example', 'frame')


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrameDivergence(FrameTerm):
    """T^2 KL(p^t_T || p^s_T), the mean over frames (sec. 3.1). Values: (B,).

    A CTC network says blank of nearly all frames and its labels of few, and of two networks these are seldom the same
    frames: so this helps where both have one stride and the spikes can meet, and may do harm elsewhere. Frames that
    are left out, of which the teacher says blank, make it say less about when nothing is heard.

    Attributes:
      temperature: T; knob, > 0.
      frames: 'all'; 'nonblank', those of which the teacher says no blank; 'around', those and `reach` frames on
        either side of each (Hilmes, Rossenbach, Schlueter, arXiv 2506.01503).
      reach: of 'around', >= 1.
      per: 'example', each one's mean over its frames; 'frame', the mean is over all frames of the batch.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Takashima, Li, Kawai',
        'An Investigation of a Knowledge Distillation Method for CTC Acoustic Models',
        'ICASSP',
        2018,
    )

    temperature: float = knob(1.0, above=0.0)
    frames: str = 'all'
    reach: int = number(1, minimum=1)
    per: str = 'example'

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frames not in KINDS:
            raise unknown('frames', self.frames, KINDS, f' of {type(self).__name__}')
        if self.per not in UNITS:
            raise unknown('per', self.per, UNITS, f' of {type(self).__name__}')

    @property
    def scope(self) -> Scope:
        return 'batch' if self.per == 'frame' else 'example'

    @property
    def at_teacher(self) -> AtTeacher:
        return 'zero'

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        student, teacher = self.of_both(inputs)
        kept = self.kept(teacher).astype(student.logits.dtype)
        totals = jnp.sum(kept * divergence(student.logits, teacher.logits, knobs['temperature']), axis=1)
        count = jnp.sum(kept, axis=1)
        if self.per == 'frame':
            count = jnp.sum(count) / jnp.maximum(jnp.sum(example_mask(inputs)), 1).astype(count.dtype)
        return totals / jnp.where(count > 0, count, 1)

    def kept(self, teacher: Frames) -> Array:
        """Real frames that are compared. (B, T) bool"""
        if self.frames == 'all':
            return teacher.mask
        spoken = ~self.is_blank(teacher.logits) & teacher.mask
        if self.frames == 'nonblank':
            return spoken
        padded = jnp.pad(spoken, [(0, 0), (self.reach, self.reach)])
        near = [padded[:, place : place + spoken.shape[1]] for place in range(2 * self.reach + 1)]
        return jnp.any(jnp.stack(near), axis=0) & teacher.mask

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [
            cls(logits='frame_logits'),
            cls(logits='frame_logits', per='frame', temperature=2.0),
            cls(logits='frame_logits', frames='nonblank'),
            cls(logits='frame_logits', frames='around'),
        ]


def divergence(student: Array, teacher: Array, temperature: Array) -> Array:
    """T^2 KL(teacher || student) of every frame, of logits (B, T, K). (B, T)"""
    log_s, log_t = (log_softmax(logits, temperature) for logits in (student, teacher))
    return jnp.square(temperature) * jnp.sum(jnp.exp(log_t) * (log_t - log_s), axis=-1)
