"""Arithmetic of tokens and attention that several papers share: padded tokens change nothing."""

import jax
import jax.numpy as jnp

from kdjax.errors import UsageError, unknown
from kdjax.techniques.algebra import example_mask, token_mask, wide
from kdjax.types import Array, TermInputs


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


def real_states(x: Array, inputs: TermInputs) -> Array:
    """Tokens (B, N, D) or vectors (B, D), at least float32, and 0 where there is padding: no gradient comes from there.

    Raises:
      UsageError: neither tokens nor vectors, or the mask has another number of tokens.
    """
    if x.ndim not in (2, 3):
        raise UsageError(f'needs tokens (B, N, D) or vectors (B, D), got {x.shape}')
    known = real_tokens(inputs, x.shape[1]) if x.ndim == 3 else example_mask(inputs) > 0
    return jnp.where(known[..., None], wide(x), 0)


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
    """Attention scores of both sides, (B, heads, N, N), at least float32.

    Raises:
      UsageError: they are not such scores, or of two shapes.
    """
    if student.ndim != 4 or student.shape != teacher.shape:
        raise UsageError(
            f'attention scores must be (B, heads, N, N) with as many heads on both sides, got {student.shape} and '
            f'{teacher.shape}'
        )
    return wide(student), wide(teacher)


def log_attention(scores: Array, real_BN: Array) -> Array:
    """log softmax of attention scores (B, heads, N, N) over the real columns; finite where a score is -inf."""
    lowest = -1e30  # its exponential is 0, and a difference or a sum of a few of them is finite
    return jax.nn.log_softmax(jnp.where(real_BN[:, None, None], jnp.maximum(wide(scores), lowest), lowest), axis=-1)


def attention_divergence(student: Array, teacher: Array, real_BN: Array) -> Array:
    """KL of the student's attention from the teacher's, over the real columns, as a mean over heads. (B, N)"""
    rows = real_BN[:, None, :, None]
    log_student, log_teacher = (log_attention(jnp.where(rows, score, 0), real_BN) for score in (student, teacher))
    return jnp.mean(jnp.sum(jnp.exp(log_teacher) * (log_teacher - log_student), axis=-1), axis=1)


def relations(x_BND: Array, heads: int) -> Array:
    """Scaled products X X^T / sqrt(d) of tokens within each of `heads` parts of the width, d wide. (B, heads, N, N)

    Raises:
      UsageError: not tokens (B, N, D), or heads that do not divide D.
    """
    if x_BND.ndim != 3 or x_BND.shape[-1] % heads:
        raise UsageError(f'needs tokens (B, N, D) with D a multiple of {heads} heads, got {x_BND.shape}')
    parts = x_BND.reshape(*x_BND.shape[:2], heads, -1)
    return jnp.einsum('bnhd,bmhd->bhnm', parts, parts) / parts.shape[-1] ** 0.5
