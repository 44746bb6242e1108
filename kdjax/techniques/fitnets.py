"""Hints: a regressor on a student layer predicts a teacher layer."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import jax.numpy as jnp
from flax import linen as nn

from kdjax.cpu.convolution import Conv
from kdjax.errors import UsageError
from kdjax.techniques.algebra import batch_norm, example_mask, flat, magnitude, norm, unit, wide
from kdjax.techniques.base import AtTeacher, Knobs, Paper, Scope, apply_module, init_module
from kdjax.techniques.layers import LayerTerm, Pair
from kdjax.types import Array, TermInputs, TermOut, Tree


class _Regressor(nn.Module):
    """Maps a student feature to the shape of a teacher feature; the layer is chosen by the two shapes."""

    target: tuple[int, ...]  # without the batch axis
    batch_norm: bool
    relu: bool

    @nn.compact
    def __call__(self, x: Array, mask_B: Array) -> Array:
        x = self._layer(x)(x)
        if self.batch_norm:
            x = batch_norm(x, mask_B)
        return nn.relu(x) if self.relu else x

    def _layer(self, x: Array) -> Any:
        channels = self.target[-1]
        if x.ndim == 2:
            return nn.Dense(channels)
        (height, width), (to_height, to_width) = x.shape[1:3], self.target[:2]
        if (height, width) == (2 * to_height, 2 * to_width):
            return Conv(channels, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        if (2 * height, 2 * width) == (to_height, to_width):
            return nn.ConvTranspose(channels, (4, 4), (2, 2), padding='SAME', transpose_kernel=True)
        # The paper's regressor (sec. 2.2): an unpadded convolution whose kernel takes up the difference in size.
        return Conv(channels, (1 + height - to_height, 1 + width - to_width), padding='VALID')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hint(LayerTerm):
    """1/2 || u_t - r(u_s) ||^2 per example, with a learned regressor r (eq. 3). Values: (B,).

    In the paper a first stage trains this term alone, a second one the soft targets: two fits of one method. Forms,
    with d the difference of the features ('BN' is batch normalisation over all devices):

    | form                | value                        | end of r | as in                           |
    |---------------------|------------------------------|----------|---------------------------------|
    | paper               | 1/2 sum of d^2               |          | the paper                       |
    | repdistiller        | mean of d^2                  | BN, ReLU | RepDistiller, mdistiller        |
    | repdistiller_linear | mean of d^2                  | BN       | theirs with use_relu=False      |
    | mean                | mean of d^2                  |          | RKD, Knowledge-Distillation-Zoo |
    | absolute            | mean of abs(d)               |          | mmrazor L1Loss                  |
    | distance            | norm of d of the whole batch |          | mmrazor L2Loss with dist        |

    Attributes:
      layer: 'tap' or 'student_tap:teacher_tap', maps (B, H, W, C) or vectors (B, D).
      regressor: whether to learn r; without it the two features must have one shape.
      unit_length: whether each example's r(u_s) and u_t are first scaled to length 1 (mmrazor L2Loss, normalize).
      form: which of the above.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Romero, Ballas, Kahou, Chassang, Gatta, Bengio', 'FitNets: Hints for Thin Deep Nets', 'ICLR', 2015, '1412.6550'
    )
    FORMS: ClassVar[tuple[str, ...]] = (
        'paper',
        'repdistiller',
        'repdistiller_linear',
        'mean',
        'absolute',
        'distance',
    )
    PLAIN: ClassVar[Mapping[str, Any]] = {'regressor': False}

    layer: str = 'stage2'
    regressor: bool = True
    unit_length: bool = False
    form: str = 'paper'

    @property
    def scope(self) -> Scope:
        return 'batch' if self.form == 'distance' or (self.regressor and self._batch_norm) else 'example'

    @property
    def at_teacher(self) -> AtTeacher:
        return 'free' if self.regressor else 'zero'

    def init(self, key: Array, inputs: TermInputs) -> tuple[Tree, Tree]:
        student, teacher = self.features(inputs)
        if not self.regressor:
            return {}, {}
        return init_module(self._regressor(student, teacher), key, student, example_mask(inputs)), {}

    def __call__(
        self, params: Tree, memory: Tree, inputs: TermInputs, knobs: Knobs, *, step: Array, key: Array
    ) -> TermOut:
        student_BD, teacher_BD = flat(self.regressed(params, inputs)), flat(self.features(inputs)[1])
        if self.unit_length:
            student_BD, teacher_BD = unit(student_BD), unit(teacher_BD)
        return TermOut(self._values(student_BD - teacher_BD, example_mask(inputs)), memory, {})

    def regressed(self, params: Tree, inputs: TermInputs) -> Array:
        """r(u_s), in the shape of the teacher's feature; without a regressor u_s itself."""
        student, teacher = self.features(inputs)
        if not self.regressor:
            return student
        return apply_module(self._regressor(student, teacher), params, student, example_mask(inputs))

    def _values(self, difference_BD: Array, mask_B: Array) -> Array:
        if self.form == 'paper':
            return 0.5 * jnp.sum(jnp.square(difference_BD), axis=1)
        if self.form == 'distance':
            real_BD = jnp.where(mask_B[:, None] > 0, difference_BD, 0)
            return jnp.broadcast_to(norm(real_BD.reshape(-1)), mask_B.shape)  # one number, which every example answers
        return jnp.mean(magnitude(difference_BD) if self.form == 'absolute' else jnp.square(difference_BD), axis=1)

    @property
    def _batch_norm(self) -> bool:
        return self.form.startswith('repdistiller')

    def features(self, inputs: TermInputs) -> Pair:
        student, teacher = map(wide, super().features(inputs))
        if not self.regressor and student.shape != teacher.shape:
            raise UsageError(
                f'hint {self.layer!r}: shapes {student.shape} and {teacher.shape} differ; set regressor=True'
            )
        if student.ndim != teacher.ndim or student.ndim not in (2, 4):
            raise UsageError(f'hint {self.layer!r}: cannot regress {student.shape} to {teacher.shape}; both must be '
                             'maps (B, H, W, C) or vectors (B, D)')  # fmt: skip
        return student, teacher

    def _regressor(self, student: Array, teacher: Array) -> nn.Module:
        smaller = any(student.shape[axis] < teacher.shape[axis] for axis in range(1, student.ndim - 1))
        doubled = all(2 * student.shape[axis] == teacher.shape[axis] for axis in range(1, student.ndim - 1))
        if smaller and not doubled:
            raise UsageError(f'hint {self.layer!r}: student map {student.shape[1:3]} is smaller than the teacher map '
                             f'{teacher.shape[1:3]} and not its half; choose another pair of taps')  # fmt: skip
        return _Regressor(tuple(teacher.shape[1:]), self._batch_norm, relu=self.form == 'repdistiller')

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        learned = [cls(form=form) for form in cls.FORMS]
        layers = [cls(form=form, layer=layer) for form in cls.FORMS[:2] for layer in ('stage1:stage2', 'penult')]
        fixed = [cls(regressor=False, layer='match', form=form) for form in ('paper', 'absolute', 'distance')]
        return [*learned, *layers, *fixed, cls(regressor=False, layer='match', unit_length=True)]
