"""What terms of a detector's anchors share: classes and edges of every anchor, and what they should be.

An anchor is a cell of one of the detector's maps. What it should find, `tasks.detection` says in columns of the batch:
the class, -1 of the background, and the distances to the four edges of its box, in strides of its map.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from kdjax.boxes import around, expected_distance
from kdjax.errors import UsageError
from kdjax.techniques.algebra import example_mask, wide
from kdjax.techniques.base import Taps, Term
from kdjax.types import Array, Batch, TermInputs

LOGITS = 'logits'


class Anchors(NamedTuple):
    """What the student says of its anchors, and what it should say; 0 in examples that are not real."""

    logits: Array  # (B, M, K), at least float32
    edges: Array  # (B, M, 4, bins), at least float32
    classes: Array  # (B, M), -1 of the background
    targets: Array  # (B, M, 4) distances, of anchors that are not background

    @property
    def positive(self) -> Array:
        """Which have a class. (B, M) bool"""
        return self.classes >= 0

    def boxes(self) -> tuple[Array, Array]:
        """Student's and true box about a point, in strides; the true one for both where there is no class."""
        nowhere = jnp.zeros(2, self.edges.dtype)
        true = around(nowhere, jnp.where(self.positive[..., None], self.targets, 1))
        return jnp.where(self.positive[..., None], around(nowhere, expected_distance(self.edges)), true), true

    def confidence(self) -> Array:
        """The student's highest probability of a class, without a gradient. (B, M)"""
        return jax.lax.stop_gradient(jnp.max(jax.nn.sigmoid(self.logits), axis=-1))


def known_images(labels: Array) -> Array:
    """Which images (B, ...) somebody looked at: those of which not all labels are negative. (B,)"""
    return jnp.any((labels >= 0).reshape(labels.shape[0], -1), axis=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnchorTerm(Term):
    """A task loss of anchors. Values, sums over an example's anchors, are divided by the positives of the whole batch.

    Attributes:
      logits: the tap of the classes' logits (B, M, K); 'logits' is what the network answers.
      edges: the tap of the edges' logits (B, M, 4, bins).
      classes: the column of the anchors' classes (B, M), -1 of the background.
      targets: the column of the distances to the edges (B, M, 4), in strides.
    """

    TEACHER: ClassVar[bool] = False
    LABELS: ClassVar[bool] = True
    TASKS: ClassVar[tuple[str, ...]] = ('detection',)
    COLUMNS: ClassVar[tuple[str, ...]] = ('classes', 'targets')
    PLAIN: ClassVar[Mapping[str, Any]] = {'logits': LOGITS}

    logits: str = LOGITS
    edges: str = 'edges'
    classes: str = 'anchor_class'
    targets: str = 'anchor_edges'

    def taps(self) -> Taps:
        return Taps(tuple(name for name in (self.logits, self.edges) if name and name != LOGITS))

    @property
    def reads_logits(self) -> tuple[bool, bool]:
        return self.logits == LOGITS, False

    def known(self, labels: Array) -> Array:
        return known_images(labels)

    def divisor(self, batch: Batch) -> Array:
        positive = jnp.sum(column(batch, self.classes) >= 0, axis=1)
        mask = batch['mask']
        return jnp.where(mask > 0, mask * positive.astype(mask.dtype), 0)

    def student_logits(self, inputs: TermInputs) -> Array:
        """Those of every anchor. (B, M, K)"""
        return inputs.student.logits if self.logits == LOGITS else inputs.student.features[self.logits]

    def anchors(self, inputs: TermInputs) -> Anchors:
        """What the student says and should say.

        Raises:
          UsageError: shapes that do not fit.
        """
        logits, classes = self.student_logits(inputs), column(inputs.batch, self.classes)
        edges, targets = inputs.student.features[self.edges], column(inputs.batch, self.targets)
        check_anchors(logits, classes)
        if edges.ndim != 4 or edges.shape[:3] != (*classes.shape, 4) or targets.shape != edges.shape[:3]:
            raise UsageError(f'edges {edges.shape} of {self.edges!r} and distances {targets.shape} must be '
                             f'{(*classes.shape, 4, "bins")} and {(*classes.shape, 4)}')  # fmt: skip
        real = example_mask(inputs) > 0
        logits, edges, targets = (
            jnp.where(real.reshape(-1, *[1] * (x.ndim - 1)), wide(x), 0) for x in (logits, edges, targets)
        )
        return Anchors(logits, edges, jnp.where(real[:, None], classes, -1), targets)


def check_anchors(logits: Array, classes: Array) -> None:
    """Raises UsageError where logits are not of the anchors that have classes."""
    if logits is None or logits.ndim != 3 or logits.shape[:2] != classes.shape:
        raise UsageError(f'needs logits of every anchor (B, M, K), got {getattr(logits, "shape", None)} for classes '
                         f'{classes.shape}; task and network must have the same strides')  # fmt: skip


def column(batch: Batch, name: str) -> Array:
    """A column that the task prepares; raises UsageError where there is none."""
    if name not in batch:
        raise UsageError(f'needs the column {name!r}, which the task of detection prepares')
    return batch[name]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BoxTerm(AnchorTerm):
    """1 minus a likeness of student's and true boxes, summed over an example's positive anchors. Values: (B,).

    Attributes:
      weighted: whether an anchor counts by the student's highest probability of a class, without a gradient (Li et al.,
        Generalized Focal Loss, sec. 3.3).
    """

    weighted: bool = True

    def taps(self) -> Taps:
        return super().taps() if self.weighted else Taps((self.edges,))

    @property
    def reads_logits(self) -> tuple[bool, bool]:
        return self.weighted and self.logits == LOGITS, False

    def student_logits(self, inputs: TermInputs) -> Array:
        if self.weighted:
            return super().student_logits(inputs)
        return jnp.zeros((*column(inputs.batch, self.classes).shape, 1), jnp.float32)

    @property
    def weighing(self) -> tuple[str, ...]:
        return (self.logits,) if self.weighted and self.logits != LOGITS else ()

    def likeness(self, student: Array, true: Array) -> Array:
        """Of boxes (B, M, 4), 1 where they are the same. (B, M)"""
        raise UsageError(f'{type(self).__name__} must define likeness(student, true)')

    def counted(self, anchors: Anchors) -> Array:
        """How much an anchor counts: 0 of the background. (B, M)"""
        weight = anchors.confidence() if self.weighted else jnp.ones_like(anchors.targets[..., 0])
        return jnp.where(anchors.positive, weight, 0)

    def values(self, inputs: TermInputs, knobs: Mapping[str, Array]) -> Array:
        anchors = self.anchors(inputs)
        return jnp.sum(self.counted(anchors) * (1 - self.likeness(*anchors.boxes())), axis=1)
