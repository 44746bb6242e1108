"""Prime-aware adaptive distillation: examples that the student cannot match count less, by a learned variance."""

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar, Self

import jax
import jax.numpy as jnp

from kdjax.errors import UsageError
from kdjax.techniques.algebra import flat, projected, projection
from kdjax.techniques.base import Knobs, Paper, knob
from kdjax.techniques.layers import LayerTerm, Pair
from kdjax.types import Array, TermInputs, TermOut, Tree


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrimeAware(LayerTerm):
    """Mean over features of (t - s)^2 / (eps + v) + log v, v a learned variance per example. Values: (B,).

    log v is a linear branch of the student's own feature, near 0 at first. In the paper a first fit warms up with the
    squared difference alone, then the branch joins. Values may be negative.

    Attributes:
      layer: pair of features (B, ...), 'tap' or 'student_tap:teacher_tap', flattened.
      projected: whether a learned linear layer brings the student to the teacher's width.
      eps: keeps the quotient finite; knob, > 0.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Zhang, Lan, Dai, Zeng, Bai, Chang, Wei', 'Prime-Aware Adaptive Distillation', 'ECCV', 2020, '2008.01458'
    )
    minimum: ClassVar[float] = -math.inf

    projected: bool = True
    eps: float = knob(1e-6, above=0.0)

    def init(self, key: Array, inputs: TermInputs) -> tuple[Tree, Tree]:
        student, teacher = self.features(inputs)
        keys = jax.random.split(key)
        variance = jax.tree.map(lambda leaf: 0.1 * leaf, projection(keys[0], student, teacher))
        return {'variance': variance, 'projection': projection(keys[1], student, teacher) if self.projected else {}}, {}

    def __call__(
        self, params: Tree, memory: Tree, inputs: TermInputs, knobs: Knobs, *, step: Array, key: Array
    ) -> TermOut:
        student, teacher = self.features(inputs)
        log_variance = self.log_variance(params, inputs)
        square = jnp.square(teacher - projected(params['projection'], student, teacher))
        # 1 / (eps + v), in a way that an overflow of v leaves with a gradient.
        precision = jnp.exp(-jnp.logaddexp(jnp.log(knobs['eps']), log_variance))
        values = square * precision + log_variance
        return TermOut(jnp.mean(values, axis=1), memory, {})

    def log_variance(self, params: Tree, inputs: TermInputs) -> Array:
        """log v, of each feature. (B, D)"""
        student, teacher = self.features(inputs)
        return projected(params['variance'], student, teacher)

    def features(self, inputs: TermInputs) -> Pair:
        student, teacher = map(flat, super().features(inputs))
        if not self.projected and student.shape != teacher.shape:
            raise UsageError(f'features {student.shape} and {teacher.shape} differ in width; set projected=True')
        return student, teacher

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(), cls(layer='match', projected=False, eps=0.5)]
