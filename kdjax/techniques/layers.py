"""What terms of layers share: the layers of two networks in pairs, and bases of those terms that compare them alike."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax.numpy as jnp

from kdjax.errors import UsageError
from kdjax.techniques.algebra import example_mask, projected, projection, real, same_maps, total, wide
from kdjax.techniques.base import AtTeacher, Knobs, Scope, Taps, Term, number
from kdjax.types import Array, Outputs, TermInputs, TermOut, Tree

Pair = tuple[Array, Array]  # of a student's and a teacher's feature


def pairs(layers: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Layer names as (student tap, teacher tap): 'stage1' reads one name on both sides, 'stage1:stage3' two.

    Raises:
      UsageError: no layer, or a name with more than one colon.
    """
    found = []
    for layer in layers:
        student, _, teacher = layer.partition(':')
        if not student or ':' in teacher:
            raise UsageError(f"layer {layer!r} is not 'tap' or 'student_tap:teacher_tap'")
        found.append((student, teacher or student))
    if not found:
        raise UsageError("no layers given; name at least one tap, as ('stage2',) or ('stage2:stage3',)")
    return tuple(found)


def paired(layers: Sequence[str]) -> Taps:
    """The taps that pairs of layers read."""
    students, teachers = zip(*pairs(layers), strict=True)
    return Taps(students, teachers)


def paired_features(layers: Sequence[str], inputs: TermInputs) -> list[Pair]:
    """What the student's and the teacher's tap of each pair of layers have."""
    return [(inputs.student.features[own], inputs.teacher.features[other]) for own, other in pairs(layers)]


