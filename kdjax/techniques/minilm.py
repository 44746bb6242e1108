"""MiniLM: the student's last layer attends, and relates its values, as the teacher's does."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

from kdjax.techniques.base import AtTeacher, Knobs, Paper, number
from kdjax.techniques.layers import LayerTerm
from kdjax.techniques.tokens import attention_divergence, over_tokens, relation_divergence
from kdjax.types import Array, TermInputs

_PAPER = Paper(
    'Wang, Wei, Dong, Bao, Yang, Zhou',
    'MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of Pre-Trained Transformers',
    'NeurIPS',
    2020,
    '2002.10957',
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttentionDistributions(LayerTerm):
    """KL(A^T || A^S) of the last layer's attention, the mean over heads and rows (L_AT, sec. 3.1).

    Softmaxes are over real columns. Values: (B,), the mean over an example's real tokens, or (B, N) per token.

    Attributes:
      layer: scores before the softmax (B, heads, N, M), 'tap' or 'student_tap:teacher_tap'.
    """

    PAPER: ClassVar[Paper] = _PAPER
    at_teacher: ClassVar[AtTeacher] = 'zero'

    layer: str = 'attention2'

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        seen = self.seen(inputs)
        return over_tokens(attention_divergence(*self.features(inputs), seen), seen)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ValueRelations(LayerTerm):
    """KL(VR^T || VR^S), VR = softmax(V V^T / sqrt(d)) by head, the mean over heads and rows (L_VR, sec. 3.2).

    The two widths may differ. Values: (B,), the mean over an example's real tokens, or (B, N) per token.

    Attributes:
      layer: values (B, N, D) over all heads, 'tap' or 'student_tap:teacher_tap'.
      heads: of attention, on both sides.
    """

    PAPER: ClassVar[Paper] = _PAPER
    at_teacher: ClassVar[AtTeacher] = 'zero'

    layer: str = 'value'
    heads: int = number(12, minimum=1)

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        seen = self.seen(inputs)
        return over_tokens(relation_divergence(*self.features(inputs), self.heads, seen), seen)

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(heads=2)]
