"""Bayesian personalised ranking: what a user took ranks before what the user did not, a task loss of recommendation."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import jax
import jax.numpy as jnp

from kdjax.techniques.base import Paper
from kdjax.techniques.candidates import InteractionTerm
from kdjax.types import Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairwiseRanking(InteractionTerm):
    """-sum_j log sigmoid(s_i - s_j) / n: the item i of an interaction and n others j (eq. 5). Values: (B,).

    Code that sums over a batch of B interactions, and adds an L2 gradient of strength c, trains as this mean does with
    c / B: see `optim.build`, 'adam_l2'.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Rendle, Freudenthaler, Gantner, Schmidt-Thieme',
        'BPR: Bayesian Personalized Ranking from Implicit Feedback',
        'UAI',
        2009,
        '1205.2618',
    )

    def loss(self, positive_B1: Array, negative_Bn: Array) -> Array:
        return jnp.mean(jax.nn.softplus(negative_Bn - positive_B1), axis=1)

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(), cls(once='user')]
