"""Knowledge review: each student layer, fused with the deeper ones, predicts the teacher's layer of its level."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import jax.numpy as jnp
from flax import linen as nn

from kdjax.cpu.convolution import Conv
from kdjax.errors import UsageError
from kdjax.techniques.algebra import batch_norm, example_mask, per_example, pool_to, total, wide
from kdjax.techniques.base import AtTeacher, Knobs, Paper, Scope, Taps, Term, apply_module, init_module, number
from kdjax.techniques.layers import paired, paired_features
from kdjax.types import Array, TermInputs, TermOut, Tree


class Fusion(nn.Module):
    """One attention based fusion (fig. 3a): gates mix a student map with the mixture that the deeper level hands up.

    Attributes:
      width: channels of the mixtures.
      channels: of the teacher's map.
      size: height and width of the teacher's map.
    """

    width: int
    channels: int
    size: tuple[int, int]

    @nn.compact
    def __call__(self, x: Array, deeper: Array | None, mask_B: Array) -> tuple[Array, Array]:
        """The guess of the teacher's map, and the mixture for the next shallower level; `deeper` is None at the top."""
        x = self._convolved(x, self.width, 1, mask_B)
        if deeper is not None:
            gates = Gates()(x, deeper)
            x = x * gates[..., :1] + nearest(deeper, *x.shape[1:3]) * gates[..., 1:]
        x = nearest(x, *self.size)
        return self._convolved(x, self.channels, 3, mask_B), x

    def _convolved(self, x: Array, channels: int, size: int, mask_B: Array) -> Array:
        x = Conv(channels, (size, size), use_bias=False, kernel_init=nn.initializers.lecun_uniform())(x)
        return batch_norm(x, mask_B)


class Gates(nn.Module):
    """sigmoid(A x + B deeper + b), two numbers per position; B comes before `deeper` is resized, where it is small."""

    @nn.compact
    def __call__(self, x: Array, deeper: Array) -> Array:
        kernel = self.param('kernel', nn.initializers.lecun_normal(), (x.shape[-1] + deeper.shape[-1], 2))
        bias = self.param('bias', nn.initializers.zeros, (2,))
        own, handed_up = jnp.split(kernel, [x.shape[-1]])
        return nn.sigmoid(x @ own + nearest(deeper @ handed_up, *x.shape[1:3]) + bias)


def nearest(x: Array, height: int, width: int) -> Array:
    """A map (B, H, W, C) resized to (B, height, width, C): cell k shows position floor(k L / S)."""
    return _nearest(_nearest(x, 1, height), 2, width)


