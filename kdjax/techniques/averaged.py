"""Averaged losses: the student listens to each of several teachers, to all alike or to one for each example."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from kdjax.errors import UsageError, unknown
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
      chosen: a column of the batch, integers (B,) from 0 to M - 1: the member that teaches an example, as where each
        knows a speaker or a domain; its divergence stands for the mean. All teach if left out; nan for no member.
      temperature: T; knob, > 0.
    """

    PAPER: ClassVar[Paper] = Paper('You, Xu, Xu, Tao', 'Learning from Multiple Teacher Networks', 'KDD', 2017)

    COLUMNS: ClassVar[tuple[str, ...]] = ('chosen',)

    members: int = number(2, minimum=1)
    temperature: float = knob(4.0, above=0.0)
    chosen: str = ''

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        divergence_BM = divergence(
            member_logits(inputs, self.members), inputs.student.logits[:, None], knobs['temperature']
        )
        values = jnp.mean(divergence_BM, axis=1) if not self.chosen else self._of_chosen(divergence_BM, inputs)
        return values * jnp.square(knobs['temperature'])

    def _of_chosen(self, divergence_BM: Array, inputs: TermInputs) -> Array:
        if self.chosen not in inputs.batch:
            raise unknown('column', self.chosen, inputs.batch, ' of the batch, read by AveragedLosses')
        chosen_B = inputs.batch[self.chosen]
        if chosen_B.shape != divergence_BM.shape[:1] or not jnp.issubdtype(chosen_B.dtype, jnp.integer):
            raise UsageError(f'chosen of AveragedLosses is a column of integers (B,), got {self.chosen!r} '
                             f'{chosen_B.dtype} {chosen_B.shape}')  # fmt: skip
        index = chosen_B.reshape(-1, *[1] * (divergence_BM.ndim - 1))
        known = (index >= 0) & (index < self.members)
        picked = jnp.take_along_axis(divergence_BM, jnp.clip(index, 0, self.members - 1), axis=1)
        return jnp.where(known, picked, jnp.nan)[:, 0]
