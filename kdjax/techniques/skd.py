"""Streamlined distillation: predictions one by one, and their directions within the batch."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from kdjax.techniques.algebra import example_mask, flat, real_median, same_classes, unit
from kdjax.techniques.base import AtTeacher, Knobs, Paper, Scope, Term, knob
from kdjax.techniques.distributions import divergence
from kdjax.types import Array, TermInputs

PAPER = Paper('Jeong, Lee, Choi', 'Streamlined Knowledge Distillation', 'CVPR', 2026)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StreamlinedInstance(Term):
    """KL(p^t_T || p^s_T) per example (eq. 1). Values: (B,).

    Forms: 'paper': without T^2; 'scaled': times T^2, as in the authors' code, which also sets `unsure_only`.

    Attributes:
      temperature: T; knob, > 0.
      unsure_only: whether examples count 0 on which the teacher is surer (has a larger largest probability) than the
        median of the batch, that is of the real examples of all devices.
      form: which of the above.
    """

    PAPER: ClassVar[Paper] = PAPER
    FORMS: ClassVar[tuple[str, ...]] = ('paper', 'scaled')
    at_teacher: ClassVar[AtTeacher] = 'zero'

    temperature: float = knob(4.0, above=0.0)
    unsure_only: bool = False
    form: str = 'paper'

    @property
    def scope(self) -> Scope:
        return 'batch' if self.unsure_only else 'example'

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        student, teacher = same_classes(inputs)
        values = divergence(teacher, student, knobs['temperature'])
        if self.form == 'scaled':
            values = values * jnp.square(knobs['temperature'])
        if self.unsure_only:
            sureness = jnp.max(jax.nn.softmax(flat(teacher), axis=-1), axis=-1)
            unsure = sureness <= real_median(sureness, example_mask(inputs) > 0)
            values = jnp.where(unsure, values, 0)
        return values


@dataclasses.dataclass(frozen=True, kw_only=True)
class StreamlinedDirection(Term):
    """sqrt(d_i^T (Sigma + lambda I)^-1 d_i), the rows d_i of D = G_s - G_t (eq. 3-8). Values: (B,).

    G has the cosines of the logits of all pairs of examples, Sigma is the covariance of the rows of D (over B - 1).
    Forms: 'paper'; 'code': G over the number of classes K, and the value times the share of classes whose probability
    for the teacher, summed over the batch, is at most the median. The batch is the real examples of all devices; one
    example alone has no covariance, and value 0.

    Attributes:
      tikhonov: lambda; knob, > 0.
      form: which of the above.
    """

    PAPER: ClassVar[Paper] = PAPER
    FORMS: ClassVar[tuple[str, ...]] = ('paper', 'code')
    scope: ClassVar[Scope] = 'batch'
    at_teacher: ClassVar[AtTeacher] = 'zero'

    tikhonov: float = knob(0.1, above=0.0)
    form: str = 'paper'

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        student, teacher = same_classes(inputs)
        real_B = example_mask(inputs) > 0
        gap_BB = self._gram(student, real_B) - self._gram(teacher, real_B)
        count = jnp.sum(real_B).astype(gap_BB.dtype)
        rows = jnp.where(real_B[:, None], gap_BB - jnp.sum(gap_BB, axis=0) / jnp.maximum(count, 1), 0)
        covariance = rows.T @ rows / jnp.maximum(count - 1, 1)
        # Padding adds rows and columns of 0: with lambda on the diagonal they are apart and change nothing.
        ridge = jnp.asarray(knobs['tikhonov'], gap_BB.dtype) * jnp.eye(len(real_B), dtype=gap_BB.dtype)
        solved_BB = jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(covariance + ridge), gap_BB.T).T
        square_B = jnp.sum(gap_BB * solved_BB, axis=1)
        positive = square_B > 0
        values = jnp.where(positive, jnp.sqrt(jnp.where(positive, square_B, 1)), 0)
        return values * (self._share(teacher, real_B) if self.form == 'code' else 1)

    def _gram(self, logits: Array, real_B: Array) -> Array:
        unit_BK = unit(jnp.where(real_B[:, None], flat(logits), 0))
        return unit_BK @ unit_BK.T / (logits.shape[-1] if self.form == 'code' else 1)

    def _share(self, teacher: Array, real_B: Array) -> Array:
        summed_K = jnp.sum(jnp.where(real_B[:, None], jax.nn.softmax(flat(teacher), axis=-1), 0), axis=0)
        return jnp.mean((summed_K <= jnp.median(summed_K)).astype(summed_K.dtype))
