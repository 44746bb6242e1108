"""Relational distillation: distances and angles between examples are those that the teacher sees."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import jax
import jax.numpy as jnp
import optax

from kdjax.techniques.algebra import real_count, real_pairs, real_rows, unit
from kdjax.techniques.base import AtTeacher, Knobs, Paper, Scope
from kdjax.techniques.layers import LayerTerm, Pair
from kdjax.types import Array, TermInputs

PAPER = Paper('Park, Kim, Lu, Cho', 'Relational Knowledge Distillation', 'CVPR', 2019, '1904.05068')
# Two equal examples are this far apart, so that a batch of equal ones has a scale.
CLOSEST = 1e-12
CHUNK = 16  # vertices at a time: memory is CHUNK B (B + D), not B^2 (B + D)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Relations(LayerTerm):
    PAPER: ClassVar[Paper] = PAPER
    scope: ClassVar[Scope] = 'batch'
    at_teacher: ClassVar[AtTeacher] = 'zero'

    unit_length: bool = False

    def features(self, inputs: TermInputs) -> Pair:
        """Student and teacher (B, D), 0 where there is padding, each example scaled to length 1 if asked for."""
        student, teacher = (real_rows(feature, inputs) for feature in super().features(inputs))
        return (unit(student), unit(teacher)) if self.unit_length else (student, teacher)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistanceRelations(_Relations):
    """Huber loss between pairwise distances, each over its own side's mean distance (sec. 3.2.1). Values: (B,).

    psi(i, j) = ||x_i - x_j|| / mu, mu the mean over pairs of different examples of the *global* batch; the value of i
    is the mean over its n pairs, that with itself (0) included, as in every project. A lone example has value 0.
    Forms: 'paper'; 'squared': psi = ||x_i - x_j||^2 over its mean (mdistiller with squared=True).

    Attributes:
      layer: features of any shape (B, ...), 'tap' or 'student_tap:teacher_tap'.
      unit_length: whether each example is first scaled to length 1 (mmrazor with_l2_norm).
      form: which of the above.
    """

    FORMS: ClassVar[tuple[str, ...]] = ('paper', 'squared')

    form: str = 'paper'

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        student, teacher = (self._relative(x, real_pairs(inputs).astype(x.dtype)) for x in self.features(inputs))
        rows = jnp.sum(optax.losses.huber_loss(student, teacher), axis=1)
        return rows / real_count(inputs).astype(rows.dtype)

    def _relative(self, x_BD: Array, pairs_BB: Array) -> Array:
        square_BB = jax.lax.map(jax.checkpoint(lambda x: jnp.sum(jnp.square(x_BD - x), axis=1)), x_BD, batch_size=CHUNK)
        apart = square_BB > CLOSEST
        root = jnp.sqrt(jnp.where(apart, square_BB, CLOSEST))
        distance_BB = (jnp.maximum(square_BB, CLOSEST) if self.form == 'squared' else root) * pairs_BB
        mean = jnp.sum(distance_BB) / jnp.maximum(jnp.sum(pairs_BB), 1)
        return distance_BB / jnp.where(mean > 0, mean, 1)

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [*(cls(form=form) for form in cls.FORMS), cls(unit_length=True, layer='stage2')]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AngleRelations(_Relations):
    """Huber loss between cosines of the angles at an example made by all pairs of others (sec. 3.2.2). Values: (B,).

    psi(j, i, k) = cos of the angle between x_j - x_i and x_k - x_i; the value of i is the mean over n^2 pairs (j, k) of
    the *global* batch, those with j = k or either of them i (0) included, as in every project. Memory grows as B^2,
    not B^2 D or B^3: vertices are taken a few at a time and recomputed for the gradient.

    Attributes:
      layer: features of any shape (B, ...), 'tap' or 'student_tap:teacher_tap'.
      unit_length: whether each example is first scaled to length 1 (mmrazor with_l2_norm).
    """

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        student_BD, teacher_BD = self.features(inputs)
        pairs_BB = real_pairs(inputs)

        @jax.checkpoint
        def at(vertex: tuple[Array, Array, Array]) -> Array:
            student, teacher, others_B = vertex
            angles = [_cosines(x_BD - x, others_B) for x_BD, x in ((student_BD, student), (teacher_BD, teacher))]
            return jnp.sum(optax.losses.huber_loss(*angles))

        sums = jax.lax.map(at, (student_BD, teacher_BD, pairs_BB), batch_size=CHUNK)
        return sums / jnp.square(real_count(inputs)).astype(sums.dtype)


def _cosines(edges_BD: Array, others_B: Array) -> Array:
    """Cosines between the edges from a vertex to the others, 0 elsewhere. (B, B)"""
    edges_BD = unit(jnp.where(others_B[:, None] > 0, edges_BD, 0))
    return edges_BD @ edges_BD.T
