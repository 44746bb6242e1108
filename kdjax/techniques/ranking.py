"""Pairwise ranking: the student orders the teacher's most probable classes as the teacher does."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import jax
import jax.numpy as jnp

from kdjax.errors import UsageError
from kdjax.techniques.algebra import log_softmax, real
from kdjax.techniques.base import AtTeacher, Knobs, Paper, Scope, Taps, Term, knob
from kdjax.techniques.distributions import real_logits, top_classes
from kdjax.types import Array, TermInputs

DISTINCT = 1e-8  # a smaller gap between probabilities, or a smaller probability, makes no pair


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Pairs(Term):
    """What the rankings share: pairs (i, j) of the k classes of which the teacher finds i more probable than j."""

    FORMS: ClassVar[tuple[str, ...]] = ('token', 'distillkit')

    keep: int = 0
    form: str = 'token'

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.keep < 0 or self.keep == 1:
            raise UsageError(f'keep of {type(self).__name__} must be at least 2 classes, or 0 for taps, '
                             f'got {self.keep!r}')  # fmt: skip

    @property
    def scope(self) -> Scope:
        return 'batch' if self.form == 'distillkit' else 'example'

    def taps(self) -> Taps:
        return Taps() if self.keep else Taps((), ('top_ids', 'top_log_probs'))

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        ids, top = top_classes(inputs, self.keep)
        teacher = jnp.exp(top)
        found = (_gaps(teacher) > DISTINCT) & (teacher[..., None, :] > DISTINCT)
        losses = self._losses(real_logits(inputs.student.logits, inputs), ids, teacher, knobs)
        sums = jnp.sum(jnp.where(found, losses, 0), axis=(-2, -1))
        counts = jnp.sum(found, axis=(-2, -1)).astype(sums.dtype)
        return self._values(sums, counts, real(inputs, sums.ndim))

    def _values(self, sums: Array, counts: Array, tokens: Array) -> Array:
        """The mean over a token's pairs; or what has as its mean over tokens the mean over all pairs of the batch."""
        if self.form == 'token':
            return sums / jnp.maximum(counts, 1)
        tokens = jnp.broadcast_to(tokens, sums.shape).astype(sums.dtype)
        return sums * (jnp.sum(tokens) / jnp.maximum(jnp.sum(tokens * counts), 1))

    def _losses(self, logits: Array, ids: Array, teacher: Array, knobs: Knobs) -> Array:
        """Of every pair (i, j) of the k classes. (..., k, k)"""
        raise NotImplementedError

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [*(cls(form=form) for form in cls.FORMS), cls(keep=4)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogisticRanking(_Pairs):
    """log(1 + exp(z_j - z_i)) of student logits z, over pairs that the teacher orders i before j (RankNet, eq. 3).

    Pairs are of the teacher's k most probable classes. Values: (B,) or (B, N), by form: 'token' is the mean over a
    token's pairs, 0 where it has none; 'distillkit' makes the loss the mean over all pairs of the batch, so that a
    token counts by how many pairs it has (DistillKit's LogisticRankingLoss).

    Attributes:
      keep: k, taken from the teacher's logits; 0 where the teacher gives 'top_ids' and 'top_log_probs' (..., k) itself.
      form: which of the above.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Burges, Shaked, Renshaw, Lazier, Deeds, Hamilton, Hullender',
        'Learning to Rank using Gradient Descent',
        'ICML',
        2005,
    )

    def _losses(self, logits: Array, ids: Array, teacher: Array, knobs: Knobs) -> Array:
        chosen = jnp.take_along_axis(logits, ids, axis=-1)
        possible = chosen > -jnp.inf  # a class that the student rules out has no rank to learn
        both = possible[..., :, None] & possible[..., None, :]
        return jnp.where(both, jax.nn.softplus(-_gaps(jnp.where(possible, chosen, 0))), 0)


HERBRICH = Paper(
    'Herbrich, Graepel, Obermayer',
    'Large Margin Rank Boundaries for Ordinal Regression',
    'Advances in Large Margin Classifiers',
    2000,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MarginRanking(_Pairs):
    """max(0, margin - (q_i - q_j)) of student probabilities q, over pairs that the teacher orders i before j.

    Pairs are of the teacher's k most probable classes. Values and forms as of LogisticRanking; 'distillkit' is its
    HingeLoss with a margin.

    Attributes:
      margin: what every pair is to be apart, of probability; knob, >= 0.
      keep: k, taken from the teacher's logits; 0 where the teacher gives 'top_ids' and 'top_log_probs' (..., k) itself.
      form: 'token' or 'distillkit'.
    """

    PAPER: ClassVar[Paper] = HERBRICH

    margin: float = knob(0.25, minimum=0.0)

    def _losses(self, logits: Array, ids: Array, teacher: Array, knobs: Knobs) -> Array:
        return jax.nn.relu(knobs['margin'] - _gaps(_probabilities(logits, ids)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class GapRanking(_Pairs):
    """max(0, (p_i - p_j) - (q_i - q_j)), over pairs that the teacher p orders i before j; q is the student.

    The margin of a pair is the teacher's own gap. Pairs are of the teacher's k most probable classes. Values and forms
    as of LogisticRanking; 'distillkit' is its HingeLoss without a margin.

    Attributes:
      keep: k, taken from the teacher's logits; 0 where the teacher gives 'top_ids' and 'top_log_probs' (..., k) itself.
      form: 'token' or 'distillkit'.
    """

    PAPER: ClassVar[Paper] = HERBRICH

    @property
    def at_teacher(self) -> AtTeacher:
        return 'zero' if self.keep else 'free'  # with taps there is nothing that a student could equal

    def _losses(self, logits: Array, ids: Array, teacher: Array, knobs: Knobs) -> Array:
        return jax.nn.relu(_gaps(teacher) - _gaps(_probabilities(logits, ids)))


def _gaps(x: Array) -> Array:
    """x_i - x_j. (..., k, k)"""
    return x[..., :, None] - x[..., None, :]


def _probabilities(logits: Array, ids: Array) -> Array:
    return jnp.take_along_axis(jnp.exp(log_softmax(logits)), ids, axis=-1)
