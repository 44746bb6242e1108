"""Masked generative distillation: from a part of the student's map, a small network generates the teacher's."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import jax
import jax.numpy as jnp
from flax import linen as nn

from kdjax.cpu.convolution import Conv
from kdjax.errors import unknown
from kdjax.techniques.algebra import example_keys
from kdjax.techniques.base import Knobs, Paper, apply_module, init_module, knob, number
from kdjax.techniques.layers import MapTerm
from kdjax.types import Array, TermInputs, TermOut, Tree

MASKS = ('spatial', 'channel')


class _Generator(nn.Module):
    """A 1x1 convolution where the channels differ, the mask, then two 3x3 convolutions with a ReLU between."""

    channels: int
    width: int

    @nn.compact
    def __call__(self, x: Array, kept: Array) -> Array:
        if x.shape[-1] != self.channels:
            x = Conv(self.channels, (1, 1), name='align')(x)
        # Not 0 at first: where all that is read is masked, the ReLU would sit on its kink.
        bias_init = nn.initializers.normal(0.1)
        x = nn.relu(Conv(self.width, (3, 3), bias_init=bias_init, name='first')(x * kept))
        return Conv(self.channels, (3, 3), name='second')(x)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskedGeneration(MapTerm):
    """|| t - G(m * align(s)) ||^2, summed over channels and positions. Values: (B,).

    m is 0 with probability `masked`, drawn per example and step for each position, or, for classifiers, each channel.
    The paper weighs with 7e-5 (classification), 2e-5 (detection).

    Attributes:
      layer: pair of maps (B, H, W, C), 'tap' or 'student_tap:teacher_tap'; the larger map is average-pooled.
      mask: 'spatial' or 'channel'.
      width: channels between the two convolutions of G; 0 for as many as the teacher has.
      masked: share that is masked (lambda); knob, >= 0 and < 1.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Yang, Li, Shao, Shi, Yuan, Yuan', 'Masked Generative Distillation', 'ECCV', 2022, '2205.01529'
    )
    DRAWS: ClassVar[bool] = True

    mask: str = 'spatial'
    width: int = number(0, minimum=0)
    masked: float = knob(0.65, minimum=0.0, below=1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mask not in MASKS:
            raise unknown('mask', self.mask, MASKS, ' of MaskedGeneration')

    def init(self, key: Array, inputs: TermInputs) -> tuple[Tree, Tree]:
        student, teacher = self.features(inputs)
        return init_module(self._generator(teacher), key, student, jnp.ones((), student.dtype)), {}

    def __call__(
        self, params: Tree, memory: Tree, inputs: TermInputs, knobs: Knobs, *, step: Array, key: Array
    ) -> TermOut:
        student, teacher = self.features(inputs)
        shape = (*teacher.shape[1:3], 1) if self.mask == 'spatial' else (1, 1, teacher.shape[-1])
        kept = (self.draw(key, inputs, shape) >= knobs['masked']).astype(student.dtype)
        guess = apply_module(self._generator(teacher), params, student, kept)
        return TermOut(jnp.sum(jnp.square(teacher - guess), axis=(1, 2, 3)), memory, {})

    def draw(self, key: Array, inputs: TermInputs, shape: tuple[int, ...]) -> Array:
        """Uniform numbers below 1; what is below `masked` is masked. (B, *shape)"""
        return jax.vmap(lambda own: jax.random.uniform(own, shape, jnp.float32))(example_keys(key, inputs))

    def _generator(self, teacher: Array) -> nn.Module:
        return _Generator(teacher.shape[-1], self.width or teacher.shape[-1])

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(width=3, masked=0.3), cls(width=2, mask='channel', masked=0.3)]
