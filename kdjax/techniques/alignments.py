"""What terms of CTC share: the logits of every frame on both sides, and which frames are real."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp

from kdjax.errors import UsageError
from kdjax.techniques.algebra import example_mask, token_mask, wide
from kdjax.techniques.base import Taps, Term
from kdjax.techniques.layers import as_seen
from kdjax.types import Array, Outputs, TermInputs

LOGITS = 'logits'


class Frames(NamedTuple):
    """A side, frame by frame."""

    logits: Array  # (B, T, K), at least float32, 0 at padding
    mask: Array  # (B, T) bool: real frames of real examples

    @property
    def lengths(self) -> Array:
        """How many are real. (B,)"""
        return jnp.sum(self.mask, axis=1, dtype=jnp.int32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrameTerm(Term):
    """A term of networks that answer for every frame, with the blank of CTC among their classes.

    Attributes:
      logits: the tap that has them, (B, T, K); 'logits' is what the network answers.
      blank: class of the blank; -1 is the last.
    """

    TASKS: ClassVar[tuple[str, ...]] = ('transcription',)
    PLAIN: ClassVar[Mapping[str, Any]] = {'logits': LOGITS}

    logits: str = LOGITS
    blank: int = -1

    def taps(self) -> Taps:
        names = () if self.logits == LOGITS else (self.logits,)
        return Taps(names, names if self.TEACHER else ())

    def of_student(self, inputs: TermInputs) -> Frames:
        """The student's; real is what networks say is, or batch['token_mask']."""
        return self._frames(inputs.student, inputs)

    def of_both(self, inputs: TermInputs) -> tuple[Frames, Frames]:
        """Student's and teacher's.

        Raises:
          UsageError: they differ in frames or classes, as of networks of two strides.
        """
        student, teacher = (self._frames(side, inputs) for side in inputs[:2])
        if student.logits.shape != teacher.logits.shape:
            raise UsageError(f'student logits {student.logits.shape} and teacher logits {teacher.logits.shape} must '
                             'have one shape: frames are compared one by one, so strides must be the same')  # fmt: skip
        return student, teacher

    def _frames(self, side: Outputs, inputs: TermInputs) -> Frames:
        logits = side.logits if self.logits == LOGITS else side.features[self.logits]
        if logits is None or logits.ndim != 3:
            raise UsageError(f'needs logits of every frame (B, T, K), got {getattr(logits, "shape", None)}')
        if not -1 <= self.blank < logits.shape[-1]:
            raise UsageError(f'blank must be in -1 to {logits.shape[-1] - 1}, got {self.blank}')
        seen = as_seen(inputs, (self.logits, self.logits)) if self.TEACHER else _as_student(inputs, self.logits)
        whole = seen._replace(batch={**seen.batch, 'mask': example_mask(seen)})
        real = token_mask(whole, logits.shape[1]) > 0
        if real.shape != logits.shape[:2]:
            raise UsageError(f'the mask is of {real.shape[1]} frames, the logits {logits.shape}')
        return Frames(jnp.where(real[..., None], wide(logits), 0), real)

    def is_blank(self, logits: Array) -> Array:
        """Where the most probable class is the blank. (B, T)"""
        return jnp.argmax(logits, axis=-1) == self.blank % logits.shape[-1]


def _as_student(inputs: TermInputs, tap: str) -> TermInputs:
    """The inputs as the student alone sees them."""
    return as_seen(inputs._replace(teacher=inputs.student), (tap, tap))
