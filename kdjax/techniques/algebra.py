"""Arithmetic that several papers share. Softmax arithmetic is at least float32; nothing here divides by zero."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from kdjax.names import UsageError, unknown
from kdjax.types import Array, Tree, View


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


def real(view: View, ndim: int) -> Array:
    """True where the mask has no padding, shaped to broadcast against (B, ...) or (B, N, ...) of `ndim` axes."""
    mask = view.batch['mask']
    mask = mask if mask.ndim <= ndim else example_mask(view)
    return mask.reshape(mask.shape + (1,) * (ndim - mask.ndim)) > 0


def real_logits(logits: Array, view: View) -> Array:
    """`logits` (B, K) or (B, N, K), 0 where there is padding: nothing there, not even nan, reaches a gradient."""
    tokens = real(view, logits.ndim - 1)
    return jnp.where(tokens[..., None], wide(logits), 0)


def log_probabilities(view: View, temperature: Array | float) -> tuple[Array, Array]:
    """Of the teacher, then of the student: log softmax(z / T), both (..., K) and uniform where there is padding.

    Raises:
      UsageError: the logits have two shapes, or there is no teacher.
    """
    student, teacher = (real_logits(logits, view) for logits in same_classes(view))
    return log_softmax(teacher, temperature), log_softmax(student, temperature)


def top_classes(view: View, keep: int = 0, temperature: Array | float = 1.0) -> tuple[Array, Array]:
    """The teacher's most probable classes and their log-probabilities, both (..., k); class 0, 0 at padding.

    Args:
      view: its teacher has the taps 'top_ids' and 'top_log_probs', unless `keep` is given.
      keep: k, where they are to be taken from the teacher's logits at `temperature`.

    Raises:
      UsageError: the taps do not fit the student's logits, or k is more than there are classes.
    """
    leading, classes = view.student.logits.shape[:-1], view.student.logits.shape[-1]
    if keep > classes:
        raise UsageError(f'cannot keep {keep} of {classes} classes')
    if keep:
        log_probs, ids = jax.lax.top_k(log_softmax(real_logits(same_classes(view)[1], view), temperature), keep)
    else:
        ids, log_probs = view.teacher.features['top_ids'], wide(view.teacher.features['top_log_probs'])
    if ids.shape != log_probs.shape or ids.shape[:-1] != leading or ids.shape[-1] > classes:
        raise UsageError(f"taps 'top_ids' {ids.shape} and 'top_log_probs' {log_probs.shape} must both be "
                         f'{leading} + (k,), with k at most {classes}')  # fmt: skip
    tokens = real(view, len(leading))[..., None]
    return jnp.where(tokens, ids, 0), jnp.where(tokens, log_probs, 0)


def two_vocabularies(view: View, matched: Sequence[tuple[int, int]]) -> tuple[Array, Array]:
    """Student and teacher logits over vocabularies of their own, (..., K) and (..., L).

    Args:
      view: both outputs.
      matched: pairs of ids (student, teacher) that are one token.

    Raises:
      UsageError: the logits differ before the last axis, or an id is not in its vocabulary or matched twice.
    """
    student, teacher = view.student.logits, view.teacher.logits
    if teacher is None or student.shape[:-1] != teacher.shape[:-1]:
        raise UsageError(f'student logits {student.shape} and teacher logits {getattr(teacher, "shape", None)} may '
                         'differ in their last axis only: align the tokens first')  # fmt: skip
    for side, logits, ids in zip(('student', 'teacher'), (student, teacher), zip(*matched, strict=True), strict=False):
        wrong = [index for index in ids if not 0 <= index < logits.shape[-1] or ids.count(index) > 1]
        if wrong:
            raise UsageError(f'matched ids {wrong} are not in the vocabulary of the {side}, 0 to {logits.shape[-1] - 1}'
                             ', or matched twice')  # fmt: skip
    return student, teacher


def kl_divergence(log_p: Array, log_q: Array) -> Array:
    """KL(p || q) over the last axis. A class that either rules out (log-probability -inf) adds 0."""
    both = (log_p > -jnp.inf) & (log_q > -jnp.inf)
    log_p, log_q = jnp.where(both, log_p, 0), jnp.where(both, log_q, 0)
    return jnp.sum(jnp.where(both, jnp.exp(log_p) * (log_p - log_q), 0), axis=-1)


def cross_entropy(log_p: Array, log_q: Array) -> Array:
    """H(p, q) over the last axis. A class that q rules out (log-probability -inf) adds 0."""
    allowed = log_q > -jnp.inf
    return -jnp.sum(jnp.where(allowed, jnp.exp(log_p) * jnp.where(allowed, log_q, 0), 0), axis=-1)


def mixture(log_p: Array, log_q: Array, share: Array | float) -> Array:
    """log(share p + (1 - share) q), for 0 < share < 1."""
    ruled_out = (log_p == -jnp.inf) & (log_q == -jnp.inf)
    log_p, log_q = jnp.where(ruled_out, 0, log_p), jnp.where(ruled_out, 0, log_q)
    return jnp.where(ruled_out, -jnp.inf, jnp.logaddexp(log_p + jnp.log(share), log_q + jnp.log1p(-share)))


def jensen_shannon(log_p: Array, log_q: Array, share: Array | float) -> Array:
    """share KL(p || m) + (1 - share) KL(q || m), m = share p + (1 - share) q, over the last axis; 0 < share < 1."""
    mixed = mixture(log_p, log_q, share)
    return share * kl_divergence(log_p, mixed) + (1 - share) * kl_divergence(log_q, mixed)


def total_variation(log_p: Array, log_q: Array) -> Array:
    """1/2 sum |p - q| over the last axis."""
    return 0.5 * jnp.sum(magnitude(jnp.exp(log_p) - jnp.exp(log_q)), axis=-1)


def rivals(logits: Array, labels: Array) -> Array:
    """Logits (..., K) with -inf in the place of the label's, so that a softmax is over the other classes only.

    Raises:
      UsageError: logits without one label (...) each, or of fewer than two classes.
    """
    if labels.shape != logits.shape[:-1]:
        raise UsageError(f'labels {labels.shape} do not fit logits {logits.shape}')
    if logits.shape[-1] < 2:
        raise UsageError(f'logits {logits.shape} have no class besides the label; at least 2 classes are needed')
    return jnp.where(jax.nn.one_hot(labels, logits.shape[-1], dtype=bool), -jnp.inf, wide(logits))


def standardized(logits: Array, added: float = 1e-7) -> Array:
    """Logits less their mean, over their standard deviation (of K - 1 degrees of freedom) plus `added`.

    A class that is ruled out (logit -inf) stays so and does not count.

    Raises:
      UsageError: fewer than two classes.
    """
    if logits.shape[-1] < 2:
        raise UsageError(f'logits {logits.shape} have no standard deviation; at least 2 classes are needed')
    logits = wide(logits)
    possible = logits > -jnp.inf
    count = jnp.sum(possible, axis=-1, keepdims=True).astype(logits.dtype)
    known = jnp.where(possible, logits, 0)
    centred = jnp.where(possible, known - jnp.sum(known, axis=-1, keepdims=True) / jnp.maximum(count, 1), 0)
    deviation = norm(centred) / jnp.sqrt(jnp.maximum(count - 1, 1))
    return jnp.where(possible, centred / (deviation + added), -jnp.inf)


def decorrelation(
    left: Array, right: Array, axis: int = -1, mask: Array | float = 1.0, added: float = 0.0, floor: float = 1e-8
) -> Array:
    """1 - Pearson's correlation along an axis, over the entries where `mask` is not 0; 1 where one side is constant.

    For the correlation, deviations are divided by the product of their norms plus `added`; or, where that is 0, each by
    its own norm, which counts as at least `floor`. Written as a distance, so that it is 0 where both sides are equal.
    """
    real = jnp.broadcast_to(jnp.asarray(mask) > 0, left.shape)
    left, right = _centred(left, real, axis), _centred(right, real, axis)
    lengths = norm(left, axis).squeeze(axis), norm(right, axis).squeeze(axis)
    if added:
        product = lengths[0] * lengths[1]
        apart = jnp.sum(jnp.square(unit(left, axis) - unit(right, axis)), axis) / 2
        return (product * apart + added) / (product + added)
    units = unit(left, axis, floor), unit(right, axis, floor)
    missing = [
        jnp.where(length < floor, 1 - jnp.sum(jnp.square(x), axis), 0) for length, x in zip(lengths, units, strict=True)
    ]
    return (jnp.sum(jnp.square(units[0] - units[1]), axis) + missing[0] + missing[1]) / 2


def _centred(x: Array, real: Array, axis: int) -> Array:
    count = jnp.maximum(jnp.sum(real, axis=axis, keepdims=True), 1).astype(x.dtype)
    return jnp.where(real, x - jnp.sum(jnp.where(real, x, 0), axis=axis, keepdims=True) / count, 0)


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


def counted(x: Array, mask_B: Array) -> Array:
    """What batch normalisation of `x` (B, ...) counts: the real examples, or all where none is. Shape of `x`."""
    some = jnp.any(mask_B > 0)
    return jnp.broadcast_to(((mask_B > 0) | ~some).reshape(-1, *[1] * (x.ndim - 1)), x.shape)


def same_maps(student: Array, teacher: Array) -> tuple[Array, Array]:
    """Two maps (B, H, W, C) pooled to the smaller height and width, at least float32.

    Raises:
      UsageError: one is no map.
    """
    if student.ndim != 4 or teacher.ndim != 4:
        raise UsageError(f'needs maps (B, H, W, C) on both sides, got {student.shape} and {teacher.shape}')
    return smaller_map(wide(student), wide(teacher))


def real_rows(x: Array, view: View) -> Array:
    """(B, ...) as (B, D), 0 where there is padding: nothing there, not even nan, reaches a gradient."""
    return jnp.where(example_mask(view)[:, None] > 0, flat(x), 0)


def real_pairs(view: View) -> Array:
    """1 for pairs of two different real examples. (B, B)"""
    mask = example_mask(view)
    return mask[:, None] * mask * (1 - jnp.eye(mask.shape[0], dtype=mask.dtype))


def real_count(view: View) -> Array:
    """How many examples are real, at least 1. ()"""
    return jnp.maximum(jnp.sum(example_mask(view)), 1)


def square_distances(x_BD: Array) -> Array:
    """||x_i - x_j||^2 of all pairs, from the centred Gram matrix, never negative. (B, B)"""
    x_BD = x_BD - jnp.mean(x_BD, axis=0)
    square_B = jnp.sum(jnp.square(x_BD), axis=1)
    return jnp.maximum(square_B[:, None] + square_B - 2 * x_BD @ x_BD.T, 0)


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


def real_tokens(view: View, tokens: int) -> Array:
    """True for real tokens of real examples. (B, N)

    Raises:
      UsageError: the mask has another number of tokens.
    """
    mask_BN = token_mask(view, tokens)
    if mask_BN.shape[1] != tokens:
        raise UsageError(f'the mask is of {mask_BN.shape[1]} tokens, the feature has {tokens}')
    return mask_BN > 0


def real_states(x: Array, view: View) -> Array:
    """Tokens (B, N, D) or vectors (B, D), at least float32, and 0 where there is padding: no gradient comes from there.

    Raises:
      UsageError: neither tokens nor vectors, or the mask has another number of tokens.
    """
    if x.ndim not in (2, 3):
        raise UsageError(f'needs tokens (B, N, D) or vectors (B, D), got {x.shape}')
    known = real_tokens(view, x.shape[1]) if x.ndim == 3 else example_mask(view) > 0
    return jnp.where(known[..., None], wide(x), 0)


def over_tokens(values: Array, view: View) -> Array:
    """Of values (B, N) the mean over an example's real tokens (B,); all, 0 at padding, where the mask is per token."""
    if values.ndim == 1:
        return values
    real_BN = real_tokens(view, values.shape[1])
    values_BN = jnp.where(real_BN, values, 0)
    if view.batch['mask'].ndim == 2:
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
