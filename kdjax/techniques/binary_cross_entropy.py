"""The task loss of several labels at once: every class is a yes-or-no question of its own."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from kdjax.techniques.base import Knobs, Paper, Term
from kdjax.techniques.distributions import binary_cross_entropy, known_outputs, over_outputs, targets
from kdjax.types import Array, TermInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class BinaryCrossEntropy(Term):
    """-y log s - (1 - y) log (1 - s) of s = sigmoid(z), over the classes of an example. Values: (B,), or (B, N).

    Labels are 1, 0 or between (B, K), or (B, N, K) for logits (B, N, K); one that is negative or nan is unknown and
    does not count. Labels (B,) of whole numbers are classes, of which the others are answered with no. Of examples that
    are mixed from two, labels are mixed as they are.

    Forms: 'mean': over the labels that are known, as PyTorch's but for its mean over those of the whole batch, the same
    where all are known; 'sum': over the classes.

    Attributes:
      form: which of the above.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Nam, Kim, Loza Mencia, Gurevych, Fuernkranz',
        'Large-scale Multi-label Text Classification: Revisiting Neural Networks',
        'ECML PKDD',
        2014,
        '1312.5419',
    )
    FORMS: ClassVar[tuple[str, ...]] = ('mean', 'sum')
    TEACHER: ClassVar[bool] = False
    LABELS: ClassVar[bool] = True
    TASKS: ClassVar[tuple[str, ...]] = ('multilabel',)

    form: str = 'mean'

    def known(self, labels: Array) -> Array:
        return labels >= 0

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        loss = binary_cross_entropy(targets(inputs), inputs.student.logits)
        known = known_outputs(inputs)
        return over_outputs(loss, known) if self.form == 'mean' else jnp.sum(jnp.where(known, loss, 0), axis=-1)
