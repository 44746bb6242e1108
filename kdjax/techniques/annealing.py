"""Annealing: the student regresses the teacher's logits, first damped and then in full."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import jax.numpy as jnp

from kdjax.techniques.algebra import same_classes, wide
from kdjax.techniques.base import AtTeacher, Knobs, Paper, Term, number
from kdjax.types import Array, TermInputs, TermOut, Tree


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnnealedLogits(Term):
    """sum_c (z^s_c - Phi(T) z^t_c)^2 (eq. 4). Values: (B,), or (B, N) for (B, N, K).

    Phi(T) = 1 - (T - 1) / T_max, where T falls from T_max to 1 in steps of 1, all of the same length, over `steps`
    training steps. The paper's second phase, the hard labels alone, is a fit of its own.

    Attributes:
      highest: T_max, at least 1.
      steps: training steps until T has been 1 for its share of them too.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Jafari, Rezagholizadeh, Sharma, Ghodsi', 'Annealing Knowledge Distillation', 'EACL', 2021, '2104.07163'
    )
    COUNTS: ClassVar[bool] = True
    TASKS: ClassVar[tuple[str, ...]] = ('classification', 'multilabel', 'regression', 'tagging')

    highest: int = number(10, minimum=1)
    steps: int = number(1000, minimum=1)

    @property
    def at_teacher(self) -> AtTeacher:
        return 'free' if self.highest > 1 else 'zero'

    def __call__(
        self, params: Tree, memory: Tree, inputs: TermInputs, knobs: Knobs, *, step: Array, key: Array
    ) -> TermOut:
        student, teacher = same_classes(inputs)
        gap = wide(student) - self.damping(step).astype(wide(teacher).dtype) * wide(teacher)
        return TermOut(jnp.sum(jnp.square(gap), axis=-1), memory, {})

    def damping(self, step: Array) -> Array:
        """Phi(T) at a step. ()"""
        done = jnp.minimum(step * self.highest // self.steps, self.highest - 1)
        return (done + 1) / self.highest

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(), cls(highest=1)]
