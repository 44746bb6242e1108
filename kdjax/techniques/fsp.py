"""Flow of solution procedure: the student goes from one layer to the next as the teacher does."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
from flax import linen as nn

from kdjax.errors import UsageError
from kdjax.techniques.algebra import norm, pool_to, token_mask, total, wide
from kdjax.techniques.base import AtTeacher, Knobs, Paper, Taps, Term, apply_module, init_module
from kdjax.techniques.layers import as_seen, paired, paired_features, pairs
from kdjax.types import Array, TermInputs, TermOut, Tree


class _Widen(nn.Module):
    """Per layer a learned linear map of the student's channels to the teacher's."""

    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, layers: Sequence[Array]) -> list[Array]:
        return [nn.Dense(width, use_bias=False)(x) for width, x in zip(self.widths, layers, strict=True)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flow(Term):
    """Distance of the flow matrices G of consecutive layers, summed over these pairs. Values: (B,).

    G = 1 / (h w) sum over positions of f_i f_{i+1}^T (eq. 1), a matrix of channels; the larger map of the two is
    pooled. For tokens the positions are the example's real tokens. The paper trains this term alone first (its sec.
    3.4), the task after it: two fits of one method. Forms:

    | form         | value                                     | pooled by | as in                            |
    |--------------|-------------------------------------------|-----------|----------------------------------|
    | paper        | || G_s - G_t ||_F^2 (eq. 2)               | mean      | the paper                        |
    | mean         | mean of (G_s - G_t)^2                     | mean      | RepDistiller, KD-Zoo, TextBrewer |
    | torchdistill | sum over columns of the norm of G_s - G_t | maximum   | torchdistill                     |

    Attributes:
      layers: two or more, 'tap' or 'student_tap:teacher_tap', from shallow to deep; maps (B, H, W, C) or tokens
        (B, N, D), with as many channels on both sides.
      widened: whether to learn a linear map from the student's channels to the teacher's, so that their numbers may
        differ; not in the paper.
      form: which of the above.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Yim, Joo, Bae, Kim',
        'A Gift from Knowledge Distillation: Fast Optimization, Network Minimization and Transfer Learning',
        'CVPR',
        2017,
    )
    FORMS: ClassVar[tuple[str, ...]] = ('paper', 'mean', 'torchdistill')
    OTHER_CLASSES: ClassVar[bool] = True
    PLAIN: ClassVar[Mapping[str, Any]] = {'widened': False}

    layers: tuple[str, ...] = ('stage1', 'stage2')
    widened: bool = False
    form: str = 'paper'

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.layers) < 2:
            raise UsageError(f'Flow needs two or more layers to flow between, got {self.layers!r}')

    @property
    def at_teacher(self) -> AtTeacher:
        return 'free' if self.widened else 'zero'

    def taps(self) -> Taps:
        return paired(self.layers)

    def init(self, key: Array, inputs: TermInputs) -> tuple[Tree, Tree]:
        students, teachers = self._layers(inputs)
        return (init_module(_module(teachers), key, students) if self.widened else {}), {}

    def __call__(
        self, params: Tree, memory: Tree, inputs: TermInputs, knobs: Knobs, *, step: Array, key: Array
    ) -> TermOut:
        students, teachers = self._layers(inputs)
        if self.widened:
            students = list(apply_module(_module(teachers), params, students))
        inputs = as_seen(inputs, *pairs(self.layers))
        summands = [
            self._distance(self._flow(*student, inputs) - self._flow(*teacher, inputs))
            for student, teacher in zip(itertools.pairwise(students), itertools.pairwise(teachers), strict=True)
        ]
        return TermOut(total(summands), memory, {})

    def _distance(self, gap_BCD: Array) -> Array:
        if self.form == 'torchdistill':
            return jnp.sum(norm(gap_BCD, axis=1), axis=(1, 2))
        square = jnp.square(gap_BCD)
        return jnp.mean(square, axis=(1, 2)) if self.form == 'mean' else jnp.sum(square, axis=(1, 2))

    def _flow(self, left: Array, right: Array, inputs: TermInputs) -> Array:
        if left.ndim == 3:
            mask = token_mask(inputs, left.shape[1])[..., None].astype(left.dtype)
            products = jnp.einsum('bnc,bnd->bcd', *(jnp.where(mask > 0, x, 0) for x in (left, right)))
            return products / jnp.maximum(jnp.sum(mask, axis=1, keepdims=True), 1)
        height, width = (min(left.shape[axis], right.shape[axis]) for axis in (1, 2))
        pool = _max_pool_to if self.form == 'torchdistill' else pool_to
        left, right = pool(left, height, width), pool(right, height, width)
        return jnp.einsum('bhwc,bhwd->bcd', left, right) / (height * width)

    def _layers(self, inputs: TermInputs) -> tuple[list[Array], list[Array]]:
        students, teachers = (
            [wide(x) for x in side] for side in zip(*paired_features(self.layers, inputs), strict=True)
        )
        for layer, student, teacher in zip(self.layers, students, teachers, strict=True):
            if student.shape[-1] != teacher.shape[-1] and not self.widened:
                raise UsageError(
                    f'flow through {layer!r}: {student.shape[-1]} and {teacher.shape[-1]} channels differ; '
                    'set widened=True'
                )
        for side in (students, teachers):
            if {x.ndim for x in side} not in ({3}, {4}) or (side[0].ndim == 3 and len({x.shape[1] for x in side}) > 1):
                raise UsageError('a flow needs maps (B, H, W, C) throughout or tokens (B, N, D) of one N, '
                                 f'got {[x.shape for x in side]}')  # fmt: skip
        return students, teachers

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        maps = [cls(form=form, layers=('map', 'attention1')) for form in cls.FORMS]
        return [*maps, cls(widened=True), cls(widened=True, layers=('hidden1', 'hidden2'), form='mean')]


def _module(teachers: Sequence[Array]) -> nn.Module:
    return _Widen(tuple(x.shape[-1] for x in teachers))


def _max_pool_to(x: Array, height: int, width: int) -> Array:
    """Maxima of a map (B, H, W, C) over the cells of adaptive pooling; equal maxima share their gradient evenly."""
    for axis, size in ((1, height), (2, width)):
        length = x.shape[axis]
        cells = [(k * length // size, -(-(k + 1) * length // size)) for k in range(size)]
        maxima = [jnp.max(jax.lax.slice_in_dim(x, *cell, axis=axis), axis, keepdims=True) for cell in cells]
        x = jnp.concatenate(maxima, axis) if length != size else x
    return x
