"""Focal and global distillation: a detector's maps, foreground apart from background, and how their pixels relate."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import jax
import jax.numpy as jnp
from flax import linen as nn

from kdjax.errors import UsageError
from kdjax.techniques.algebra import magnitude, real, wide
from kdjax.techniques.base import Knobs, Paper, apply_module, init_module, knob
from kdjax.techniques.layers import LayerTerm, Pair
from kdjax.types import Array, TermInputs, TermOut, Tree


class _Context(nn.Module):
    """A map plus what its pixels say together: R of the paper, a global context block."""

    @nn.compact
    def __call__(self, x_BHWC: Array) -> Array:
        channels = x_BHWC.shape[-1]
        pixels_BPC = x_BHWC.reshape(x_BHWC.shape[0], -1, channels)
        share_BP1 = jax.nn.softmax(nn.Dense(1)(pixels_BPC), axis=1)
        context = nn.Dense(max(channels // 2, 1))(jnp.sum(share_BP1 * pixels_BPC, axis=1))
        # Not zero at first, as in the authors' code: the layers before it would have no gradient.
        context = nn.Dense(channels)(nn.relu(nn.LayerNorm(epsilon=1e-5)(context)))
        return x_BHWC + context[:, None, None, :]


class _Learned(nn.Module):
    """The student's map in the teacher's channels, and both maps with their context."""

    channels: int

    @nn.compact
    def __call__(self, student: Array, teacher: Array) -> tuple[Array, Array, Array]:
        if student.shape[-1] != self.channels:
            student = nn.Dense(self.channels, name='align')(student)
        return student, _Context(name='student')(student), _Context(name='teacher')(teacher)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FocalGlobal(LayerTerm):
    """alpha L_fg + beta L_bg + gamma L_at + lambda L_global of one pair of maps (sec. 3). Values: (B,).

    With s the student's map, brought to the teacher's channels by a learned 1x1 layer where they differ, t the
    teacher's, A^S = HW softmax(mean_c |t| / T) over pixels and A^C = C softmax(mean_ij |t| / T) over channels:

    L_fg, L_bg: sum over pixels and channels of S A^S A^C (t - s)^2, inside and outside of the boxes; S is 1 / (pixels
    of the smallest box that a pixel is in), outside 1 / (pixels outside). L_at: sum |A^S_s - A^S_t| + sum |A^C_s -
    A^C_t|. L_global: sum (R(s) - R(t))^2, R a global context block, learned on either side. All of them are sums over
    pixels, L_fg and L_bg of weights that grow with the map: of a large map, that of the first level, they can be too
    much beside the others, and the author's advice is to divide by the pixels, `per_pixel`.

    Boxes are batch['boxes'] (B, M, 4), x0, y0, x1, y1 in [0, 1]; those without area are padding. A box has the pixels
    that it touches: rows floor(y0 H) to ceil(y1 H) - 1 in form 'paper', to ceil(y1 H) in 'code', the authors'.

    Attributes:
      layer: pair of maps (B, H, W, C), 'tap' or 'student_tap:teacher_tap', equally high and wide.
      temperature: T; knob, > 0.
      foreground, background, attention, context: alpha, beta, gamma, lambda; knobs, >= 0.
      per_pixel: whether the value is divided by the map's height times its width.
      form: which of the above.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Yang, Li, Jiang, Gong, Yuan, Zhao, Yuan',
        'Focal and Global Knowledge Distillation for Detectors',
        'CVPR',
        2022,
        '2111.11837',
    )
    FORMS: ClassVar[tuple[str, ...]] = ('paper', 'code')

    layer: str = 'stage1'
    temperature: float = knob(0.5, above=0.0)
    foreground: float = knob(1e-3, minimum=0.0)
    background: float = knob(5e-4, minimum=0.0)
    attention: float = knob(1e-3, minimum=0.0)
    context: float = knob(5e-6, minimum=0.0)
    per_pixel: bool = False
    form: str = 'paper'

    def init(self, key: Array, inputs: TermInputs) -> tuple[Tree, Tree]:
        student, teacher = self.features(inputs)
        self._boxes(inputs)
        return init_module(_Learned(teacher.shape[-1]), key, student, teacher), {}

    def __call__(
        self, params: Tree, memory: Tree, inputs: TermInputs, knobs: Knobs, *, step: Array, key: Array
    ) -> TermOut:
        student, teacher = self.features(inputs)
        aligned, ours, theirs = apply_module(_Learned(teacher.shape[-1]), params, student, teacher)
        pixels, channels = attentions(teacher, knobs['temperature'])
        own_pixels, own_channels = attentions(aligned, knobs['temperature'])
        error = pixels * jnp.sum(channels[:, None, None, :] * jnp.square(teacher - aligned), axis=-1)
        inside, outside = pixel_weights(self._boxes(inputs), error.shape, self.form == 'code')
        parts = {
            'foreground': _total(inside * error),
            'background': _total(outside * error),
            'attention': _total(magnitude(own_pixels - pixels)) + _total(magnitude(own_channels - channels)),
            'context': _total(jnp.square(ours - theirs)),
        }
        values = jnp.zeros(student.shape[:1], student.dtype)
        for name, part in parts.items():
            values = values + knobs[name] * part
        pixels_of_map = student.shape[1] * student.shape[2]
        return TermOut(values / pixels_of_map if self.per_pixel else values, memory, {})

    def features(self, inputs: TermInputs) -> Pair:
        student, teacher = map(wide, super().features(inputs))
        if student.ndim != 4 or teacher.ndim != 4 or student.shape[1:3] != teacher.shape[1:3]:
            raise UsageError(f'maps {self.layer!r} {student.shape} and {teacher.shape} must both be (B, H, W, C), '
                             'equally high and wide')  # fmt: skip
        return jnp.where(real(inputs, 4), student, 0), jnp.where(real(inputs, 4), teacher, 0)

    def _boxes(self, inputs: TermInputs) -> Array:
        boxes = inputs.batch.get('boxes')
        if boxes is None or boxes.ndim != 3 or boxes.shape[-1] != 4:
            raise UsageError(f"FocalGlobal needs batch['boxes'] (B, M, 4), got {getattr(boxes, 'shape', None)}; "
                             f'the batch has: {", ".join(sorted(inputs.batch))}')  # fmt: skip
        return wide(boxes)

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        # Small maps: |x| has a kink in every entry, and finite differences must not step across one.
        return [cls(layer='map'), cls(layer='stage2'), cls(form='code')]


