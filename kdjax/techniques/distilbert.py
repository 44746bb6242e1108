"""DistilBERT: hidden states of the student point where the teacher's do."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import jax
import jax.numpy as jnp
from flax import linen as nn

from kdjax.errors import UsageError
from kdjax.techniques.algebra import unit
from kdjax.techniques.base import AtTeacher, Knobs, Paper, Taps, Term, apply_module, init_module, paired, pairs
from kdjax.techniques.tokens import over_tokens, real_states
from kdjax.types import Array, TermInputs, TermOut, Tree


@dataclasses.dataclass(frozen=True, kw_only=True)
class HiddenDirections(Term):
    """1 - cos(h^S, h^T) per token (L_cos, sec. 2), summed over pairs of layers. Values: (B,), or (B, N) per token.

    A state counts as at least 1e-6 long, so that one of zeros has a finite gradient.

    Attributes:
      layers: pairs of tokens (B, N, D) or vectors (B, D), 'tap' or 'student_tap:teacher_tap'; the paper's is the last.
      projection: whether each layer learns a matrix to the teacher's width, as DistillKit may; the paper's widths are
        equal.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Sanh, Debut, Chaumond, Wolf',
        'DistilBERT, a distilled version of BERT: smaller, faster, cheaper and lighter',
        'NeurIPS Workshop on Energy Efficient Machine Learning and Cognitive Computing',
        2019,
        '1910.01108',
    )

    layers: tuple[str, ...] = ('hidden2',)
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
            layer: init_module(_linear(teacher), own, student)
            for layer, own, (student, teacher) in zip(self.layers, keys, read, strict=True)
        }
        return matrices, {}

    def __call__(
        self, params: Tree, memory: Tree, inputs: TermInputs, knobs: Knobs, *, step: Array, key: Array
    ) -> TermOut:
        distances = []
        for layer, taps in zip(self.layers, pairs(self.layers), strict=True):
            student, teacher = self._read(inputs, *taps)
            if self.projection:
                student = apply_module(_linear(teacher), params[layer], student)
            cosine = jnp.sum(unit(student, floor=1e-6) * unit(teacher, floor=1e-6), axis=-1)
            distances.append(over_tokens(1 - cosine, inputs))
        return TermOut(sum(distances[1:], distances[0]), memory, {})

    def _read(self, inputs: TermInputs, student: str, teacher: str) -> tuple[Array, Array]:
        own = real_states(inputs.student.features[student], inputs)
        other = real_states(inputs.teacher.features[teacher], inputs)
        if own.shape[:-1] != other.shape[:-1] or not (self.projection or own.shape == other.shape):
            raise UsageError(
                f'shapes of {student!r} {own.shape} and {teacher!r} {other.shape} do not fit; only their width may '
                f'differ, and that with projection=True, here {self.projection}'
            )
        return own, other

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(layers=('match',)), cls(layers=('hidden1', 'hidden2'), projection=True)]


def _linear(teacher: Array) -> nn.Module:
    return nn.Dense(teacher.shape[-1], use_bias=False)
