"""Binary soft targets: every class is a yes-or-no question of its own."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from kdjax.techniques.algebra import same_classes, wide
from kdjax.techniques.base import AtTeacher, Knobs, Paper, Term
from kdjax.techniques.distributions import binary_cross_entropy
from kdjax.types import Array, TermInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class BinaryTargets(Term):
    """Mean over classes of the binary divergence of the student from the teacher. Values: (B,), or (B, N).

    Used where the labels are learned by binary cross-entropy too ('BKL'). With s = sigmoid(z_s):

    | form  | value of a class                     | the teacher's t | as in |
    |-------|--------------------------------------|-----------------|-------|
    | ofakd | -t log s - (1 - t) log (1 - s)       | softmax(z_t)    | OFAKD |
    | kl    | the same less its minimum, a true KL | sigmoid(z_t)    |       |

    Attributes:
      form: which of the above.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Hao, Guo, Han, Hu, Xu, Wang',
        'Revisit the Power of Vanilla Knowledge Distillation: from Small Scale to Large Scale',
        'NeurIPS',
        2023,
        '2305.15781',
    )
    FORMS: ClassVar[tuple[str, ...]] = ('ofakd', 'kl')
    TASKS: ClassVar[tuple[str, ...]] = ('classification', 'multilabel')

    form: str = 'ofakd'

    @property
    def at_teacher(self) -> AtTeacher:
        return 'zero' if self.form == 'kl' else 'free'

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        student, teacher = map(wide, same_classes(inputs))
        share = jax.nn.softmax(teacher, axis=-1) if self.form == 'ofakd' else jax.nn.sigmoid(teacher)
        values = binary_cross_entropy(share, student)
        if self.form == 'kl':
            values = values - binary_cross_entropy(share, teacher)
        return jnp.mean(values, axis=-1)
