"""Overhaul of feature distillation: a partial distance to the teacher's pre-activations behind a margin ReLU."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
from flax import linen as nn

from kdjax.cpu.convolution import Conv
from kdjax.errors import UsageError, unknown
from kdjax.techniques.algebra import batch_norm, example_mask, flat, same_maps, total
from kdjax.techniques.base import AtTeacher, Knobs, Paper, Scope, Taps, Term, apply_module, init_module, number
from kdjax.techniques.layers import paired, paired_features
from kdjax.types import Array, TermInputs, TermOut, Tree


def normal_margin(scale_C: Array, bias_C: Array) -> Array:
    """E[x | x < 0] of x ~ N(bias, scale^2), a channel behind batch normalisation (sec. 3.2). (C,)

    -3 |scale| where P(x < 0) <= 0.001, as the authors' code has it.
    """
    deviation = jnp.maximum(jnp.abs(scale_C), 1e-12)
    ratio = bias_C / deviation
    below = jax.scipy.stats.norm.cdf(-ratio)
    rare = below <= 0.001
    expected = bias_C - deviation * jax.scipy.stats.norm.pdf(ratio) / jnp.where(rare, 1, below)
    return jnp.where(rare, -3 * deviation, expected)


class _Connector(nn.Module):
    """Per layer a learned convolution to the teacher's channels, with batch normalisation over real examples."""

    widths: tuple[int, ...]
    kernel_size: int

    @nn.compact
    def __call__(self, layers: Sequence[Array], mask_B: Array) -> list[Array]:
        return [self._connect(x, width, mask_B) for x, width in zip(layers, self.widths, strict=True)]

    def _connect(self, x: Array, width: int, mask_B: Array) -> Any:
        x = Conv(width, (self.kernel_size, self.kernel_size), use_bias=False)(x)
        return batch_norm(x, mask_B)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Overhaul(Term):
    """Partial squared distance of pre-activations s to max(t, m), summed over layers (eq. 2-4). Values: (B,).

    (s - t')^2, t' = max(t, m), but 0 where s <= t' <= 0; s is the student's layer behind a learned connector, m < 0 a
    margin per channel. Forms, with L layers:

    | form    | of a layer | weight of layer i = 1 ... L | as in                                           |
    |---------|------------|-----------------------------|-------------------------------------------------|
    | paper   | sum        | 1                           | the paper, mmrazor (/ 1000)                     |
    | halving | sum        | 2^(i - L)                   | the authors' code (/ 1000), mdistiller (/ 1000) |
    | mean    | mean       | 1                           | KD-Zoo                                          |

    Attributes:
      layers: pairs of pre-activations (B, H, W, C) from shallow to deep, 'tap' or 'student_tap:teacher_tap'; the larger
        map is average-pooled.
      norms: per layer the teacher's batch normalisation before it, as 'stage1_norm' or 'block/norm', from whose scale
        and bias m is computed (`normal_margin`). It is adopted, not trained: terms_weight_decay must stay 0. () for
        none: m is the mean of the negative t of the channel over the batch (KD-Zoo).
      floor: what is added to the number of negative t then.
      connector: whether to learn the connector; without it the two features of a pair must have as many channels.
      kernel_size: of the connector's convolution.
      form: which of the above.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Heo, Kim, Yun, Park, Kwak, Choi',
        'A Comprehensive Overhaul of Feature Distillation',
        'ICCV',
        2019,
        '1904.01866',
    )
    FORMS: ClassVar[tuple[str, ...]] = ('paper', 'halving', 'mean')
    OTHER_CLASSES: ClassVar[bool] = True
    PLAIN: ClassVar[Mapping[str, Any]] = {'connector': False, 'norms': (), 'kernel_size': 1}

    layers: tuple[str, ...] = ('stage1', 'stage2')
    norms: tuple[str, ...] = ()
    floor: float = number(1e-6, minimum=0.0)
    connector: bool = True
    kernel_size: int = 1
    form: str = 'paper'

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.norms and len(self.norms) != len(self.layers):
            raise UsageError(f'Overhaul needs one of norms per layer or none, got {self.norms!r} for {self.layers!r}')
        if not isinstance(self.kernel_size, int) or self.kernel_size % 2 != 1:
            raise UsageError(f'kernel_size of Overhaul must be an odd positive integer, got {self.kernel_size!r}')

    @property
    def scope(self) -> Scope:
        return 'batch' if self.connector or not self.norms else 'example'

    @property
    def at_teacher(self) -> AtTeacher:
        return 'free' if self.connector else 'zero'

    @property
    def adopts(self) -> bool:
        return bool(self.norms)

    def taps(self) -> Taps:
        return paired(self.layers)

    def init(self, key: Array, inputs: TermInputs) -> tuple[Tree, Tree]:
        students, teachers = self._layers(inputs)
        params = {}
        if self.connector:
            params['connector'] = init_module(self._module(teachers), key, students, example_mask(inputs))
        if self.norms:  # a place for what `adopt` brings
            params['margins'] = [self._observed(teacher, example_mask(inputs)) for teacher in teachers]
        return params, {}

    def adopt(self, params: Tree, earlier: Mapping[str, Tree], teacher: Tree) -> Tree:
        if not self.norms:
            return params
        layers = teacher.get('params', {}) if isinstance(teacher, Mapping) else {}
        if not layers:
            raise UsageError('no teacher weights to take margins from; set norms=()')
        margins = [normal_margin(*_normalisation(layers, name)) for name in self.norms]
        for name, margin, place in zip(self.norms, margins, params['margins'], strict=True):
            if margin.shape != place.shape:
                raise UsageError(
                    f'{name!r} of the teacher normalises {margin.shape} channels, its layer has {place.shape}'
                )
        return {**params, 'margins': [m.astype(p.dtype) for m, p in zip(margins, params['margins'], strict=True)]}

    def __call__(
        self, params: Tree, memory: Tree, inputs: TermInputs, knobs: Knobs, *, step: Array, key: Array
    ) -> TermOut:
        students, teachers = self._layers(inputs)
        if self.connector:
            students = list(apply_module(self._module(teachers), params['connector'], students, example_mask(inputs)))
        layers = zip(students, teachers, self.margins(params, inputs), strict=True)
        summands = [self._distance(*layer) * self._share(place) for place, layer in enumerate(layers, start=1)]
        return TermOut(total(summands), memory, {})

    def margins(self, params: Tree, inputs: TermInputs) -> list[Array]:
        """m per layer. (C,)"""
        if self.norms:
            return list(jax.lax.stop_gradient(params['margins']))
        return [self._observed(teacher, example_mask(inputs)) for teacher in self._layers(inputs)[1]]

    def _observed(self, teacher: Array, mask_B: Array) -> Array:
        negative = (teacher < 0) & (mask_B[:, None, None, None] > 0)
        total = jnp.sum(jnp.where(negative, teacher, 0), axis=(0, 1, 2))
        # Counted in single precision whatever the features are in, as KD-Zoo does.
        count = jnp.sum(negative.astype(jnp.float32), axis=(0, 1, 2)) + jnp.float32(self.floor)
        return total / jnp.where(count > 0, count, 1).astype(total.dtype)

    def _distance(self, student: Array, teacher: Array, margin_C: Array) -> Array:
        target = jnp.maximum(teacher, margin_C)
        square = flat(jnp.where((student > target) | (target > 0), jnp.square(student - target), 0))
        return jnp.mean(square, axis=1) if self.form == 'mean' else jnp.sum(square, axis=1)

    def _share(self, place: int) -> float:
        return 2.0 ** (place - len(self.layers)) if self.form == 'halving' else 1.0

    def _layers(self, inputs: TermInputs) -> tuple[list[Array], list[Array]]:
        students, teachers = [], []
        for layer, pair in zip(self.layers, paired_features(self.layers, inputs), strict=True):
            student, teacher = same_maps(*pair)
            if student.shape[-1] != teacher.shape[-1] and not self.connector:
                raise UsageError(
                    f'overhaul of {layer!r}: {student.shape[-1]} and {teacher.shape[-1]} channels differ; '
                    'set connector=True'
                )
            students.append(student)
            teachers.append(teacher)
        return students, teachers

    def _module(self, teachers: Sequence[Array]) -> nn.Module:
        return _Connector(tuple(x.shape[-1] for x in teachers), self.kernel_size)

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        learned = [cls(form=form) for form in cls.FORMS]
        return [*learned, cls(layers=('map',), connector=False), cls(layers=('stage2',), kernel_size=3)]


def _normalisation(layers: Tree, name: str) -> tuple[Array, Array]:
    """Scale and bias of the teacher's batch normalisation called `name`."""
    found = layers
    for part in name.split('/'):
        if not isinstance(found, Mapping) or part not in found:
            raise unknown('layer', name, layers, ' of the teacher, in norms of Overhaul')
        found = found[part]
    if not isinstance(found, Mapping) or 'scale' not in found or 'bias' not in found:
        raise UsageError(f'layer {name!r} of the teacher is no batch normalisation with scale and bias')
    return found['scale'], found['bias']
