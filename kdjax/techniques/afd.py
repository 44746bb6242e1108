"""Attentive feature distillation: channels count by an attention that learns which of the teacher's matter."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import jax.numpy as jnp
from flax import linen as nn

from kdjax.techniques.algebra import norm, pooled, projected, projection
from kdjax.techniques.base import AtTeacher, Knobs, Paper, apply_module, init_module, number
from kdjax.techniques.layers import MapTerm
from kdjax.types import Array, TermInputs, TermOut, Tree


class _Attention(nn.Module):
    """Shares of channels, which sum to 1, from the teacher's pooled map (B, C)."""

    width: int

    @nn.compact
    def __call__(self, pooled: Array) -> Array:
        hidden = nn.relu(nn.Dense(self.width, name='squeeze')(pooled))
        score = nn.sigmoid(nn.Dense(pooled.shape[-1], name='excite')(hidden))
        return score / jnp.sum(score, axis=-1, keepdims=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttentiveFeatures(MapTerm):
    """sum_c rho_c mean_hw (s_c/||s_c|| - t_c/||t_c||)^2, rho(t) a learned attention over channels.

    Values: (B,). Channel norms are over the map, enlarged by 1e-6. rho is a squeeze-and-excitation block with shares
    that sum to 1, as in KD-Zoo, which found the paper's own attention unstable. The attention is trained with the
    student and alone would favour channels that are already close: weigh the term against a task.

    Attributes:
      layer: pair of maps (B, H, W, C), 'tap' or 'student_tap:teacher_tap'; the larger map is average-pooled.
      projected: whether a learned 1x1 convolution brings the student to the teacher's channels.
      reduction: width of the attention over the number of channels, in (0, 1].
    """

    PAPER: ClassVar[Paper] = Paper(
        'Wang, Gao, Zhao, Li, Dou, Xu', 'Pay Attention to Features, Transfer Learn Faster CNNs', 'ICLR', 2020
    )

    projected: bool = True
    reduction: float = number(0.5, above=0.0, maximum=1.0)

    @property
    def at_teacher(self) -> AtTeacher:
        return 'free' if self.projected else 'zero'

    def init(self, key: Array, inputs: TermInputs) -> tuple[Tree, Tree]:
        student, teacher = self.features(inputs)
        attention = init_module(self._attention(teacher), key, pooled(teacher))
        return {
            'attention': attention, 'projection': projection(key, student, teacher) if self.projected else {}
        }, {}  # fmt: skip

    def __call__(
        self, params: Tree, memory: Tree, inputs: TermInputs, knobs: Knobs, *, step: Array, key: Array
    ) -> TermOut:
        student, teacher = self.features(inputs)
        student = projected(params['projection'], student, teacher)
        share = apply_module(self._attention(teacher), params['attention'], pooled(teacher))
        square = jnp.square(_normalised(student) - _normalised(teacher))
        return TermOut(jnp.sum(share * jnp.mean(square, axis=1), axis=-1), memory, {})

    def _attention(self, teacher: Array) -> nn.Module:
        return _Attention(max(int(teacher.shape[-1] * self.reduction), 1))

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(), cls(layer='map', projected=False, reduction=1.0)]


def _normalised(x: Array) -> Array:
    """Each channel over its norm, (B, H W, C)."""
    positions = x.reshape(x.shape[0], -1, x.shape[-1])
    return positions / (norm(positions, axis=1) + 1e-6)
