"""The task loss of classification, a term like any other."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import optax

from kdjax.names import UsageError
from kdjax.techniques.algebra import wide
from kdjax.techniques.base import Paper, Term, knob
from kdjax.types import Array, TermOut, Tree, View


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrossEntropy(Term):
    """-log p_y of the student, with the labels smoothed towards uniform.

    Values: (B,) for logits (B, K) and labels (B,), or (B, N) for logits (B, N, K) and labels (B, N).

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

    smoothing: float = knob(0.0, minimum=0.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.smoothing >= 1:
            raise UsageError(f'smoothing of CrossEntropy must be in [0, 1), got {self.smoothing!r}')

    def __call__(
        self, params: Tree, memory: Tree, view: View, knobs: Mapping[str, Array], *, step: Array, key: Array
    ) -> TermOut:
        logits, labels = wide(view.student.logits), view.batch['labels']
        if labels.shape != logits.shape[:-1]:
            raise UsageError(f'labels {labels.shape} do not fit student logits {logits.shape}')
        hard = optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels)
        even = -jnp.mean(jax.nn.log_softmax(logits, axis=-1), axis=-1)
        return TermOut(hard + knobs['smoothing'] * (even - hard), memory, {})
