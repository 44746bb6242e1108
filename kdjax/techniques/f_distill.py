"""f-distill: divergences between teacher and student that are not one-sided, at every token."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from kdjax.techniques.base import AtTeacher, Knobs, Paper, Term, knob
from kdjax.techniques.distributions import (
    cross_entropy,
    jensen_shannon,
    kl_divergence,
    log_probabilities,
    total_variation,
)
from kdjax.types import Array, TermInputs

WEN = Paper(
    'Wen, Li, Du, Mou', 'f-Divergence Minimization for Sequence-Level Knowledge Distillation', 'ACL', 2023, '2307.15190'
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TotalVariation(Term):
    """T^2 1/2 sum_c |p_c - q_c| of teacher p and student q (the paper: T = 1). Values: (B,) or (B, N).

    Attributes:
      temperature: T; knob, > 0.
    """

    PAPER: ClassVar[Paper] = WEN
    at_teacher: ClassVar[AtTeacher] = 'zero'

    temperature: float = knob(1.0, above=0.0)

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        distance = total_variation(*log_probabilities(inputs, knobs['temperature']))
        return distance * jnp.square(knobs['temperature'])


@dataclasses.dataclass(frozen=True, kw_only=True)
class JensenShannon(Term):
    """T^2 (s KL(p || m) + (1 - s) KL(q || m)), m = s p + (1 - s) q, of teacher p and student q. Values: (B,) or (B, N).

    The paper has s = 1/2 and T = 1. DistiLLM's `lam` is 1 - s.

    Attributes:
      share: s, in (0, 1); knob.
      temperature: T; knob, > 0.
    """

    PAPER: ClassVar[Paper] = WEN
    at_teacher: ClassVar[AtTeacher] = 'zero'

    share: float = knob(0.5, above=0.0, below=1.0)
    temperature: float = knob(1.0, above=0.0)

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        log_p, log_q = log_probabilities(inputs, knobs['temperature'])
        values = jensen_shannon(log_p, log_q, knobs['share'])
        return values * jnp.square(knobs['temperature'])


@dataclasses.dataclass(frozen=True, kw_only=True)
class SymmetricKL(Term):
    """T^2 (s KL(p || q) + (1 - s) KL(q || p)) of teacher p and student q. Values: (B,) or (B, N).

    Between the two KL variants of the paper (T = 1). Forms: 'kl', as above; 'distillm': with the cross-entropy H(p, q)
    for KL(p || q), which adds s times the teacher's entropy and leaves the gradient. DistiLLM's `lam` is 1 - s.

    Attributes:
      share: s, in [0, 1]; knob.
      temperature: T; knob, > 0.
      form: which of the above.
    """

    PAPER: ClassVar[Paper] = WEN
    FORMS: ClassVar[tuple[str, ...]] = ('kl', 'distillm')

    share: float = knob(0.5, minimum=0.0, maximum=1.0)
    temperature: float = knob(1.0, above=0.0)
    form: str = 'kl'

    @property
    def at_teacher(self) -> AtTeacher:
        return 'zero' if self.form == 'kl' else 'stationary'

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        log_p, log_q = log_probabilities(inputs, knobs['temperature'])
        forward = kl_divergence(log_p, log_q) if self.form == 'kl' else cross_entropy(log_p, log_q)
        values = knobs['share'] * forward + (1 - knobs['share']) * kl_divergence(log_q, log_p)
        return values * jnp.square(knobs['temperature'])
