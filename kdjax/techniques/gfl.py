"""Generalized focal loss: a class's score is also how good its box is, and an edge is a distribution over bins."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import jax
import jax.numpy as jnp

from kdjax.boxes import iou
from kdjax.techniques.algebra import magnitude
from kdjax.techniques.anchors import AnchorTerm, BoxTerm
from kdjax.techniques.base import Knobs, Paper, knob
from kdjax.techniques.distributions import binary_cross_entropy
from kdjax.types import Array, TermInputs

PAPER = Paper(
    'Li, Wang, Wu, Chen, Hu, Li, Tang, Yang',
    'Generalized Focal Loss: Learning Qualified and Distributed Bounding Boxes for Dense Object Detection',
    'NeurIPS',
    2020,
    '2006.04388',
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class QualityFocal(AnchorTerm):
    """|y - s|^beta BCE(s, y) of s = sigmoid(z), over anchors and classes (eq. 5). Values: (B,), sums.

    y is, of an anchor's class, the IoU of the box that the student finds with the true one, without a gradient; 0 of
    the other classes and of the background.

    Attributes:
      beta: how much easy anchors are turned down; knob, >= 0.
    """

    PAPER: ClassVar[Paper] = PAPER

    beta: float = knob(2.0, minimum=0.0)

    @property
    def weighing(self) -> tuple[str, ...]:
        return (self.edges,)

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        anchors = self.anchors(inputs)
        quality = jax.lax.stop_gradient(iou(*anchors.boxes()))
        of_anchors = quality_focal(anchors.logits, anchors.classes, quality, knobs['beta'])
        return jnp.sum(of_anchors, axis=1)

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(logits='anchor_logits')]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistributionFocal(BoxTerm):
    """Cross-entropy of an edge with the two bins next to its distance (eq. 6), mean of the four. Values: (B,), sums."""

    PAPER: ClassVar[Paper] = PAPER

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        anchors = self.anchors(inputs)
        targets = jnp.where(anchors.positive[..., None], anchors.targets, 0)
        of_edges = distribution_focal(anchors.edges, targets)
        return jnp.sum(self.counted(anchors) * jnp.mean(of_edges, axis=-1), axis=1)

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(logits='anchor_logits'), cls(weighted=False)]


def quality_focal(logits: Array, classes: Array, quality: Array, beta: Array | float) -> Array:
    """Quality focal loss of anchors.

    Args:
      logits: (..., K).
      classes: (...) integers, -1 of the background.
      quality: (...) what the score of the class should be, in [0, 1].
      beta: exponent.

    Returns:
      Sums over classes, (...).
    """
    wanted = jax.nn.one_hot(classes, logits.shape[-1], dtype=logits.dtype) * quality[..., None]
    gap = magnitude(wanted - jax.nn.sigmoid(logits))
    return jnp.sum(gap**beta * binary_cross_entropy(wanted, logits), axis=-1)


def distribution_focal(edges: Array, distances: Array) -> Array:
    """Distribution focal loss of edges: logits (..., bins) and distances (...) in [0, bins - 1]. (...)

    The two bins next to a distance share it as a linear interpolation has it; the nearest of one beyond the bins has
    all.
    """
    bins = jnp.arange(edges.shape[-1], dtype=edges.dtype)
    distances = jnp.clip(distances, 0, edges.shape[-1] - 1)
    share = jnp.maximum(1 - magnitude(distances[..., None] - bins), 0)
    return -jnp.sum(share * jax.nn.log_softmax(edges, axis=-1), axis=-1)
