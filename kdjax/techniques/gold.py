"""GOLD: where two vocabularies share tokens, these are compared one by one."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import jax.numpy as jnp

from kdjax.techniques.algebra import log_softmax
from kdjax.techniques.base import AtTeacher, Knobs, Paper, Term, knob
from kdjax.techniques.distributions import (
    jensen_shannon,
    kl_divergence,
    real_logits,
    two_vocabularies,
    where_aligned,
)
from kdjax.types import Array, TermInputs

FLOOR = 1e-8  # of probabilities, before the logarithm, as in TRL


@dataclasses.dataclass(frozen=True, kw_only=True)
class MatchedTokens(Term):
    """The generalised JSD over tokens that both vocabularies have, p and q not renormalised. Values: (B,) or (B, N).

    beta sum_i p_i log(p_i / m_i) + (1 - beta) sum_i q_i log(q_i / m_i), m = beta p + (1 - beta) q, i over pairs of ids;
    at beta = 0 and 1 the two Kullback-Leibler sums, as TRL has them, which may be negative. GOLD adds the sorted
    distance of all other tokens (uld.UniversalLogits with the same `matched`); by default it weighs the two by the
    share of the teacher's vocabulary that is matched, and by the rest.

    Attributes:
      matched: pairs of ids (student, teacher) that are one token; () means that equal ids are. Where a config has a
        teacher of other sub-words and leaves it empty, it has the pairs of those that are equal strings.
      beta: share of the teacher in m, in [0, 1]; knob.
      temperature: of both softmaxes, without a factor T^2; knob, > 0.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Patiño, Rasul, Gallouédec, Burtenshaw, Paniego, Srivastav, Frere, Beeching, Tunstall, von Werra, Wolf',
        'Unlocking On-Policy Distillation for Any Model Family',
        'Hugging Face',
        2025,
    )
    OTHER_CLASSES: ClassVar[bool] = True

    matched: tuple[tuple[int, int], ...] = ()
    beta: float = knob(0.5, minimum=0.0, maximum=1.0)
    temperature: float = knob(1.0, above=0.0)

    @property
    def at_teacher(self) -> AtTeacher:
        if self.beta in (0, 1) or any(student != teacher for student, teacher in self.matched):
            return 'free'
        return 'zero'

    @property
    def minimum(self) -> float:
        return 0.0 if 0 < self.beta < 1 else -float('inf')

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        student, teacher = two_vocabularies(inputs, self.matched)
        same = tuple((index, index) for index in range(min(student.shape[-1], teacher.shape[-1])))
        log_q, log_p = (
            jnp.log(jnp.maximum(self.probabilities(real_logits(logits, inputs), knobs['temperature']), FLOOR))[
                ..., jnp.asarray(ids)
            ]
            for logits, ids in zip((student, teacher), zip(*(self.matched or same), strict=True), strict=True)
        )
        return where_aligned(_generalised(log_p, log_q, knobs['beta']), inputs)

    def probabilities(self, logits: Array, temperature: Array) -> Array:
        """softmax(logits / T)."""
        return jnp.exp(log_softmax(logits, temperature))

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(), cls(matched=((0, 3), (2, 1))), cls(beta=1.0)]


def _generalised(log_p: Array, log_q: Array, beta: Array) -> Array:
    inside = (beta > 0) & (beta < 1)
    ends = jnp.where(beta <= 0, kl_divergence(log_p, log_q), kl_divergence(log_q, log_p))
    return jnp.where(inside, jensen_shannon(log_p, log_q, jnp.where(inside, beta, 0.5)), ends)
