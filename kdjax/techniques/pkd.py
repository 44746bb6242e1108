"""Pearson distillation for detectors: features agree up to a scale and an offset of each channel."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import jax.numpy as jnp

from kdjax.techniques.algebra import example_mask, norm, per_example, projected, projection, same_maps, unit
from kdjax.techniques.base import AtTeacher, Knobs, Paper, Scope, Taps, Term, paired, pairs
from kdjax.types import Array, TermInputs, TermOut, Tree


@dataclasses.dataclass(frozen=True, kw_only=True)
class PearsonFeatures(Term):
    """Half the mean square of z(s) - z(t), z standardising a channel over batch and positions. Values: (B,).

    The mean over the batch is 1 - r, r being Pearson's correlation, averaged over channels. Forms: 'paper'; 'mmrazor':
    the deviation has one degree of freedom less and is enlarged by 1e-6.

    Attributes:
      layer: pair of maps (B, H, W, C), 'tap' or 'student_tap:teacher_tap'; the larger map is average-pooled.
      projected: whether a learned 1x1 convolution brings the student to the teacher's channels.
      form: which of the above.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Cao, Zhang, Gao, Cheng, Cheng, Zhang',
        'PKD: General Distillation Framework for Object Detectors via Pearson Correlation Coefficient',
        'NeurIPS',
        2022,
        '2207.02039',
    )
    FORMS: ClassVar[tuple[str, ...]] = ('paper', 'mmrazor')
    scope: ClassVar[Scope] = 'batch'

    layer: str = 'stage2'
    projected: bool = True
    form: str = 'paper'

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
        mask = example_mask(inputs)
        gap = self._standard(projected(params, student, teacher), mask) - self._standard(teacher, mask)
        return TermOut(0.5 * per_example(jnp.square(gap)), memory, {})

    def _read(self, inputs: TermInputs) -> tuple[Array, Array]:
        ((student, teacher),) = pairs([self.layer])
        return same_maps(inputs.student.features[student], inputs.teacher.features[teacher])

    def _standard(self, x: Array, mask_B: Array) -> Array:
        """Each channel standardised over the real examples; 0 in padding, and in a channel that is constant."""
        real = jnp.broadcast_to(mask_B[:, None, None, None] > 0, x.shape).reshape(-1, x.shape[-1])
        flat = jnp.where(real, x.reshape(real.shape), 0)
        count = jnp.maximum(jnp.sum(real[:, 0]), 1).astype(x.dtype)
        centred = jnp.where(real, flat - jnp.sum(flat, axis=0) / count, 0)
        if self.form == 'mmrazor':
            deviation = norm(centred, 0) / jnp.sqrt(jnp.maximum(count - 1, 1))
            return (centred / (deviation + 1e-6)).reshape(x.shape)
        return (unit(centred, 0, floor=1e-6) * jnp.sqrt(count)).reshape(x.shape)

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [*(cls(form=form) for form in cls.FORMS), cls(layer='map', projected=False)]
