"""The task loss of regression: the square of what is missing to the target."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from kdjax.techniques.algebra import wide
from kdjax.techniques.base import Knobs, Paper, Term
from kdjax.techniques.distributions import known_outputs, over_outputs, targets
from kdjax.types import Array, TermInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeanSquaredError(Term):
    """(z - y)^2, the mean over an example's outputs. Values: (B,), or (B, N) for outputs (B, N, D).

    Labels are numbers (B, D), or (B,) for one output; one that is nan is unknown and does not count. Labels (B,) of
    whole numbers, of several outputs, are classes: the target is 1 for the class and 0 for the others, as in the paper,
    which trains classifiers so. Of examples that are mixed from two, labels are mixed as they are.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Hui, Belkin',
        'Evaluation of Neural Architectures Trained with Square Loss vs Cross-Entropy in Classification Tasks',
        'ICLR',
        2021,
        '2006.07322',
    )
    TEACHER: ClassVar[bool] = False
    LABELS: ClassVar[bool] = True
    TASKS: ClassVar[tuple[str, ...]] = ('regression',)

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        return over_outputs(jnp.square(wide(inputs.student.logits) - targets(inputs)), known_outputs(inputs))
