"""Distillation by singular value decomposition: how the principal directions of one layer go over into the next's."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import ClassVar, Self

import jax
import jax.numpy as jnp

from kdjax.errors import UsageError
from kdjax.techniques.algebra import total, unit, wide
from kdjax.techniques.base import AtTeacher, Knobs, Paper, Taps, Term, number
from kdjax.techniques.layers import paired, paired_features
from kdjax.types import Array, TermInputs


@jax.custom_jvp
def right_vectors(x: Array) -> tuple[Array, Array]:
    """Singular values, 0 beyond the rank, and right singular vectors of (..., P, C): (..., C) and (..., C, C).

    Their derivatives leave out the turning of vectors of one singular value into each other, which is arbitrary.
    """
    _, values, right = jnp.linalg.svd(x, full_matrices=True)
    padding = [(0, 0)] * (values.ndim - 1) + [(0, x.shape[-1] - values.shape[-1])]
    return jnp.pad(values, padding), jnp.swapaxes(right, -1, -2)


@right_vectors.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    # Of X'X = V S^2 V': with M = V' d(X'X) V, dV = V (M / (s_j^2 - s_i^2)) off the diagonal and d(s^2) = diag M.
    (x,), (dx,) = primals, tangents
    values, right = right_vectors(x)
    product = jnp.swapaxes(x @ right, -1, -2) @ (dx @ right)
    turned = product + jnp.swapaxes(product, -1, -2)
    square = jnp.square(values)
    gap = square[..., None, :] - square[..., :, None]
    apart = jnp.abs(gap) > 1e-6 * square[..., :1, None]
    vectors = right @ jnp.where(apart, turned / jnp.where(apart, gap, 1), 0)
    positive = values > 0
    diagonal = jnp.diagonal(product, axis1=-2, axis2=-1)
    return (values, right), (jnp.where(positive, diagonal / jnp.where(positive, values, 1), 0), vectors)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SingularVectors(Term):
    """Sum of (g_s - g_t)^2, g = exp(-(v_i - v_{i+1})^2 / 8) between consecutive layers, summed over them. Values: (B,).

    v are the first k right singular vectors of a layer, all pairs of their entries being compared, each times its share
    of the teacher's singular values. The student's are those of its first k + 3 that are most parallel to the
    teacher's, with the sign that makes them so (sec. 3). The teacher's own signs are arbitrary: here the largest entry
    is positive. Forms: 'paper': of the matrix (H W, C) (RepDistiller), so that both sides need as many channels;
    'mdistiller': of the matrix (C H, W), so that both sides need one width.

    Attributes:
      layers: two or more maps (B, H, W, C), 'tap' or 'student_tap:teacher_tap', from shallow to deep.
      count: k.
      form: which of the above.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Lee, Kim, Song',
        'Self-Supervised Knowledge Distillation Using Singular Value Decomposition',
        'ECCV',
        2018,
        '1807.06819',
    )
    FORMS: ClassVar[tuple[str, ...]] = ('paper', 'mdistiller')
    OTHER_CLASSES: ClassVar[bool] = True
    at_teacher: ClassVar[AtTeacher] = 'zero'

    layers: tuple[str, ...] = ('stage1', 'stage2')
    count: int = number(1, minimum=1)
    form: str = 'paper'

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.layers) < 2:
            raise UsageError(f'SingularVectors needs two or more layers, got {self.layers!r}')

    def taps(self) -> Taps:
        return paired(self.layers)

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        vectors = [self._aligned(*pair) for pair in paired_features(self.layers, inputs)]
        summands = [
            jnp.sum(jnp.square(_transition(s0, s1) - _transition(t0, t1)), axis=(1, 2, 3))
            for (s0, t0), (s1, t1) in itertools.pairwise(vectors)
        ]
        return total(summands)

    def oriented(self, vectors: Array) -> Array:
        """The teacher's vectors (B, C, k), with their signs fixed."""
        largest = jnp.argmax(jnp.abs(vectors), axis=1, keepdims=True)
        return vectors * jnp.sign(jnp.take_along_axis(vectors, largest, axis=1))

    def _aligned(self, student: Array, teacher: Array) -> tuple[Array, Array]:
        """Vectors of both sides, times the shares of the teacher's singular values. (B, C, k) each"""
        student, teacher = self._matrix(student), self._matrix(teacher)
        if student.shape[-1] != teacher.shape[-1]:
            what = 'channels' if self.form == 'paper' else 'width'
            raise UsageError(f'SingularVectors, form {self.form!r}: {what} {student.shape[-1]} and {teacher.shape[-1]} '
                             'differ')  # fmt: skip
        values, right = right_vectors(teacher)
        chosen, share = self.oriented(right[..., : self.count]), unit(values[:, None, : self.count])
        candidates = right_vectors(student)[1][..., : self.count + 3]
        cosine = jnp.swapaxes(candidates, 1, 2) @ chosen
        nearest = jnp.argmax(jnp.abs(cosine), axis=1, keepdims=True)
        sign = jnp.sign(jnp.take_along_axis(cosine, nearest, axis=1))
        return jnp.take_along_axis(candidates, nearest, axis=2) * sign * share, chosen * share

    def _matrix(self, x: Array) -> Array:
        if x.ndim != 4:
            raise UsageError(f'SingularVectors needs maps (B, H, W, C), got {x.shape}')
        rows = x if self.form == 'paper' else x.transpose(0, 3, 1, 2)
        return wide(rows).reshape(x.shape[0], -1, rows.shape[-1])

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        maps = ('map', 'attention1')
        return [cls(layers=maps), cls(form='mdistiller'), cls(layers=maps, count=2)]


def _transition(left: Array, right: Array) -> Array:
    """exp(-(v - w)^2 / 8) for all entries of the k vectors of two layers. (B, C, D, k)"""
    return jnp.exp(-jnp.square(right[:, :, None, :] - left[:, None, :, :]) / 8)
