"""TinyBERT: attention scores, hidden states and embeddings of the student approach the teacher's."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import jax
import jax.numpy as jnp
from flax import linen as nn

from kdjax.errors import UsageError, unknown
from kdjax.techniques.base import AtTeacher, Knobs, Paper, Taps, Term, apply_module, init_module, paired, pairs
from kdjax.techniques.tokens import over_tokens, real_states, real_tokens, same_scores
from kdjax.types import Array, TermInputs, TermOut, Tree

_PAPER = Paper(
    'Jiao, Yin, Shang, Jiang, Chen, Li, Wang, Liu',
    'TinyBERT: Distilling BERT for Natural Language Understanding',
    'Findings of EMNLP',
    2020,
    '1909.10351',
)
PROJECTIONS = ('shared', 'own', 'none')


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttentionScores(Term):
    """1/h sum_i MSE(A^S_i, A^T_i) over heads, summed over pairs of layers (eq. 7). Values: (B,), or (B, N) per token.

    A are the scores before the softmax. Rows and columns of padding do not count, so an example's value is the mean
    over the pairs of its real tokens.

    Attributes:
      layers: pairs of scores (B, heads, N, N), 'tap' or 'student_tap:teacher_tap'; algebra.layer_map spreads them.
      cut: a score at or below it counts as 0, as in the authors' code, where padding has scores of -1e4.
    """

    PAPER: ClassVar[Paper] = _PAPER
    at_teacher: ClassVar[AtTeacher] = 'zero'

    layers: tuple[str, ...] = ('attention1', 'attention2')
    cut: float = -1e2

    def taps(self) -> Taps:
        return paired(self.layers)

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        distances = [self._distance(inputs, *taps) for taps in pairs(self.layers)]
        return sum(distances[1:], distances[0])

    def _distance(self, inputs: TermInputs, student: str, teacher: str) -> Array:
        scores = same_scores(inputs.student.features[student], inputs.teacher.features[teacher])
        real_BN = real_tokens(inputs, scores[0].shape[-1])
        own, other = (jnp.where((score > self.cut) & real_BN[:, None, None], score, 0) for score in scores)
        columns_B1 = jnp.maximum(jnp.sum(real_BN, axis=1, keepdims=True), 1).astype(own.dtype)
        return over_tokens(jnp.mean(jnp.sum(jnp.square(own - other), axis=-1), axis=1) / columns_B1, inputs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class HiddenStates(Term):
    """MSE(H^S W_h, H^T), summed over pairs of layers (eq. 8). Values: (B,), or (B, N) per token.

    The mean is over real tokens and the teacher's width. The embeddings' W_e (eq. 9) is another term's, of the layer
    'embedding'; in the authors' code one W serves all, in DistillKit each layer has its own.

    Attributes:
      layers: pairs of tokens (B, N, D) or vectors (B, D), 'tap' or 'student_tap:teacher_tap'.
      projection: 'shared', one W_h for all layers; 'own', one per layer; 'none', where the widths are equal.
    """

    PAPER: ClassVar[Paper] = _PAPER

    layers: tuple[str, ...] = ('hidden1', 'hidden2')
    projection: str = 'shared'

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.projection not in PROJECTIONS:
            raise unknown('projection', self.projection, PROJECTIONS, ' of HiddenStates')

    @property
    def at_teacher(self) -> AtTeacher:
        return 'zero' if self.projection == 'none' else 'free'

    def taps(self) -> Taps:
        return paired(self.layers)

    def init(self, key: Array, inputs: TermInputs) -> tuple[Tree, Tree]:
        read = {self._matrix(layer): self._read(inputs, *taps) for layer, taps in self._pairs()}
        if self.projection == 'none':
            return {}, {}
        keys = jax.random.split(key, len(read))
        matrices = {
            name: init_module(_linear(teacher), own, student)
            for own, (name, (student, teacher)) in zip(keys, read.items(), strict=True)
        }
        return matrices, {}

    def __call__(
        self, params: Tree, memory: Tree, inputs: TermInputs, knobs: Knobs, *, step: Array, key: Array
    ) -> TermOut:
        distances = []
        for layer, taps in self._pairs():
            student, teacher = self._read(inputs, *taps)
            if self.projection != 'none':
                student = apply_module(_linear(teacher), params[self._matrix(layer)], student)
            distances.append(over_tokens(jnp.mean(jnp.square(student - teacher), axis=-1), inputs))
        return TermOut(sum(distances[1:], distances[0]), memory, {})

    def _pairs(self) -> Sequence[tuple[str, tuple[str, str]]]:
        return list(zip(self.layers, pairs(self.layers), strict=True))

    def _matrix(self, layer: str) -> str:
        return 'shared' if self.projection == 'shared' else layer

    def _read(self, inputs: TermInputs, student: str, teacher: str) -> tuple[Array, Array]:
        own = real_states(inputs.student.features[student], inputs)
        other = real_states(inputs.teacher.features[teacher], inputs)
        if own.shape[:-1] != other.shape[:-1] or (self.projection == 'none' and own.shape != other.shape):
            raise UsageError(
                f'shapes of {student!r} {own.shape} and {teacher!r} {other.shape} do not fit; only their width may '
                f"differ, and that with projection='shared' or 'own', here {self.projection!r}"
            )
        return own, other

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        fixed = cls(layers=('match',), projection='none')
        return [cls(), cls(layers=('embedding', 'hidden1:hidden2'), projection='own'), fixed]


def _linear(teacher: Array) -> nn.Module:
    """A matrix, without a bias, as in the paper."""
    return nn.Dense(teacher.shape[-1], use_bias=False)
