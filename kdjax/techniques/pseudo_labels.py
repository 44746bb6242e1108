"""Pseudo-labels: the class that the teacher finds most probable is taken for the label."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import jax.numpy as jnp

from kdjax.techniques.algebra import log_softmax, same_classes
from kdjax.techniques.base import Knobs, Paper, Term, knob
from kdjax.techniques.distributions import label_loss
from kdjax.types import Array, TermInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class PseudoLabels(Term):
    """-log p^s_c, c = argmax z_t (eq. 14). Values: (B,), or (B, N) for logits (B, N, K).

    Examples of which the teacher is less sure than a threshold, max p^t < threshold, count 0 and remain in the mean
    (Sohn et al., 2020, eq. 4); at threshold 0 all count. Forms: 'paper' is the above; 'weighted': times max p^t.

    Attributes:
      threshold: in [0, 1]; knob.
      form: which of the above.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Lee',
        'Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method for Deep Neural Networks',
        'ICML Workshop on Challenges in Representation Learning',
        2013,
    )
    FORMS: ClassVar[tuple[str, ...]] = ('paper', 'weighted')

    threshold: float = knob(0.0, minimum=0.0, maximum=1.0)
    form: str = 'paper'

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        student, teacher = same_classes(inputs)
        sure = jnp.exp(jnp.max(log_softmax(teacher), axis=-1))
        values = label_loss(student, jnp.argmax(teacher, axis=-1))
        values = jnp.where(sure >= knobs['threshold'], values, 0)
        return values * sure if self.form == 'weighted' else values

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        # Low enough that every example counts, and high enough that a turn of it drops one.
        return [cls(form=form, threshold=0.25) for form in cls.FORMS]
