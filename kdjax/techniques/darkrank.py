"""Cross-sample similarities: for each example the student ranks the others as the teacher does."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.errors import UsageError
from kdjax.techniques.algebra import real_pairs, real_rows, square_distances, unit
from kdjax.techniques.base import AtTeacher, Knobs, Paper, Scope, knob
from kdjax.techniques.layers import LayerTerm
from kdjax.types import Array, TermInputs

CLOSEST = 1e-12  # squared distance of two equal examples
NOWHERE = -1e30  # the score of padding: finite, so that differences are


@dataclasses.dataclass(frozen=True, kw_only=True)
class _DarkRank(LayerTerm):
    PAPER: ClassVar[Paper] = Paper(
        'Chen, Wang, Zhang',
        'DarkRank: Accelerating Deep Metric Learning via Cross Sample Similarities Transfer',
        'AAAI',
        2018,
        '1707.01220',
    )
    scope: ClassVar[Scope] = 'batch'

    length: int = 4
    unit_length: bool = True
    alpha: float = knob(3.0, above=0.0)
    beta: float = knob(3.0, above=0.0)

    def _ranked(self, inputs: TermInputs, knobs: Knobs) -> tuple[Array, Array, Array]:
        """Scores of the student and of the teacher in the teacher's order, and which are of real examples. (B, L)"""
        pairs_BB = real_pairs(inputs)
        scores = []
        for feature in self.features(inputs):
            rows_BD = real_rows(feature, inputs)
            square_BB = jnp.maximum(square_distances(unit(rows_BD) if self.unit_length else rows_BD), CLOSEST)
            scores.append(jnp.where(pairs_BB > 0, -knobs['alpha'] * square_BB ** (knobs['beta'] / 2), NOWHERE))
        size = pairs_BB.shape[0]
        _, order_BL = jax.lax.top_k(scores[1], min(self.length or size, size))
        student_BL, teacher_BL, real_BL = (jnp.take_along_axis(x, order_BL, axis=1) for x in (*scores, pairs_BB))
        return student_BL, teacher_BL, real_BL


@dataclasses.dataclass(frozen=True, kw_only=True)
class HardRank(_DarkRank):
    """-log P(the teacher's order), Plackett-Luce with the scores -alpha ||x_i - x_j||^beta (sec. 3.2). Values: (B,).

    -sum_k (S_k - log sum_{l >= k} exp S_l): for the query i, over the others of the *global* batch in the order in
    which the teacher finds them near, S being the student's scores.

    Attributes:
      layer: features of any shape (B, ...), 'tap' or 'student_tap:teacher_tap'.
      length: how many of the nearest are ranked; 0 for all of the batch.
      unit_length: whether features are first scaled to length 1, which bounds the scores.
      alpha, beta: contrast and power of the distance; knobs, > 0.
    """

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        student_BL, _, real_BL = self._ranked(inputs, knobs)
        return -jnp.sum(jnp.where(real_BL > 0, _log_choices(student_BL), 0), axis=1)

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(), cls(length=0, layer='stage2')]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SoftRank(_DarkRank):
    """KL(P^t || P^s) of the orders of the nearest others, all length! of them (sec. 3.2). Values: (B,).

    P is Plackett-Luce with the scores -alpha ||x_i - x_j||^beta, over permutations of the `length` examples of the
    *global* batch that the teacher finds nearest to i.

    Attributes:
      layer: features of any shape (B, ...), 'tap' or 'student_tap:teacher_tap'.
      length: how many of the nearest are ranked, 2 to 6.
      unit_length: whether features are first scaled to length 1, which bounds the scores.
      alpha, beta: contrast and power of the distance; knobs, > 0.
    """

    at_teacher: ClassVar[AtTeacher] = 'zero'

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 2 <= self.length <= 6:
            raise UsageError(f'length of SoftRank must be 2 to 6 (its factorial is summed over), got {self.length!r}; '
                             'HardRank ranks longer lists')  # fmt: skip

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        student_BL, teacher_BL, _ = self._ranked(inputs, knobs)
        orders = np.asarray(list(itertools.permutations(range(student_BL.shape[1]))), np.int32)
        log_student, log_teacher = (
            jnp.sum(_log_choices(scores[:, orders]), axis=-1) for scores in (student_BL, teacher_BL)
        )
        return jnp.sum(jnp.exp(log_teacher) * (log_teacher - log_student), axis=1)


def _log_choices(scores: Array) -> Array:
    """Log-probability of each item to be chosen among itself and those behind it, along the last axis."""
    return scores - jax.lax.cumlogsumexp(scores, axis=scores.ndim - 1, reverse=True)
