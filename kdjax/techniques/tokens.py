"""What terms of tokens and attention share: padded tokens change nothing."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from kdjax.errors import UsageError, unknown
from kdjax.techniques.algebra import example_mask, token_mask, wide
from kdjax.techniques.base import AtTeacher, Knobs, apply_module, init_module
from kdjax.techniques.layers import LayerwiseTerm, Pair, as_seen, pairs
from kdjax.types import Array, TermInputs, TermOut, Tree

NO_PROJECTION = (False, 'none')


def layer_map(strategy: str, student: int, teacher: int, name: str = 'hidden') -> tuple[str, ...]:
    """Pairs of layers 'hidden1:hidden2', ... of transformers, one per student layer, as `layers` of a term takes them.

    Student layer m of M reads teacher layer m N / M, rounded down ('skip', also called uniform), or m + N - M ('last').

    Raises:
      UsageError: an unknown strategy, or a teacher of fewer layers.
    """
    if not 1 <= student <= teacher:
        raise UsageError(f'cannot map the {student} layers of a student to the {teacher} of a teacher')
    read = {'skip': lambda layer: layer * teacher // student, 'last': lambda layer: layer + teacher - student}
    if strategy not in read:
        raise unknown('strategy', strategy, read, ' of a layer map')
    return tuple(f'{name}{layer}:{name}{read[strategy](layer)}' for layer in range(1, student + 1))


def real_tokens(inputs: TermInputs, tokens: int) -> Array:
    """True for real tokens of real examples. (B, N)

    Raises:
      UsageError: the mask has another number of tokens.
    """
    mask_BN = token_mask(inputs, tokens)
    if mask_BN.shape[1] != tokens:
        raise UsageError(f'the mask is of {mask_BN.shape[1]} tokens, the feature has {tokens}')
    return mask_BN > 0


def real_columns(inputs: TermInputs, columns: int) -> Array:
    """True for the tokens of real examples that are attended to, where these may be others than attend. (B, M)

    Raises:
      UsageError: the mask has another number of tokens.
    """
    if 'column_mask' not in inputs.batch:
        return real_tokens(inputs, columns)
    attended = inputs._replace(batch={**inputs.batch, 'token_mask': inputs.batch['column_mask']})
    return real_tokens(attended, columns)


def real_states(x: Array, inputs: TermInputs) -> Array:
    """Tokens (B, N, D) or vectors (B, D), at least float32, and 0 where there is padding: no gradient comes from there.

    Raises:
      UsageError: neither tokens nor vectors, or the mask has another number of tokens.
    """
    if x.ndim not in (2, 3):
        raise UsageError(f'needs tokens (B, N, D) or vectors (B, D), got {x.shape}')
    known = real_tokens(inputs, x.shape[1]) if x.ndim == 3 else example_mask(inputs) > 0
    return jnp.where(known[..., None], wide(x), 0)


def check_widths(layer: str, student: Array, teacher: Array, projection: bool | str) -> None:
    """Raises UsageError where two features differ in more than their width, or in that without a projection."""
    if student.shape[:-1] != teacher.shape[:-1] or (student.shape != teacher.shape and projection in NO_PROJECTION):
        raise UsageError(
            f'shapes {student.shape} and {teacher.shape} of {layer!r} do not fit: only their width may differ, '
            f'and that with a projection, here projection={projection!r}'
        )


def over_tokens(values: Array, inputs: TermInputs) -> Array:
    """Of values (B, N) the mean over an example's real tokens (B,); all, 0 at padding, where the mask is per token."""
    if values.ndim == 1:
        return values
    real_BN = real_tokens(inputs, values.shape[1])
    values_BN = jnp.where(real_BN, values, 0)
    if inputs.batch['mask'].ndim == 2:
        return values_BN
    return jnp.sum(values_BN, axis=1) / jnp.maximum(jnp.sum(real_BN, axis=1), 1).astype(values.dtype)


def same_scores(student: Array, teacher: Array) -> tuple[Array, Array]:
    """Attention scores of both sides, (B, heads, N, M), at least float32.

    Raises:
      UsageError: they are not such scores, or of two shapes.
    """
    if student.ndim != 4 or student.shape != teacher.shape:
        raise UsageError(
            f'attention scores must be (B, heads, N, M) with as many heads on both sides, got {student.shape} and '
            f'{teacher.shape}'
        )
    return wide(student), wide(teacher)


def log_attention(scores: Array, real_BM: Array) -> Array:
    """log softmax of attention scores (B, heads, N, M) over the real columns; finite where a score is -inf."""
    lowest = -1e30  # its exponential is 0, and a difference or a sum of a few of them is finite
    return jax.nn.log_softmax(jnp.where(real_BM[:, None, None], jnp.maximum(wide(scores), lowest), lowest), axis=-1)


