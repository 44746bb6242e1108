"""Similarity-preserving distillation: examples that are alike for the teacher are alike for the student."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from kdjax.techniques.algebra import example_mask, flat, real_count, unit
from kdjax.techniques.base import AtTeacher, Knobs, Paper, Scope
from kdjax.techniques.layers import LayerwiseTerm
from kdjax.types import Array, TermInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimilarityPreserving(LayerwiseTerm):
    """1/b^2 || G_s - G_t ||_F^2, G = F F^T with rows normalised (eq. 2-4), summed over layers. Values: (B,).

    An example's value is its row's sum over b, the number of real examples of the *global* batch, whatever the number
    of devices. Forms: 'paper' (also RepDistiller, mdistiller: L2-normalised rows, weight 3000); 'torchdistill':
    L1-normalised rows.

    Attributes:
      layers: pairs of features of any shape (B, ...), 'tap' or 'student_tap:teacher_tap'.
      form: which of the above.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Tung, Mori', 'Similarity-Preserving Knowledge Distillation', 'ICCV', 2019, '1907.09682'
    )
    FORMS: ClassVar[tuple[str, ...]] = ('paper', 'torchdistill')
    scope: ClassVar[Scope] = 'batch'
    at_teacher: ClassVar[AtTeacher] = 'zero'

    layers: tuple[str, ...] = ('stage2',)
    form: str = 'paper'

    def distance(self, student: Array, teacher: Array, inputs: TermInputs, knobs: Knobs) -> Array:
        mask = example_mask(inputs)
        rows = jnp.sum(jnp.square(self._gram(student, mask) - self._gram(teacher, mask)), axis=1)
        return rows / real_count(inputs).astype(rows.dtype)

    def _gram(self, feature: Array, mask_B: Array) -> Array:
        """Row-normalised similarities between real examples; 0 in the rows and columns of padding. (B, B)"""
        feature_BD = jnp.where(mask_B[:, None] > 0, flat(feature), 0)
        gram_BB = feature_BD @ feature_BD.T
        if self.form == 'paper':
            return unit(gram_BB)
        return gram_BB / jnp.maximum(jnp.sum(jnp.abs(gram_BB), axis=1, keepdims=True), 1e-12)
