"""Sparse soft targets: the teacher's k most probable classes stand for all of them."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Self

import jax
import jax.numpy as jnp

from kdjax.errors import UsageError, unknown
from kdjax.techniques.algebra import log_softmax
from kdjax.techniques.base import AtTeacher, Knobs, Paper, Taps, Term, knob
from kdjax.techniques.distributions import (
    jensen_shannon,
    kl_divergence,
    mixture,
    real_logits,
    top_classes,
    total_variation,
)
from kdjax.types import Array, TermInputs

DIVERGENCES: Mapping[str, Callable[[Array, Array], Array]] = {
    'kl': kl_divergence,
    'jsd': lambda log_p, log_q: jensen_shannon(log_p, log_q, 0.5),
    'tvd': total_variation,
}
ROUNDING = 1e-6  # what k probabilities may miss of 1 because they were stored


@dataclasses.dataclass(frozen=True, kw_only=True)
class SparseTargets(Term):
    """T^2 D(p, q) of a teacher p known by its k most probable classes and a student q. Values: (B,) or (B, N).

    D is KL(p || q), the Jensen-Shannon divergence, or the total variation. What p has elsewhere, its rest r, may be
    anywhere there. Forms (that the first two are biased towards the classes kept is what the paper shows):

    | form        | teacher                                    | student                       | as in             |
    |-------------|--------------------------------------------|-------------------------------|-------------------|
    | zero        | the k, made to sum to 1; 0 elsewhere       | all classes                   | DistillKit ZERO   |
    | renormalise | the k, made to sum to 1                    | the k, made to sum to 1       | MaxText, tunix    |
    | bucket      | the k, and r as one class                  | the k, and all others as one  | DistillKit        |
    | uniform     | the k, and r spread evenly over the others | as spread evenly              |                   |

    DistillKit calls 'bucket' SYMMETRIC_UNIFORM: without a change of temperature the two agree. With one, powers of r as
    of one class and of r as of many differ. Where k is the number of classes all forms are D. With 'zero' and
    'renormalise' the tap may give logits. 'bucket' is at most D of the whole teacher, see `dense_range`.

    Attributes:
      divergence: 'kl', 'jsd', or 'tvd'.
      keep: k, taken from the teacher's logits; 0 where the teacher gives 'top_ids' and 'top_log_probs' (..., k) itself.
      temperature: T of both sides; knob, > 0.
      generation_temperature: the temperature that the teacher's log-probabilities are of; knob, > 0.
      form: which of the above.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Anshumann, Zaidi, Kedia, Ahn, Kwon, Lee, Lee, Lee',
        'Sparse Logit Sampling: Accelerating Knowledge Distillation in LLMs',
        'ACL',
        2025,
        '2503.16870',
    )
    FORMS: ClassVar[tuple[str, ...]] = ('zero', 'renormalise', 'bucket', 'uniform')

    divergence: str = 'kl'
    keep: int = 0
    temperature: float = knob(1.0, above=0.0)
    generation_temperature: float = knob(1.0, above=0.0)
    form: str = 'bucket'

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.divergence not in DIVERGENCES:
            raise unknown('divergence', self.divergence, DIVERGENCES, ' of SparseTargets')
        if self.keep < 0:
            raise UsageError(f'keep of SparseTargets must be a number of classes, or 0 for taps, got {self.keep!r}')

    @property
    def at_teacher(self) -> AtTeacher:
        # With taps there is nothing that a student could equal.
        if not self.keep or self.form == 'zero' or self.temperature != self.generation_temperature:
            return 'free'
        return 'zero'

    def taps(self) -> Taps:
        return Taps() if self.keep else Taps((), ('top_ids', 'top_log_probs'))

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        values = DIVERGENCES[self.divergence](*self._sides(inputs, knobs))
        return values * jnp.square(knobs['temperature'])

    def dense_range(self, inputs: TermInputs, knobs: Knobs) -> tuple[Array, Array]:
        """Between what numbers the value of the whole teacher lies, given the k classes; each (B,) or (B, N).

        Merging classes cannot raise a divergence, so 'bucket' is the lower one. The upper one takes each class outside
        to be as probable for the teacher as it may (at most as the least probable one kept), and for the student as
        little as any there is (KL), or the two to differ by all they have there (the others).

        Raises:
          UsageError: the temperatures differ: what a power makes of the rest depends on more than its sum.
        """
        if self.temperature != self.generation_temperature:
            raise UsageError(f'the range is known only at the temperature that the teacher was asked at, not at '
                             f'{self.temperature:g} after {self.generation_temperature:g}')  # fmt: skip
        bucket = dataclasses.replace(self, form='bucket')
        log_p, log_q = bucket._sides(inputs, knobs)
        squared, low = jnp.square(knobs['temperature']), DIVERGENCES[self.divergence](log_p, log_q)
        ids, top = top_classes(inputs, self.keep, knobs['generation_temperature'])
        if ids.shape[-1] == inputs.student.logits.shape[-1]:
            return squared * low, squared * low
        all_q = log_softmax(real_logits(inputs.student.logits, inputs), knobs['temperature'])
        outside_q = jnp.min(jnp.where(_kept(ids, all_q.shape[-1]), jnp.inf, all_q), axis=-1)
        rest_p, rest_q = log_p[..., -1], log_q[..., -1]
        p, q = jnp.exp(rest_p), jnp.exp(rest_q)
        if self.divergence == 'kl':
            most = jnp.minimum(rest_p, jnp.min(top, axis=-1))
            spread = jnp.where(p > 0, p * (most - outside_q), 0) - kl_divergence(rest_p[..., None], rest_q[..., None])
        elif self.divergence == 'jsd':
            merged = jnp.exp(mixture(rest_p, rest_q, 0.5))
            spread = merged * math.log(2) - DIVERGENCES['jsd'](rest_p[..., None], rest_q[..., None])
        else:
            spread = jnp.minimum(p, q)
        return squared * low, squared * (low + spread)

    def _sides(self, inputs: TermInputs, knobs: Knobs) -> tuple[Array, Array]:
        """Log-probabilities of teacher and student, (..., k), or (..., k + 1) where something is outside."""
        ids, top = top_classes(inputs, self.keep, knobs['generation_temperature'])
        log_q = log_softmax(real_logits(inputs.student.logits, inputs), knobs['temperature'])
        others = log_q.shape[-1] - ids.shape[-1]
        power = knobs['generation_temperature'] / knobs['temperature']
        inside = jnp.take_along_axis(log_q, ids, axis=-1)
        if self.form == 'renormalise' or not others:
            return log_softmax(power * top), _renormalised(inside)
        inside = jnp.concatenate([inside, _outside(log_q, ids)], axis=-1)
        return log_softmax(jnp.concatenate([power * top, self._rest(top, power, others)], axis=-1)), inside

    def _rest(self, top: Array, power: Array, others: int) -> Array:
        """Logarithm of what the teacher has elsewhere at the temperature T, up to normalisation. (..., 1)"""
        if self.form == 'zero':
            return jnp.full_like(top[..., :1], -jnp.inf)
        rest = 1 - jnp.sum(jnp.exp(top), axis=-1, keepdims=True)
        some = rest > ROUNDING
        log_rest = power * jnp.log(jnp.where(some, rest, 1))
        if self.form == 'uniform':
            log_rest = log_rest + (1 - power) * math.log(others)
        return jnp.where(some, log_rest, -jnp.inf)

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        forms = [cls(form=form) for form in cls.FORMS]
        return [*forms, cls(divergence='jsd', form='zero'), cls(divergence='jsd', keep=3), cls(divergence='tvd')]


def _renormalised(log_q: Array) -> Array:
    """Made to sum to 1, unless nothing of it is possible."""
    some = jnp.any(log_q > -jnp.inf, axis=-1, keepdims=True)
    return jnp.where(some, log_softmax(jnp.where(some, log_q, 0)), -jnp.inf)


def _kept(ids: Array, classes: int) -> Array:
    """Whether each of all classes is among `ids`. (..., K)"""
    none = jnp.zeros((*ids.shape[:-1], classes), bool)
    return jnp.put_along_axis(none, ids, True, axis=-1, inplace=False)


def _outside(log_q: Array, ids: Array) -> Array:
    """Log-probability of all classes but `ids` together; -inf where none of them is possible. (..., 1)"""
    outside = jnp.where(_kept(ids, log_q.shape[-1]), -jnp.inf, log_q)
    some = jnp.any(outside > -jnp.inf, axis=-1, keepdims=True)
    return jnp.where(some, jax.nn.logsumexp(jnp.where(some, outside, 0), axis=-1, keepdims=True), -jnp.inf)
