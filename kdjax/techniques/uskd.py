"""Universal self-distillation: soft labels without a teacher, from the student's own confidence and ranking."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from kdjax.errors import UsageError
from kdjax.techniques.algebra import example_mask, flat, log_softmax, wide
from kdjax.techniques.base import Knobs, Paper, Scope, Taps, Term, apply_module, init_module, knob, number
from kdjax.techniques.distributions import cross_entropy, label_loss, rivals
from kdjax.types import Array, TermInputs, TermOut, Tree


@dataclasses.dataclass(frozen=True, kw_only=True)
class SelfTargets(Term):
    """-alpha P_y log p_y - beta sum_{c != y} Z_c log q_c + mu H(V, w). Values: (B,).

    p are the student's probabilities, q those of the classes other than the label y, w those of a linear head on a
    feature. The soft label of the target is smoothed over the real examples of the *global* batch,
    P_y = p_y^2 + 1 - mean p_y^2 (sec. 3.2); the others follow Zipf's law, Z_c ~ 1 / rank_c, by the rank of
    w_c / (1 - w_y) + p_c / (1 - p_y); V is the label, smoothed. No gradient flows through P and Z. The
    label's own cross-entropy, which the paper adds with weight 1, is a term of its own.

    | form   | ranks                                                                              | as in     |
    |--------|------------------------------------------------------------------------------------|-----------|
    | paper  | 1 ... K - 1 over the other classes                                                 | the paper |
    | cls_KD | 1 ... K over all classes; of log p and log p_y in the place of p and p_y           | cls_KD    |

    Attributes:
      layer: the student's tap that the head reads, (B, ...).
      alpha: weight of the target; knob, >= 0.
      beta: weight of the other classes; knob, >= 0.
      mu: weight of the head's own loss; knob, >= 0.
      smoothing: share of V spread evenly over all classes, in [0, 1).
      form: which of the above.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Yang, Zeng, Li, Zhang, Yuan, Li',
        'From Knowledge Distillation to Self-Knowledge Distillation: A Unified Approach with Normalized Loss and '
        'Customized Soft Labels',
        'ICCV',
        2023,
        '2303.13005',
    )
    FORMS: ClassVar[tuple[str, ...]] = ('paper', 'cls_KD')
    TEACHER: ClassVar[bool] = False
    LABELS: ClassVar[bool] = True
    scope: ClassVar[Scope] = 'batch'
    reads_logits: ClassVar[tuple[bool, bool]] = (True, False)
    TASKS: ClassVar[tuple[str, ...]] = ('classification',)

    layer: str = 'penult'
    alpha: float = knob(1.0, minimum=0.0)
    beta: float = knob(0.1, minimum=0.0)
    mu: float = knob(0.005, minimum=0.0)
    smoothing: float = number(0.1, minimum=0.0, below=1.0)
    form: str = 'paper'

    def taps(self) -> Taps:
        return Taps(student=(self.layer,))

    def init(self, key: Array, inputs: TermInputs) -> tuple[Tree, Tree]:
        return init_module(self._head(inputs), key, flat(inputs.student.features[self.layer])), {}

    def __call__(
        self, params: Tree, memory: Tree, inputs: TermInputs, knobs: Knobs, *, step: Array, key: Array
    ) -> TermOut:
        logits, labels = inputs.student.logits, inputs.batch['labels']
        if logits.ndim != 2:
            raise UsageError(f'self-distillation needs logits (B, K), got {logits.shape}')
        head = apply_module(self._head(inputs), params, flat(inputs.student.features[self.layer]))
        others = rivals(logits, labels)
        hard, weak = label_loss(logits, labels), label_loss(head, labels)
        zipf = jnp.log(jax.lax.stop_gradient(self._zipf(logits, head, labels)))
        rest = cross_entropy(jax.nn.log_softmax(zipf, axis=-1), log_softmax(others))
        even = -jnp.mean(log_softmax(head), axis=-1)
        smooth = weak + self.smoothing * (even - weak)
        target = jax.lax.stop_gradient(_confidence(hard, example_mask(inputs)))
        return TermOut(knobs['alpha'] * target * hard + knobs['beta'] * rest + knobs['mu'] * smooth, memory, {})

    def _zipf(self, logits: Array, head: Array, labels: Array) -> Array:
        """1 / rank of every class, 0 for the label. (B, K)"""
        label = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
        own = log_softmax(logits) if self.form == 'cls_KD' else jax.nn.softmax(wide(logits), axis=-1)
        score = _against(own, label) + _against(jax.nn.softmax(head, axis=-1), label)
        if self.form == 'paper':
            score = jnp.where(label, -jnp.inf, score)  # last, after every other class
        rank = jnp.argsort(jnp.argsort(-score, axis=-1), axis=-1)
        return jnp.where(label, 0, 1 / (1 + rank).astype(score.dtype))

    def _head(self, inputs: TermInputs) -> nn.Module:
        return nn.Dense(inputs.student.logits.shape[-1])


def _confidence(hard: Array, mask: Array) -> Array:
    """P_y = p_y^2 + 1 - mean p_y^2, of -log p_y. (B,)"""
    square = jnp.exp(-2 * hard)
    mean = jnp.sum(jnp.where(mask > 0, square, 0)) / jnp.maximum(jnp.sum(mask > 0), 1).astype(square.dtype)
    return square + 1 - mean


def _against(x: Array, label: Array) -> Array:
    """x_c / (1 - x_y), finite where the label has everything."""
    return x / (1 - jnp.sum(jnp.where(label, x, 0), axis=-1, keepdims=True) + 1e-6)
