"""Simple recipe distillation: a linear projector with normalisation, and the logarithm of a high power's sum."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
from flax import linen as nn

from kdjax.errors import UsageError
from kdjax.techniques.algebra import batch_norm, example_mask, flat, magnitude
from kdjax.techniques.base import AtTeacher, Knobs, Paper, Scope, apply_module, init_module, knob
from kdjax.techniques.layers import LayerTerm, Pair
from kdjax.types import Array, TermInputs, TermOut, Tree

TINY = 1e-30


class _Projector(nn.Module):
    """A linear layer to the teacher's width, and batch normalisation without scale and offset of both sides."""

    channels: int

    @nn.compact
    def __call__(self, student: Array, teacher: Array, mask_B: Array) -> tuple[Array, Array]:
        student = nn.Dense(self.channels, use_bias=False)(student)
        return self._normed(student, mask_B), self._normed(teacher, mask_B)

    def _normed(self, x: Array, mask_B: Array) -> Array:
        return batch_norm(x, mask_B, use_scale=False, use_bias=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogPowerSum(LayerTerm):
    """log sum_bd |P(s) - t|^a over the batch, with a learned linear projector P, both sides normalised.

    Values: (B,), one number, which every real example answers. Batch normalisation, without scale and offset, keeps
    the two sides on one scale; the logarithm keeps a large teacher from dominating. torchdistill adds the soft targets
    (without T^2) to twice this value. Unbounded below in the limit of a perfect student, where the value stays finite.

    Attributes:
      layer: pair of features (B, ...), 'tap' or 'student_tap:teacher_tap', flattened.
      projected: whether to project and normalise; without, the two features must have one shape.
      power: a; knob, >= 1.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Miles, Mikolajczyk',
        'Understanding the Role of the Projector in Knowledge Distillation',
        'AAAI',
        2024,
        '2303.11098',
    )
    scope: ClassVar[Scope] = 'batch'
    minimum: ClassVar[float] = -math.inf
    PLAIN: ClassVar[Mapping[str, Any]] = {'projected': False}

    projected: bool = True
    power: float = knob(4.0, minimum=1.0)

    @property
    def at_teacher(self) -> AtTeacher:
        return 'free' if self.projected else 'stationary'

    def init(self, key: Array, inputs: TermInputs) -> tuple[Tree, Tree]:
        student, teacher = self.features(inputs)
        if not self.projected:
            return {}, {}
        return init_module(_Projector(teacher.shape[-1]), key, student, teacher, example_mask(inputs)), {}

    def __call__(
        self, params: Tree, memory: Tree, inputs: TermInputs, knobs: Knobs, *, step: Array, key: Array
    ) -> TermOut:
        student, teacher = self.features(inputs)
        mask = example_mask(inputs)
        if self.projected:
            student, teacher = apply_module(_Projector(teacher.shape[-1]), params, student, teacher, mask)
        gap = jnp.where(mask[:, None] > 0, magnitude(student - teacher), 0)
        return TermOut(jnp.broadcast_to(_log_sum(gap, knobs['power']), mask.shape), memory, {})

    def features(self, inputs: TermInputs) -> Pair:
        student, teacher = map(flat, super().features(inputs))
        if not self.projected and student.shape != teacher.shape:
            raise UsageError(f'features {student.shape} and {teacher.shape} differ in width; set projected=True')
        return student, teacher

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(layer='penult:strong'), cls(layer='match', projected=False)]


def _log_sum(x: Array, power: Array) -> Array:
    """log sum x^power of x >= 0; neither the power nor its sum overflows. ()"""
    largest = jax.lax.stop_gradient(jnp.maximum(jnp.max(x), TINY))
    return power * jnp.log(largest) + jnp.log(jnp.maximum(jnp.sum((x / largest) ** power), TINY))
