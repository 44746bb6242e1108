"""Spherical distillation: the logits of both sides are put on one sphere, so that confidence is not transferred."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from kdjax.errors import UsageError
from kdjax.techniques.algebra import same_classes, wide
from kdjax.techniques.base import AtTeacher, Knobs, Paper, Term, knob
from kdjax.techniques.distributions import divergence
from kdjax.types import Array, TermInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class SphericalTargets(Term):
    """T^2 KL(softmax(s(z_t) / T) || softmax(s(z_s) / T)), s(z) = r c / |c| for c = z - mean z.

    Every row gets the standard deviation r / sqrt(K) = `multiplier`; also PaddleClas' SKD. Values: (B,), or (B, N) for
    logits (B, N, K). The authors' code takes the hard labels' cross-entropy of s(z_s) too.

    Attributes:
      multiplier: the standard deviation; knob, > 0.
      temperature: T; knob, > 0.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Guo, Chen, Hu, Zhu, He, Cai',
        'Reducing the Teacher-Student Gap via Spherical Knowledge Disitllation',
        'arXiv',
        2020,
        '2010.07485',
    )
    at_teacher: ClassVar[AtTeacher] = 'zero'

    multiplier: float = knob(2.0, above=0.0)
    temperature: float = knob(4.0, above=0.0)

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        student, teacher = (knobs['multiplier'] * _normalized(logits) for logits in same_classes(inputs))
        temperature = knobs['temperature']
        return jnp.square(temperature) * divergence(teacher, student, temperature)


def _normalized(logits: Array) -> Array:
    """Rows of mean 0 and variance 1; as in the authors' code, 1e-7 is added to the variance, so that 0 stays 0.

    A class that is ruled out (logit -inf) stays so and does not count.
    """
    if logits.shape[-1] < 2:
        raise UsageError(f'logits {logits.shape} have no direction; at least 2 classes are needed')
    logits = wide(logits)
    possible = logits > -jnp.inf
    known = jnp.where(possible, logits, 0)
    centred = known - jnp.mean(known, axis=-1, keepdims=True, where=possible)
    variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True, where=possible)
    return jnp.where(possible, centred / jnp.sqrt(variance + 1e-7), -jnp.inf)
