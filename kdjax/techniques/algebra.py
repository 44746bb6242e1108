"""Arithmetic that several papers share. Softmax arithmetic is at least float32; nothing here divides by zero."""

import jax
import jax.numpy as jnp

from kdjax.names import UsageError
from kdjax.types import Array, View


def wide(x: Array) -> Array:
    """`x` in float32, or as it is where it is wider."""
    return x if x.dtype == jnp.float64 else x.astype(jnp.float32)


def log_softmax(logits: Array, temperature: Array | float = 1.0) -> Array:
    """log softmax(logits / temperature) over the last axis."""
    return jax.nn.log_softmax(wide(logits) / temperature, axis=-1)


def same_classes(view: View) -> tuple[Array, Array]:
    """Student and teacher logits, both (..., K).

    Raises:
      UsageError: their shapes differ.
    """
    student, teacher = view.student.logits, view.teacher.logits
    if teacher is None:
        raise UsageError('reads the teacher, but this fit has none')
    if student.shape != teacher.shape:
        raise UsageError(f'student logits {student.shape} and teacher logits {teacher.shape} must have one shape')
    return student, teacher


def example_mask(view: View) -> Array:
    """1 for real examples, 0 for padding; an example with any real token is real. (B,)"""
    mask = view.batch['mask']
    return mask if mask.ndim == 1 else jnp.max(mask.reshape(mask.shape[0], -1), axis=1)


def token_mask(view: View, tokens: int) -> Array:
    """1 for real tokens of real examples: batch['token_mask'], or the mask where it is per token. (B, N)"""
    mask = view.batch['mask']
    if mask.ndim == 2:
        return mask
    return mask[:, None] * view.batch.get('token_mask', jnp.ones((mask.shape[0], tokens), mask.dtype))


def example_keys(key: Array, view: View) -> Array:
    """A random key per example, by its id and view: draws depend neither on its place nor on devices. (B,)"""
    fold = jax.vmap(jax.random.fold_in, (0, 0))
    return fold(fold(jnp.broadcast_to(key, view.batch['id'].shape), view.batch['id']), view.batch['view'])


def flat(x: Array) -> Array:
    """(B, ...) as (B, D), at least float32."""
    return wide(x).reshape(x.shape[0], -1)


def per_example(x: Array) -> Array:
    """Mean over everything but the batch axis. (B,)"""
    return jnp.mean(x.reshape(x.shape[0], -1), axis=1)


def magnitude(x: Array) -> Array:
    """|x|; its gradient at 0 is 0, where that of `jnp.abs` is 1."""
    return x * jnp.sign(x)


def norm(x: Array, axis: int = -1) -> Array:
    """Euclidean norm, keeping the axis; its gradient at 0 is 0, not nan."""
    square = jnp.sum(jnp.square(x), axis=axis, keepdims=True)
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1)), 0)


def unit(x: Array, axis: int = -1, floor: float = 1e-12) -> Array:
    """`x` over its Euclidean norm, which counts as at least `floor`."""
    return x / jnp.maximum(norm(x, axis), floor)


def pool_to(x: Array, height: int, width: int) -> Array:
    """Average-pools a map (B, H, W, C) to (B, height, width, C); cell borders as in adaptive average pooling."""
    return _pool(_pool(x, 1, height), 2, width)


def _pool(x: Array, axis: int, size: int) -> Array:
    length = x.shape[axis]
    if length == size:
        return x
    # Cell k averages positions floor(k L / S) ... ceil((k + 1) L / S) - 1.
    cells = [(k * length // size, -(-(k + 1) * length // size)) for k in range(size)]
    means = [jnp.mean(jax.lax.slice_in_dim(x, start, stop, axis=axis), axis, keepdims=True) for start, stop in cells]
    return jnp.concatenate(means, axis)


def smaller_map(left: Array, right: Array) -> tuple[Array, Array]:
    """Two maps (B, H, W, C) pooled to the smaller height and width of each."""
    height, width = min(left.shape[1], right.shape[1]), min(left.shape[2], right.shape[2])
    return pool_to(left, height, width), pool_to(right, height, width)


def soft_cross_entropy(teacher: Array, student: Array, temperature: Array | float = 1.0) -> Array:
    """H(p^t_T, p^s_T) of logits over the last axis; a class that both rule out (logit -inf) adds 0."""
    return -jnp.sum(jnp.exp(log_softmax(teacher, temperature)) * _ruled(student, temperature), axis=-1)


def divergence(teacher: Array, student: Array, temperature: Array | float = 1.0) -> Array:
    """KL(p^t_T || p^s_T) of logits over the last axis, without T^2; a class that both rule out adds 0."""
    log_teacher = _ruled(teacher, temperature)
    return jnp.sum(jnp.exp(log_teacher) * (log_teacher - _ruled(student, temperature)), axis=-1)


def _ruled(logits: Array, temperature: Array | float) -> Array:
    log_probability = log_softmax(logits, temperature)
    return jnp.maximum(log_probability, jnp.finfo(log_probability.dtype).min)


def label_loss(logits: Array, labels: Array) -> Array:
    """-log p_y, one per label.

    Raises:
      UsageError: logits (..., K) without one label (...) each.
    """
    if labels.shape != logits.shape[:-1]:
        raise UsageError(f'labels {labels.shape} do not fit logits {logits.shape}')
    return -jnp.take_along_axis(log_softmax(logits), labels[..., None], axis=-1)[..., 0]


def member_logits(view: View, members: int) -> Array:
    """Logits of the members of a teacher, from its taps 'member0/logits', ... (B, M, K).

    Raises:
      UsageError: the student has other classes.
    """
    logits = jnp.stack([view.teacher.features[f'member{k}/logits'] for k in range(members)], axis=1)
    student = view.student.logits
    if logits.shape != (student.shape[0], members, *student.shape[1:]):
        raise UsageError(f"student logits {student.shape} do not fit the members' logits {logits.shape}")
    return logits