def attentions(x_BHWC: Array, temperature: Array | float) -> tuple[Array, Array]:
    """A^S (B, H, W) and A^C (B, C): how strong pixels and channels are, 1 on average."""
    batch, height, width, channels = x_BHWC.shape
    strength = magnitude(x_BHWC)
    pixels = jax.nn.softmax(jnp.mean(strength, axis=3).reshape(batch, -1) / temperature, axis=1) * (height * width)
    return pixels.reshape(batch, height, width), channels * jax.nn.softmax(
        jnp.mean(strength, axis=(1, 2)) / temperature, axis=1
    )


def pixel_weights(boxes: Array, shape: tuple[int, ...], inclusive: bool) -> tuple[Array, Array]:
    """M S and (1 - M) S of the paper: 1 / area of the smallest box around a pixel, and 1 / number of pixels in none.

    Args:
      boxes: (B, M, 4), x0, y0, x1, y1 in [0, 1].
      shape: (B, H, W) of the map.
      inclusive: whether a box has a row and a column more at its end.

    Returns:
      Two maps (B, H, W).
    """
    x0, y0, x1, y1 = (jnp.clip(boxes[..., side], 0, 1) for side in range(4))
    (rows, height), (columns, width) = _span(y0, y1, shape[1], inclusive), _span(x0, x1, shape[2], inclusive)
    weight = jnp.where((x1 > x0) & (y1 > y0), 1 / jnp.maximum(height * width, 1), 0)
    inside = jnp.max(weight[..., None, None] * rows[..., :, None] * columns[..., None, :], axis=1, initial=0)
    outside = (inside == 0).astype(inside.dtype)
    return inside, outside / jnp.maximum(jnp.sum(outside, axis=(1, 2), keepdims=True), 1)


def _span(start: Array, stop: Array, cells: int, inclusive: bool) -> tuple[Array, Array]:
    """1 in the cells that an interval of [0, 1] touches (B, M, cells), and how many these are (B, M).

    The authors' code counts the cell after the end even where it is beyond the map.
    """
    cell = jnp.arange(cells, dtype=start.dtype)
    first, end = jnp.floor(start * cells), jnp.ceil(stop * cells) + (1.0 if inclusive else 0.0)
    return ((cell >= first[..., None]) & (cell < end[..., None])).astype(start.dtype), end - first


def _total(x: Array) -> Array:
    return jnp.sum(x.reshape(x.shape[0], -1), axis=1)
