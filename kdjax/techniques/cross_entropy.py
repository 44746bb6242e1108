"""The task loss of classification, a term like any other."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import optax

from kdjax.errors import UsageError
from kdjax.techniques.algebra import wide
from kdjax.techniques.base import Knobs, Paper, Term, knob
from kdjax.types import Array, TermInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrossEntropy(Term):
    """-log p_y of the student, with the labels smoothed towards uniform.

    Values: (B,) for logits (B, K) and labels (B,), or (B, N) for logits (B, N, K) and labels (B, N). Of examples that
    are mixed from two, it is the mean over both labels, weighed by their shares (Zhang et al. 2018, mixup).

    Attributes:
      smoothing: share of the probability spread evenly over all classes, in [0, 1); knob (Szegedy et al. 2016, sec. 7).
    """

    PAPER: ClassVar[Paper] = Paper(
        'Szegedy, Vanhoucke, Ioffe, Shlens, Wojna',
        'Rethinking the Inception Architecture for Computer Vision',
        'CVPR',
        2016,
        '1512.00567',
    )

    TEACHER: ClassVar[bool] = False

    smoothing: float = knob(0.0, minimum=0.0, below=1.0)

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        logits = wide(inputs.student.logits)
        if 'mix' in inputs.batch:
            both = jnp.moveaxis(inputs.batch['labels_mixed'], -1, 0), jnp.moveaxis(inputs.batch['mix'], -1, 0)
            hard = sum(
                share.astype(logits.dtype) * _surprise(logits, labels) for labels, share in zip(*both, strict=True)
            )
        else:
            hard = _surprise(logits, inputs.batch['labels'])
        even = -jnp.mean(jax.nn.log_softmax(logits, axis=-1), axis=-1)
        return hard + knobs['smoothing'] * (even - hard)


def _surprise(logits: Array, labels: Array) -> Array:
    """-log p of the labels, (...) for logits (..., K)."""
    if labels.shape != logits.shape[:-1]:
        raise UsageError(f'labels {labels.shape} do not fit student logits {logits.shape}')
    return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels)
