"""Collaborative distillation: how likely the teacher thinks that a user takes each of some items is a soft label."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import jax
import jax.numpy as jnp

from kdjax.techniques.base import AtTeacher, Knobs, Paper, Taps, knob
from kdjax.techniques.candidates import CandidateTerm
from kdjax.types import Array, TermInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class CollaborativeDistillation(CandidateTerm):
    """The mean over items of -q log p - (1 - q) log(1 - p), q = sigmoid(t / T), p = sigmoid(s / T). Values: (B,).

    s and t are the two sides' scores of items that the user has not taken, drawn by the teacher's ranking: the higher,
    the more often. An item of low rank is thus rarely taken for one that is disliked.

    Attributes:
      items: the tap of the items.
      temperature: T, > 0; knob.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Lee, Choi, Lee, Shim', 'Collaborative Distillation for Top-N Recommendation', 'ICDM', 2019, '1911.05276'
    )
    at_teacher: ClassVar[AtTeacher] = 'stationary'

    items: str = 'interesting'
    temperature: float = knob(1.0, above=0.0)

    def taps(self) -> Taps:
        return Taps((self.items,), (self.items,))

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        student, teacher = (self.scores(side, self.items, inputs) / knobs['temperature'] for side in inputs[:2])
        # -q log sigmoid(s) - (1 - q) log(1 - sigmoid(s)) = softplus(s) - q s, here without cancellation of large s.
        taken = jax.nn.sigmoid(teacher)
        cross = taken * jax.nn.softplus(-student) + (1 - taken) * jax.nn.softplus(student)
        return self.counted(jnp.mean(cross, axis=1), inputs)

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(), cls(temperature=2.0, once='user')]
