"""Objects as points: a map of where centres are, and at each the size of its object and where in its cell it lies."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import jax
import jax.numpy as jnp

from kdjax.errors import UsageError
from kdjax.techniques.algebra import example_mask, magnitude, wide
from kdjax.techniques.anchors import LOGITS, AnchorTerm, check_anchors, column
from kdjax.techniques.base import Knobs, Paper, Taps, knob
from kdjax.types import Array, TermInputs

PAPER = Paper('Zhou, Wang, Kraehenbuehl', 'Objects as Points', 'arXiv', 2019, '1904.07850')


@dataclasses.dataclass(frozen=True, kw_only=True)
class CentreFocal(AnchorTerm):
    """-(1 - p)^alpha log p at centres, -(1 - y)^beta p^alpha log(1 - p) elsewhere (eq. 1), p = sigmoid(z).

    y is how much of a centre a cell is, 1 there and less about it. Values: (B,), sums over cells and classes, which are
    divided by the cells with a centre of the whole batch.

    Attributes:
      heat: the column of y (B, M, K) in [0, 1].
      alpha: how much easy cells are turned down; knob, >= 0.
      beta: how much those near a centre are; knob, >= 0.
    """

    PAPER: ClassVar[Paper] = PAPER
    COLUMNS: ClassVar[tuple[str, ...]] = ('classes', 'heat')

    classes: str = 'centre_class'
    heat: str = 'centre_heat'
    alpha: float = knob(2.0, minimum=0.0)
    beta: float = knob(4.0, minimum=0.0)

    def taps(self) -> Taps:
        return Taps(() if self.logits == LOGITS else (self.logits,))

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        logits, heat = self.student_logits(inputs), column(inputs.batch, self.heat)
        check_anchors(logits, column(inputs.batch, self.classes))
        if heat.shape != logits.shape:
            raise UsageError(f'batch[{self.heat!r}] {heat.shape} does not fit logits {logits.shape}')
        real = example_mask(inputs)[:, None, None] > 0
        logits, heat = jnp.where(real, wide(logits), 0), jnp.where(real, wide(heat), 0)
        found = centre_focal(logits, heat, knobs['alpha'], knobs['beta'])
        return jnp.where(real[:, 0, 0], jnp.sum(found, axis=(1, 2)), 0)

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(logits='anchor_logits')]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CentreDistance(AnchorTerm):
    """|s - t| along x and y, added up, at the cells with a centre (eqs. 2 and 3). Values: (B,), sums.

    They are divided by the cells with a centre of the whole batch. With the tap 'sizes' of the size of an object, which
    the paper weighs with 0.1; with 'offsets' of where in its cell the centre lies, weight 1. Both are in strides. The
    authors' code has the mean of x and y in the place of the sum.

    Attributes:
      tap: 'sizes' or 'offsets', or another of (B, M, 2).
      wanted: the column that it is held against, (B, M, 2).
    """

    PAPER: ClassVar[Paper] = PAPER
    COLUMNS: ClassVar[tuple[str, ...]] = ('classes', 'wanted')

    tap: str = 'sizes'
    classes: str = 'centre_class'
    wanted: str = 'centre_size'

    def taps(self) -> Taps:
        return Taps((self.tap,))

    @property
    def reads_logits(self) -> tuple[bool, bool]:
        return False, False

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        said, classes = inputs.student.features[self.tap], column(inputs.batch, self.classes)
        wanted = column(inputs.batch, self.wanted)
        if said.shape != wanted.shape or said.shape != (*classes.shape, 2):
            raise UsageError(f'{self.tap!r} {said.shape} and {self.wanted!r} {wanted.shape} must be '
                             f'{(*classes.shape, 2)}; task and network must have the same stride')  # fmt: skip
        counted = ((classes >= 0) & (example_mask(inputs)[:, None] > 0))[..., None]
        said, wanted = jnp.where(counted, wide(said), 0), jnp.where(counted, wide(wanted), 0)
        return jnp.sum(magnitude(said - wanted), axis=(1, 2))

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(tap='centre_sizes')]


def centre_focal(logits: Array, heat: Array, alpha: Array | float, beta: Array | float) -> Array:
    """Focal loss that is turned down near centres, one by one, of logits and heat in [0, 1], 1 at a centre. (...)"""
    centre = heat >= 1
    wrong = jax.nn.sigmoid(jnp.where(centre, -logits, logits))  # 1 - p at a centre, p elsewhere
    loss = jax.nn.softplus(jnp.where(centre, -logits, logits))
    return jnp.where(centre, 1.0, (1 - heat) ** beta) * wrong**alpha * loss
