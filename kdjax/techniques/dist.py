"""DIST: predictions correlate with the teacher's, within an example and, of each class, between examples."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from kdjax.techniques.algebra import same_classes, wide
from kdjax.techniques.base import AtTeacher, Knobs, Paper, Scope, Term, knob
from kdjax.techniques.distributions import decorrelation
from kdjax.types import Array, TermInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class Correlations(Term):
    """beta (1 - rho of an example's classes) + gamma (1 - mean over classes of rho between examples) (sec. 4).

    rho is Pearson's correlation of softmax(z / T) of student and teacher. Values: (B,), or (B, N) for logits (B, N, K),
    where each token is a row as an example is. The second part is of the real rows of the *global* batch, and the same
    for each of them.

    | form         | factor | a constant row counts as                      | as in                          |
    |--------------|--------|-----------------------------------------------|--------------------------------|
    | code         | T^2    | uncorrelated, by 1e-8 added to |a| |b|        | DIST_KD, mmrazor, OFAKD        |
    | torchdistill | T^2    | uncorrelated, by |a| and |b| of at least 1e-8 | torchdistill                   |
    | paper        | 1      | as above                                      | the paper's appendix           |

    Attributes:
      beta: weight within examples (inter-class relation); knob, >= 0.
      gamma: weight between examples (intra-class relation); knob, >= 0.
      temperature: T; knob, > 0.
      form: which of the above.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Huang, You, Wang, Qian, Xu', 'Knowledge Distillation from A Stronger Teacher', 'NeurIPS', 2022, '2205.10536'
    )
    FORMS: ClassVar[tuple[str, ...]] = ('code', 'torchdistill', 'paper')
    scope: ClassVar[Scope] = 'batch'

    beta: float = knob(1.0, minimum=0.0)
    gamma: float = knob(1.0, minimum=0.0)
    temperature: float = knob(1.0, above=0.0)
    form: str = 'code'

    @property
    def at_teacher(self) -> AtTeacher:
        # What 'code' adds to the product of norms keeps a correlation with itself a little below 1.
        return 'free' if self.form == 'code' else 'zero'

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        student, teacher = (_rows(logits, knobs['temperature']) for logits in same_classes(inputs))
        shape, mask = inputs.student.logits.shape[:-1], inputs.batch['mask']
        mask_R1 = jnp.broadcast_to(mask.reshape(mask.shape + (1,) * (len(shape) - mask.ndim)), shape).reshape(-1, 1)
        added = 1e-8 if self.form == 'code' else 0.0
        within_R = decorrelation(student, teacher, 1, mask_R1, added)
        between_K = decorrelation(student, teacher, 0, mask_R1, added)
        values_R = knobs['beta'] * within_R + knobs['gamma'] * jnp.mean(between_K)
        factor = 1.0 if self.form == 'paper' else jnp.square(knobs['temperature'])
        return (factor * values_R).reshape(shape)


def _rows(logits: Array, temperature: Array) -> Array:
    """Probabilities, a row per example or token."""
    return jax.nn.softmax(wide(logits) / temperature, axis=-1).reshape(-1, logits.shape[-1])
