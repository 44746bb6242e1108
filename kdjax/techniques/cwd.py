"""Channel-wise distillation: each student channel looks where the teacher's channel looks."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import jax.numpy as jnp

from kdjax.techniques.algebra import log_softmax, projected, projection, same_maps
from kdjax.techniques.base import AtTeacher, Knobs, Paper, Taps, Term, knob, paired, pairs
from kdjax.types import Array, TermInputs, TermOut, Tree


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChannelDistribution(Term):
    """T^2/C sum_c KL(phi_c(t) || phi_c(s)), phi_c the softmax over the positions of channel c. Values: (B,).

    Attributes:
      layer: pair of maps (B, H, W, C), 'tap' or 'student_tap:teacher_tap'; the larger map is average-pooled.
      projected: whether a learned 1x1 convolution brings the student to the teacher's channels.
      temperature: T; knob, > 0.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Shu, Liu, Gao, Yan, Shen',
        'Channel-wise Knowledge Distillation for Dense Prediction',
        'ICCV',
        2021,
        '2011.13256',
    )

    layer: str = 'stage2'
    projected: bool = True
    temperature: float = knob(4.0, above=0.0)

    @property
    def at_teacher(self) -> AtTeacher:
        return 'free' if self.projected else 'zero'

    def taps(self) -> Taps:
        return paired([self.layer])

    def init(self, key: Array, inputs: TermInputs) -> tuple[Tree, Tree]:
        return (projection(key, *self._read(inputs)) if self.projected else {}), {}

    def __call__(
        self, params: Tree, memory: Tree, inputs: TermInputs, knobs: Knobs, *, step: Array, key: Array
    ) -> TermOut:
        student, teacher = self._read(inputs)
        temperature = knobs['temperature']
        log_student = _over_positions(projected(params, student, teacher), temperature)
        log_teacher = _over_positions(teacher, temperature)
        divergences = jnp.sum(jnp.exp(log_teacher) * (log_teacher - log_student), axis=-1)
        return TermOut(jnp.square(temperature) * jnp.mean(divergences, axis=-1), memory, {})

    def _read(self, inputs: TermInputs) -> tuple[Array, Array]:
        ((student, teacher),) = pairs([self.layer])
        return same_maps(inputs.student.features[student], inputs.teacher.features[teacher])

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(), cls(layer='map', projected=False)]


def _over_positions(x: Array, temperature: Array) -> Array:
    """Log probabilities of positions, (B, C, H W)."""
    return log_softmax(x.reshape(x.shape[0], -1, x.shape[-1]).swapaxes(1, 2), temperature)
