"""Agree to disagree: teachers are weighed so that the student moves in a direction on which they agree."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import jax
import jax.numpy as jnp

from kdjax.techniques.algebra import example_mask, log_softmax
from kdjax.techniques.base import Knobs, Paper, Scope, knob, number
from kdjax.techniques.distributions import EnsembleTerm, divergence, member_logits
from kdjax.types import Array, TermInputs, TermOut, Tree


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaptiveEnsemble(EnsembleTerm):
    """sum_m a_m T^2 KL(p^m_T || p^s_T); a minimises 1/2 || sum_m a_m g_m ||^2 (eq. 10-11). Values: (B,).

    g_m is the gradient of teacher m's loss with respect to the student's logits of the whole batch; 0 <= a_m <= C,
    sum_m a_m = 1. No gradient flows through a. At C = 1 the direction is that of least norm (MGDA), at C = 1/M the
    mean. a is logged as 'member0', ...

    Attributes:
      members: M, teachers in the ensemble, at least 2.
      temperature: T; knob, > 0.
      bound: C, how much disagreement is tolerated; knob, counts as at least 1/M.
      iterations: of the accelerated projected gradient descent that finds a.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Du, You, Li, Wu, Wang, Qian, Zhang',
        'Agree to Disagree: Adaptive Ensemble Knowledge Distillation in Gradient Space',
        'NeurIPS',
        2020,
    )
    scope: ClassVar[Scope] = 'batch'
    TASKS: ClassVar[tuple[str, ...]] = ('classification',)

    temperature: float = knob(4.0, above=0.0)
    bound: float = knob(0.6, above=0.0)
    iterations: int = number(100, minimum=1)

    def __call__(
        self, params: Tree, memory: Tree, inputs: TermInputs, knobs: Knobs, *, step: Array, key: Array
    ) -> TermOut:
        logits_BMK, temperature = member_logits(inputs, self.members), knobs['temperature']
        student_B1K = inputs.student.logits[:, None]
        # d T^2 KL / dz = T (p^s_T - p^m_T).
        gap_BMK = jnp.exp(log_softmax(student_B1K, temperature)) - jnp.exp(log_softmax(logits_BMK, temperature))
        real_BMK = jnp.where(example_mask(inputs)[:, None, None] > 0, temperature * gap_BMK, 0)
        share_M = jax.lax.stop_gradient(self._shares(jnp.einsum('bmk,bnk->mn', real_BMK, real_BMK), knobs['bound']))
        divergence_BM = divergence(logits_BMK, student_B1K, temperature) * jnp.square(temperature)
        logs = {f'member{m}': share_M[m] for m in range(self.members)}
        return TermOut(jnp.sum(share_M * divergence_BM, axis=1), memory, logs)

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(bound=0.5)]

    def _shares(self, gram_MM: Array, bound: Array) -> Array:
        """argmin 1/2 a^T G a over the simplex with a <= C, by Nesterov's projected gradient."""
        bound = jnp.maximum(bound, 1 / self.members).astype(gram_MM.dtype)
        largest = jnp.trace(gram_MM)  # bounds the largest eigenvalue
        gram_MM = gram_MM / jnp.where(largest > 0, largest, 1)

        def descend(index: Array, pair: tuple[Array, Array]) -> tuple[Array, Array]:
            share_M, ahead_M = pair
            after_M = _projected(ahead_M - gram_MM @ ahead_M, bound)
            return after_M, after_M + index / (index + 3) * (after_M - share_M)

        even_M = jnp.full(self.members, 1 / self.members, gram_MM.dtype)
        return jax.lax.fori_loop(0, self.iterations, descend, (even_M, even_M))[0]


def _projected(x_M: Array, bound: Array) -> Array:
    """The nearest point of {0 <= a <= bound, sum a = 1}: clip(x - shift), whose sum falls in shift; by bisection."""

    def halve(_: Array, span: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = span
        middle = (low + high) / 2
        above = jnp.sum(jnp.clip(x_M - middle, 0, bound)) > 1
        return jnp.where(above, middle, low), jnp.where(above, high, middle)

    low, high = jax.lax.fori_loop(0, 50, halve, (jnp.min(x_M) - bound, jnp.max(x_M)))
    return jnp.clip(x_M - (low + high) / 2, 0, bound)
