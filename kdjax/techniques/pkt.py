"""Probabilistic transfer: the student's features give an example the same likely neighbours as the teacher's."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from kdjax.errors import UsageError
from kdjax.techniques.algebra import example_mask, norm, real_count, real_pairs, real_rows
from kdjax.techniques.base import AtTeacher, Knobs, Paper, Scope, Taps, Term, number
from kdjax.techniques.layers import paired, paired_features
from kdjax.types import Array, TermInputs

PAPER = Paper(
    'Passalis, Tefas', 'Learning Deep Representations with Probabilistic Knowledge Transfer', 'ECCV', 2018, '1803.10837'
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Neighbours(Term):
    PAPER: ClassVar[Paper] = PAPER
    FORMS: ClassVar[tuple[str, ...]] = ('paper', 'code')
    scope: ClassVar[Scope] = 'batch'

    layer: str = 'penult'
    added: float = number(1e-7, above=0.0)
    form: str = 'code'

    @property
    def minimum(self) -> float:
        return -self.added  # what is added makes it only nearly a divergence

    def _among(self, inputs: TermInputs) -> Array:
        """1 for the pairs (i, j) of real examples that have a probability. (B, B)"""
        if self.form == 'paper':
            return real_pairs(inputs)
        mask = example_mask(inputs)
        return mask[:, None] * mask

    def _probabilities(self, feature: Array, inputs: TermInputs) -> Array:
        rows_BD = real_rows(feature, inputs)
        rows_BD = rows_BD / (norm(rows_BD) + self.added)
        return self._shares((rows_BD @ rows_BD.T + 1) / 2, inputs)

    def _shares(self, kernel_BB: Array, inputs: TermInputs) -> Array:
        """Each row over its sum."""
        kernel_BB = kernel_BB * self._among(inputs).astype(kernel_BB.dtype)
        total = jnp.sum(kernel_BB, axis=1, keepdims=True)
        return kernel_BB / jnp.where(total > 0, total, 1)

    def _divergence(self, target_BB: Array, student_BB: Array, inputs: TermInputs) -> Array:
        rows = jnp.sum(target_BB * jnp.log((target_BB + self.added) / (student_BB + self.added)), axis=1)
        return rows if self.form == 'paper' else rows / real_count(inputs).astype(rows.dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProbabilisticTransfer(_Neighbours):
    """KL(p^t_i || p^s_i), p_ij = K(x_i, x_j) / sum_k K(x_i, x_k) with the kernel (1 + cos) / 2 (sec. 3). Values: (B,).

    Forms: 'paper': over the other examples; 'code': over the n examples of the *global* batch, i itself included, and
    divided by n (the authors' code, RepDistiller, mdistiller, torchdistill, KD-Zoo; weight 30000).

    Attributes:
      layer: features of any shape (B, ...), 'tap' or 'student_tap:teacher_tap'.
      added: what is added to the norms of features and to both probabilities inside the logarithm, > 0.
      form: which of the above.
    """

    OTHER_CLASSES: ClassVar[bool] = True
    at_teacher: ClassVar[AtTeacher] = 'zero'

    def taps(self) -> Taps:
        return paired([self.layer])

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        student_BB, teacher_BB = (self._probabilities(x, inputs) for x in paired_features([self.layer], inputs)[0])
        return self._divergence(teacher_BB, student_BB, inputs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelTransfer(_Neighbours):
    """As `ProbabilisticTransfer`, with labels as teacher: K(i, j) = 1 where they agree, else 0. Values: (B,).

    By form 'paper' an example that is alone in its class has no target and value 0.

    Attributes:
      layer: the student's tap, of any shape (B, ...).
      added: as there.
      form: as there; 'code' is the authors' supervised_loss.
    """

    TEACHER: ClassVar[bool] = False
    LABELS: ClassVar[bool] = True
    TASKS: ClassVar[tuple[str, ...]] = ('classification',)

    def taps(self) -> Taps:
        return Taps((self.layer,))

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        labels = inputs.batch['labels']
        if labels.ndim != 1:
            raise UsageError(f'LabelTransfer needs one label per example, got labels {labels.shape}')
        student_BB = self._probabilities(inputs.student.features[self.layer], inputs)
        agree_BB = self._shares((labels[:, None] == labels).astype(student_BB.dtype), inputs)
        return self._divergence(agree_BB, student_BB, inputs)
