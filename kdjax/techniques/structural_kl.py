"""Structural distillation, exactly: the divergence of the student's sequences of tags from the teacher's."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import jax.numpy as jnp

from kdjax.crf import expectations, log_partition
from kdjax.techniques.base import AtTeacher, Knobs, Paper, knob
from kdjax.techniques.chains import Chain, SentenceTerm, TwoTaggers
from kdjax.types import Array, TermInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequenceDivergence(SentenceTerm, TwoTaggers):
    """T^2 D(p^t_T, p^s_T) over all sequences of tags, p_T(y) being proportional to exp(s(y) / T).

    The score of a sequence is a sum over tokens and pairs of neighbours, so the cross-entropy is the student's log Z
    less the score that the teacher's marginals of tokens and pairs expect of it. With two CRFs this is the paper's case
    1a, with crf='teacher' its case 2a, with crf='student' its case 3. Values: (B,), or (B, N) with per='token'.

    The authors' code differs for T > 1: it softens the teacher's marginals rather than its scores.

    Attributes:
      temperature: T; knob, > 0.
      form: 'kl', the divergence, or 'paper', the cross-entropy, with the same gradient.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Wang, Jiang, Yan, Jia, Bach, Wang, Huang, Huang, Tu',
        'Structural Knowledge Distillation: Tractably Distilling Information for Structured Predictor',
        'ACL',
        2021,
        '2010.05010',
    )
    FORMS: ClassVar[tuple[str, ...]] = ('kl', 'paper')

    temperature: float = knob(1.0, above=0.0)
    form: str = 'kl'

    @property
    def at_teacher(self) -> AtTeacher:
        if self.crf != 'both':
            return 'free'
        return 'zero' if self.form == 'kl' else 'stationary'

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        temperature = knobs['temperature']
        student, teacher = (_softened(side, temperature) for side in self.chains(inputs))
        tags, moves = expectations(*teacher)
        divergence = log_partition(*student)
        emissions, transitions = -student.emissions, -student.transitions
        if self.form == 'kl':  # score by score, so that what both sides have cancels before it is summed
            divergence = divergence - log_partition(*teacher)
            emissions, transitions = teacher.emissions + emissions, teacher.transitions + transitions
        divergence = divergence + _product(tags, emissions) + _product(moves, transitions)
        return self.spread(divergence * jnp.square(temperature), tags.shape[1], inputs)

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(form='kl'), cls(form='paper'), cls(per='token', temperature=2.0)]


def _softened(chain: Chain, temperature: Array) -> Chain:
    return chain._replace(emissions=chain.emissions / temperature, transitions=chain.transitions / temperature)


def _product(expected: Array, scores: Array) -> Array:
    """Sum of products, an example at a time; what is not expected has no score, whatever stands there. (B,)"""
    return jnp.sum(jnp.where(expected > 0, expected * scores, 0), axis=(1, 2))
