"""Structure-level distillation: the student learns the teacher's marginals, or the sequences that it likes best."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import jax
import jax.numpy as jnp

from kdjax.crf import LOWEST, best_paths, log_marginals, log_partition, path_scores
from kdjax.techniques.algebra import log_softmax
from kdjax.techniques.base import AtTeacher, Knobs, Paper, knob, number
from kdjax.techniques.chains import SentenceTerm, TwoTaggers
from kdjax.techniques.distributions import cross_entropy, kl_divergence
from kdjax.techniques.tokens import over_tokens
from kdjax.types import Array, TermInputs

PAPER = Paper(
    'Wang, Jiang, Bach, Wang, Huang, Tu',
    'Structure-Level Knowledge Distillation For Multilingual Sequence Labeling',
    'ACL',
    2020,
    '2004.03846',
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Posterior(TwoTaggers):
    """Posterior distillation: T^2 D(q^t_T, q^s_T) at every token of the two CRFs' marginals q.

    q_T is q^(1/T), made to sum to 1. Where the logits are those of `crf` networks, which are log q, this is what soft
    targets are; it serves networks whose logits are anything else. Values: (B, N), or their mean over an example's
    tokens (B,) where the mask is per example.

    Attributes:
      temperature: T; knob, > 0.
      form: 'kl', the divergence, as in the authors' code, or 'paper', the cross-entropy, with the same gradient.
    """

    PAPER: ClassVar[Paper] = PAPER
    FORMS: ClassVar[tuple[str, ...]] = ('kl', 'paper')

    temperature: float = knob(1.0, above=0.0)
    form: str = 'kl'

    @property
    def at_teacher(self) -> AtTeacher:
        if self.crf != 'both':
            return 'free'
        return 'zero' if self.form == 'kl' else 'stationary'

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        sides = self.chains(inputs)
        student, teacher = (log_softmax(log_marginals(*side), knobs['temperature']) for side in sides)
        distance = kl_divergence if self.form == 'kl' else cross_entropy
        return over_tokens(distance(teacher, student) * jnp.square(knobs['temperature']), inputs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TopSequences(SentenceTerm, TwoTaggers):
    """- sum_y w_y log p^s(y) over the `keep` sequences y that the teacher finds most probable.

    The forms are the paper's: 'weighted' (Top-WK), w_y = p^t(y), made to sum to 1; 'uniform' (Top-K), w_y = 1 / keep.
    With keep=1 the teacher's answer is taken for the truth. Values: (B,), or (B, N) with per='token'.

    Attributes:
      keep: how many sequences.
      form: which of the above.
    """

    PAPER: ClassVar[Paper] = PAPER
    FORMS: ClassVar[tuple[str, ...]] = ('weighted', 'uniform')

    keep: int = number(10, minimum=1)
    form: str = 'weighted'

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        student, teacher = self.chains(inputs)
        paths, scores = best_paths(*teacher, self.keep)
        there = scores > LOWEST / 2  # a short sentence may have fewer
        weights = jax.nn.softmax(
            scores if self.form == 'weighted' else jnp.where(there, jnp.zeros_like(scores), LOWEST), axis=1
        )
        surprise = log_partition(*student)[:, None] - path_scores(*student, paths)
        return self.spread(jnp.sum(weights * surprise, axis=1), paths.shape[-1], inputs)

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(form='weighted', keep=3), cls(form='uniform', keep=3), cls(keep=1, per='token')]
