"""Patient knowledge distillation: the class token of several student layers follows the teacher's."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import jax.numpy as jnp

from kdjax.techniques.algebra import unit
from kdjax.techniques.base import Knobs, Paper
from kdjax.techniques.tokens import ProjectedTokens
from kdjax.types import Array, TermInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class PatientTeacher(ProjectedTokens):
    """|| h^s / ||h^s|| - h^t / ||h^t|| ||^2 of the class token, summed over layers (L_PT, sec. 3.2). Values: (B,).

    The class token is position 0. PKD-skip and PKD-last are `tokens.layer_map('skip' | 'last', ...)` without its last
    pair, which the paper leaves to the logits. A state counts as at least 1e-6 long.

    Attributes:
      layers: pairs of tokens (B, N, D), or vectors (B, D) of class tokens, 'tap' or 'student_tap:teacher_tap'.
      projection: whether each layer learns a matrix to the teacher's width; the paper's widths are equal.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Sun, Cheng, Gan, Liu',
        'Patient Knowledge Distillation for BERT Model Compression',
        'EMNLP',
        2019,
        '1908.09355',
    )

    def states(self, feature: Array, inputs: TermInputs) -> Array:
        states = super().states(feature, inputs)
        return states[:, 0] if states.ndim == 3 else states

    def distance(self, student: Array, teacher: Array, inputs: TermInputs, knobs: Knobs) -> Array:
        return jnp.sum(jnp.square(unit(student, floor=1e-6) - unit(teacher, floor=1e-6)), axis=-1)

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(layers=('match',)), cls(projection=True)]
