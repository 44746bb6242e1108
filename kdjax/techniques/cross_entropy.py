"""The task loss of classification, a term like any other."""

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar, Self

import jax
import jax.numpy as jnp
import optax

from kdjax.errors import UsageError
from kdjax.techniques.algebra import total, wide
from kdjax.techniques.base import Knobs, Paper, Scope, Term, knob
from kdjax.types import Array, TermInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrossEntropy(Term):
    """-log p_y of the student, with the labels smoothed towards uniform.

    Values: (B,) for logits (B, K) and labels (B,), or (B, N) for logits (B, N, K) and labels (B, N). Of examples that
    are mixed from two, it is the mean over both labels, weighed by their shares (Zhang et al. 2018, mixup).

    Attributes:
      smoothing: share of the probability spread evenly over all classes, in [0, 1); knob (Szegedy et al. 2016, sec. 7).
      class_weights: what the loss of each class is multiplied with, smoothed as the labels are; () for 1.
      by_weight: whether the mean over examples is weighed too: over the sum of the weights of the labels in the
        *global* batch, as PyTorch's `weight`, rather than over their number. Without it a batch of rare classes counts
        for more than one of frequent ones, which is what the weights say.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Szegedy, Vanhoucke, Ioffe, Shlens, Wojna',
        'Rethinking the Inception Architecture for Computer Vision',
        'CVPR',
        2016,
        '1512.00567',
    )
    TEACHER: ClassVar[bool] = False
    LABELS: ClassVar[bool] = True

    smoothing: float = knob(0.0, minimum=0.0, below=1.0)
    class_weights: tuple[float, ...] = ()
    by_weight: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(weight >= 0 and math.isfinite(weight) for weight in self.class_weights):
            raise UsageError(f'class_weights of CrossEntropy must be >= 0, got {self.class_weights!r}')
        if self.by_weight and not sum(self.class_weights):
            raise UsageError('by_weight of CrossEntropy needs class_weights that are not all 0, got '
                             f'{self.class_weights!r}')  # fmt: skip

    @property
    def scope(self) -> Scope:
        return 'batch' if self.by_weight else 'example'

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        logits = wide(inputs.student.logits)
        weights_K = self._weights(logits)
        if 'mix' in inputs.batch:
            both = jnp.moveaxis(inputs.batch['labels_mixed'], -1, 0), jnp.moveaxis(inputs.batch['mix'], -1, 0)
            parts = [
                [share.astype(logits.dtype) * part for part in _surprise(logits, labels, weights_K)]
                for labels, share in zip(*both, strict=True)
            ]
            hard, weight = (total(part) for part in zip(*parts, strict=True))
        else:
            hard, weight = _surprise(logits, inputs.batch['labels'], weights_K)
        even = -jnp.mean(_weighed(jax.nn.log_softmax(logits, axis=-1), weights_K), axis=-1)
        values = hard + knobs['smoothing'] * (even - hard)
        return values / _mean_weight(weight, inputs) if self.by_weight else values

    def _weights(self, logits: Array) -> Array | None:
        if not self.class_weights:
            return None
        if len(self.class_weights) != logits.shape[-1]:
            raise UsageError(f'{len(self.class_weights)} class_weights do not fit logits {logits.shape}')
        return jnp.asarray(self.class_weights, logits.dtype)

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        weights = tuple(0.5 * place for place in range(1, 11))
        return [cls(), cls(class_weights=weights), cls(class_weights=weights, by_weight=True)]


def _surprise(logits: Array, labels: Array, weights_K: Array | None) -> tuple[Array, Array]:
    """-log p of the labels times their weights, and those; both (...) for logits (..., K)."""
    if labels.shape != logits.shape[:-1]:
        raise UsageError(f'labels {labels.shape} do not fit student logits {logits.shape}')
    surprise = optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels)
    if weights_K is None:
        return surprise, jnp.ones_like(surprise)
    return weights_K[labels] * surprise, weights_K[labels]


def _weighed(x: Array, weights_K: Array | None) -> Array:
    return x if weights_K is None else weights_K * x


def _mean_weight(weight: Array, inputs: TermInputs) -> Array:
    """Of the labels of real examples or tokens, or 1 where it is 0. ()"""
    mask = inputs.batch['mask'].astype(weight.dtype)
    mask = jnp.broadcast_to(mask.reshape(mask.shape + (1,) * (weight.ndim - mask.ndim)), weight.shape)
    mean = jnp.sum(weight * mask) / jnp.maximum(jnp.sum(mask), 1)
    return jnp.where(mean > 0, mean, 1)
