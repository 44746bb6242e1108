"""Knowledge adaptation for segmentation: the teacher's normalised map, and which positions are alike in it."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import jax.numpy as jnp

from kdjax.techniques.algebra import flat, norm, unit
from kdjax.techniques.base import Knobs, Paper, number
from kdjax.techniques.layers import ProjectedMaps
from kdjax.types import Array, TermInputs

PAPER = Paper(
    'He, Shen, Tian, Gong, Sun, Yan',
    'Knowledge Adaptation for Efficient Semantic Segmentation',
    'CVPR',
    2019,
    '1903.04688',
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Translation(ProjectedMaps):
    """|| t/||t||_q - s/||s||_q ||_p between whole maps. Values: (B,).

    In the paper t is the code of an autoencoder of the teacher's map; here it is the tap itself. Forms: 'paper';
    'torchdistill': where p = 1, the mean of absolute differences instead of their sum.

    Attributes:
      layer: pair of maps (B, H, W, C), 'tap' or 'student_tap:teacher_tap'; the larger map is average-pooled.
      projected: whether a learned 1x1 convolution brings the student to the teacher's channels.
      p, q: orders of the norms, positive integers.
      form: which of the above.
    """

    PAPER: ClassVar[Paper] = PAPER
    FORMS: ClassVar[tuple[str, ...]] = ('paper', 'torchdistill')

    p: int = number(1, minimum=1)
    q: int = number(2, minimum=1)
    form: str = 'paper'

    def distance(self, student: Array, teacher: Array, inputs: TermInputs, knobs: Knobs) -> Array:
        sides = (flat(student), flat(teacher))
        left, right = (x / jnp.maximum(norm(x, order=self.q), 1e-12) for x in sides)
        distance = norm(left - right, order=self.p)[:, 0]
        return distance / left.shape[1] if self.form == 'torchdistill' and self.p == 1 else distance

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [*(cls(form=form) for form in cls.FORMS), cls(layer='map', projected=False, p=2)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Affinity(ProjectedMaps):
    """Distance of the similarities between positions of one map. Values: (B,).

    Forms: 'paper': || A_s - A_t ||_F^2 with A_ij = cos(f_i, f_j) / (H W) between positions i, j; 'torchdistill': the
    sum over channels of || a_s a_s' - a_t a_t' ||_F / (H W), a the channel's map at length 1.

    Attributes:
      layer: pair of maps (B, H, W, C), 'tap' or 'student_tap:teacher_tap'; the larger map is average-pooled.
      projected: whether a learned 1x1 convolution brings the student to the teacher's channels.
      form: which of the above.
    """

    PAPER: ClassVar[Paper] = PAPER
    FORMS: ClassVar[tuple[str, ...]] = ('paper', 'torchdistill')

    form: str = 'paper'

    def distance(self, student: Array, teacher: Array, inputs: TermInputs, knobs: Knobs) -> Array:
        positions = student.shape[1] * student.shape[2]
        left, right = (x.reshape(x.shape[0], positions, x.shape[-1]) for x in (student, teacher))
        if self.form == 'paper':
            left, right = unit(left), unit(right)
            gap = (left @ left.swapaxes(1, 2) - right @ right.swapaxes(1, 2)) / positions
            return jnp.sum(jnp.square(gap), axis=(1, 2))
        left, right = (unit(x, axis=1).swapaxes(1, 2) for x in (left, right))  # (B, C, N)
        gap = left[..., :, None] * left[..., None, :] - right[..., :, None] * right[..., None, :]
        return jnp.sum(norm(gap.reshape(*left.shape[:2], -1))[..., 0], axis=1) / positions

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        learned = [cls(), cls(layer='map', form='torchdistill')]
        return [*learned, cls(layer='map', projected=False, form='torchdistill')]
