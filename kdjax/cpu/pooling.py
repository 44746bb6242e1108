"""Max-pooling whose gradient is quick on a CPU, wherever it stands.

XLA finds what a window chose by comparing its values one by one, and sends gradients there one by one (a scatter): on a
CPU that takes many times as long as the pooling. Here the place of the largest value is kept beside it, found by whole
maps at a time, and a gradient is the sum of what the windows over a value send to it. Which of equal values is chosen
(the first), and the order in which windows are summed (row by row), are XLA's.

`_chosen` and `_returned` are linear, and each is the other's transpose.
"""

import functools
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from kdjax.types import Array

Pads = tuple[tuple[int, int], tuple[int, int]]


def max_pool(
    inputs: Array,
    window_shape: Sequence[int],
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]] | None = None,
) -> Array:
    """`flax.linen.max_pool` of maps or sequences, its gradient quick on a CPU.

    Args:
      inputs: (B, H, W, C) or (B, T, C), floating-point.
      window_shape, strides: height and width, or length.
      padding: how many before and after, of each; none if left out. No window may lie in them alone.

    Returns:
      (B, H', W', C) or (B, T', C), the largest of each window; gradients go to the first value that is the largest, row
      by row.
    """
    if inputs.ndim == 3:
        around = None if padding is None else (*padding, (0, 0))
        return max_pool(inputs[:, :, None], (*window_shape, 1), (*strides, 1), around)[:, :, 0]
    (height, width), (down, right) = window_shape, strides
    rows, columns = ((0, 0), (0, 0)) if padding is None else padding
    windows = _Windows((height, width), (down, right), (rows, columns))
    return _pooled(inputs, windows) if jax.default_backend() == 'cpu' else windows.of(inputs)


