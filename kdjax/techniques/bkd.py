"""Binary soft targets: every class is a yes-or-no question of its own."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from kdjax.techniques.algebra import same_classes, wide
from kdjax.techniques.base import AtTeacher, Knobs, Paper, Term
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

    form: str = 'ofakd'

    @property
    def at_teacher(self) -> AtTeacher:
        return 'zero' if self.form == 'kl' else 'free'

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        student, teacher = (_bounded(wide(logits)) for logits in same_classes(inputs))
        share = jax.nn.softmax(teacher, axis=-1) if self.form == 'ofakd' else jax.nn.sigmoid(teacher)
        values = _binary(share, student)
        if self.form == 'kl':
            values = values - _binary(share, teacher)
        return jnp.mean(values, axis=-1)


def _binary(share: Array, logits: Array) -> Array:
    """Cross-entropy of a yes with probability `share` and a student's logit."""
    return -share * jax.nn.log_sigmoid(logits) - (1 - share) * jax.nn.log_sigmoid(-logits)


def _bounded(logits: Array) -> Array:
    """A class that is ruled out (logit -inf) is as improbable as can be written without 0 * inf."""
    return jnp.clip(logits, -1e30, 1e30)
