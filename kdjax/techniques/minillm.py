"""MiniLLM: the student looks for the teacher's modes, by the reverse KL divergence."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from kdjax.errors import UsageError
from kdjax.techniques.base import AtTeacher, Knobs, Paper, Term, knob, number
from kdjax.techniques.distributions import kl_divergence, log_probabilities
from kdjax.types import Array, Batch, TermInputs

GU = Paper(
    'Gu, Dong, Wei, Huang', 'MiniLLM: Knowledge Distillation of Large Language Models', 'ICLR', 2024, '2306.08543'
)
MOST = 100.0  # nats of a reward, either way: a token that the teacher rules out is no infinity


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReverseKL(Term):
    """T^2 KL(q || p) of student q and teacher p at every token. Values: (B,) or (B, N).

    The paper minimises the reverse divergence of whole sequences (eq. 1). This is its single-step part, summed over the
    vocabulary rather than sampled ((grad L)_Single, sec. 2.2), with T = 1; `SequenceReverseKL` has the other part too,
    of texts that are written in the step. A class that the teacher rules out (logit -inf) adds 0, as in DistiLLM's
    code, not infinity.

    Attributes:
      temperature: T; knob, > 0.
    """

    PAPER: ClassVar[Paper] = GU
    at_teacher: ClassVar[AtTeacher] = 'zero'

    temperature: float = knob(1.0, above=0.0)

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        log_p, log_q = log_probabilities(inputs, knobs['temperature'])
        return kl_divergence(log_q, log_p) * jnp.square(knobs['temperature'])


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequenceReverseKL(Term):
    """The reverse KL of texts y drawn from a p + (1 - a) q, of teacher p and student q. Values: (B,) or (B, N).

    A value is w_t KL(q_t || p_t), and the gradient that of eq. 7 with the clipping of algorithm 1:

      w_t grad KL(q_t || p_t) - grad min(rho_t R_t, clip(rho_t, 1 - eps, 1 + eps) R_t)

    with rho_t = q(y_t) / (a p(y_t) + (1 - a) q(y_t)), the importance weight of one step, of which w_t is the value (eq.
    5; 1 where a = 0), and R_t the mean of log p(y_s) / q(y_s) over the tokens s > t of the text (length normalisation,
    eq. 6), without a gradient. The first part is the single-step one, summed over the vocabulary; the second is the
    policy gradient of what comes later, whose own value is taken out: it does not say how far q is from p. Only tokens
    that were drawn count; examples of the data have none, and are for a loss on plain text beside it (L_PT).

    One update is made of each text, by the policy that wrote it: the first of PPO's inner loop. Rewards are clipped, as
    in LMOps, and not whitened, which LMOps does and the paper does not say.

    Attributes:
      clip: eps, > 0.
      tokens: column of the tokens that were drawn after each, ids from 1 on, 0 where none was, like the logits without
        their last axis.
      mixed: column of a, (B,), or of each token.
    """

    PAPER: ClassVar[Paper] = GU
    COLUMNS: ClassVar[tuple[str, ...]] = ('tokens', 'mixed')
    WRITTEN: ClassVar[bool] = True
    TASKS: ClassVar[tuple[str, ...]] = ('language_model', 'translation')
    at_teacher: ClassVar[AtTeacher] = 'zero'

    clip: float = number(0.2, above=0.0)
    tokens: str = 'written'
    mixed: str = 'teacher_share'

    def divisor(self, batch: Batch) -> Array:
        return batch['mask'] * (batch[self.tokens] > 0).astype(batch['mask'].dtype)

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        log_p, log_q = log_probabilities(inputs, 1.0)
        tokens = inputs.batch[self.tokens]
        if tokens.shape != log_q.shape[:-1]:
            raise UsageError(f'tokens {tokens.shape} that were drawn do not fit logits {log_q.shape}')
        drawn = self.divisor(inputs.batch) > 0
        p, q = (jnp.take_along_axis(logs, tokens[..., None], axis=-1)[..., 0] for logs in (log_p, log_q))
        share = inputs.batch[self.mixed].astype(q.dtype)
        share = share.reshape(share.shape + (1,) * (q.ndim - share.ndim))
        mean = jnp.maximum(share * jnp.exp(p) + (1 - share) * jnp.exp(q), jnp.finfo(q.dtype).tiny)
        ratio = jnp.exp(q) / jax.lax.stop_gradient(mean)
        reward = jnp.where(drawn, jnp.clip(p - q, -MOST, MOST), 0)
        later = jax.lax.stop_gradient(_mean_of_later(reward, drawn))
        gained = jnp.minimum(ratio * later, jnp.clip(ratio, 1 - self.clip, 1 + self.clip) * later)
        values = jax.lax.stop_gradient(ratio) * kl_divergence(log_q, log_p)
        return jnp.where(drawn, values - (gained - jax.lax.stop_gradient(gained)), 0)


def _mean_of_later(reward: Array, drawn: Array) -> Array:
    """Of each token the mean reward of those after it; 0 where there are none, as where texts (B,) have one token."""
    if reward.ndim == 1:
        return jnp.zeros_like(reward)
    total, count = (jnp.cumsum(x[:, ::-1], axis=1)[:, ::-1] - x for x in (reward, drawn.astype(reward.dtype)))
    return total / jnp.maximum(count, 1)
