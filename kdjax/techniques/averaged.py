"""Averaged losses: the student listens to each of several teachers, to all alike."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from kdjax.techniques.base import Knobs, Paper, knob, number
from kdjax.techniques.distributions import EnsembleTerm, divergence, member_logits
from kdjax.types import Array, TermInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class AveragedLosses(EnsembleTerm):
    """1/M sum_m T^2 KL(p^m_T || p^s_T) over M teachers. Values: (B,).

    AVER in the tables of CA-MKD and AEKD. Its gradient is that of soft targets from the mean of the probabilities, with
    which You et al. average; the value is larger by how much the teachers disagree.

    Attributes:
      members: M, teachers in the ensemble, at least 1.
      temperature: T; knob, > 0.
    """

    PAPER: ClassVar[Paper] = Paper('You, Xu, Xu, Tao', 'Learning from Multiple Teacher Networks', 'KDD', 2017)

    members: int = number(2, minimum=1)
    temperature: float = knob(4.0, above=0.0)

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        divergence_BM = divergence(
            member_logits(inputs, self.members), inputs.student.logits[:, None], knobs['temperature']
        )
        return jnp.mean(divergence_BM, axis=1) * jnp.square(knobs['temperature'])
