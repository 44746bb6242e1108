"""Neural collaborative filtering: each item is taken or not, a task loss of recommendation."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from kdjax.techniques.base import Paper
from kdjax.techniques.candidates import InteractionTerm
from kdjax.types import Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class PointwiseRanking(InteractionTerm):
    """-log sigmoid(s_i) - sum_j log(1 - sigmoid(s_j)): the item i of an interaction, others j (eq. 7). Values: (B,)."""

    PAPER: ClassVar[Paper] = Paper(
        'He, Liao, Zhang, Nie, Hu, Chua', 'Neural Collaborative Filtering', 'WWW', 2017, '1708.05031'
    )

    def loss(self, positive_B1: Array, negative_Bn: Array) -> Array:
        taken, others = jax.nn.softplus(-positive_B1), jax.nn.softplus(negative_Bn)
        return jnp.sum(taken, axis=1) + jnp.sum(others, axis=1)
