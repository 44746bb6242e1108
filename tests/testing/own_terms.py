"""Terms as a user writes them: one that keeps the laws, and one that breaks some."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from kdjax.techniques.algebra import log_softmax, same_classes, wide
from kdjax.techniques.base import Paper, Term, knob

PAPER = Paper('Ba, Caruana', 'Do Deep Nets Really Need to be Deep?', 'NIPS', 2014, '1312.6184')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Squared(Term):
    """s || z_s - z_t ||^2 per example."""

    PAPER: ClassVar[Paper] = PAPER
    at_teacher: ClassVar[str] = 'zero'

    scale: float = knob(0.5, above=0.0)

    def values(self, inputs, knobs):
        student, teacher = same_classes(inputs)
        return knobs['scale'] * jnp.sum(jnp.square(wide(student) - wide(teacher)), axis=-1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Broken(Term):
    """Reads its own knob, averages over padding, and says that it is 0 at the teacher."""

    PAPER: ClassVar[Paper] = PAPER
    at_teacher: ClassVar[str] = 'zero'

    temperature: float = knob(2.0, above=0.0)

    def values(self, inputs, knobs):
        student, teacher = same_classes(inputs)
        entropy = -jnp.sum(jnp.exp(log_softmax(teacher)) * log_softmax(student, self.temperature), axis=-1)
        return jnp.broadcast_to(jnp.mean(entropy), entropy.shape)
