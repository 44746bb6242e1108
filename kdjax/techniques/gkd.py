"""GKD: a divergence that goes from the forward to the reverse KL, at every token."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from kdjax.errors import UsageError
from kdjax.techniques.algebra import log_softmax, same_classes
from kdjax.techniques.base import AtTeacher, Knobs, Paper, Term, knob
from kdjax.techniques.distributions import jensen_shannon, kl_divergence, real_logits
from kdjax.types import Array, TermInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class GeneralizedJSD(Term):
    """JSD_beta = beta KL(p || m) + (1 - beta) KL(q || m), m = beta p + (1 - beta) q (eq. 1). Values: (B,) or (B, N).

    p is the teacher, q the student, both at temperature T and without a factor T^2. JSD_beta vanishes at beta = 0 and
    1: near them it is beta KL(p || q) and (1 - beta) KL(q || p). Forms:

    | form   | between 0 and 1              | at 0    | at 1     | as in                           |
    |--------|------------------------------|---------|----------|---------------------------------|
    | paper  | JSD_beta                     | refused | refused  | eq. 1                           |
    | trl    | JSD_beta                     | forward | reverse  | TRL; it jumps at both ends      |
    | scaled | JSD_beta / beta / (1 - beta) | forward | reverse  | the limits, so nothing jumps    |

    The forward divergence is KL(p || q), the reverse one KL(q || p).
    The mask says which tokens are real: TRL's label -100 is a 0 in it. What the student wrote itself (on-policy data)
    is a matter of data, not of the term.

    Attributes:
      beta: share of the teacher in m, in [0, 1]; knob.
      temperature: T; knob, > 0.
      form: which of the above.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Agarwal, Vieillard, Zhou, Stanczyk, Ramos, Geist, Bachem',
        'On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes',
        'ICLR',
        2024,
        '2306.13649',
    )
    FORMS: ClassVar[tuple[str, ...]] = ('paper', 'trl', 'scaled')
    at_teacher: ClassVar[AtTeacher] = 'zero'

    beta: float = knob(0.5, minimum=0.0, maximum=1.0)
    temperature: float = knob(1.0, above=0.0)
    form: str = 'paper'

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.form == 'paper' and self.beta in (0, 1):
            raise UsageError(f"GeneralizedJSD is 0 at beta={self.beta:g}; form='trl' or 'scaled' has a KL there")

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        student, teacher = (real_logits(logits, inputs) for logits in same_classes(inputs))
        log_p, log_q = (self.log_probabilities(logits, knobs['temperature']) for logits in (teacher, student))
        return self._values(log_p, log_q, knobs['beta'])

    def log_probabilities(self, logits: Array, temperature: Array) -> Array:
        """log softmax(logits / T)."""
        return log_softmax(logits, temperature)

    def _values(self, log_p: Array, log_q: Array, beta: Array) -> Array:
        inside = (beta > 0) & (beta < 1)
        share = jnp.where(inside, beta, 0.5)
        values = jensen_shannon(log_p, log_q, share)
        if self.form == 'scaled':
            values = values / (share * (1 - share))
        if self.form == 'paper':
            return jnp.where(inside, values, 0)
        ends = jnp.where(beta <= 0, kl_divergence(log_p, log_q), kl_divergence(log_q, log_p))
        return jnp.where(inside, values, ends)
