"""Entropy-based weights: of several teachers, the one that is surest of an example teaches it most."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from kdjax.techniques.base import Knobs, Paper, knob
from kdjax.techniques.distributions import EnsembleTerm, divergence, member_logits, soft_cross_entropy
from kdjax.types import Array, TermInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class EntropyWeighted(EnsembleTerm):
    """sum_m w_m T^2 KL(p^m_T || p^s_T), w_m = (1 - H_m / sum_k H_k) / (M - 1) per example. Values: (B,).

    H_m is the entropy of a teacher's prediction at temperature 1; where all are 0, all weigh alike. Forms: 'paper':
    weights sum to 1; 'camkd': divided by M in place of M - 1, as the code of CA-MKD averages.

    Attributes:
      members: M, teachers in the ensemble, at least 2.
      temperature: T; knob, > 0.
      form: which of the above.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Kwon, Na, Lee, Kim', 'Adaptive Knowledge Distillation Based on Entropy', 'ICASSP', 2020
    )
    FORMS: ClassVar[tuple[str, ...]] = ('paper', 'camkd')

    temperature: float = knob(4.0, above=0.0)
    form: str = 'paper'

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        logits_BMK, temperature = member_logits(inputs, self.members), knobs['temperature']
        divergence_BM = divergence(logits_BMK, inputs.student.logits[:, None], temperature)
        values = jnp.sum(self._weights(logits_BMK) * divergence_BM, axis=1) * jnp.square(temperature)
        return values

    def _weights(self, logits_BMK: Array) -> Array:
        # Rounding may leave an entropy a little below 0.
        entropy_BM = jnp.maximum(soft_cross_entropy(logits_BMK, logits_BMK), 0)
        total_B1 = jnp.sum(entropy_BM, axis=1, keepdims=True)
        sure = total_B1 <= 0
        share_BM = jnp.where(sure, 1 / self.members, entropy_BM / jnp.where(sure, 1, total_B1))
        return (1 - share_BM) / (self.members - 1 if self.form == 'paper' else self.members)
