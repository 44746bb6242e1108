"""What terms of recommendation share: a network's scores of chosen items as taps, and rows that count once.

A recommender has far more items than a step can look at, so candidates are data: the batch says which items each user
is asked about, in groups such as 'positive', 'negative', 'interesting', and a network gives its scores of each group as
a tap of that name, (B, M). Terms of this kind read those, never the scores of all items.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from kdjax.errors import UsageError, unknown
from kdjax.techniques.algebra import example_mask, wide
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

        Where one of several interactions is asked about the group, (A, M): those of the first of each B / A.

        Raises:
          UsageError: they are of another shape.
        """
        found, mask_B = outputs.features[tap], example_mask(inputs)
        if found.ndim != 2 or len(mask_B) % len(found):
            raise UsageError(f'{type(self).__name__} reads scores (B, items), got {tap!r} {found.shape}')
        return jnp.where(asking(mask_B, len(found))[:, None] > 0, wide(found), 0)

    def counted(self, values_A: Array, inputs: TermInputs) -> Array:
        """Values of which rows that are equal in `once` count as one: each divided by how many they are. (B,)

        That of an interaction which was asked is also the value of those that were not.
        """
        mask_B = example_mask(inputs)
        return jnp.repeat(self._once(values_A, inputs), len(mask_B) // len(values_A))

    def _once(self, values_A: Array, inputs: TermInputs) -> Array:
        if not self.once:
            return values_A
        if self.once not in inputs.batch:
            raise unknown(
                'column', self.once, inputs.batch, f' of the batch, to be counted once by {type(self).__name__}'
            )
        ids_A, mask_A = (asking(column, len(values_A)) for column in (inputs.batch[self.once], example_mask(inputs)))
        return values_A * once(ids_A, mask_A).astype(values_A.dtype)


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


def asking(column_B: Array, asked: int) -> Array:
    """Of a column (B, ...) the rows of the `asked` interactions that ask: the first of each B / asked."""
    return column_B[:: len(column_B) // asked]


def thinned(inputs: TermInputs, every: int, term: str, called: str = 'every') -> TermInputs:
    """The first of every so many interactions, of taps and columns as long as the batch; the others are left out.

    Raises:
      UsageError: of so many the batch is no multiple.
    """
    size = len(inputs.batch['mask'])
    if size % every:
        raise UsageError(f'{called} of {term} must divide the {size} interactions that a device has, got '
                         f'{every}')  # fmt: skip

    def part(columns: Mapping[str, Any]) -> dict[str, Any]:
        long = {name: column for name, column in columns.items() if getattr(column, 'shape', ())[:1] == (size,)}
        return {name: column[::every] for name, column in long.items()}

    student, teacher = (side._replace(features=part(side.features), masks={}) for side in inputs[:2])
    return TermInputs(student, teacher, part(inputs.batch))


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
    """-sum_k (s_k - log(sum_{l >= k} exp s_l + sum_u exp s_u)): Plackett-Luce without an order among the last. (B,)

    One rank after the other, from the last: where ranks are few and rows many, as here, several times as fast on a CPU
    as `cumlogsumexp`, whose logarithms are of every row in each of log2(K) rounds, forward and back.
    """
    interesting_KB, uninteresting_BL = wide(interesting_BK).T, wide(uninteresting_BL)

    def before(behind_B: Array, score_B: Array) -> tuple[Array, Array]:
        behind_B = jnp.logaddexp(behind_B, score_B)
        return behind_B, behind_B - score_B

    _, values_KB = jax.lax.scan(before, jax.nn.logsumexp(uninteresting_BL, axis=1), interesting_KB, reverse=True)
    return jnp.sum(values_KB, axis=0)
