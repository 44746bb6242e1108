"""Neural collaborative filtering: each item is taken or not, a task loss of recommendation."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from kdjax.techniques.base import Knobs, Paper, Taps
from kdjax.techniques.candidates import CandidateTerm
from kdjax.types import Array, TermInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class PointwiseRanking(CandidateTerm):
    """-log sigmoid(s_i) - sum_j log(1 - sigmoid(s_j)): the item i of an interaction, others j (eq. 7). Values: (B,).

    Attributes:
      positive, negative: the taps of the item (B, 1) and of the others (B, n).
    """

    PAPER: ClassVar[Paper] = Paper(
        'He, Liao, Zhang, Nie, Hu, Chua', 'Neural Collaborative Filtering', 'WWW', 2017, '1708.05031'
    )
    TEACHER: ClassVar[bool] = False

    positive: str = 'positive'
    negative: str = 'negative'

    def taps(self) -> Taps:
        return Taps(student=(self.positive, self.negative))

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        positive, negative = (self.scores(inputs.student, tap, inputs) for tap in (self.positive, self.negative))
        taken, others = jax.nn.softplus(-positive), jax.nn.softplus(negative)
        return self.counted(jnp.sum(taken, axis=1) + jnp.sum(others, axis=1), inputs)
