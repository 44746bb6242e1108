"""What terms of class distributions share: a class that is ruled out (logit -inf) stays finite."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from kdjax.errors import UsageError
from kdjax.techniques.algebra import log_softmax, magnitude, norm, real, same_classes, unit, wide
from kdjax.techniques.base import Taps, Term, number
from kdjax.types import Array, TermInputs


def soft_cross_entropy(teacher: Array, student: Array, temperature: Array | float = 1.0) -> Array:
    """H(p^t_T, p^s_T) of logits over the last axis, without T^2."""
    return cross_entropy(log_softmax(teacher, temperature), log_softmax(student, temperature))


def divergence(teacher: Array, student: Array, temperature: Array | float = 1.0) -> Array:
    """KL(p^t_T || p^s_T) of logits over the last axis, without T^2."""
    return kl_divergence(log_softmax(teacher, temperature), log_softmax(student, temperature))


def label_loss(logits: Array, labels: Array) -> Array:
    """-log p_y, one per label.

    Raises:
      UsageError: logits (..., K) without one label (...) each.
    """
    if labels.shape != logits.shape[:-1]:
        raise UsageError(f'labels {labels.shape} do not fit logits {logits.shape}')
    return -jnp.take_along_axis(log_softmax(logits), labels[..., None], axis=-1)[..., 0]


def binary_cross_entropy(yes: Array, logits: Array) -> Array:
    """-y log s - (1 - y) log (1 - s), s = sigmoid(z), of the probability y of a yes, element by element.

    A class that is ruled out (logit -inf) is as improbable as can be written without 0 * inf.
    """
    logits = jnp.clip(wide(logits), -1e30, 1e30)
    return -yes * jax.nn.log_sigmoid(logits) - (1 - yes) * jax.nn.log_sigmoid(-logits)


def targets(inputs: TermInputs) -> Array:
    """What the labels ask of each of the student's outputs. (..., K)

    Labels (..., K) are that, and so are labels (...) of one output; labels (...) of whole numbers are classes, of which
    1 is asked, and 0 of the others. Of examples mixed from two, it is the mean by their shares.

    Raises:
      UsageError: labels that do not fit the outputs.
    """
    outputs = wide(inputs.student.logits)
    if 'mix' not in inputs.batch:
        return _targets(inputs.batch['labels'], outputs)
    labels, shares = (jnp.moveaxis(inputs.batch[name], -1, 0) for name in ('labels_mixed', 'mix'))
    both = [
        share.reshape(share.shape + (1,) * (outputs.ndim - share.ndim)).astype(outputs.dtype) * _targets(one, outputs)
        for one, share in zip(labels, shares, strict=True)
    ]
    return both[0] + both[1]


def _targets(labels: Array, outputs: Array) -> Array:
    if labels.shape == outputs.shape:
        return labels.astype(outputs.dtype)
    if labels.shape == outputs.shape[:-1] and outputs.shape[-1] == 1:
        return labels[..., None].astype(outputs.dtype)
    if labels.shape == outputs.shape[:-1] and jnp.issubdtype(labels.dtype, jnp.integer):
        return jax.nn.one_hot(labels, outputs.shape[-1], dtype=outputs.dtype)
    raise UsageError(f'labels {labels.shape} of {labels.dtype} do not fit outputs {outputs.shape}')


def known_outputs(inputs: TermInputs) -> Array:
    """True for those of the student's outputs whose label is known, of real examples. (..., K)"""
    mask, shape = inputs.batch['mask'], inputs.student.logits.shape
    return jnp.broadcast_to(mask.reshape(mask.shape + (1,) * (len(shape) - mask.ndim)), shape) > 0


def over_outputs(values: Array, known: Array) -> Array:
    """Of values (..., K) the mean over those that are known. (...)"""
    count = jnp.maximum(jnp.sum(known, axis=-1), 1).astype(values.dtype)
    return jnp.sum(jnp.where(known, values, 0), axis=-1) / count


def member_logits(inputs: TermInputs, members: int) -> Array:
    """Logits of the members of a teacher, from its taps 'member0/logits', ... (B, M, K).

    Raises:
      UsageError: the student has other classes.
    """
    logits = jnp.stack([inputs.teacher.features[tap] for tap in member_taps('logits', members)], axis=1)
    student = inputs.student.logits
    if logits.shape != (student.shape[0], members, *student.shape[1:]):
        raise UsageError(f"student logits {student.shape} do not fit the members' logits {logits.shape}")
    return logits


