"""Show, attend and distill: attention decides, per example, which student layers follow each teacher layer."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

import jax
import jax.numpy as jnp
from flax import linen as nn

from kdjax.errors import UsageError
from kdjax.techniques.algebra import counted, example_mask, flat, pool_to, real, unit, wide
from kdjax.techniques.base import Knobs, Paper, Scope, Taps, Term, apply_module, init_module
from kdjax.types import Array, TermInputs, TermOut, Tree


class _Linear(nn.Module):
    """A linear layer and batch normalisation over the real examples."""

    width: int

    @nn.compact
    def __call__(self, x: Array, mask_B: Array) -> Array:
        x = nn.Dense(self.width)(x)
        return nn.BatchNorm(use_running_average=False, momentum=0.9)(x, mask=counted(x, mask_B))


class _Attention(nn.Module):
    """Shares of the student layers for each teacher layer, (B, T, S), from pooled channels."""

    width: int

    @nn.compact
    def __call__(self, students: Sequence[Array], teachers: Sequence[Array], mask_B: Array) -> Array:
        query_BTD = jnp.stack(
            [_Linear(self.width, name=f'query{t}')(_pooled(x), mask_B) for t, x in enumerate(teachers)], axis=1
        )
        key_BSD = jnp.stack(
            [nn.relu(_Linear(self.width, name=f'key{s}')(_pooled(x), mask_B)) for s, x in enumerate(students)], axis=1
        )
        turned = _Linear(self.width * len(teachers), name='bilinear')(key_BSD, mask_B)
        turned_BSTD = turned.reshape(*key_BSD.shape[:2], len(teachers), self.width)
        init = nn.initializers.xavier_normal()
        position_TD = self.param('teacher_position', init, (len(teachers), self.width), jnp.float32)
        position_SD = self.param('student_position', init, (len(students), self.width), jnp.float32)
        scores = jnp.einsum('bstd,btd->bts', turned_BSTD, query_BTD) + position_TD @ position_SD.T
        return jax.nn.softmax(scores / math.sqrt(self.width), axis=-1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttentionLinks(Term):
    """sum_t sum_s a_ts mean (h_s - h_t)^2 over positions, with learned attention a of t over student layers s.

    Values: (B,). h is the mean over channels of f^2, of the student average-pooled to the teacher's map, at length 1.
    a_t = softmax_s((q_t W_t k_s + p_t . p_s) / sqrt(D)), with q, k from pooled channels and learned positions p.

    Attributes:
      students, teachers: taps of maps (B, H, W, C).
      width: D.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Ji, Heo, Park',
        'Show, Attend and Distill: Knowledge Distillation via Attention-based Feature Matching',
        'AAAI',
        2021,
        '2102.02973',
    )
    scope: ClassVar[Scope] = 'batch'

    students: tuple[str, ...] = ('stage1', 'stage2')
    teachers: tuple[str, ...] = ('stage1', 'stage2')
    width: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.students or not self.teachers:
            raise UsageError(f'AttentionLinks needs taps on both sides, got {self.students} and {self.teachers}')
        if not isinstance(self.width, int) or self.width < 1:
            raise UsageError(f'width of AttentionLinks must be a positive integer, got {self.width!r}')

    def taps(self) -> Taps:
        return Taps(self.students, self.teachers)

    def init(self, key: Array, inputs: TermInputs) -> tuple[Tree, Tree]:
        return init_module(_Attention(self.width), key, *self._read(inputs), example_mask(inputs)), {}

    def __call__(
        self, params: Tree, memory: Tree, inputs: TermInputs, knobs: Knobs, *, step: Array, key: Array
    ) -> TermOut:
        students, teachers = self._read(inputs)
        attention_BTS = apply_module(_Attention(self.width), params, students, teachers, example_mask(inputs))
        distances_BTS = jnp.stack([jnp.stack([_distance(s, t) for s in students], -1) for t in teachers], 1)
        return TermOut(jnp.sum(attention_BTS * distances_BTS, axis=(1, 2)), memory, {})

    def _read(self, inputs: TermInputs) -> tuple[list[Array], list[Array]]:
        return _maps(inputs.student.features, self.students, inputs), _maps(
            inputs.teacher.features, self.teachers, inputs
        )

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(students=('stage1', 'stage2'), teachers=('stage1', 'stage2', 'map'), width=3)]


def _maps(features: Mapping[str, Array], taps: Sequence[str], inputs: TermInputs) -> list[Array]:
    """Maps, 0 where there is padding: not even an overflow there reaches a gradient."""
    for tap in taps:
        if features[tap].ndim != 4:
            raise UsageError(f'tap {tap!r} must be a map (B, H, W, C), got {features[tap].shape}')
    return [jnp.where(real(inputs, 4), wide(features[tap]), 0) for tap in taps]


def _pooled(x: Array) -> Array:
    return jnp.mean(x, axis=(1, 2))


def _distance(student: Array, teacher: Array) -> Array:
    """Mean over positions of the squared difference of the two energies. (B,)"""
    energy_s, energy_t = (jnp.mean(jnp.square(x), axis=-1, keepdims=True) for x in (student, teacher))
    guess = unit(flat(pool_to(energy_s, *teacher.shape[1:3])))
    return jnp.mean(jnp.square(guess - unit(flat(energy_t))), axis=1)
