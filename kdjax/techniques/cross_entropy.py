"""The task loss of classification, a term like any other."""

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar, Self

import jax
import jax.numpy as jnp

from kdjax.errors import UsageError
from kdjax.techniques.algebra import total, wide
from kdjax.techniques.base import Knobs, Paper, Scope, Term, knob
from kdjax.types import Array, TermInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrossEntropy(Term):
    """-log p_y of the student, with the labels smoothed towards uniform.

    Values: (B,) for logits (B, K) and labels (B,), or (B, N) for logits (B, N, K) and labels (B, N). Of examples that
    are mixed from two, it is the mean over both labels, weighed by their shares (Zhang et al. 2018, mixup). That of a
    label outside 0 to K - 1 is nan.

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
        logits, smoothing = wide(inputs.student.logits), knobs['smoothing']
        weights_K = self._weights(logits)
        if 'mix' in inputs.batch:
            both = jnp.moveaxis(inputs.batch['labels_mixed'], -1, 0), jnp.moveaxis(inputs.batch['mix'], -1, 0)
            parts = [
                (share[..., None] * target, share * weight)
                for labels, share in zip(*both, strict=True)
                for target, weight in [_target(logits, labels, weights_K)]
            ]
            target, weight = (total(part).astype(logits.dtype) for part in zip(*parts, strict=True))
        else:
            target, weight = _target(logits, inputs.batch['labels'], weights_K)
        target = target + smoothing * (weights_K / len(weights_K) - target)
        share = weight + smoothing * (jnp.mean(weights_K) - weight)
        # sum_k target_k (log_norm - z_k)
        values = share * jax.nn.logsumexp(logits, axis=-1) - jnp.sum(target * logits, axis=-1)
        return values / _mean_weight(weight, inputs) if self.by_weight else values

    def _weights(self, logits: Array) -> Array:
        if not self.class_weights:
            return jnp.ones(logits.shape[-1], logits.dtype)
        if len(self.class_weights) != logits.shape[-1]:
            raise UsageError(f'{len(self.class_weights)} class_weights do not fit logits {logits.shape}')
        return jnp.asarray(self.class_weights, logits.dtype)

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        weights = tuple(0.5 * place for place in range(1, 11))
        return [cls(), cls(class_weights=weights), cls(class_weights=weights, by_weight=True)]


def _target(logits: Array, labels: Array, weights_K: Array) -> tuple[Array, Array]:
    """The weight of each label at its class and 0 at others (..., K), and alone (...); nan for a label of no class.

    Compared and not looked up: the gradient of a look-up is written one by one into zeros of all classes, which takes
    longer where those are thousands.
    """
    if labels.shape != logits.shape[:-1]:
        raise UsageError(f'labels {labels.shape} do not fit student logits {logits.shape}')
    classes = logits.shape[-1]
    weight = jnp.where((labels >= 0) & (labels < classes), weights_K[jnp.clip(labels, 0, classes - 1)], jnp.nan)
    return jnp.where(labels[..., None] == jnp.arange(classes), weights_K, 0), weight


def _mean_weight(weight: Array, inputs: TermInputs) -> Array:
    """Of the labels of real examples or tokens, or 1 where it is 0. ()"""
    mask = inputs.batch['mask'].astype(weight.dtype)
    mask = jnp.broadcast_to(mask.reshape(mask.shape + (1,) * (weight.ndim - mask.ndim)), weight.shape)
    mean = jnp.sum(weight * mask) / jnp.maximum(jnp.sum(mask), 1)
    return jnp.where(mean > 0, mean, 1)
