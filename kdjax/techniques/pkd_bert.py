"""Patient knowledge distillation: the class token of several student layers follows the teacher's."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import jax
import jax.numpy as jnp
from flax import linen as nn

from kdjax.errors import UsageError
from kdjax.techniques.algebra import unit
from kdjax.techniques.base import AtTeacher, Knobs, Paper, Taps, Term, apply_module, init_module, paired, pairs
from kdjax.techniques.tokens import real_states
from kdjax.types import Array, TermInputs, TermOut, Tree


@dataclasses.dataclass(frozen=True, kw_only=True)
class PatientTeacher(Term):
    """|| h^s / ||h^s|| - h^t / ||h^t|| ||^2 of the class token, summed over layers (L_PT, sec. 3.2). Values: (B,).

    The class token is position 0. PKD-skip and PKD-last are `algebra.layer_map('skip' | 'last', ...)` without its last
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

    layers: tuple[str, ...] = ('hidden1', 'hidden2')
    projection: bool = False

    @property
    def at_teacher(self) -> AtTeacher:
        return 'free' if self.projection else 'zero'

    def taps(self) -> Taps:
        return paired(self.layers)

    def init(self, key: Array, inputs: TermInputs) -> tuple[Tree, Tree]:
        read = [self._read(inputs, *taps) for taps in pairs(self.layers)]
        if not self.projection:
            return {}, {}
        keys = jax.random.split(key, len(read))
        matrices = {
            layer: init_module(_linear(teacher_BD), own, student_BD)
            for layer, own, (student_BD, teacher_BD) in zip(self.layers, keys, read, strict=True)
        }
        return matrices, {}

    def __call__(
        self, params: Tree, memory: Tree, inputs: TermInputs, knobs: Knobs, *, step: Array, key: Array
    ) -> TermOut:
        distances = []
        for layer, taps in zip(self.layers, pairs(self.layers), strict=True):
            student_BD, teacher_BD = self._read(inputs, *taps)
            if self.projection:
                student_BD = apply_module(_linear(teacher_BD), params[layer], student_BD)
            difference_BD = unit(student_BD, floor=1e-6) - unit(teacher_BD, floor=1e-6)
            distances.append(jnp.sum(jnp.square(difference_BD), axis=-1))
        return TermOut(sum(distances[1:], distances[0]), memory, {})

    def _read(self, inputs: TermInputs, student: str, teacher: str) -> tuple[Array, Array]:
        own_BD, other_BD = (
            _class_token(real_states(side.features[tap], inputs))
            for side, tap in ((inputs.student, student), (inputs.teacher, teacher))
        )
        if not self.projection and own_BD.shape != other_BD.shape:
            raise UsageError(
                f'widths of {student!r} ({own_BD.shape[-1]}) and {teacher!r} ({other_BD.shape[-1]}) differ; set '
                'projection=True'
            )
        return own_BD, other_BD

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(layers=('match',)), cls(projection=True)]


def _class_token(states: Array) -> Array:
    return states[:, 0] if states.ndim == 3 else states


def _linear(teacher_BD: Array) -> nn.Module:
    return nn.Dense(teacher_BD.shape[-1], use_bias=False)
