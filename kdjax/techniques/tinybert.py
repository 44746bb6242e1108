"""TinyBERT: attention scores, hidden states and embeddings of the student approach the teacher's."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import jax.numpy as jnp

from kdjax.errors import unknown
from kdjax.techniques.base import AtTeacher, Knobs, Paper
from kdjax.techniques.layers import LayerwiseTerm
from kdjax.techniques.tokens import ProjectedTokens, over_tokens, real_columns, same_scores
from kdjax.types import Array, TermInputs

_PAPER = Paper(
    'Jiao, Yin, Shang, Jiang, Chen, Li, Wang, Liu',
    'TinyBERT: Distilling BERT for Natural Language Understanding',
    'Findings of EMNLP',
    2020,
    '1909.10351',
)
PROJECTIONS = ('shared', 'own', 'none')


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttentionScores(LayerwiseTerm):
    """1/h sum_i MSE(A^S_i, A^T_i) over heads, summed over pairs of layers (eq. 7). Values: (B,), or (B, N) per token.

    A are the scores before the softmax. Rows and columns of padding do not count, so an example's value is the mean
    over the pairs of its real tokens.

    Attributes:
      layers: pairs of scores (B, heads, N, M), 'tap' or 'student_tap:teacher_tap'; tokens.layer_map spreads them.
      cut: a score at or below it counts as 0, as in the authors' code, where padding has scores of -1e4.
    """

    PAPER: ClassVar[Paper] = _PAPER
    at_teacher: ClassVar[AtTeacher] = 'zero'

    layers: tuple[str, ...] = ('attention1', 'attention2')
    cut: float = -1e2

    def distance(self, student: Array, teacher: Array, inputs: TermInputs, knobs: Knobs) -> Array:
        student, teacher = same_scores(student, teacher)
        real_BM = real_columns(inputs, student.shape[-1])
        own, other = (jnp.where((x > self.cut) & real_BM[:, None, None], x, 0) for x in (student, teacher))
        columns_B1 = jnp.maximum(jnp.sum(real_BM, axis=1, keepdims=True), 1).astype(own.dtype)
        return over_tokens(jnp.mean(jnp.sum(jnp.square(own - other), axis=-1), axis=1) / columns_B1, inputs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class HiddenStates(ProjectedTokens):
    """MSE(H^S W_h, H^T), summed over pairs of layers (eq. 8). Values: (B,), or (B, N) per token.

    The mean is over real tokens and the teacher's width. The embeddings' W_e (eq. 9) is another term's, of the layer
    'embedding'; in the authors' code one W serves all, in DistillKit each layer has its own.

    Attributes:
      layers: pairs of tokens (B, N, D) or vectors (B, D), 'tap' or 'student_tap:teacher_tap'.
      projection: 'shared', one W_h for all layers; 'own', one per layer; 'none', where the widths are equal.
    """

    PAPER: ClassVar[Paper] = _PAPER
    PLAIN: ClassVar[Mapping[str, Any]] = {'projection': 'none'}

    projection: str = 'shared'

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.projection not in PROJECTIONS:
            raise unknown('projection', self.projection, PROJECTIONS, ' of HiddenStates')

    def matrix(self, layer: str) -> str:
        return 'shared' if self.projection == 'shared' else layer

    def distance(self, student: Array, teacher: Array, inputs: TermInputs, knobs: Knobs) -> Array:
        return over_tokens(jnp.mean(jnp.square(student - teacher), axis=-1), inputs)

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        fixed = cls(layers=('match',), projection='none')
        return [cls(), cls(layers=('embedding', 'hidden1:hidden2'), projection='own'), fixed]
