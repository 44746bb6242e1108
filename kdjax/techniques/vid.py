"""Variational information distillation: a learned Gaussian around a guess from the student explains the teacher."""

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar, Self

import jax.numpy as jnp
from flax import linen as nn

from kdjax.errors import UsageError
from kdjax.techniques.algebra import flat, smaller_map, wide
from kdjax.techniques.base import Knobs, Paper, apply_module, init_module, number
from kdjax.techniques.layers import LayerTerm, Pair
from kdjax.types import Array, TermInputs, TermOut, Tree


class _Mean(nn.Module):
    """mu: three layers that act on each position, with ReLU between."""

    width: int
    channels: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for _ in range(2):
            x = nn.relu(nn.Dense(self.width, use_bias=False)(x))
        return nn.Dense(self.channels, use_bias=False)(x)


@dataclasses.dataclass(frozen=True, kw_only=True)
class VariationalInformation(LayerTerm):
    """-log q(t | s): Gaussian with learned mean mu(s) and learned variance v_c per channel (eq. 4-6). Values: (B,).

    Per position and channel 1/2 ((t - mu(s))^2 / v_c + log v_c), v_c = floor + softplus(a_c), without the constant
    log(2 pi) / 2: so values may be negative. mu is three 1x1 convolutions with ReLU between. Forms: 'paper': the sum
    over positions and channels; 'mean': their mean (RepDistiller, mdistiller, torchdistill, KD-Zoo).

    Attributes:
      layer: 'tap' or 'student_tap:teacher_tap', maps (B, H, W, C), of which the larger is average-pooled, or (B, D).
      width: channels between the convolutions; 0 for as many as the teacher has.
      start: v_c at first.
      floor: the least v_c, > 0; where v_c starts depends on it, so it is no knob.
      form: which of the above.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Ahn, Hu, Damianou, Lawrence, Dai',
        'Variational Information Distillation for Knowledge Transfer',
        'CVPR',
        2019,
        '1904.05835',
    )
    FORMS: ClassVar[tuple[str, ...]] = ('paper', 'mean')
    minimum: ClassVar[float] = -math.inf

    layer: str = 'stage2'
    width: int = number(0, minimum=0)
    start: float = 5.0
    floor: float = 1e-5
    form: str = 'paper'

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.floor < self.start < math.inf:
            raise UsageError('VariationalInformation needs 0 < floor < start, '
                             f'got floor {self.floor!r} and start {self.start!r}')  # fmt: skip

    def init(self, key: Array, inputs: TermInputs) -> tuple[Tree, Tree]:
        student, teacher = self.features(inputs)
        # The inverse of softplus, in a form that does not overflow.
        gap = self.start - self.floor
        variance = jnp.full(teacher.shape[-1], gap + math.log(-math.expm1(-gap)), teacher.dtype)
        return {'mean': init_module(self._module(teacher), key, student), 'variance': variance}, {}

    def __call__(
        self, params: Tree, memory: Tree, inputs: TermInputs, knobs: Knobs, *, step: Array, key: Array
    ) -> TermOut:
        student, teacher = self.features(inputs)
        mean = apply_module(self._module(teacher), params['mean'], student)
        variance = self.floor + nn.softplus(params['variance'])
        values = flat(0.5 * (jnp.square(teacher - mean) / variance + jnp.log(variance)))
        reduce = jnp.mean if self.form == 'mean' else jnp.sum
        return TermOut(reduce(values, axis=1), memory, {'variance': jnp.mean(variance)})

    def features(self, inputs: TermInputs) -> Pair:
        student, teacher = map(wide, super().features(inputs))
        if student.ndim != teacher.ndim or student.ndim not in (2, 4):
            raise UsageError(f'variational information of {self.layer!r}: both must be maps (B, H, W, C) or vectors '
                             f'(B, D), got {student.shape} and {teacher.shape}')  # fmt: skip
        return smaller_map(student, teacher) if student.ndim == 4 else (student, teacher)

    def _module(self, teacher: Array) -> nn.Module:
        return _Mean(self.width or teacher.shape[-1], teacher.shape[-1])

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        vectors = [cls(form=form, layer='penult') for form in cls.FORMS]
        return [*vectors, cls(form='mean'), cls(layer='stage1:stage2', start=1.0, width=8, form='mean')]
