"""Jacobian matching: what soft targets on noisy inputs add, in closed form."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp

from kdjax.errors import UsageError
from kdjax.techniques.algebra import flat, same_classes, unit, wide
from kdjax.techniques.base import AtTeacher, Knobs, Paper
from kdjax.techniques.layers import LayerTerm
from kdjax.types import Array, TermInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class JacobianMatching(LayerTerm):
    """|| J_s - J_t ||_F^2 of the derivatives J of logits by inputs, seen along random directions v. Values: (B,).

    With weight sigma^2 it is what matching logits gains where the inputs have noise of variance sigma^2 (prop. 1).
    J v stands for J: the mean over directions of unit covariance gives sums over inputs, that over directions of length
    1 in a space of D inputs their D-th part. Forms:

    | form          | value                                                            | as in                        |
    |---------------|------------------------------------------------------------------|------------------------------|
    | paper         | mean over v of || J_s v - J_t v ||^2                             | squared error of logits      |
    | cross_entropy | mean over v of -sum_k D_v p^t_k D_v log p^s_k, may be negative   | cross-entropy (prop. 2)      |
    | unit          | || J_s V / ||J_s V|| - J_t V / ||J_t V|| ||^2, V all directions  | its experiments, which scale |

    Attributes:
      layer: 'tap' or 'student_tap:teacher_tap', derivatives of the logits along M directions (B, M, K), the same
        directions on both sides.
      form: which of the above.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Srinivas, Fleuret', 'Knowledge Transfer with Jacobian Matching', 'ICML', 2018, '1803.00443'
    )
    FORMS: ClassVar[tuple[str, ...]] = ('paper', 'cross_entropy', 'unit')
    OTHER_CLASSES: ClassVar[bool] = False

    layer: str = 'tangents'
    form: str = 'paper'

    @property
    def reads_logits(self) -> tuple[bool, bool]:
        return (self.form == 'cross_entropy',) * 2

    @property
    def at_teacher(self) -> AtTeacher:
        return 'free' if self.form == 'cross_entropy' else 'zero'

    @property
    def minimum(self) -> float:
        return -math.inf if self.form == 'cross_entropy' else 0.0

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        student, teacher = map(wide, self.features(inputs))
        if student.ndim != 3 or student.shape != teacher.shape:
            raise UsageError(f'{self.layer!r} must be (B, M, K) on both sides, got {student.shape} and {teacher.shape}')
        if self.form == 'cross_entropy':
            return _cross(*same_classes(inputs), student, teacher)
        if self.form == 'unit':
            return jnp.sum(jnp.square(unit(flat(student)) - unit(flat(teacher))), axis=1)
        return jnp.mean(jnp.sum(jnp.square(student - teacher), axis=-1), axis=1)


def _cross(logits_s: Array, logits_t: Array, student_BMK: Array, teacher_BMK: Array) -> Array:
    """-sum_k D p^t_k D log p^s_k, from the logits and their slopes; mean over directions. (B,)"""
    (_, log_s), (p_t, log_t) = (
        _log_slopes(wide(z), slope) for z, slope in ((logits_s, student_BMK), (logits_t, teacher_BMK))
    )
    return -jnp.mean(jnp.sum(p_t * log_t * log_s, axis=-1), axis=1)


def _log_slopes(logits_BK: Array, slope_BMK: Array) -> tuple[Array, Array]:
    """Probabilities (B, 1, K), and the slopes of their logarithms (B, M, K)."""
    probability = jax.nn.softmax(logits_BK, axis=-1)[:, None, :]
    return probability, slope_BMK - jnp.sum(probability * slope_BMK, axis=-1, keepdims=True)
