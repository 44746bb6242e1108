"""Convolutions whose gradients XLA compiles well on a CPU, wherever they stand.

XLA knows fast kernels on a CPU for one order of dimensions: (B, H, W, C) maps and (h, w, I, O) kernels. The gradients
of a convolution are convolutions in other orders. Those at the top of a program are put into the known one; those
inside a loop (`lax.scan`, `lax.map`) are not, and become plain nested loops, tens of times slower. Here gradients are
written in the known order to begin with. The arithmetic is that of `lax.conv_general_dilated`.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from kdjax.types import Array

ORDER = ('NHWC', 'HWIO', 'NHWC')
Pads = tuple[tuple[int, int], ...]


def convolved(
    inputs: Array,
    kernel: Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    precision: Any = None,
) -> Array:
    """`lax.conv_general_dilated`, to be given to `flax.linen.Conv(conv_general_dilated=...)`.

    What is not a convolution of all channels of maps (B, H, W, C), or does not run on a CPU, goes to `lax` as it is.
    With a kernel of one position it is a matrix product, and done as one.
    """
    plain = inputs.ndim == 4 and feature_group_count == 1 and precision is None
    if jax.default_backend() != 'cpu' or not plain or not _known(dimension_numbers, inputs, kernel):
        return lax.conv_general_dilated(
            inputs, kernel, window_strides, padding, lhs_dilation, rhs_dilation, dimension_numbers,
            feature_group_count=feature_group_count, precision=precision,
        )  # fmt: skip
    around, inside = tuple(lhs_dilation or (1, 1)), tuple(rhs_dilation or (1, 1))
    pads: Any = padding
    if isinstance(padding, str):
        size = [(extent - 1) * by + 1 for extent, by in zip(inputs.shape[1:3], around, strict=True)]
        window = [(extent - 1) * by + 1 for extent, by in zip(kernel.shape[:2], inside, strict=True)]
        pads = lax.padtype_to_pads(size, window, window_strides, padding)
    pads = tuple((int(low), int(high)) for low, high in pads)
    if kernel.shape[:2] == (1, 1) and not any(map(any, pads)) and around == (1, 1):
        down, right = window_strides
        return inputs[:, ::down, ::right] @ kernel[0, 0]
    return _convolution.bind(inputs, kernel, strides=tuple(window_strides), pads=pads, around=around, inside=inside)


def _known(numbers: Any, inputs: Array, kernel: Array) -> bool:
    """Whether dimensions are in the known order."""
    return lax.conv_dimension_numbers(inputs.shape, kernel.shape, numbers) == lax.conv_dimension_numbers(
        inputs.shape, kernel.shape, ORDER
    )


def _plain(x: Array, w: Array, *, strides: Any, pads: Pads, around: Any, inside: Any) -> Array:
    return lax.conv_general_dilated(x, w, strides, pads, around, inside, ORDER)


def _to_inputs(g: Array, x: Any, w: Array, *, strides: Any, pads: Pads, around: Any, inside: Any) -> Array:
    """The cotangent of the inputs: the kernel, turned by half, over the cotangent of the outputs."""
    reach = []
    for axis, (low, _) in enumerate(pads):
        window, outputs = (w.shape[axis] - 1) * inside[axis] + 1, (g.shape[axis + 1] - 1) * strides[axis] + 1
        before = window - 1 - low
        reach.append((before, (x.aval.shape[axis + 1] - 1) * around[axis] + window - outputs - before))
    turned = jnp.flip(w, (0, 1)).transpose(0, 1, 3, 2)
    return _convolution.bind(g, turned, strides=around, pads=tuple(reach), around=strides, inside=inside)


def _to_kernel(g: Array, x: Array, w: Any, *, strides: Any, pads: Pads, around: Any, inside: Any) -> Array:
    """The cotangent of the kernel: that of the outputs, as a kernel, over the inputs; examples are what is summed."""
    reach = []
    for axis, (low, _) in enumerate(pads):
        outputs, inputs = (g.shape[axis + 1] - 1) * strides[axis] + 1, (x.shape[axis + 1] - 1) * around[axis] + 1
        reach.append((low, (w.aval.shape[axis] - 1) * inside[axis] + outputs - inputs - low))
    x, g = x.transpose(3, 1, 2, 0), g.transpose(1, 2, 0, 3)
    found = _convolution.bind(x, g, strides=inside, pads=tuple(reach), around=around, inside=strides)
    return found.transpose(1, 2, 0, 3)


def _batched(values: Any, axes: Any, **fields: Any) -> tuple[Array, int]:
    return jax.vmap(functools.partial(_plain, **fields), in_axes=axes)(*values), 0


def _shape(x: Any, w: Any, **fields: Any) -> Any:
    return jax.core.ShapedArray(jax.eval_shape(functools.partial(_plain, **fields), x, w).shape, x.dtype)


# A primitive of its own rather than a custom gradient, so that derivatives of all kinds and orders are there.
_convolution = Primitive('kdjax_convolution')
_convolution.def_impl(jax.jit(_plain, static_argnames=('strides', 'pads', 'around', 'inside')))
_convolution.def_abstract_eval(_shape)
mlir.register_lowering(_convolution, mlir.lower_fun(_plain, multiple_results=False))
ad.defbilinear(_convolution, _to_inputs, _to_kernel)
batching.primitive_batchers[_convolution] = _batched
