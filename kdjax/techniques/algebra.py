"""Arithmetic that several papers share. Softmax arithmetic is at least float32; nothing here divides by zero."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from kdjax.errors import UsageError
from kdjax.types import Array, TermInputs, Tree


def wide(x: Array) -> Array:
    """`x` in float32, or as it is where it is wider."""
    return x if x.dtype == jnp.float64 else x.astype(jnp.float32)


def log_softmax(logits: Array, temperature: Array | float = 1.0) -> Array:
    """log softmax(logits / temperature) over the last axis."""
    return jax.nn.log_softmax(wide(logits) / temperature, axis=-1)


def same_classes(inputs: TermInputs) -> tuple[Array, Array]:
    """Student and teacher logits, both (..., K).

    Raises:
      UsageError: their shapes differ.
    """
    student, teacher = inputs.student.logits, inputs.teacher.logits
    if teacher is None and 'top_ids' in inputs.teacher.features:
        raise UsageError("reads the teacher's logits, and of this one the most probable classes alone are known: take "
                         'sparse.SparseTargets, or keep all of them (keep=0, bound=0)')  # fmt: skip
    if teacher is None:
        raise UsageError('reads the teacher, but this fit has none')
    if student.shape != teacher.shape:
        raise UsageError(f'student logits {student.shape} and teacher logits {teacher.shape} must have one shape')
    return student, teacher


def example_mask(inputs: TermInputs) -> Array:
    """1 for real examples, 0 for padding; an example with any real token is real. (B,)"""
    mask = inputs.batch['mask']
    return mask if mask.ndim == 1 else jnp.max(mask.reshape(mask.shape[0], -1), axis=1)


def token_mask(inputs: TermInputs, tokens: int) -> Array:
    """1 for real tokens of real examples: batch['token_mask'], or the mask where it is per token. (B, N)"""
    mask = inputs.batch['mask']
    if mask.ndim == 2:
        return mask
    return mask[:, None] * inputs.batch.get('token_mask', jnp.ones((mask.shape[0], tokens), mask.dtype))


def example_keys(key: Array, inputs: TermInputs) -> Array:
    """A random key per example, by its id and view: draws depend neither on its place nor on devices. (B,)"""
    fold = jax.vmap(jax.random.fold_in, (0, 0))
    return fold(fold(jnp.broadcast_to(key, inputs.batch['id'].shape), inputs.batch['id']), inputs.batch['view'])


def total(summands: Sequence[Array]) -> Array:
    """Their sum, in their own dtype; of one, itself.

    Raises:
      UsageError: they are of several shapes.
    """
    if len({summand.shape for summand in summands}) > 1:
        raise UsageError(f'values of {[summand.shape for summand in summands]} cannot be added: per example are those '
                         'of layers that say which of their tokens are real, beside layers that do not')  # fmt: skip
    return sum(summands[1:], summands[0])


def flat(x: Array) -> Array:
    """(B, ...) as (B, D), at least float32."""
    return wide(x).reshape(x.shape[0], -1)


def per_example(x: Array) -> Array:
    """Mean over everything but the batch axis. (B,)"""
    return jnp.mean(x.reshape(x.shape[0], -1), axis=1)


def magnitude(x: Array) -> Array:
    """|x|; its gradient at 0 is 0, where that of `jnp.abs` is 1."""
    return x * jnp.sign(x)


def norm(x: Array, axis: int = -1, order: int = 2) -> Array:
    """The norm (sum |x|^order)^(1/order), Euclidean by default, keeping the axis; its gradient at 0 is 0, not nan."""
    powers = jnp.square(x) if order == 2 else magnitude(x) ** order
    summed = jnp.sum(powers, axis=axis, keepdims=True)
    positive = summed > 0
    some = jnp.where(positive, summed, 1)
    return jnp.where(positive, jnp.sqrt(some) if order == 2 else some ** (1 / order), 0)


def unit(x: Array, axis: int = -1, floor: float = 1e-12) -> Array:
    """`x` over its Euclidean norm, which counts as at least `floor`."""
    return x / jnp.maximum(norm(x, axis), floor)


def pool_to(x: Array, height: int, width: int) -> Array:
    """Average-pools a map (B, H, W, C) to (B, height, width, C); cell borders as in adaptive average pooling."""
    return _pool(_pool(x, 1, height), 2, width)


def _pool(x: Array, axis: int, size: int) -> Array:
    length = x.shape[axis]
    if length % size == 0:  # one reduction, whose gradient is a broadcast
        return jnp.mean(x.reshape(*x.shape[:axis], size, length // size, *x.shape[axis + 1 :]), axis + 1)
    # Cell k averages positions floor(k L / S) ... ceil((k + 1) L / S) - 1.
    cells = [(k * length // size, -(-(k + 1) * length // size)) for k in range(size)]
    means = [jnp.mean(jax.lax.slice_in_dim(x, start, stop, axis=axis), axis, keepdims=True) for start, stop in cells]
    return jnp.concatenate(means, axis)


def smaller_map(left: Array, right: Array) -> tuple[Array, Array]:
    """Two maps (B, H, W, C) pooled to the smaller height and width of each."""
    height, width = min(left.shape[1], right.shape[1]), min(left.shape[2], right.shape[2])
    return pool_to(left, height, width), pool_to(right, height, width)


def pooled(x: Array) -> Array:
    """A map's mean over positions (B, C), at least float32; what is no map as it is."""
    return jnp.mean(wide(x), axis=(1, 2)) if x.ndim == 4 else wide(x)