def _nearest(x: Array, axis: int, size: int) -> Array:
    length = x.shape[axis]
    if size % length == 0:  # the gradient is a sum of slices, where that of indexing is a scatter
        return jnp.stack([x] * (size // length), axis + 1).reshape(*x.shape[:axis], size, *x.shape[axis + 1 :])
    return jnp.take(x, jnp.asarray([k * length // size for k in range(size)]), axis=axis)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Review(Term):
    """Hierarchical context loss between teacher layers and fused student layers, summed over layers. Values: (B,).

    Of a layer: sum_l w_l mean (pool_l s - pool_l t)^2 / sum_l w_l, where pool_l averages to l x l, the whole map has
    weight 1 and each next level l < height of `levels` half the weight of the one before (sec. 3.4). s are the outputs
    of a chain of learned fusions from the deepest layer to the shallowest (sec. 3.3, `Fusion`).

    The authors' code raises the weight linearly over 20 epochs: schedules=(('weight', 0, 1, steps),).

    Attributes:
      layers: pairs of features, 'tap' or 'student_tap:teacher_tap', from shallow to deep; maps (B, H, W, C), or vectors
        (B, D), which count as maps of one position.
      fused: whether to learn fusions; without them the two features of a pair must have one shape.
      width: channels of the mixtures; the deepest student layer's where it has fewer.
      levels: l, from fine to coarse.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Chen, Liu, Zhao, Jia', 'Distilling Knowledge via Knowledge Review', 'CVPR', 2021, '2104.09044'
    )
    OTHER_CLASSES: ClassVar[bool] = True
    PLAIN: ClassVar[Mapping[str, Any]] = {'fused': False, 'width': 512}

    layers: tuple[str, ...] = ('stage1', 'stage2', 'penult')
    fused: bool = True
    width: int = number(512, minimum=1)
    levels: tuple[int, ...] = (4, 2, 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(not isinstance(level, int) or level < 1 for level in self.levels):
            raise UsageError(f'levels of Review must be positive integers, got {self.levels!r}')

    @property
    def scope(self) -> Scope:
        return 'batch' if self.fused else 'example'

    @property
    def at_teacher(self) -> AtTeacher:
        return 'free' if self.fused else 'zero'

    def taps(self) -> Taps:
        return paired(self.layers)

    def init(self, key: Array, inputs: TermInputs) -> tuple[Tree, Tree]:
        if not self.fused:
            return {}, {}
        students, teachers = self._layers(inputs)
        return init_module(self._chain(students, teachers), key, students, example_mask(inputs)), {}

    def __call__(
        self, params: Tree, memory: Tree, inputs: TermInputs, knobs: Knobs, *, step: Array, key: Array
    ) -> TermOut:
        teachers = self._layers(inputs)[1]
        summands = [self._context(s, t) for s, t in zip(self.reviewed(params, inputs), teachers, strict=True)]
        return TermOut(total(summands), memory, {})

    def reviewed(self, params: Tree, inputs: TermInputs) -> list[Array]:
        """Guesses of the teacher's maps, from shallow to deep; without fusions the student's own maps."""
        students, teachers = self._layers(inputs)
        if not self.fused:
            return students
        return list(apply_module(self._chain(students, teachers), params, students, example_mask(inputs)))

    def _context(self, student: Array, teacher: Array) -> Array:
        gap = student - teacher  # pooled, it is the gap of what is pooled
        square = per_example(jnp.square(gap))
        weights = weight = 1.0
        for level in self.levels:
            if level < student.shape[1]:
                weight /= 2
                weights += weight
                square = square + weight * per_example(jnp.square(pool_to(gap, level, level)))
        return square / weights

    def _layers(self, inputs: TermInputs) -> tuple[list[Array], list[Array]]:
        students, teachers = [], []
        for layer, pair in zip(self.layers, paired_features(self.layers, inputs), strict=True):
            student, teacher = map(_as_map, pair)
            if not self.fused and student.shape != teacher.shape:
                raise UsageError(
                    f'review of {layer!r}: shapes {student.shape} and {teacher.shape} differ; set fused=True'
                )
            students.append(student)
            teachers.append(teacher)
        return students, teachers

    def _chain(self, students: Sequence[Array], teachers: Sequence[Array]) -> nn.Module:
        return _Chain(min(self.width, students[-1].shape[-1]), tuple(tuple(t.shape[1:]) for t in teachers))

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(width=4), cls(layers=('stage2', 'stage1:stage2'), width=3), cls(layers=('map',), fused=False)]


class _Chain(nn.Module):
    """Fusions from the deepest layer to the shallowest."""

    width: int
    shapes: tuple[tuple[int, ...], ...]  # of the teacher's maps (H, W, C), from shallow to deep

    @nn.compact
    def __call__(self, students: Sequence[Array], mask_B: Array) -> list[Array]:
        guesses: list[Array] = []
        mixture = None
        for student, (height, width, channels) in zip(reversed(students), reversed(self.shapes), strict=True):
            guess, mixture = Fusion(self.width, channels, (height, width))(student, mixture, mask_B)
            guesses.insert(0, guess)
        return guesses


def _as_map(x: Array) -> Array:
    if x.ndim not in (2, 4):
        raise UsageError(f'a review needs maps (B, H, W, C) or vectors (B, D), got {x.shape}')
    return wide(x) if x.ndim == 4 else wide(x)[:, None, None, :]
