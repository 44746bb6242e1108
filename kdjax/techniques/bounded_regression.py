"""Teacher bounded regression: the teacher's error is a bound, below which the student has nothing left to learn."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import jax.numpy as jnp

from kdjax.techniques.algebra import same_classes, wide
from kdjax.techniques.base import Knobs, Paper, Term, number
from kdjax.techniques.distributions import known_outputs, targets
from kdjax.types import Array, TermInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class BoundedRegression(Term):
    """||z_s - y||^2 where ||z_s - y||^2 + m > ||z_t - y||^2, else 0 (L_b, sec. 3.3). Values: (B,), or (B, N).

    Of the outputs of boxes in the paper, beside their smooth L1 loss; of any numbers here, beside
    `mean_squared_error.MeanSquaredError`. Labels are as there, and those that are not known do not count. The student
    that is to have the teacher's outputs, rather than its error, is `logits.LogitMatching` of form 'mean'.

    Attributes:
      margin: m, by how much the student's error must be below the teacher's, >= 0.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Chen, Choi, Yu, Han, Chandraker',
        'Learning Efficient Object Detection Models with Knowledge Distillation',
        'NIPS',
        2017,
    )
    LABELS: ClassVar[bool] = True
    TASKS: ClassVar[tuple[str, ...]] = ('regression',)

    margin: float = number(0.0, minimum=0.0)

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        target, known = targets(inputs), known_outputs(inputs)
        student, teacher = (
            jnp.sum(jnp.where(known, jnp.square(wide(outputs) - target), 0), axis=-1)
            for outputs in same_classes(inputs)
        )
        return jnp.where(student + self.margin > teacher, student, 0)

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        # So wide a margin that every student has something to learn; without one some have nothing.
        return [cls(margin=1e9)]
