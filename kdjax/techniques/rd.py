"""Ranking distillation: the items that the teacher ranks first are positives for the student, weighted by rank."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import jax
import jax.numpy as jnp

from kdjax.errors import UsageError
from kdjax.techniques.algebra import example_keys, same_classes
from kdjax.techniques.base import Knobs, Paper, Taps, Term, knob, number
from kdjax.techniques.candidates import CandidateTerm
from kdjax.techniques.distributions import real_logits
from kdjax.types import Array, TermInputs, TermOut, Tree

PAPER = Paper(
    'Tang, Wang',
    'Ranking Distillation: Learning Compact Ranking Models With High Performance for Recommender System',
    'KDD',
    2018,
    '1809.07428',
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Ranking(Term):
    PAPER: ClassVar[Paper] = PAPER
    DRAWS: ClassVar[bool] = True
    TASKS: ClassVar[tuple[str, ...]] = ('classification',)

    first: int = number(10, minimum=1)
    skip_label: bool = True
    decay: float = knob(1.0, above=0.0)

    @property
    def reads_labels(self) -> bool:
        return self.skip_label

    def __call__(
        self, params: Tree, memory: Tree, inputs: TermInputs, knobs: Knobs, *, step: Array, key: Array
    ) -> TermOut:
        student_BI, ranked_BK = self._read(inputs)
        scores_BK = jnp.take_along_axis(student_BI, ranked_BK, axis=1)
        drawn_BS = self.drawn_items(student_BI.shape[1], inputs, example_keys(key, inputs))
        samples_BS = None if drawn_BS is None else jnp.take_along_axis(student_BI, drawn_BS, axis=1)
        weight_BK = self.item_weights(scores_BK, samples_BS, student_BI.shape[1], knobs)
        return TermOut(taken(scores_BK, weight_BK), memory, {})

    def drawn_items(self, items: int, inputs: TermInputs, keys_B: Array) -> Array | None:
        """Items that the student's ranks are estimated from, (B, samples), where they are."""
        del items, inputs, keys_B
        return None

    def item_weights(self, scores_BK: Array, samples_BS: Array | None, items: int, knobs: Knobs) -> Array:
        """w of the teacher's first items, in its order, by the student's scores of them and of a sample. (B, K)"""
        del samples_BS, items
        return by_position(scores_BK, knobs['decay'])

    def _read(self, inputs: TermInputs) -> tuple[Array, Array]:
        """The student's scores (B, items), and the teacher's first items, best first (B, K)."""
        student, teacher = (real_logits(logits, inputs) for logits in same_classes(inputs))
        if student.ndim != 2 or self.first > student.shape[1] - self.skip_label:
            raise UsageError(f'{type(self).__name__} ranks the first {self.first} items, so it needs scores (B, items) '
                             f'of more, got logits {student.shape}')  # fmt: skip
        if self.skip_label:
            known = jax.nn.one_hot(inputs.batch['labels'], teacher.shape[1], dtype=bool)
            teacher = jnp.where(known, -jnp.inf, teacher)
        return student, jax.lax.top_k(teacher, self.first)[1]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PositionRanking(_Ranking):
    """-sum_r w_r log sigmoid(s_r), w_r = exp(-r / lambda) over its sum, for the teacher's first items. Values: (B,).

    Logits (B, items) are scores of items, s_r that of the teacher's r-th, r = 1 ... K. The authors' code trains a first
    few epochs with these weights (by position, sec. 4.3), then with those of `HybridRanking`: a chain of two fits.

    Attributes:
      first: K.
      skip_label: whether the label, which is known, is left out of the teacher's ranking.
      decay: lambda; knob, > 0.
    """

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(first=4), cls(first=10, skip_label=False, decay=5.0)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class HybridRanking(_Ranking):
    """As `PositionRanking`, with w_r times max(tanh(mu (rank_r - r)), 0): by position and discrepancy. Values: (B,).

    rank_r is where the student has the teacher's r-th item (sec. 4.3), estimated from a sample of items. An item that
    the student ranks as high as the teacher weighs nothing. Weights have a stop-gradient and do not sum to 1.

    Attributes:
      first: K.
      skip_label: whether the label, which is known, is left out of the teacher's ranking and of the sample.
      decay: lambda; knob, > 0.
      samples: items drawn, with replacement, to estimate ranks.
      items: how many there are, where the logits are scores of only some; 0 where of all.
      slope: mu; knob, > 0.
    """

    samples: int = number(100, minimum=1)
    items: int = number(0, minimum=0)
    slope: float = knob(0.1, above=0.0)

    def drawn_items(self, items: int, inputs: TermInputs, keys_B: Array) -> Array:
        others = items - self.skip_label
        drawn_BS = jax.vmap(lambda key: jax.random.randint(key, (self.samples,), 0, others))(keys_B)
        if not self.skip_label:
            return drawn_BS
        return drawn_BS + (drawn_BS >= inputs.batch['labels'][:, None]).astype(drawn_BS.dtype)

    def item_weights(self, scores_BK: Array, samples_BS: Array | None, items: int, knobs: Knobs) -> Array:
        position_BK = super().item_weights(scores_BK, samples_BS, items, knobs)
        assert samples_BS is not None
        return position_BK * by_discrepancy(scores_BK, samples_BS, self.items or items, knobs['slope'])

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(first=8, samples=30), cls(first=8, samples=20, items=20, skip_label=False)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CandidatePosition(CandidateTerm):
    """`PositionRanking` of first items that the batch brings, where there are too many to rank all. Values: (B,).

    Attributes:
      first: the tap of the teacher's first items that the user does not have, best first.
      decay: lambda; knob, > 0.
    """

    PAPER: ClassVar[Paper] = PAPER

    first: str = 'first'
    decay: float = knob(1.0, above=0.0)

    def taps(self) -> Taps:
        return Taps(student=(self.first,))

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        scores_BK = self.scores(inputs.student, self.first, inputs)
        return self.counted(taken(scores_BK, by_position(scores_BK, knobs['decay'])), inputs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CandidateHybrid(CandidateTerm):
    """`HybridRanking` of items that the batch brings: by position and discrepancy. Values: (B,).

    Attributes:
      first: the tap of the teacher's first items that the user does not have, best first.
      samples: the tap of items that are drawn from the others, from which the student's ranks are estimated.
      items: how many items there are.
      decay: lambda; knob, > 0.
      slope: mu; knob, > 0.
    """

    PAPER: ClassVar[Paper] = PAPER

    first: str = 'first'
    samples: str = 'uninteresting'
    items: int = number(1000, minimum=2)
    decay: float = knob(1.0, above=0.0)
    slope: float = knob(0.1, above=0.0)

    @property
    def weighing(self) -> tuple[str, ...]:
        return (self.samples,)

    def taps(self) -> Taps:
        return Taps(student=(self.first, self.samples))

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        scores_BK, samples_BS = (self.scores(inputs.student, tap, inputs) for tap in (self.first, self.samples))
        weight_BK = by_position(scores_BK, knobs['decay'])
        weight_BK = weight_BK * by_discrepancy(scores_BK, samples_BS, self.items, knobs['slope'])
        return self.counted(taken(scores_BK, weight_BK), inputs)

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(items=20), cls(items=40, once='user')]


