"""Channel-wise distillation: each student channel looks where the teacher's channel looks."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import jax.numpy as jnp

from kdjax.techniques.algebra import log_softmax
from kdjax.techniques.base import Knobs, Paper, knob
from kdjax.techniques.layers import ProjectedMaps
from kdjax.types import Array, TermInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChannelDistribution(ProjectedMaps):
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

    temperature: float = knob(4.0, above=0.0)

    def distance(self, student: Array, teacher: Array, inputs: TermInputs, knobs: Knobs) -> Array:
        temperature = knobs['temperature']
        log_student, log_teacher = (_over_positions(x, temperature) for x in (student, teacher))
        divergences = jnp.sum(jnp.exp(log_teacher) * (log_teacher - log_student), axis=-1)
        return jnp.square(temperature) * jnp.mean(divergences, axis=-1)

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(), cls(layer='map', projected=False)]


def _over_positions(x: Array, temperature: Array) -> Array:
    """Log probabilities of positions, (B, C, H W)."""
    return log_softmax(x.reshape(x.shape[0], -1, x.shape[-1]).swapaxes(1, 2), temperature)