def as_seen(inputs: TermInputs, *taps: tuple[str, str]) -> TermInputs:
    """The inputs as pairs of taps (student's, teacher's) see them: with what is real of the tokens of their own.

    Where networks say that of any of them (`Outputs.masks`), batch['token_mask'] is that of their first axis of tokens,
    batch['column_mask'] that of the second, which attention (B, heads, N, M) has, and batch['mask'] is per example: the
    tokens of an encoder are not those that a decoder answers for. Real is what all say is real; a teacher that says
    nothing, such as a cached one, goes by the student. If none says anything, the inputs are as they are.

    Raises:
      UsageError: they say it of different shapes.
    """
    said = [side.masks[tap] for side, names in zip(inputs[:2], zip(*taps, strict=True), strict=True)
            for tap in names if tap in side.masks]  # fmt: skip
    if not said:
        return inputs
    shapes = [tuple(mask.shape for mask in masks) for masks in said]
    if len(set(shapes)) > 1:
        raise UsageError(f'masks of {taps} are of different shapes: {shapes}')
    columns = ('token_mask', 'column_mask')[: len(said[0])]
    mask = example_mask(inputs)
    own = {name: jnp.prod(jnp.stack([masks[axis].astype(mask.dtype) for masks in said]), axis=0)
           for axis, name in enumerate(columns)}  # fmt: skip
    return inputs._replace(batch={**inputs.batch, 'mask': mask, **own})


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerTerm(Term):
    """A term of one layer of the student and one of the teacher.

    Attributes:
      layer: 'tap' or 'student_tap:teacher_tap'.
    """

    OTHER_CLASSES: ClassVar[bool] = True

    layer: str = 'penult'

    def taps(self) -> Taps:
        return paired([self.layer])

    def features(self, inputs: TermInputs) -> Pair:
        """What is compared: what the two taps have, unless a term says more."""
        return paired_features([self.layer], inputs)[0]

    def seen(self, inputs: TermInputs) -> TermInputs:
        """The inputs as the two taps see them."""
        return as_seen(inputs, *pairs([self.layer]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerwiseTerm(Term):
    """The sum, over pairs of layers, of a distance between the student's and the teacher's feature.

    Attributes:
      layers: pairs of features, 'tap' or 'student_tap:teacher_tap'.
    """

    OTHER_CLASSES: ClassVar[bool] = True

    layers: tuple[str, ...] = ('stage1', 'stage2')

    def taps(self) -> Taps:
        return paired(self.layers)

    def features(self, inputs: TermInputs) -> list[Pair]:
        """What is compared, pair by pair: what the taps have, unless a term says more."""
        return paired_features(self.layers, inputs)

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        return self.summed(self.features(inputs), inputs, knobs)

    def summed(self, features: Sequence[Pair], inputs: TermInputs, knobs: Knobs) -> Array:
        """The distances of pairs of features, added up. (B,) or (B, N)"""
        return total([
            self.distance(student, teacher, as_seen(inputs, taps), knobs)
            for (student, teacher), taps in zip(features, pairs(self.layers), strict=True)
        ])  # fmt: skip

    def distance(self, student: Array, teacher: Array, inputs: TermInputs, knobs: Knobs) -> Array:
        """Of one pair, at least float32. (B,) or (B, N)"""
        raise UsageError(f'{type(self).__name__} must define distance(student, teacher, inputs, knobs)')


@dataclasses.dataclass(frozen=True, kw_only=True)
class MapTerm(LayerTerm):
    """A term of a pair of maps.

    Attributes:
      layer: maps (B, H, W, C), 'tap' or 'student_tap:teacher_tap'; the larger map is average-pooled.
    """

    layer: str = 'stage2'

    def features(self, inputs: TermInputs) -> Pair:
        return same_maps(*super().features(inputs))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProjectedMaps(MapTerm):
    """A distance of a pair of maps, the student's brought to the teacher's channels by a learned 1x1 convolution.

    Attributes:
      layer: pair of maps (B, H, W, C), 'tap' or 'student_tap:teacher_tap'; the larger map is average-pooled.
      projected: whether there is such a convolution; without it the channels must be equally many.
    """

    PLAIN: ClassVar[Mapping[str, Any]] = {'projected': False}

    projected: bool = True

    @property
    def at_teacher(self) -> AtTeacher:
        return 'free' if self.projected else 'zero'

    def init(self, key: Array, inputs: TermInputs) -> tuple[Tree, Tree]:
        return (projection(key, *self.features(inputs)) if self.projected else {}), {}

    def __call__(
        self, params: Tree, memory: Tree, inputs: TermInputs, knobs: Knobs, *, step: Array, key: Array
    ) -> TermOut:
        student, teacher = self.features(inputs)
        return TermOut(self.distance(projected(params, student, teacher), teacher, inputs, knobs), memory, {})

    def distance(self, student: Array, teacher: Array, inputs: TermInputs, knobs: Knobs) -> Array:
        """Of two maps (B, H, W, C) of one shape. (B,)"""
        raise UsageError(f'{type(self).__name__} must define distance(student, teacher, inputs, knobs)')


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrossLayerTerm(Term):
    """A term of every pair of a student's and a teacher's map, whose attention is learned over the whole batch.

    Attributes:
      students, teachers: taps of maps (B, H, W, C).
      width: of what the attention compares.
    """

    OTHER_CLASSES: ClassVar[bool] = True
    scope: ClassVar[Scope] = 'batch'

    students: tuple[str, ...] = ('stage1', 'stage2')
    teachers: tuple[str, ...] = ('stage1', 'stage2')
    width: int = number(32, minimum=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.students or not self.teachers:
            raise UsageError(f'{type(self).__name__} needs taps on both sides, got {self.students} and {self.teachers}')

    def taps(self) -> Taps:
        return Taps(self.students, self.teachers)

    def maps(self, inputs: TermInputs) -> tuple[list[Array], list[Array]]:
        """Those of the student and those of the teacher, 0 where there is padding: no overflow there has a gradient."""
        return _maps(inputs.student, self.students, inputs), _maps(inputs.teacher, self.teachers, inputs)


def _maps(side: Outputs, taps: Sequence[str], inputs: TermInputs) -> list[Array]:
    for tap in taps:
        if side.features[tap].ndim != 4:
            raise UsageError(f'tap {tap!r} must be a map (B, H, W, C), got {side.features[tap].shape}')
    return [jnp.where(real(inputs, 4), wide(side.features[tap]), 0) for tap in taps]
