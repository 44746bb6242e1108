"""Word-level distillation: soft targets at every position of a sequence."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from kdjax.techniques.base import AtTeacher, Knobs, Paper, Term, knob
from kdjax.techniques.distributions import cross_entropy, kl_divergence, log_probabilities
from kdjax.types import Array, TermInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class WordLevel(Term):
    """T^2 H(p, q) of teacher p and student q at every token (L_WORD-KD, sec. 3.1). Values: (B,) or (B, N).

    The paper has no temperature (T = 1), nor have LMOps and DistiLLM, which use form 'paper' under the name of the
    forward KL. 'kl': T^2 KL(p || q), as DistillKit; the gradient is the same. Distillation from sequences that the
    teacher wrote (sec. 3.2) is a matter of data, not of the term.

    Attributes:
      temperature: T; knob, > 0.
      form: which of the above.
    """

    PAPER: ClassVar[Paper] = Paper('Kim, Rush', 'Sequence-Level Knowledge Distillation', 'EMNLP', 2016, '1606.07947')
    FORMS: ClassVar[tuple[str, ...]] = ('paper', 'kl')

    temperature: float = knob(1.0, above=0.0)
    form: str = 'paper'

    @property
    def at_teacher(self) -> AtTeacher:
        return 'zero' if self.form == 'kl' else 'stationary'

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        log_p, log_q = log_probabilities(inputs, knobs['temperature'])
        values = kl_divergence(log_p, log_q) if self.form == 'kl' else cross_entropy(log_p, log_q)
        return values * jnp.square(knobs['temperature'])