def taken(scores_BK: Array, weight_BK: Array) -> Array:
    """-sum_r w_r log sigmoid(s_r), weights behind a stop-gradient. (B,)"""
    return jnp.sum(jax.lax.stop_gradient(weight_BK) * jax.nn.softplus(-scores_BK), axis=1)


def by_position(scores_BK: Array, decay: Array) -> Array:
    """exp(-r / lambda) over its sum, r = 1 ... K. (B, K)"""
    position_K = jnp.arange(1, scores_BK.shape[1] + 1).astype(scores_BK.dtype)
    return jnp.broadcast_to(jax.nn.softmax(-position_K / decay), scores_BK.shape)


def by_discrepancy(scores_BK: Array, samples_BS: Array, items: int, slope: Array) -> Array:
    """max(tanh(mu (rank_r - r)), 0), the student's rank of each item estimated from a sample of `items`. (B, K)"""
    above_BK = jnp.sum(scores_BK[:, :, None] < samples_BS[:, None, :], axis=2)
    rank_BK = (above_BK * (items - 1) // samples_BS.shape[1]).astype(scores_BK.dtype)
    gap_BK = rank_BK - jnp.arange(scores_BK.shape[1]).astype(scores_BK.dtype)
    return jnp.maximum(jnp.tanh(slope * gap_BK), 0)