def attention_divergence(student: Array, teacher: Array, inputs: TermInputs) -> Array:
    """KL of the student's attention from the teacher's, of scores, over the real columns, as a mean over heads. (B, N)

    Raises:
      UsageError: the scores are not such, or of two shapes.
    """
    student, teacher = same_scores(student, teacher)
    rows = real_tokens(inputs, student.shape[-2])[:, None, :, None]
    columns_BM = real_columns(inputs, student.shape[-1])
    log_student, log_teacher = (log_attention(jnp.where(rows, score, 0), columns_BM) for score in (student, teacher))
    return jnp.mean(jnp.sum(jnp.exp(log_teacher) * (log_teacher - log_student), axis=-1), axis=1)


def relation_divergence(student: Array, teacher: Array, heads: int, inputs: TermInputs) -> Array:
    """The same of the attention that `relations` between tokens make. (B, N)"""
    student, teacher = (relations(real_states(x, inputs), heads) for x in (student, teacher))
    return attention_divergence(student, teacher, inputs)


def relations(x_BND: Array, heads: int) -> Array:
    """Scaled products X X^T / sqrt(d) of tokens within each of `heads` parts of the width, d wide. (B, heads, N, N)

    Raises:
      UsageError: not tokens (B, N, D), or heads that do not divide D.
    """
    if x_BND.ndim != 3 or x_BND.shape[-1] % heads:
        raise UsageError(f'needs tokens (B, N, D) with D a multiple of {heads} heads, got {x_BND.shape}')
    parts = x_BND.reshape(*x_BND.shape[:2], heads, -1)
    return jnp.einsum('bnhd,bmhd->bhnm', parts, parts) / parts.shape[-1] ** 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProjectedTokens(LayerwiseTerm):
    """A distance of tokens or vectors, the student's brought to the teacher's width by a learned matrix where asked.

    Attributes:
      layers: pairs of tokens (B, N, D) or vectors (B, D), 'tap' or 'student_tap:teacher_tap'.
      projection: whether each layer learns such a matrix; without it (or by 'none') the widths must be equal.
    """

    BIAS: ClassVar[bool] = False  # whether what is learned adds a vector too
    PLAIN: ClassVar[Mapping[str, Any]] = {'projection': False}

    layers: tuple[str, ...] = ('hidden1', 'hidden2')
    projection: bool | str = False

    @property
    def projects(self) -> bool:
        """Whether anything is learned."""
        return self.projection not in NO_PROJECTION

    @property
    def at_teacher(self) -> AtTeacher:
        return 'free' if self.projects else 'zero'

    def matrix(self, layer: str) -> str:
        """The name of a layer's matrix among the parameters."""
        return layer

    def states(self, feature: Array, inputs: TermInputs) -> Array:
        """What is compared of a feature, (B, N, D) or (B, D), and 0 where there is padding."""
        return real_states(feature, inputs)

    def features(self, inputs: TermInputs) -> list[Pair]:
        found = []
        for layer, taps, pair in zip(self.layers, pairs(self.layers), super().features(inputs), strict=True):
            student, teacher = (self.states(feature, as_seen(inputs, taps)) for feature in pair)
            check_widths(layer, student, teacher, self.projection)
            found.append((student, teacher))
        return found

    def init(self, key: Array, inputs: TermInputs) -> tuple[Tree, Tree]:
        features = self.features(inputs)
        if not self.projects:
            return {}, {}
        matrices = dict(zip(map(self.matrix, self.layers), features, strict=True))
        keys = jax.random.split(key, len(matrices))
        return {
            name: init_module(self._module(teacher), own, student)
            for own, (name, (student, teacher)) in zip(keys, matrices.items(), strict=True)
        }, {}

    def __call__(
        self, params: Tree, memory: Tree, inputs: TermInputs, knobs: Knobs, *, step: Array, key: Array
    ) -> TermOut:
        return TermOut(self.summed(self.projected(params, inputs), inputs, knobs), memory, {})

    def projected(self, params: Tree, inputs: TermInputs) -> list[Pair]:
        """What is compared, pair by pair, both in the teacher's width."""
        features = self.features(inputs)
        if not self.projects:
            return features
        return [
            (apply_module(self._module(teacher), params[self.matrix(layer)], student), teacher)
            for layer, (student, teacher) in zip(self.layers, features, strict=True)
        ]

    def _module(self, teacher: Array) -> nn.Module:
        return nn.Dense(teacher.shape[-1], use_bias=self.BIAS)