class _Windows(NamedTuple):
    """Windows over maps that strides cut into blocks: one begins with a block, and is `deep` blocks high and wide."""

    shape: tuple[int, int]
    strides: tuple[int, int]
    pads: Pads

    def of(self, inputs: Array) -> Array:
        """(B, H', W', C): the largest values.

        By flax's own function, by keywords and without its padding: a converter to ONNX (jax2onnx) has one in its place
        that takes nothing else, and takes any padding that is not a word for none.
        """
        if any(itertools.chain(*self.pads)):
            rows, columns = self.pads
            nothing = jnp.asarray(-jnp.inf, inputs.dtype)
            inputs = lax.pad(inputs, nothing, ((0, 0, 0), (*rows, 0), (*columns, 0), (0, 0, 0)))
        return nn.max_pool(inputs, window_shape=self.shape, strides=self.strides)

    def counts(self, size: Sequence[int]) -> tuple[int, ...]:
        """Rows and columns of windows over maps of a height and a width."""
        extents = zip(size, self.pads, self.shape, self.strides, strict=True)
        return tuple((length + sum(pads) - window) // by + 1 for length, pads, window, by in extents)

    @property
    def deep(self) -> tuple[int, int]:
        (height, width), (down, right) = self.shape, self.strides
        return -(-height // down), -(-width // right)

    @property
    def shifts(self) -> list[tuple[int, int]]:
        """Where a block can lie within a window, in blocks: the window that begins first is the last."""
        down, right = self.deep
        return list(itertools.product(range(down), range(right)))

    @property
    def places(self) -> np.dtype:
        """That holds which value of a window is the largest, and one more."""
        return np.dtype('int8' if self.shape[0] * self.shape[1] < 127 else 'int32')

    def blocks(self, maps: Array, beyond: float) -> Array:
        """(B, rows, down, columns, right, C): maps with `beyond` around them, cut."""
        around = [(0, 0, 0)]
        cut: list[int] = []
        extents = zip(maps.shape[1:3], self.pads, self.counts(maps.shape[1:3]), self.deep, self.strides, strict=True)
        for length, (before, _), windows, deep, by in extents:
            many = windows + deep - 1
            around.append((before, many * by - length - before, 0))
            cut += [many, by]
        padded = lax.pad(maps, jnp.asarray(beyond, maps.dtype), [*around, (0, 0, 0)])
        return padded.reshape(maps.shape[0], *cut, maps.shape[3])

    def place(self, down: int, right: int) -> np.ndarray:
        """(down, 1, right, 1): which value of a window each of the block is that lies there; -1 outside the window."""
        (height, width), by = self.shape, self.strides
        rows, columns = down * by[0] + np.arange(by[0])[:, None], right * by[1] + np.arange(by[1])
        inside = (rows < height) & (columns < width)
        return np.where(inside, rows * width + columns, -1).astype(self.places)[:, None, :, None]


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _pooled(inputs: Array, windows: _Windows) -> Array:
    return windows.of(inputs)


@_pooled.defjvp
def _pushed(windows: _Windows, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    largest, place = _largest(*primals, windows)
    return largest, _chosen.bind(place, *tangents, size=primals[0].shape[1:3], windows=windows)


def _largest(inputs: Array, windows: _Windows) -> tuple[Array, Array]:
    """The largest value of every window, and which it is, row by row."""
    blocks, (rows, columns) = windows.blocks(inputs, -jnp.inf), windows.counts(inputs.shape[1:3])

    def value(down: int, right: int) -> Array:
        """Of every window the one at that row and column."""
        (row, within), (column, beside) = divmod(down, windows.strides[0]), divmod(right, windows.strides[1])
        return blocks[:, row : row + rows, within, column : column + columns, beside]

    first, *others = itertools.starmap(value, itertools.product(*map(range, windows.shape)))
    largest, place = first, jnp.zeros(first.shape, windows.places)
    for number, other in enumerate(others, start=1):
        # What is not a number is above all, so that it shows. The derivative of `maximum` would share it among equals.
        above = (other > largest) | jnp.isnan(other)
        place = jnp.where(above, windows.places.type(number), place)
        largest = jnp.where(above, other, largest)
    return largest, place


def _chosen_of(place: Array, maps: Array, *, size: tuple[int, int], windows: _Windows) -> Array:
    """(B, H', W', C): of each window the value at its place, of maps (B, H, W, C)."""
    blocks, (rows, columns) = windows.blocks(maps, 0), place.shape[1:3]
    found = jnp.zeros(place.shape, maps.dtype)
    for down, right in windows.shifts:
        here = blocks[:, down : down + rows, :, right : right + columns]
        hit = place[:, :, None, :, None] == windows.place(down, right)
        found += jnp.where(hit, here, 0).sum(axis=(2, 4), dtype=maps.dtype)
    return found


def _returned_of(place: Array, values: Array, *, size: tuple[int, int], windows: _Windows) -> Array:
    """(B, H, W, C), of `size`: at each place the sum of the values (B, H', W', C) of the windows that chose it."""
    high, wide = (deep - 1 for deep in windows.deep)
    around = ((0, 0, 0), (high, high, 0), (wide, wide, 0), (0, 0, 0))
    place = lax.pad(place, windows.places.type(windows.shape[0] * windows.shape[1]), around)
    values = lax.pad(values, jnp.zeros((), values.dtype), around)
    rows, columns = place.shape[1] - high, place.shape[2] - wide

    def seen(maps: Array, down: int, right: int) -> Array:
        """What the windows have in which blocks lie there."""
        top, left = high - down, wide - right
        return maps[:, top : top + rows, None, left : left + columns, None]

    found = jnp.zeros((), values.dtype)
    for down, right in reversed(windows.shifts):
        hit = seen(place, down, right) == windows.place(down, right)
        found += jnp.where(hit, seen(values, down, right), 0)
    found = found.reshape(values.shape[0], rows * windows.strides[0], columns * windows.strides[1], -1)
    # Blocks may end before the maps do, where the last windows leave some out.
    (top, _), (left, _) = windows.pads
    cut = [(-before, length + before - extent, 0)
           for before, length, extent in zip((top, left), size, found.shape[1:3], strict=True)]  # fmt: skip
    return lax.pad(found, jnp.zeros((), values.dtype), [(0, 0, 0), *cut, (0, 0, 0)])


def _linear(name: str, of: Any) -> Primitive:
    """A function that is linear in its second operand, as a primitive: it has derivatives of all kinds and orders."""
    form = Primitive(name)

    def shape(place: Any, second: Any, **fields: Any) -> Any:
        return jax.core.ShapedArray(
            jax.eval_shape(functools.partial(of, **fields), place, second).shape, second.dtype
        )  # fmt: skip

    def batched(values: Any, axes: Any, **fields: Any) -> tuple[Array, int]:
        """As more examples."""
        cells = next(value.shape[axis] for value, axis in zip(values, axes, strict=True) if axis is not None)
        both = [batching.bdim_at_front(value, axis, cells) for value, axis in zip(values, axes, strict=True)]
        found = form.bind(*(each.reshape(-1, *each.shape[2:]) for each in both), **fields)
        return found.reshape(cells, -1, *found.shape[1:]), 0

    def pushed(primals: Any, tangents: Any, **fields: Any) -> tuple[Array, Any]:
        place, second = primals
        return form.bind(place, second, **fields), form.bind(place, ad.instantiate_zeros(tangents[1]), **fields)

    form.def_impl(jax.jit(of, static_argnames=('size', 'windows')))
    form.def_abstract_eval(shape)
    mlir.register_lowering(form, mlir.lower_fun(of, multiple_results=False))
    batching.primitive_batchers[form] = batched
    ad.primitive_jvps[form] = pushed
    return form


_chosen = _linear('kdjax_max_pool_chosen', _chosen_of)
_returned = _linear('kdjax_max_pool_returned', _returned_of)


def _transposes(form: Primitive, other: Primitive) -> None:
    def transposed(cotangent: Any, place: Any, second: Any, **fields: Any) -> tuple[None, Any]:
        return None, other.bind(place, ad.instantiate_zeros(cotangent), **fields)

    ad.primitive_transposes[form] = transposed


_transposes(_chosen, _returned)
_transposes(_returned, _chosen)
