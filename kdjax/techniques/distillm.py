"""DistiLLM: divergences from a mixture that contains a little of the other side, so that their gradients stay small."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from kdjax.techniques.base import AtTeacher, Knobs, Paper, Term, knob
from kdjax.techniques.distributions import cross_entropy, kl_divergence, log_probabilities, mixture
from kdjax.types import Array, TermInputs

KO = Paper(
    'Ko, Kim, Chen, Yun', 'DistiLLM: Towards Streamlined Distillation for Large Language Models', 'ICML', 2024,
    '2402.03898',
)  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Skewed(Term):
    """What the two divergences share.

    Attributes:
      skew: alpha, the share of the first distribution in the mixture, in (0, 1); knob.
      temperature: T; knob, > 0. The paper has T = 1.
    """

    PAPER: ClassVar[Paper] = KO

    skew: float = knob(0.1, above=0.0, below=1.0)
    temperature: float = knob(1.0, above=0.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SkewKL(_Skewed):
    """T^2 KL(p || alpha p + (1 - alpha) q) of teacher p and student q (SKL, sec. 3.1). Values: (B,) or (B, N).

    Forms: 'paper', as above; 'distillm', the authors' code: the cross-entropy of the two, which adds the teacher's
    entropy and leaves the gradient.

    Attributes:
      skew: alpha, the teacher's share of the mixture, in (0, 1); knob.
      temperature: T; knob, > 0. The paper has T = 1.
      form: which of the above.
    """

    FORMS: ClassVar[tuple[str, ...]] = ('paper', 'distillm')

    form: str = 'paper'

    @property
    def at_teacher(self) -> AtTeacher:
        return 'zero' if self.form == 'paper' else 'stationary'

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        log_p, log_q = log_probabilities(inputs, knobs['temperature'])
        mixed = mixture(log_p, log_q, knobs['skew'])
        values = kl_divergence(log_p, mixed) if self.form == 'paper' else cross_entropy(log_p, mixed)
        return values * jnp.square(knobs['temperature'])


@dataclasses.dataclass(frozen=True, kw_only=True)
class SkewReverseKL(_Skewed):
    """T^2 KL(q || alpha q + (1 - alpha) p) of teacher p and student q (SRKL, sec. 3.1). Values: (B,) or (B, N).

    Attributes:
      skew: alpha, the student's share of the mixture, in (0, 1); knob.
      temperature: T; knob, > 0. The paper has T = 1.
    """

    at_teacher: ClassVar[AtTeacher] = 'zero'

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        log_p, log_q = log_probabilities(inputs, knobs['temperature'])
        values = kl_divergence(log_q, mixture(log_q, log_p, knobs['skew']))
        return values * jnp.square(knobs['temperature'])
