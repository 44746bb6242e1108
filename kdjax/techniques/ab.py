"""Activation boundaries: the student's neurons fire where the teacher's do, with a margin."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import jax.numpy as jnp
from flax import linen as nn

from kdjax.errors import UsageError
from kdjax.techniques.algebra import batch_norm, example_mask, flat, total, wide
from kdjax.techniques.base import Knobs, Paper, Scope, Taps, Term, apply_module, init_module, knob
from kdjax.techniques.layers import paired, paired_features
from kdjax.types import Array, TermInputs, TermOut, Tree


class _Connector(nn.Module):
    """Per layer a learned linear map to the teacher's shape, with batch normalisation over real examples."""

    targets: tuple[tuple[int, ...], ...]  # without the batch axis

    @nn.compact
    def __call__(self, layers: Sequence[Array], mask_B: Array) -> list[Array]:
        return [self._connect(x, target, mask_B) for x, target in zip(layers, self.targets, strict=True)]

    def _connect(self, x: Array, target: tuple[int, ...], mask_B: Array) -> Any:
        if x.shape[1:-1] == target[:-1]:
            x = nn.Dense(target[-1], use_bias=False)(x)
        else:
            x = nn.ConvTranspose(target[-1], (4, 4), (2, 2), padding='SAME', use_bias=False, transpose_kernel=True)(x)
        return batch_norm(x, mask_B)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ActivationBoundary(Term):
    """Squared hinge of pre-activations s against the sign of the teacher's t, summed over layers (eq. 5). Values: (B,).

    || 1[t > 0] relu(m - s) + 1[t <= 0] relu(m + s) ||^2 with margin m, where s is the student's layer behind a learned
    connector. The paper trains this term alone first, the task after it: two fits of one method. With L layers, forms:

    | form    | of a layer | weight of layer i = 1 ... L | as in                                        |
    |---------|------------|-----------------------------|----------------------------------------------|
    | paper   | sum        | 1                           | the paper, torchdistill, mmrazor (x 3/1000)  |
    | halving | sum        | 2^(i - L)                   | the authors' code, RepDistiller (x 3/1000)   |
    | mean    | mean       | 1                           | KD-Zoo                                       |

    Attributes:
      layers: pairs of pre-activations (B, ...) from shallow to deep, 'tap' or 'student_tap:teacher_tap'.
      connector: whether to learn the connector, a 1x1 convolution and batch normalisation per layer (where the
        student's map is half as high and wide as the teacher's, a transposed 4x4 convolution of stride 2, as in
        RepDistiller); without it the two features of a pair must have one shape.
      margin: m; knob, >= 0.
      form: which of the above.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Heo, Lee, Yun, Choi',
        'Knowledge Transfer via Distillation of Activation Boundaries Formed by Hidden Neurons',
        'AAAI',
        2019,
        '1811.03233',
    )
    FORMS: ClassVar[tuple[str, ...]] = ('paper', 'halving', 'mean')
    OTHER_CLASSES: ClassVar[bool] = True
    PLAIN: ClassVar[Mapping[str, Any]] = {'connector': False}

    layers: tuple[str, ...] = ('stage1', 'stage2')
    connector: bool = True
    margin: float = knob(1.0, minimum=0.0)
    form: str = 'paper'

    @property
    def scope(self) -> Scope:
        return 'batch' if self.connector else 'example'

    def taps(self) -> Taps:
        return paired(self.layers)

    def init(self, key: Array, inputs: TermInputs) -> tuple[Tree, Tree]:
        students, teachers = self._layers(inputs)
        return (init_module(_module(teachers), key, students, example_mask(inputs)) if self.connector else {}), {}

    def __call__(
        self, params: Tree, memory: Tree, inputs: TermInputs, knobs: Knobs, *, step: Array, key: Array
    ) -> TermOut:
        students, teachers = self._layers(inputs)
        if self.connector:
            students = list(apply_module(_module(teachers), params, students, example_mask(inputs)))
        summands = [
            self._crossed(student, teacher, knobs['margin']) * self._share(place)
            for place, (student, teacher) in enumerate(zip(students, teachers, strict=True), start=1)
        ]
        return TermOut(total(summands), memory, {})

    def _crossed(self, student: Array, teacher: Array, margin: Array) -> Array:
        square = flat(jnp.square(nn.relu(jnp.where(teacher > 0, margin - student, margin + student))))
        return jnp.mean(square, axis=1) if self.form == 'mean' else jnp.sum(square, axis=1)

    def _share(self, place: int) -> float:
        return 2.0 ** (place - len(self.layers)) if self.form == 'halving' else 1.0

    def _layers(self, inputs: TermInputs) -> tuple[list[Array], list[Array]]:
        students, teachers = [], []
        for layer, pair in zip(self.layers, paired_features(self.layers, inputs), strict=True):
            student, teacher = map(wide, pair)
            if student.shape != teacher.shape and not (self.connector and _connects(student, teacher)):
                hint = (
                    "only channels may differ, or the student's map be half the teacher's"
                    if self.connector else 'set connector=True where channels differ'
                )  # fmt: skip
                raise UsageError(f'boundaries of {layer!r}: shapes {student.shape} and {teacher.shape}; {hint}')
            students.append(student)
            teachers.append(teacher)
        return students, teachers

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        learned = [cls(form=form) for form in cls.FORMS[:2]]
        mean = [cls(layers=(layer,), form='mean') for layer in ('stage2', 'hidden1')]
        return [*learned, *mean, cls(layers=('map',), connector=False)]


def _module(teachers: Sequence[Array]) -> nn.Module:
    return _Connector(tuple(tuple(x.shape[1:]) for x in teachers))


def _connects(student: Array, teacher: Array) -> bool:
    """Whether only channels differ, or a map is half as high and wide as the teacher's."""
    if student.ndim != teacher.ndim:
        return False
    places, wanted = student.shape[1:-1], teacher.shape[1:-1]
    return places == wanted or (student.ndim == 4 and tuple(2 * size for size in places) == wanted)
