"""Inter-channel correlation: the student's channels are alike where the teacher's are."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import jax.numpy as jnp

from kdjax.techniques.algebra import unit
from kdjax.techniques.base import Knobs, Paper
from kdjax.techniques.layers import ProjectedMaps
from kdjax.types import Array, TermInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChannelCorrelation(ProjectedMaps):
    """1/C^2 || G_s - G_t ||_F^2 with G = F F^T between channels (C, H W) of one example. Values: (B,).

    Forms: 'paper'; 'code': rows of G scaled to length 1 and the sum over C rather than C^2, as in the authors' code
    and torchdistill (which divides by the batch once more).

    Attributes:
      layer: pair of maps (B, H, W, C), 'tap' or 'student_tap:teacher_tap'; the larger map is average-pooled.
      projected: whether a learned 1x1 convolution brings the student to the teacher's channels.
      form: which of the above.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Liu, Huang, Lin, Xie, Wang, Chang, Liang',
        'Exploring Inter-Channel Correlation for Diversity-preserved Knowledge Distillation',
        'ICCV',
        2021,
        '2202.03680',
    )
    FORMS: ClassVar[tuple[str, ...]] = ('paper', 'code')

    form: str = 'paper'

    def distance(self, student: Array, teacher: Array, inputs: TermInputs, knobs: Knobs) -> Array:
        gap = self._correlation(student) - self._correlation(teacher)
        channels = teacher.shape[-1]
        return jnp.sum(jnp.square(gap), axis=(1, 2)) / (channels if self.form == 'code' else channels**2)

    def _correlation(self, x: Array) -> Array:
        """G, (B, C, C)."""
        positions = x.reshape(x.shape[0], -1, x.shape[-1])
        gram = positions.swapaxes(1, 2) @ positions
        return unit(gram) if self.form == 'code' else gram

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [*(cls(form=form) for form in cls.FORMS), cls(layer='map', projected=False, form='code')]
