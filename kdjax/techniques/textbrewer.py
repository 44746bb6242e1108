"""TextBrewer's attention losses: squares and cross-entropies of attention, by head or over heads."""

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar, Self

import jax.numpy as jnp

from kdjax.techniques.algebra import example_mask
from kdjax.techniques.base import AtTeacher, Knobs, Paper, Scope
from kdjax.techniques.layers import LayerwiseTerm
from kdjax.techniques.tokens import log_attention, over_tokens, real_columns, real_tokens, same_scores
from kdjax.types import Array, TermInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttentionMatch(LayerwiseTerm):
    """Distance of attention scores before the softmax, summed over pairs of layers. Values: (B,), or (B, N) per token.

    | form    | value of a token n                                 | TextBrewer       |
    |---------|----------------------------------------------------|------------------|
    | mse     | mean over heads and columns m of (S_nm - T_nm)^2   | attention_mse    |
    | mse_sum | the same of the heads' sums of scores              | attention_mse_sum |
    | ce      | mean over heads of H(softmax T_n, softmax S_n)     | attention_ce     |
    | ce_mean | the same of the heads' means of scores             | attention_ce_mean |

    Padding counts neither as n nor as m. The squares are averaged over all pairs of real tokens of the *global* batch,
    so a long text counts by the square of its length.

    Attributes:
      layers: pairs of scores (B, heads, N, M), 'tap' or 'student_tap:teacher_tap'.
      cut: of squares, a score at or below it counts as 0; of cross-entropies, a teacher's probability whose score is.
        TextBrewer has -1e-3 where it is given no mask, and none where it is.
      padded_columns: whether softmaxes include the columns of padding, as TextBrewer's do, which relies on networks
        that give them scores of -1e4.
      form: which of the above.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Yang, Cui, Chen, Che, Liu, Wang, Hu',
        'TextBrewer: An Open-Source Knowledge Distillation Toolkit for Natural Language Processing',
        'ACL System Demonstrations',
        2020,
        '2002.12620',
    )
    FORMS: ClassVar[tuple[str, ...]] = ('mse', 'mse_sum', 'ce', 'ce_mean')

    layers: tuple[str, ...] = ('attention1', 'attention2')
    cut: float = -math.inf
    padded_columns: bool = False
    form: str = 'ce'

    @property
    def scope(self) -> Scope:
        return 'batch' if self.form.startswith('mse') else 'example'

    @property
    def at_teacher(self) -> AtTeacher:
        if self.form.startswith('mse'):
            return 'zero'
        whole = self.cut == -math.inf and not self.padded_columns  # the probabilities that count sum to 1
        return 'stationary' if whole else 'free'

    def distance(self, student: Array, teacher: Array, inputs: TermInputs, knobs: Knobs) -> Array:
        student, teacher = same_scores(student, teacher)
        real = real_tokens(inputs, student.shape[-2]), real_columns(inputs, student.shape[-1])
        # Masked before heads are merged: what a padded row or column holds, even nan, must not reach a gradient.
        rows, columns = real[0][:, None, :, None], real[1][:, None, None] | self.padded_columns
        student, teacher = (jnp.where(rows & columns, score, 0) for score in (student, teacher))
        if self.form in ('mse_sum', 'ce_mean'):
            merge = jnp.sum if self.form == 'mse_sum' else jnp.mean
            student, teacher = (merge(score, axis=1, keepdims=True) for score in (student, teacher))
        squares = self.form.startswith('mse')
        return (self._squares if squares else self._entropy)(student, teacher, real, inputs)

    def _squares(self, student: Array, teacher: Array, real: tuple[Array, Array], inputs: TermInputs) -> Array:
        student, teacher = (jnp.where(score > self.cut, score, 0) for score in (student, teacher))
        sums_BN = jnp.sum(jnp.mean(jnp.square(_masked(student - teacher, real[1])), axis=1), axis=-1)
        rows_B, columns_B = (jnp.sum(one, axis=1).astype(student.dtype) for one in real)
        # What the objective's mean over tokens or examples divides by, over the number of pairs.
        per_token = inputs.batch['mask'].ndim == 2
        counted = jnp.sum(rows_B) if per_token else jnp.sum(example_mask(inputs)).astype(student.dtype)
        scale = counted / jnp.maximum(jnp.sum(rows_B * columns_B), 1)
        return (sums_BN if per_token else jnp.sum(sums_BN, axis=1)) * scale

    def _entropy(self, student: Array, teacher: Array, real: tuple[Array, Array], inputs: TermInputs) -> Array:
        columns_BM = jnp.ones_like(real[1]) if self.padded_columns else real[1]
        probability = jnp.where(teacher > self.cut, jnp.exp(log_attention(teacher, columns_BM)), 0)
        products = _masked(probability * log_attention(student, columns_BM), real[1])
        return over_tokens(-jnp.mean(jnp.sum(products, axis=-1), axis=1), inputs)

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [*(cls(form=form) for form in cls.FORMS), cls(padded_columns=True), cls(form='mse', cut=-1e-3)]


def _masked(scores: Array, real_BM: Array) -> Array:
    return jnp.where(real_BM[:, None, None], scores, 0)
