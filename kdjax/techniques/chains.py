"""What terms of conditional random fields share: the scores of both sides, and values that are of whole sentences."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, NamedTuple, Self

import jax.numpy as jnp

from kdjax.errors import UsageError, unknown
from kdjax.techniques.algebra import example_mask, token_mask, wide
from kdjax.techniques.base import Taps, Term
from kdjax.techniques.tokens import over_tokens, real_tokens
from kdjax.types import Array, Outputs, TermInputs

TAPS = ('emissions', 'transitions')


class Chain(NamedTuple):
    """Scores of a CRF, as functions of `kdjax.crf` take them."""

    emissions: Array  # (B, N, K)
    transitions: Array  # (B, K + 2, K)
    mask: Array  # (B, N)


def chain(outputs: Outputs, inputs: TermInputs) -> Chain:
    """The CRF that a network's taps describe, of float32 at least.

    Raises:
      UsageError: the taps do not fit each other.
    """
    emissions, transitions = (wide(outputs.features[tap]) for tap in TAPS)
    size = emissions.shape[-1]
    if emissions.ndim != 3 or transitions.shape != (emissions.shape[0], size + 2, size):
        raise UsageError(f"taps 'emissions' {emissions.shape} and 'transitions' {transitions.shape} must be (B, N, K) "
                         'and (B, K + 2, K)')  # fmt: skip
    return Chain(emissions, transitions, sentence_mask(inputs, emissions.shape[1]))


def independent(outputs: Outputs, inputs: TermInputs) -> Chain:
    """The CRF without transitions whose tags have the probabilities that logits (B, N, K) give them.

    Raises:
      UsageError: the logits are not of tokens.
    """
    if outputs.logits is None or outputs.logits.ndim != 3:
        raise UsageError(f'needs logits (B, N, K), got {getattr(outputs.logits, "shape", None)}')
    logits = wide(outputs.logits)
    count, size = logits.shape[0], logits.shape[-1]
    return Chain(logits, jnp.zeros((count, size + 2, size), logits.dtype), sentence_mask(inputs, logits.shape[1]))


def sentence_mask(inputs: TermInputs, tokens: int) -> Array:
    """1 for real tokens of real sentences, whether their labels are known or not. (B, N)"""
    mask = inputs.batch['mask']
    if mask.ndim == 1:
        return token_mask(inputs, tokens)
    return example_mask(inputs)[:, None] * inputs.batch.get('token_mask', mask)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SentenceTerm(Term):
    """A term whose values are of sentences.

    Attributes:
      per: 'sentence': values are (B,), and their mean is over sentences; 'token': each token of a sentence of n has
        1 / n of its value, (B, N), so that the mean is over tokens, as that of terms of tokens.
    """

    UNITS: ClassVar[tuple[str, ...]] = ('sentence', 'token')
    TASKS: ClassVar[tuple[str, ...]] = ('tagging',)

    per: str = 'sentence'

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.per not in self.UNITS:
            raise unknown('per', self.per, self.UNITS, f' of {type(self).__name__}')

    def spread(self, values: Array, tokens: int, inputs: TermInputs) -> Array:
        """Values (B,) of sentences of (padded) `tokens` as `per` says: (B,), or (B, N) where the mask is per token."""
        if self.per == 'sentence':
            return values
        counts = jnp.sum(real_tokens(inputs, tokens), axis=1, keepdims=True)
        shares = values[:, None] / jnp.maximum(counts, 1).astype(values.dtype)
        return over_tokens(jnp.broadcast_to(shares, (len(values), tokens)), inputs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TwoTaggers(Term):
    """A term that compares two taggers, of which one need not be a CRF.

    Attributes:
      crf: which sides have the taps of a CRF, 'both', 'student' or 'teacher'; the other's tags are as independent of
        each other as its logits (B, N, K) say.
    """

    SIDES: ClassVar[tuple[str, ...]] = ('both', 'student', 'teacher')
    TASKS: ClassVar[tuple[str, ...]] = ('tagging',)

    crf: str = 'both'

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.crf not in self.SIDES:
            raise unknown('crf', self.crf, self.SIDES, f' of {type(self).__name__}')

    def taps(self) -> Taps:
        return Taps(*(TAPS if self.crf in ('both', side) else () for side in ('student', 'teacher')))

    @classmethod
    def readings(cls) -> Sequence[Self]:
        return [cls(crf=side) for side in cls.SIDES]

    def chains(self, inputs: TermInputs) -> tuple[Chain, Chain]:
        """Of the student and of the teacher.

        Raises:
          UsageError: they are of other tokens or tags.
        """
        taps = self.taps()
        student = (chain if taps.student else independent)(inputs.student, inputs)
        teacher = (chain if taps.teacher else independent)(inputs.teacher, inputs)
        if student.emissions.shape != teacher.emissions.shape:
            raise UsageError(f'emissions of the student {student.emissions.shape} and of the teacher '
                             f'{teacher.emissions.shape} must have one shape')  # fmt: skip
        return student, teacher
