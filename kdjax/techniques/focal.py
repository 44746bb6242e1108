"""Focal loss: what is easy counts little, so that a background of thousands of anchors does not drown the objects."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import jax
import jax.numpy as jnp

from kdjax.techniques.algebra import example_mask, wide
from kdjax.techniques.anchors import LOGITS, AnchorTerm, check_anchors
from kdjax.techniques.base import Knobs, Paper, Taps, knob
from kdjax.techniques.distributions import binary_cross_entropy
from kdjax.types import Array, TermInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class Focal(AnchorTerm):
    """-alpha_t (1 - p_t)^gamma log p_t over anchors and classes (eq. 5), p_t the probability of what is true.

    Values: (B,), sums, which are divided by the positives of the whole batch.

    Attributes:
      alpha: weight of a class that is there, 1 - alpha of one that is not; knob, in [0, 1].
      gamma: how much easy ones are turned down; knob, >= 0.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Lin, Goyal, Girshick, He, Dollar', 'Focal Loss for Dense Object Detection', 'ICCV', 2017, '1708.02002'
    )
    COLUMNS: ClassVar[tuple[str, ...]] = ('classes',)

    alpha: float = knob(0.25, minimum=0.0, maximum=1.0)
    gamma: float = knob(2.0, minimum=0.0)

    def taps(self) -> Taps:
        return Taps(() if self.logits == LOGITS else (self.logits,))

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        logits, classes = self.student_logits(inputs), inputs.batch[self.classes]
        check_anchors(logits, classes)
        real = example_mask(inputs)[:, None] > 0
        logits, classes = jnp.where(real[..., None], wide(logits), 0), jnp.where(real, classes, -1)
        wanted = jax.nn.one_hot(classes, logits.shape[-1], dtype=logits.dtype)
        return jnp.sum(focal(logits, wanted, knobs['alpha'], knobs['gamma']), axis=(1, 2))

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(logits='anchor_logits')]


def focal(logits: Array, wanted: Array, alpha: Array | float, gamma: Array | float) -> Array:
    """Focal loss, one by one, of logits and of what is wanted, 0 or 1, both (...). (...)"""
    wrong = jax.nn.sigmoid(jnp.where(wanted > 0.5, -logits, logits))  # 1 - p_t
    weight = jnp.where(wanted > 0.5, alpha, 1 - alpha)
    return weight * wrong**gamma * binary_cross_entropy(wanted, logits)
