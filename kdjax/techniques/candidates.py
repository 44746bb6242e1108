"""What terms of recommendation share: a network's scores of chosen items as taps, and rows that count once.

A recommender has far more items than a step can look at, so candidates are data: the batch says which items each user
is asked about, in groups such as 'positive', 'negative', 'interesting', and a network gives its scores of each group as
a tap of that name, (B, M). Terms of this kind read those, never the scores of all items.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from kdjax.errors import UsageError, unknown
from kdjax.techniques.algebra import example_mask, real_rows, wide
from kdjax.techniques.base import Knobs, Scope, Taps, Term
from kdjax.types import Array, Outputs, TermInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class CandidateTerm(Term):
    """A term of scores of chosen items.

    Attributes:
      once: a column of the batch, integers (B,), such as 'user': rows that are equal in it count as one together, as in
        code that takes the users of a batch without repetitions. Each row counts if left out.
    """

    OTHER_CLASSES: ClassVar[bool] = True
    TASKS: ClassVar[tuple[str, ...]] = ('recommendation',)
    COLUMNS: ClassVar[tuple[str, ...]] = ('once',)
    reads_logits: ClassVar[tuple[bool, bool]] = (False, False)

    once: str = ''

    @property
    def scope(self) -> Scope:
        return 'batch' if self.once else 'example'

    def scores(self, outputs: Outputs, tap: str, inputs: TermInputs) -> Array:
        """The scores of a group of items (B, M), at least float32, 0 where there is padding.

        Raises:
          UsageError: they are of another shape.
        """
        found = outputs.features[tap]
        if found.ndim != 2:
            raise UsageError(f'{type(self).__name__} reads scores (B, items), got {tap!r} {found.shape}')
        return real_rows(found, inputs)

    def counted(self, values_B: Array, inputs: TermInputs) -> Array:
        """Values of which rows that are equal in `once` count as one: each divided by how many they are. (B,)"""
        if not self.once:
            return values_B
        if self.once not in inputs.batch:
            raise unknown(
                'column', self.once, inputs.batch, f' of the batch, to be counted once by {type(self).__name__}'
            )
        return values_B * once(inputs.batch[self.once], example_mask(inputs)).astype(values_B.dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class InteractionTerm(CandidateTerm):
    """A task loss: the item of an interaction, and others that its user did not take.

    Attributes:
      positive, negative: the taps of the item (B, 1) and of the others (B, n).
    """

    TEACHER: ClassVar[bool] = False

    positive: str = 'positive'
    negative: str = 'negative'

    def taps(self) -> Taps:
        return Taps(student=(self.positive, self.negative))

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        positive, negative = (self.scores(inputs.student, tap, inputs) for tap in (self.positive, self.negative))
        return self.counted(self.loss(positive, negative), inputs)

    def loss(self, positive_B1: Array, negative_Bn: Array) -> Array:
        """Of scores. (B,)"""
        raise NotImplementedError


def once(ids_B: Array, mask_B: Array) -> Array:
    """1 over how many real rows have the same id. (B,)"""
    ascending_B = jnp.sort(jnp.where(mask_B > 0, ids_B, jnp.iinfo(ids_B.dtype).max))
    first_B, behind_B = (jnp.searchsorted(ascending_B, ids_B, side=side) for side in ('left', 'right'))
    return 1 / jnp.maximum(behind_B - first_B, 1).astype(jnp.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RankedCandidates(CandidateTerm):
    """-log P(interesting items in the teacher's order, each before all uninteresting ones). Values: (B,).

    Attributes:
      interesting: the tap of the interesting items, in the teacher's order, best first.
      uninteresting: the tap of the others, in any order.
    """

    interesting: str = 'interesting'
    uninteresting: str = 'uninteresting'

    def taps(self) -> Taps:
        return Taps(student=(self.interesting, self.uninteresting))

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        interesting, uninteresting = (
            self.scores(inputs.student, tap, inputs) for tap in (self.interesting, self.uninteresting)
        )
        return self.counted(relaxed(interesting, uninteresting), inputs)


def relaxed(interesting_BK: Array, uninteresting_BL: Array) -> Array:
    """-sum_k (s_k - log(sum_{l >= k} exp s_l + sum_u exp s_u)): Plackett-Luce without an order among the last. (B,)"""
    interesting_BK, uninteresting_BL = wide(interesting_BK), wide(uninteresting_BL)
    behind_BK = jax.lax.cumlogsumexp(interesting_BK, axis=1, reverse=True)
    others_B1 = jax.nn.logsumexp(uninteresting_BL, axis=1, keepdims=True)
    return jnp.sum(jnp.logaddexp(behind_BK, others_B1) - interesting_BK, axis=1)