def real(inputs: TermInputs, ndim: int) -> Array:
    """True where the mask has no padding, shaped to broadcast against (B, ...) or (B, N, ...) of `ndim` axes."""
    mask = inputs.batch['mask']
    mask = mask if mask.ndim <= ndim else example_mask(inputs)
    return mask.reshape(mask.shape + (1,) * (ndim - mask.ndim)) > 0


def projection(key: Array, student: Array, teacher: Array) -> Tree:
    """What `projected` learns: a matrix from the student's channels (last axis) to the teacher's, and a bias."""
    shape = (student.shape[-1], teacher.shape[-1])
    kernel = jax.nn.initializers.lecun_normal()(key, shape, jnp.float32)
    return {'kernel': kernel, 'bias': jnp.zeros(shape[1], jnp.float32)}


def projected(params: Tree, student: Array, teacher: Array) -> Array:
    """A student feature (..., C) in the teacher's channels: a learned 1x1 convolution, or itself without `params`.

    Raises:
      UsageError: the channels differ, and nothing is learned.
    """
    x = wide(student) @ params['kernel'] + params['bias'] if params else wide(student)
    if x.shape[-1] != teacher.shape[-1]:
        raise UsageError(f'features {student.shape} and {teacher.shape} differ in channels; set projected=True')
    return x


def batch_norm(x: Array, mask_B: Array, train: bool = True, **options: Any) -> Array:
    """Batch normalisation of `x` (B, ...) over the real examples, or over all where none is.

    To be called in a compact module, whose layer it becomes. Outside training it goes by running statistics.
    """
    real_B = mask_B > 0
    counted = (real_B | ~jnp.any(real_B)).reshape(-1, *[1] * (x.ndim - 1))
    return nn.BatchNorm(use_running_average=not train, momentum=0.9, **options)(x, mask=counted)


def real_median(x: Array, real: Array) -> Array:
    """The median of the real entries, between the middle two of an even number. ()"""
    ascending, count = jnp.sort(jnp.where(real, x, jnp.inf)), jnp.sum(real)
    return (ascending[jnp.maximum(count - 1, 0) // 2] + ascending[count // 2]) / 2


def same_maps(student: Array, teacher: Array) -> tuple[Array, Array]:
    """Two maps (B, H, W, C) pooled to the smaller height and width, at least float32.

    Raises:
      UsageError: one is no map.
    """
    if student.ndim != 4 or teacher.ndim != 4:
        raise UsageError(f'needs maps (B, H, W, C) on both sides, got {student.shape} and {teacher.shape}')
    return smaller_map(wide(student), wide(teacher))


def real_rows(x: Array, inputs: TermInputs) -> Array:
    """(B, ...) as (B, D), 0 where there is padding: nothing there, not even nan, reaches a gradient."""
    return jnp.where(example_mask(inputs)[:, None] > 0, flat(x), 0)


def real_pairs(inputs: TermInputs) -> Array:
    """1 for pairs of two different real examples. (B, B)"""
    mask = example_mask(inputs)
    return mask[:, None] * mask * (1 - jnp.eye(mask.shape[0], dtype=mask.dtype))


def real_count(inputs: TermInputs) -> Array:
    """How many examples are real, at least 1. ()"""
    return jnp.maximum(jnp.sum(example_mask(inputs)), 1)


def square_distances(x_BD: Array) -> Array:
    """||x_i - x_j||^2 of all pairs, from the centred Gram matrix, never negative. (B, B)"""
    x_BD = x_BD - jnp.mean(x_BD, axis=0)
    square_B = jnp.sum(jnp.square(x_BD), axis=1)
    return jnp.maximum(square_B[:, None] + square_B - 2 * x_BD @ x_BD.T, 0)