def member_taps(tap: str, members: int) -> tuple[str, ...]:
    """A tap of every member of a teacher."""
    return tuple(f'member{k}/{tap}' for k in range(members))


@dataclasses.dataclass(frozen=True, kw_only=True)
class EnsembleTerm(Term):
    """A term of a teacher that is an ensemble, of whose members it reads the logits.

    Attributes:
      members: teachers in the ensemble.
    """

    members: int = number(2, minimum=2)

    def taps(self) -> Taps:
        return Taps(teacher=member_taps('logits', self.members))


def real_logits(logits: Array, inputs: TermInputs) -> Array:
    """`logits` (B, K) or (B, N, K), 0 where there is padding: nothing there, not even nan, reaches a gradient."""
    tokens = real(inputs, logits.ndim - 1)
    return jnp.where(tokens[..., None], wide(logits), 0)


def log_probabilities(inputs: TermInputs, temperature: Array | float) -> tuple[Array, Array]:
    """Of the teacher, then of the student: log softmax(z / T), both (..., K) and uniform where there is padding.

    Raises:
      UsageError: the logits have two shapes, or there is no teacher.
    """
    student, teacher = (real_logits(logits, inputs) for logits in same_classes(inputs))
    return log_softmax(teacher, temperature), log_softmax(student, temperature)


def top_classes(inputs: TermInputs, keep: int = 0, temperature: Array | float = 1.0) -> tuple[Array, Array]:
    """The teacher's most probable classes and their log-probabilities, both (..., k); class 0, 0 at padding.

    Args:
      inputs: their teacher has the taps 'top_ids' and 'top_log_probs', unless `keep` is given.
      keep: k, where they are to be taken from the teacher's logits at `temperature`.

    Raises:
      UsageError: the taps do not fit the student's logits, or k is more than there are classes.
    """
    leading, classes = inputs.student.logits.shape[:-1], inputs.student.logits.shape[-1]
    if keep > classes:
        raise UsageError(f'cannot keep {keep} of {classes} classes')
    if keep:
        log_probs, ids = jax.lax.top_k(log_softmax(real_logits(same_classes(inputs)[1], inputs), temperature), keep)
    else:
        ids, log_probs = inputs.teacher.features['top_ids'], wide(inputs.teacher.features['top_log_probs'])
    if ids.shape != log_probs.shape or ids.shape[:-1] != leading or ids.shape[-1] > classes:
        raise UsageError(f"taps 'top_ids' {ids.shape} and 'top_log_probs' {log_probs.shape} must both be "
                         f'{leading} + (k,), with k at most {classes}')  # fmt: skip
    tokens = real(inputs, len(leading))[..., None]
    return jnp.where(tokens, ids, 0), jnp.where(tokens, log_probs, 0)


def two_vocabularies(inputs: TermInputs, matched: Sequence[tuple[int, int]]) -> tuple[Array, Array]:
    """Student and teacher logits over vocabularies of their own, (..., K) and (..., L).

    Args:
      inputs: both outputs.
      matched: pairs of ids (student, teacher) that are one token.

    Raises:
      UsageError: the logits differ before the last axis, or an id is not in its vocabulary or matched twice.
    """
    student, teacher = inputs.student.logits, inputs.teacher.logits
    if teacher is None or student.shape[:-1] != teacher.shape[:-1]:
        raise UsageError(f'student logits {student.shape} and teacher logits {getattr(teacher, "shape", None)} may '
                         'differ in their last axis only: align the tokens first')  # fmt: skip
    for side, logits, ids in zip(('student', 'teacher'), (student, teacher), zip(*matched, strict=True), strict=False):
        wrong = [index for index in ids if not 0 <= index < logits.shape[-1] or ids.count(index) > 1]
        if wrong:
            raise UsageError(f'matched ids {wrong} are not in the vocabulary of the {side}, 0 to {logits.shape[-1] - 1}'
                             ', or matched twice')  # fmt: skip
    return student, teacher


def where_aligned(values: Array, inputs: TermInputs) -> Array:
    """Values (B, N), 0 where a teacher of other words has not read just as much: batch['aligned'] (B, N) is -1."""
    places = inputs.batch.get('aligned')
    return values if places is None else jnp.where(places >= 0, values, 0)


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
