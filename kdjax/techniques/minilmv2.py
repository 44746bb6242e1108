"""MiniLMv2: relations among queries, keys and values of one layer, in as many heads as one likes."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

from kdjax.techniques.algebra import total
from kdjax.techniques.base import AtTeacher, Knobs, Paper, Taps, Term, knob, number
from kdjax.techniques.layers import as_seen, paired, paired_features, pairs
from kdjax.techniques.tokens import over_tokens, relation_divergence
from kdjax.types import Array, TermInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class SelfAttentionRelations(Term):
    """sum_i alpha_i KL(R^T_i || R^S_i), R_i = softmax(A_i A_i^T / sqrt(d_r)), A_i in queries, keys, values (sec. 3.1).

    The mean is over relation heads and rows. The widths are cut into equally many relation heads on both sides, so
    neither the widths nor the numbers of attention heads need be equal. Values: (B,), the mean over an example's real
    tokens, or (B, N) per token.

    Attributes:
      query, key, value: tokens (B, N, D) over all heads, 'tap' or 'student_tap:teacher_tap', of the student's last
        layer and, in a large teacher, of an upper middle one.
      heads: relation heads; divides both widths.
      query_weight, key_weight, value_weight: alpha_i; knobs, >= 0.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Wang, Bao, Huang, Dong, Wei',
        'MiniLMv2: Multi-Head Self-Attention Relation Distillation for Compressing Pretrained Transformers',
        'Findings of ACL',
        2021,
        '2012.15828',
    )
    OTHER_CLASSES: ClassVar[bool] = True
    at_teacher: ClassVar[AtTeacher] = 'zero'

    query: str = 'query'
    key: str = 'key'
    value: str = 'value'
    heads: int = number(48, minimum=1)
    query_weight: float = knob(1.0, minimum=0.0)
    key_weight: float = knob(1.0, minimum=0.0)
    value_weight: float = knob(1.0, minimum=0.0)

    def taps(self) -> Taps:
        return paired((self.query, self.key, self.value))

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        layers = (self.query, self.key, self.value)
        seen = as_seen(inputs, *pairs(layers))
        parts = zip(('query', 'key', 'value'), paired_features(layers, inputs), strict=True)
        distances = [
            knobs[f'{part}_weight'] * relation_divergence(*features, self.heads, seen) for part, features in parts
        ]
        return over_tokens(total(distances), seen)

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(heads=2), cls(heads=4, query_weight=0.5)]
