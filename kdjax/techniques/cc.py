"""Correlation congruence: examples correlate for the student as they do for the teacher."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
from flax import linen as nn

from kdjax.errors import UsageError
from kdjax.techniques.algebra import example_mask, flat, magnitude, norm, real_count, real_rows, total, unit
from kdjax.techniques.base import AtTeacher, Knobs, Paper, Scope, apply_module, init_module, knob, number
from kdjax.techniques.layers import LayerTerm, Pair
from kdjax.types import Array, TermInputs, TermOut, Tree

PAPER = Paper(
    'Peng, Jin, Liu, Zhou, Wu, Liu, Li, Zhang',
    'Correlation Congruence for Knowledge Distillation',
    'ICCV',
    2019,
    '1904.01802',
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Congruence(LayerTerm):
    """Distance of the two sides' correlation matrices (B, B), which `_correlations` makes."""

    PAPER: ClassVar[Paper] = PAPER
    FORMS: ClassVar[tuple[str, ...]] = ('paper', 'torchdistill')
    scope: ClassVar[Scope] = 'batch'
    at_teacher: ClassVar[AtTeacher] = 'zero'

    form: str = 'paper'

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        mask = example_mask(inputs)
        matrices = []
        for feature in self.features(inputs):
            rows_BD = real_rows(feature, inputs)
            matrices.append(self._correlations(unit(rows_BD) if self.form == 'paper' else rows_BD, knobs))
        gap_BB = jnp.where(mask[:, None] * mask > 0, matrices[0] - matrices[1], 0)
        count = real_count(inputs).astype(gap_BB.dtype)
        if self.form == 'torchdistill':
            distance = norm(gap_BB.reshape(-1)) / jnp.square(count)  # one number, which every example answers
            return jnp.broadcast_to(distance, mask.shape)
        return jnp.sum(jnp.square(gap_BB), axis=1) / count

    def _correlations(self, rows_BD: Array, knobs: Knobs) -> Array:
        raise NotImplementedError


@dataclasses.dataclass(frozen=True, kw_only=True)
class CorrelationCongruence(_Congruence):
    """1/n^2 || C^s - C^t ||_F^2, C a Taylor series of the Gaussian kernel (sec. 3). Values: (B,).

    C_ij = sum_{p <= P} exp(-2 gamma) (2 gamma)^p / p! (x_i . x_j)^p, over the n examples of the *global* batch. Forms:
    'paper': features of length 1, for which the series is that of exp(-gamma || x_i - x_j ||^2) (also KD-Zoo);
    'torchdistill': features as they are, and the norm not squared, || C^s - C^t ||_F / n^2.

    Attributes:
      layer: features of any shape (B, ...), 'tap' or 'student_tap:teacher_tap'.
      gamma: of the kernel; knob, > 0.
      order: P, at least 1.
      form: which of the above.
    """

    gamma: float = knob(0.4, above=0.0)
    order: int = number(2, minimum=1)

    def _correlations(self, rows_BD: Array, knobs: Knobs) -> Array:
        doubled = 2 * knobs['gamma']
        gram_BB = rows_BD @ rows_BD.T
        powers = [(doubled * gram_BB) ** p / math.factorial(p) for p in range(1, self.order + 1)]
        return jnp.exp(-doubled) * (1 + total(powers))


@dataclasses.dataclass(frozen=True, kw_only=True)
class BilinearCongruence(_Congruence):
    """As `CorrelationCongruence`, with bilinear pooling C_ij = x_i . x_j (sec. 3). Values: (B,).

    Attributes:
      layer: as there.
      form: as there.
    """

    def _correlations(self, rows_BD: Array, knobs: Knobs) -> Array:
        return rows_BD @ rows_BD.T


@dataclasses.dataclass(frozen=True, kw_only=True)
class NeighbourCongruence(LayerTerm):
    """sum_d |s_i - t_i|_d |s_j - t_j|_d of an example i and the next one j, averaged over the pairs. Values: (B,).

    What RepDistiller has under the paper's name, weight 0.02: each example is paired with one other. There the next one
    is that in the batch; here that with the next higher id in the *global* batch (equal ids: by view), so that nothing
    depends on the order of the batch. A lone example has value 0.

    Attributes:
      layer: features of any shape (B, ...), 'tap' or 'student_tap:teacher_tap'.
      width: of a linear embedding that is learned on each side; 0 for none, where the features must have one size.
    """

    PAPER: ClassVar[Paper] = PAPER
    scope: ClassVar[Scope] = 'batch'
    PLAIN: ClassVar[Mapping[str, Any]] = {'width': 0}

    width: int = 128

    @property
    def at_teacher(self) -> AtTeacher:
        return 'free' if self.width else 'zero'

    def init(self, key: Array, inputs: TermInputs) -> tuple[Tree, Tree]:
        sides = self.features(inputs)
        if not self.width:
            return {}, {}
        keys = jax.random.split(key)
        student, teacher = (
            init_module(nn.Dense(self.width), own, x) for own, x in zip(keys, sides, strict=True)
        )  # fmt: skip
        return {'student': student, 'teacher': teacher}, {}

    def __call__(
        self, params: Tree, memory: Tree, inputs: TermInputs, knobs: Knobs, *, step: Array, key: Array
    ) -> TermOut:
        student_BD, teacher_BD = self.features(inputs)
        if self.width:
            student_BD = apply_module(nn.Dense(self.width), params['student'], student_BD)
            teacher_BD = apply_module(nn.Dense(self.width), params['teacher'], teacher_BD)
        mask, batch = example_mask(inputs), inputs.batch
        gap_BD = jnp.where(mask[:, None] > 0, magnitude(student_BD - teacher_BD), 0)
        order = jnp.lexsort((batch['view'], batch['id'], mask <= 0))  # real examples first
        sorted_BD = gap_BD[order]
        products = jnp.sum(sorted_BD[:-1] * sorted_BD[1:], axis=1)  # 0 with padding
        values = jnp.zeros(mask.shape, products.dtype).at[order[:-1]].set(products)
        count = jnp.sum(mask).astype(values.dtype)
        return TermOut(values * count / jnp.maximum(count - 1, 1), memory, {})

    def features(self, inputs: TermInputs) -> Pair:
        student, teacher = super().features(inputs)
        if not self.width and flat(student).shape != flat(teacher).shape:
            raise UsageError(f'neighbours {self.layer!r}: shapes {student.shape} and {teacher.shape} differ; '
                             'set width=128 to learn embeddings')  # fmt: skip
        return real_rows(student, inputs), real_rows(teacher, inputs)

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(width=6), cls(width=0, layer='match')]
