"""Guided CTC: the student learns to say a label at those frames at which the guide says it."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import jax
import jax.numpy as jnp

from kdjax.techniques.alignments import FrameTerm
from kdjax.techniques.base import Knobs, Paper
from kdjax.types import Array, TermInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class GuidedCtc(FrameTerm):
    """- sum_t p^s_t(k_t) over frames whose most probable class k_t, to the guide, is no blank (sec. 3). Values: (B,).

    It is a sum of posteriors, not of their logarithms, and so at least minus the number of frames. Beside the CTC loss
    of a teacher, a student, or both, with one network as the guide of all, it makes their spikes meet, after which what
    is said frame by frame (`ctc_frames`) can be learned. Here the guide is the teacher.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Kurata, Audhkhasi',
        'Guiding CTC Posterior Spike Timings for Improved Posterior Fusion and Knowledge Distillation',
        'Interspeech',
        2019,
        '1904.08311',
    )

    @property
    def minimum(self) -> float:
        return -float('inf')

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        student, guide = self.of_both(inputs)
        said = jnp.argmax(guide.logits, axis=-1)
        posterior = jnp.take_along_axis(jax.nn.softmax(student.logits, axis=-1), said[..., None], axis=-1)[..., 0]
        return -jnp.sum(jnp.where(guide.mask & ~self.is_blank(guide.logits), posterior, 0), axis=1)

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(logits='frame_logits')]
