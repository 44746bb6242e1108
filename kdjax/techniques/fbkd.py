"""Feature-based distillation for detectors: attention masks, attention itself, and relations between positions."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp
from flax import linen as nn

from kdjax.cpu.convolution import Conv
from kdjax.techniques.algebra import example_mask, flat, magnitude, norm, total
from kdjax.techniques.base import Knobs, Paper, Scope, apply_module, init_module, knob
from kdjax.techniques.layers import MapTerm
from kdjax.types import Array, TermInputs, TermOut, Tree


class Compared(NamedTuple):
    """What is compared, each as (student, teacher); of the student after its learned adaptation."""

    feature: tuple[Array, Array]  # (B, H, W, C)
    channel: tuple[Array, Array]  # mean over positions, (B, C)
    spatial: tuple[Array, Array]  # mean over channels, (B, H, W, 1)
    relation: tuple[Array, Array]  # (B, H, W, C)


class _Relation(nn.Module):
    """A non-local block: each position plus what it reads from all others, by dot product (eq. 5)."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        positions, width = x.reshape(x.shape[0], -1, x.shape[-1]), max(x.shape[-1] // 2, 1)
        query, key, value = (nn.Dense(width, name=name)(positions) for name in ('query', 'key', 'value'))
        read = (query @ key.swapaxes(1, 2) / positions.shape[1]) @ value
        # Starts near the identity; not at it, where no gradient would pass.
        out = nn.Dense(x.shape[-1], kernel_init=nn.initializers.variance_scaling(0.1, 'fan_in', 'normal'), name='out')
        return x + out(read).reshape(x.shape)


class _Adapter(nn.Module):
    """All that is compared."""

    @nn.compact
    def __call__(self, student: Array, teacher: Array) -> Compared:
        channels = teacher.shape[-1]
        relations = _Relation(name='student_relation')(student), _Relation(name='teacher_relation')(teacher)
        return Compared(
            (Conv(channels, (1, 1), name='feature')(student), teacher),
            (nn.Dense(channels, name='channel')(jnp.mean(student, axis=(1, 2))), jnp.mean(teacher, axis=(1, 2))),
            (
                Conv(1, (3, 3), name='spatial')(jnp.mean(student, axis=-1, keepdims=True)),
                jnp.mean(teacher, axis=-1, keepdims=True),
            ),
            (Conv(channels, (1, 1), name='relation')(relations[0]), relations[1]),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttentionGuided(MapTerm):
    """Four Euclidean distances: masked features, pooled channels, pooled positions, relations. Values: (B,).

    The mask of the features is the mean of student's and teacher's N softmax(mean_c |f| / T) over the N positions, and
    has no gradient. The teacher's relations are learned too. Forms: 'paper': distances of each example; 'code': of the
    whole batch at once, as the authors' code and mmrazor have it, so that the value depends on the batch's size.

    Attributes:
      layer: pair of maps (B, H, W, C), 'tap' or 'student_tap:teacher_tap'; the larger map is average-pooled.
      feature, channel, spatial, relation: weights of the four; knobs, >= 0.
      temperature: T; knob, > 0.
      form: which of the above.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Zhang, Ma',
        'Improve Object Detection with Feature-based Knowledge Distillation: Towards Accurate and Efficient Detectors',
        'ICLR',
        2021,
    )
    FORMS: ClassVar[tuple[str, ...]] = ('paper', 'code')

    feature: float = knob(7e-5, minimum=0.0)
    channel: float = knob(4e-3, minimum=0.0)
    spatial: float = knob(4e-3, minimum=0.0)
    relation: float = knob(7e-5, minimum=0.0)
    temperature: float = knob(0.5, above=0.0)
    form: str = 'paper'

    @property
    def scope(self) -> Scope:
        return 'batch' if self.form == 'code' else 'example'

    def init(self, key: Array, inputs: TermInputs) -> tuple[Tree, Tree]:
        return init_module(_Adapter(), key, *self.features(inputs)), {}

    def __call__(
        self, params: Tree, memory: Tree, inputs: TermInputs, knobs: Knobs, *, step: Array, key: Array
    ) -> TermOut:
        gaps = {name: left - right for name, (left, right) in self.compared(params, inputs)._asdict().items()}
        gaps['feature'] = gaps['feature'] * jnp.sqrt(self.mask(inputs, knobs['temperature']))
        mask = example_mask(inputs)
        values = [knobs[name] * self._distance(gap, mask) for name, gap in gaps.items()]
        return TermOut(total(values), memory, {})

    def compared(self, params: Tree, inputs: TermInputs) -> Compared:
        """The four pairs whose distances count."""
        return Compared(*apply_module(_Adapter(), params, *self.features(inputs)))

    def mask(self, inputs: TermInputs, temperature: Array) -> Array:
        """Weight of each position, of mean 1. (B, H, W, 1)"""
        attentions = [_attention(x, temperature) for x in self.features(inputs)]
        return jax.lax.stop_gradient((attentions[0] + attentions[1]) / 2)

    def _distance(self, gap: Array, mask_B: Array) -> Array:
        if self.form == 'paper':
            return norm(flat(gap))[:, 0]
        real = jnp.where(mask_B[:, None] > 0, flat(gap), 0)
        return jnp.broadcast_to(norm(real.reshape(-1)), mask_B.shape)

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        # Weights of one size: what hardly counts cannot be told from what is lost.
        return [
            cls(form=form, layer='map', feature=1.0, channel=1.0, spatial=1.0, relation=1.0, temperature=0.3)
            for form in cls.FORMS
        ]


def _attention(x: Array, temperature: Array) -> Array:
    """N softmax of the mean magnitude over channels. (B, H, W, 1)"""
    energy = jnp.mean(magnitude(x), axis=-1)
    share = jax.nn.softmax(flat(energy) / temperature, axis=1)
    return (share * share.shape[1]).reshape(*energy.shape, 1)
