"""Show, attend and distill: attention decides, per example, which student layers follow each teacher layer."""

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar, Self

import jax
import jax.numpy as jnp
from flax import linen as nn

from kdjax.techniques.algebra import batch_norm, example_mask, flat, pool_to, pooled, unit
from kdjax.techniques.base import Knobs, Paper, apply_module, init_module, number
from kdjax.techniques.layers import CrossLayerTerm
from kdjax.types import Array, TermInputs, TermOut, Tree


class _Linear(nn.Module):
    """A linear layer and batch normalisation over the real examples."""

    width: int

    @nn.compact
    def __call__(self, x: Array, mask_B: Array) -> Array:
        x = nn.Dense(self.width)(x)
        return batch_norm(x, mask_B)


class _Attention(nn.Module):
    """Shares of the student layers for each teacher layer, (B, T, S), from pooled channels."""

    width: int

    @nn.compact
    def __call__(self, students: Sequence[Array], teachers: Sequence[Array], mask_B: Array) -> Array:
        query_BTD = jnp.stack(
            [_Linear(self.width, name=f'query{t}')(pooled(x), mask_B) for t, x in enumerate(teachers)], axis=1
        )
        key_BSD = jnp.stack(
            [nn.relu(_Linear(self.width, name=f'key{s}')(pooled(x), mask_B)) for s, x in enumerate(students)], axis=1
        )
        turned = _Linear(self.width * len(teachers), name='bilinear')(key_BSD, mask_B)
        turned_BSTD = turned.reshape(*key_BSD.shape[:2], len(teachers), self.width)
        init = nn.initializers.xavier_normal()
        position_TD = self.param('teacher_position', init, (len(teachers), self.width), jnp.float32)
        position_SD = self.param('student_position', init, (len(students), self.width), jnp.float32)
        scores = jnp.einsum('bstd,btd->bts', turned_BSTD, query_BTD) + position_TD @ position_SD.T
        return jax.nn.softmax(scores / math.sqrt(self.width), axis=-1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttentionLinks(CrossLayerTerm):
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

    width: int = number(128, minimum=1)

    def init(self, key: Array, inputs: TermInputs) -> tuple[Tree, Tree]:
        return init_module(_Attention(self.width), key, *self.maps(inputs), example_mask(inputs)), {}

    def __call__(
        self, params: Tree, memory: Tree, inputs: TermInputs, knobs: Knobs, *, step: Array, key: Array
    ) -> TermOut:
        students, teachers = self.maps(inputs)
        attention_BTS = apply_module(_Attention(self.width), params, students, teachers, example_mask(inputs))
        distances_BTS = jnp.stack([jnp.stack([_distance(s, t) for s in students], -1) for t in teachers], 1)
        return TermOut(jnp.sum(attention_BTS * distances_BTS, axis=(1, 2)), memory, {})

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(students=('stage1', 'stage2'), teachers=('stage1', 'stage2', 'map'), width=3)]


def _distance(student: Array, teacher: Array) -> Array:
    """Mean over positions of the squared difference of the two energies. (B,)"""
    energy_s, energy_t = (jnp.mean(jnp.square(x), axis=-1, keepdims=True) for x in (student, teacher))
    guess = unit(flat(pool_to(energy_s, *teacher.shape[1:3])))
    return jnp.mean(jnp.square(guess - unit(flat(energy_t))), axis=1)
