"""Pearson distillation for detectors: features agree up to a scale and an offset of each channel."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import jax.numpy as jnp

from kdjax.techniques.algebra import example_mask, norm, per_example, unit
from kdjax.techniques.base import Knobs, Paper, Scope
from kdjax.techniques.layers import ProjectedMaps
from kdjax.types import Array, TermInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class PearsonFeatures(ProjectedMaps):
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

    form: str = 'paper'

    def distance(self, student: Array, teacher: Array, inputs: TermInputs, knobs: Knobs) -> Array:
        mask = example_mask(inputs)
        gap = self._standard(student, mask) - self._standard(teacher, mask)
        return 0.5 * per_example(jnp.square(gap))

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
