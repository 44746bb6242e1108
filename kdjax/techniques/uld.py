"""ULD: distillation between vocabularies that have nothing to do with each other."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import jax.numpy as jnp

from kdjax.errors import UsageError
from kdjax.techniques.algebra import log_softmax, magnitude
from kdjax.techniques.base import AtTeacher, Knobs, Paper, Term, knob
from kdjax.techniques.distributions import real_logits, two_vocabularies, where_aligned
from kdjax.types import Array, TermInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class UniversalLogits(Term):
    """sum_i |p_(i) - q_(i)|, p and q sorted: the Wasserstein distance at uniform cost (sec. 3). Values: (B,) or (B, N).

    The smaller vocabulary is filled up with probability 0. Tokens are aligned already, (B, N) on both sides; where the
    batch says that there is no such token of the teacher ('aligned', -1), the value is 0. With
    `matched`, what is left of two vocabularies that share some tokens, as in GOLD (see gold.MatchedTokens).

    Attributes:
      matched: pairs of ids (student, teacher) that are left out.
      temperature: of both softmaxes, without a factor T^2; knob, > 0.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Boizard, El Haddad, Hudelot, Colombo',
        'Towards Cross-Tokenizer Distillation: the Universal Logit Distillation Loss for LLMs',
        'TMLR',
        2025,
        '2402.12030',
    )
    OTHER_CLASSES: ClassVar[bool] = True

    matched: tuple[tuple[int, int], ...] = ()
    temperature: float = knob(1.0, above=0.0)

    @property
    def at_teacher(self) -> AtTeacher:
        return 'zero' if all(student == teacher for student, teacher in self.matched) else 'free'

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        sides = two_vocabularies(inputs, self.matched)
        student, teacher = (
            self._sorted(self.probabilities(real_logits(logits, inputs), knobs['temperature']), ids)
            for logits, ids in zip(sides, tuple(zip(*self.matched, strict=True)) or ((), ()), strict=True)
        )
        size = max(student.shape[-1], teacher.shape[-1])
        apart = jnp.sum(magnitude(_filled(student, size) - _filled(teacher, size)), axis=-1)
        return where_aligned(apart, inputs)

    def probabilities(self, logits: Array, temperature: Array) -> Array:
        """softmax(logits / T)."""
        return jnp.exp(log_softmax(logits, temperature))

    def _sorted(self, probabilities: Array, matched: Sequence[int]) -> Array:
        out = set(matched)
        left = [index for index in range(probabilities.shape[-1]) if index not in out]
        if not left:
            raise UsageError(f'all {probabilities.shape[-1]} ids of a side are matched: UniversalLogits has nothing to '
                             'compare; leave it out')  # fmt: skip
        return jnp.sort(probabilities[..., jnp.asarray(left)], axis=-1, descending=True)

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(), cls(matched=((0, 3), (2, 1)))]


def _filled(x: Array, size: int) -> Array:
    return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, size - x.shape[-1])])
