"""Bayesian personalised ranking: what a user took ranks before what the user did not, a task loss of recommendation."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import jax
import jax.numpy as jnp

from kdjax.techniques.base import Knobs, Paper, Taps
from kdjax.techniques.candidates import CandidateTerm
from kdjax.types import Array, TermInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairwiseRanking(CandidateTerm):
    """-sum_j log sigmoid(s_i - s_j) / n: the item i of an interaction and n others j (eq. 5). Values: (B,).

    Code that sums over a batch of B interactions, and adds an L2 gradient of strength c, trains as this mean does with
    c / B: see `optim.build`, 'adam_l2'.

    Attributes:
      positive, negative: the taps of the item (B, 1) and of the others (B, n).
    """

    PAPER: ClassVar[Paper] = Paper(
        'Rendle, Freudenthaler, Gantner, Schmidt-Thieme',
        'BPR: Bayesian Personalized Ranking from Implicit Feedback',
        'UAI',
        2009,
        '1205.2618',
    )
    TEACHER: ClassVar[bool] = False

    positive: str = 'positive'
    negative: str = 'negative'

    def taps(self) -> Taps:
        return Taps(student=(self.positive, self.negative))

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        positive, negative = (self.scores(inputs.student, tap, inputs) for tap in (self.positive, self.negative))
        return self.counted(jnp.mean(jax.nn.softplus(negative - positive), axis=1), inputs)

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(), cls(once='user')]
