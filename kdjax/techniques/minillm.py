"""MiniLLM: the student looks for the teacher's modes, by the reverse KL divergence."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from kdjax.techniques.base import AtTeacher, Knobs, Paper, Term, knob
from kdjax.techniques.distributions import kl_divergence, log_probabilities
from kdjax.types import Array, TermInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReverseKL(Term):
    """T^2 KL(q || p) of student q and teacher p at every token. Values: (B,) or (B, N).

    The paper minimises the reverse divergence of whole sequences (eq. 1). This is its single-step part, summed over the
    vocabulary rather than sampled ((grad L)_Single, sec. 2.2), with T = 1; the other part needs sequences sampled from
    the student. A class that the teacher rules out (logit -inf) adds 0, as in DistiLLM's code, not infinity.

    Attributes:
      temperature: T; knob, > 0.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Gu, Dong, Wei, Huang', 'MiniLLM: Knowledge Distillation of Large Language Models', 'ICLR', 2024, '2306.08543'
    )
    at_teacher: ClassVar[AtTeacher] = 'zero'

    temperature: float = knob(1.0, above=0.0)

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        log_p, log_q = log_probabilities(inputs, knobs['temperature'])
        return kl_divergence(log_q, log_p) * jnp.square(knobs['temperature'])
