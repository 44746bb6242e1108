"""Semantic calibration: attention decides, per example, which teacher layers each student layer learns from."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import jax
import jax.numpy as jnp
from flax import linen as nn

from kdjax.cpu.convolution import Conv
from kdjax.errors import UsageError
from kdjax.techniques.algebra import batch_norm, example_mask, flat, per_example, pooled, smaller_map, unit
from kdjax.techniques.base import Knobs, Paper, apply_module, init_module, knob, number
from kdjax.techniques.layers import CrossLayerTerm
from kdjax.types import Array, TermInputs, TermOut, Tree

Sides = Sequence[Sequence[Array]]  # of the student and of the teacher, by layer


class _Embedding(nn.Module):
    """What is known of examples (B, D) as vectors of length 1, by two linear layers with a ReLU between."""

    width: int

    @nn.compact
    def __call__(self, x_BD: Array) -> Array:
        hidden = nn.relu(nn.Dense(2 * self.width)(x_BD))
        return unit(nn.Dense(self.width)(hidden))


class _Projector(nn.Module):
    """Convolutions 1x1, 3x3, 1x1 to the teacher's channels, with batch normalisation and ReLU between."""

    width: int
    channels: int

    @nn.compact
    def __call__(self, x: Array, mask_B: Array) -> Array:
        for size in (1, 3):
            x = Conv(self.width, (size, size), use_bias=False)(x)
            x = nn.relu(batch_norm(x, mask_B))
        return Conv(self.channels, (1, 1), use_bias=False)(x)


class _Calibration(nn.Module):
    """Attention (B, S, T) and distances (B, S, T) between S student and T teacher maps."""

    width: int
    middle: int

    @nn.compact
    def __call__(self, sides: Sides, descriptors: Sides, temperature: Array, mask_B: Array) -> tuple[Array, Array]:
        (students, teachers), (of_students, of_teachers) = sides, descriptors
        queries = jnp.stack([_Embedding(self.width, name=f'query{s}')(x) for s, x in enumerate(of_students)], axis=1)
        keys = jnp.stack([_Embedding(self.width, name=f'key{t}')(x) for t, x in enumerate(of_teachers)], axis=1)
        rows = []
        for s, student in enumerate(students):
            row = []
            for t, teacher in enumerate(teachers):
                source, target = smaller_map(student, teacher)
                module = _Projector(self.middle or 2 * target.shape[-1], target.shape[-1], name=f'projector{s}_{t}')
                row.append(per_example(jnp.square(module(source, mask_B) - target)))
            rows.append(jnp.stack(row, axis=1))
        attention = jax.nn.softmax(queries @ keys.swapaxes(1, 2) / temperature, axis=-1)
        return attention, jnp.stack(rows, axis=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SemanticCalibration(CrossLayerTerm):
    """1/S sum_st a_st mean (P_st(s) - t)^2, with learned attention a of student layer s over teacher layers t.

    Values: (B,). a = softmax_t(q_s . k_t / T), where q and k embed, by form:

    | form   | what of an example's map x_i                               | as in                                     |
    |--------|------------------------------------------------------------|-------------------------------------------|
    | pooled | its pooled channels                                        |                                           |
    | paper  | its similarities <x_i, x_j> to all examples of its batch   | the paper, the authors' code              |

    'paper' makes what is learned depend on the size of the *global* batch, which must then stay as it is; examples come
    in the order of their ids (equal ids: of their views), padding last, so that their order does not matter.

    Attributes:
      students, teachers: taps of maps (B, H, W, C); of a pair, the larger map is average-pooled.
      width: of the embeddings q, k.
      middle: channels in the middle of the projectors P; 0 for twice the teacher's.
      temperature: T; knob, > 0.
      form: which of the above.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Chen, Mei, Zhang, Wang, Feng, Chen',
        'Cross-Layer Distillation with Semantic Calibration',
        'AAAI',
        2021,
        '2012.03236',
    )
    FORMS: ClassVar[tuple[str, ...]] = ('pooled', 'paper')

    middle: int = number(0, minimum=0)
    temperature: float = knob(1.0, above=0.0)
    form: str = 'pooled'

    def init(self, key: Array, inputs: TermInputs) -> tuple[Tree, Tree]:
        one = jnp.ones((), example_mask(inputs).dtype)
        return init_module(self._module(), key, *self._descriptors(inputs), one, example_mask(inputs)), {}

    def __call__(
        self, params: Tree, memory: Tree, inputs: TermInputs, knobs: Knobs, *, step: Array, key: Array
    ) -> TermOut:
        attention, distances = self.calibrated(params, inputs, knobs)
        return TermOut(jnp.sum(attention * distances, axis=(1, 2)) / len(self.students), memory, {})

    def calibrated(self, params: Tree, inputs: TermInputs, knobs: Knobs) -> tuple[Array, Array]:
        """Attention a and distances mean (P_st(s) - t)^2. (B, S, T) each"""
        sides, descriptors = self._descriptors(inputs)
        learned, size = params['query0']['Dense_0']['kernel'].shape[0], descriptors[0][0].shape[1]
        if learned != size:
            raise UsageError(f'form {self.form!r} was made for {learned} examples or channels, and is given {size}')
        mask = example_mask(inputs)
        attention, distances = apply_module(self._module(), params, sides, descriptors, knobs['temperature'], mask)
        return attention, distances

    def _descriptors(self, inputs: TermInputs) -> tuple[Sides, Sides]:
        """Maps of both sides, and what of them is embedded, (B, D) each."""
        sides = self.maps(inputs)
        if self.form == 'pooled':
            return sides, [[pooled(x) for x in side] for side in sides]
        batch = inputs.batch
        order = jnp.lexsort((batch['view'], batch['id'], example_mask(inputs) <= 0))  # real examples first
        return sides, [[(flat(x) @ flat(x).T)[:, order] for x in side] for side in sides]

    def _module(self) -> nn.Module:
        return _Calibration(self.width, self.middle)

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        small = cls(students=('stage1', 'stage2'), teachers=('stage2', 'map'), width=4, middle=2, temperature=0.2)
        return [dataclasses.replace(small, form=form) for form in cls.FORMS]
