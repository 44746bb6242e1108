"""Instance relationship graph: distances between examples, and how far each moves from layer to layer."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from kdjax.errors import UsageError
from kdjax.techniques.algebra import (
    example_mask,
    flat,
    pool_to,
    real_count,
    real_pairs,
    real_rows,
    square_distances,
    wide,
)
from kdjax.techniques.base import AtTeacher, Knobs, Paper, Scope, Taps, Term
from kdjax.techniques.layers import LayerwiseTerm, paired
from kdjax.types import Array, TermInputs

PAPER = Paper(
    'Liu, Cao, Li, Yuan, Hu, Li, Duan', 'Knowledge Distillation via Instance Relationship Graph', 'CVPR', 2019
)
CLOSEST = 1e-12  # squared distance of two equal examples, so that a batch of equal ones has a largest distance


@dataclasses.dataclass(frozen=True, kw_only=True)
class InstanceEdges(LayerwiseTerm):
    """1/n^2 || E^s - E^t ||_F^2, E_ij = ||x_i - x_j||^2 over the largest of them, averaged over layers. Values: (B,).

    The edges of the graph (sec. 3.2), of the *global* batch of n examples, each side by its own largest distance, with
    the reduction of KD-Zoo. A lone example has value 0. Its vertices are the logits: logits.LogitMatching.

    Attributes:
      layers: pairs of features of any shape (B, ...), 'tap' or 'student_tap:teacher_tap'.
    """

    PAPER: ClassVar[Paper] = PAPER
    scope: ClassVar[Scope] = 'batch'
    at_teacher: ClassVar[AtTeacher] = 'zero'

    layers: tuple[str, ...] = ('stage1', 'stage2', 'penult')

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        return super().values(inputs, knobs) / len(self.layers)

    def distance(self, student: Array, teacher: Array, inputs: TermInputs, knobs: Knobs) -> Array:
        gap_BB = _edges(student, inputs) - _edges(teacher, inputs)
        rows = jnp.sum(jnp.square(gap_BB), axis=1)
        return rows / real_count(inputs).astype(rows.dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class InstanceTransformation(Term):
    """(d^s_i - d^t_i)^2, d_i = ||f_i - g_i||^2 over the largest, for maps f and g of two layers (sec. 3). Values: (B,).

    f, of the earlier layer, is average-pooled to the size of g; where g has r times the channels, r neighbours each are
    averaged, as in KD-Zoo. The largest is over the *global* batch, on each side its own.

    Attributes:
      layers: the two layers, the earlier first, maps (B, H, W, C), 'tap' or 'student_tap:teacher_tap'.
    """

    PAPER: ClassVar[Paper] = PAPER
    OTHER_CLASSES: ClassVar[bool] = True
    scope: ClassVar[Scope] = 'batch'
    at_teacher: ClassVar[AtTeacher] = 'zero'

    layers: tuple[str, str] = ('stage1', 'stage2')

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.layers) != 2:
            raise UsageError(f'InstanceTransformation needs two layers, the earlier first, got {self.layers!r}')

    def taps(self) -> Taps:
        return paired(self.layers)

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        moves = []
        for side, (early, late) in zip(inputs[:2], self.taps(), strict=True):
            moves.append(_move(side.features[early], side.features[late], inputs))
        return jnp.square(moves[0] - moves[1])


def _edges(feature: Array, inputs: TermInputs) -> Array:
    """Squared distances between real examples over their largest; 0 on the diagonal and with padding. (B, B)"""
    square_BB = jnp.maximum(square_distances(real_rows(feature, inputs)), CLOSEST)
    return _over_largest(square_BB * real_pairs(inputs).astype(square_BB.dtype))


def _move(early: Array, late: Array, inputs: TermInputs) -> Array:
    """How far each example is between two maps, over the farthest. (B,)"""
    if early.ndim != 4 or late.ndim != 4 or late.shape[3] % early.shape[3]:
        raise UsageError('InstanceTransformation needs maps (B, H, W, C), the later with a multiple of the channels of '
                         f'the earlier, got {early.shape} and {late.shape}')  # fmt: skip
    early, late = pool_to(wide(early), *late.shape[1:3]), wide(late)
    late = jnp.mean(late.reshape(*early.shape, -1), axis=-1)
    gap_BD = jnp.where(example_mask(inputs)[:, None] > 0, flat(early - late), 0)
    return _over_largest(jnp.sum(jnp.square(gap_BD), axis=1))


def _over_largest(x: Array) -> Array:
    largest = jnp.max(x)
    return x / jnp.where(largest > 0, largest, 1)
