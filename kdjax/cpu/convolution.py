"""Convolutions whose gradients XLA compiles well on a CPU, wherever they stand.

XLA knows fast kernels on a CPU for one order of dimensions: (B, H, W, C) maps and (h, w, I, O) kernels. The gradients
of a convolution are convolutions in other orders. Those at the top of a program are put into the known one; those
inside a loop (`lax.scan`, `lax.map`) are not, and become plain nested loops, tens of times slower. Here gradients of
inputs are written in the known order to begin with, and those of kernels, which are slow in any order where maps are
large, as a matrix product for each position of the kernel. The sums are those of `lax.conv_general_dilated`.

Outputs, inputs and kernel are three sides of one form: each is bilinear in the other two, and derivatives of one are
the others. Where the library of `kdjax.cpu.onednn` was built, it does those that it can, and what follows a convolution
outside training in the same pass over memory; the derivatives of that are those of its parts.
"""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from kdjax.cpu import onednn
from kdjax.types import Array

ORDER = ('NHWC', 'HWIO', 'NHWC')
Pads = tuple[tuple[int, int], ...]
# By what is found, of its first and its second operand: the dimension that is not summed over, and where it ends up.
FREE = {
    onednn.OUTPUTS: ((0, 0), (3, 3)),  # examples of inputs, output channels of the kernel
    onednn.INPUTS: ((0, 0), (2, 3)),  # examples of outputs, input channels of the kernel
    onednn.KERNEL: ((3, 2), (3, 3)),  # channels of inputs, channels of outputs
}

_plain = contextvars.ContextVar('plain convolutions', default=False)


@contextlib.contextmanager
def plain() -> Iterator[None]:
    """In it convolutions are those of `lax`, for programs that leave this machine.

    What JAX has traced before and kept is not traced again: there, `without_primitives` finds what an operation is.
    """
    token = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(token)


def without_primitives(name: str) -> Callable[..., Array] | None:
    """The function of `lax` that is the primitive of this name, with its parameters; None of any other primitive."""
    known = {form.name: by_lax for form, by_lax in ((_outputs, _outputs_by_lax), (_finished, _finished_by_lax))}
    return known.get(name)


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
    around, inside = tuple(lhs_dilation or (1, 1)), tuple(rhs_dilation or (1, 1))
    usual = inputs.ndim == 4 and around == (1, 1) and feature_group_count == 1 and precision is None
    if _plain.get() or jax.default_backend() != 'cpu' or not usual or not _known(dimension_numbers, inputs, kernel):
        return lax.conv_general_dilated(
            inputs, kernel, window_strides, padding, lhs_dilation, rhs_dilation, dimension_numbers,
            feature_group_count=feature_group_count, precision=precision,
        )  # fmt: skip
    pads: Any = padding
    if isinstance(padding, str):
        window = [(extent - 1) * by + 1 for extent, by in zip(kernel.shape[:2], inside, strict=True)]
        pads = lax.padtype_to_pads(inputs.shape[1:3], window, window_strides, padding)
    pads = tuple((int(low), int(high)) for low, high in pads)
    alone = kernel.shape[:2] == (1, 1) and not any(map(any, pads))
    if alone and not onednn.does(inputs, kernel, pads, 'outputs'):
        down, right = window_strides
        return inputs[:, ::down, ::right] @ kernel[0, 0]
    return _outputs.bind(inputs, kernel, strides=tuple(window_strides), pads=pads, inside=inside)


Conv = functools.partial(nn.Conv, conv_general_dilated=convolved)  # for networks and techniques


def finished(
    inputs: Array,
    kernel: Array,
    bias: Array,
    after: Array | None,
    *,
    strides: tuple[int, int],
    pads: Pads,
    groups: int,
    relu: bool,
) -> Array:
    """A convolution of maps (B, H, W, C), with what follows it: in one pass over memory where the library does it.

    Args:
      inputs, kernel: (B, H, W, I), (h, w, I, O), of one dtype.
      bias: (O,), added to the outputs, all in its dtype: float32 for any dtype of maps up to it.
      after: as the outputs, added to them; None for nothing.
      strides, pads, groups: of the convolution.
      relu: whether outputs then go through a ReLU.
    """
    operands = (inputs, kernel, bias) if after is None else (inputs, kernel, bias, after)
    if _plain.get() or jax.default_backend() != 'cpu' or groups > 1:
        return _finished_by_lax(*operands, strides=strides, pads=pads, relu=relu, groups=groups)
    return _finished.bind(*operands, strides=strides, pads=pads, relu=relu)


def _finished_by_lax(
    x: Array, w: Array, bias: Array, *after: Array, strides: Any, pads: Pads, relu: bool, groups: int = 1
) -> Array:
    sums = convolved(x, w, strides, pads, dimension_numbers=ORDER, feature_group_count=groups)
    found = sum((each.astype(bias.dtype) for each in after), sums.astype(bias.dtype) + bias)
    return (jax.nn.relu(found) if relu else found).astype(x.dtype)


def _known(numbers: Any, inputs: Array, kernel: Array) -> bool:
    """Whether dimensions are in the known order."""
    return lax.conv_dimension_numbers(inputs.shape, kernel.shape, numbers) == lax.conv_dimension_numbers(
        inputs.shape, kernel.shape, ORDER
    )


def _outputs_by_lax(x: Array, w: Array, *, strides: Any, pads: Pads, inside: Any) -> Array:
    return lax.conv_general_dilated(x, w, strides, pads, (1, 1), inside, ORDER)


def _inputs_by_lax(g: Array, w: Array, *, size: Any, strides: Any, pads: Pads, inside: Any) -> Array:
    """The kernel, turned by half, over the outputs' cotangent."""
    reach = []
    for axis, (low, _) in enumerate(pads):
        window, outputs = (w.shape[axis] - 1) * inside[axis] + 1, (g.shape[axis + 1] - 1) * strides[axis] + 1
        before = window - 1 - low
        reach.append((before, size[axis] - 1 + window - outputs - before))
    turned = jnp.flip(w, (0, 1)).transpose(0, 1, 3, 2)
    return lax.conv_general_dilated(g, turned, (1, 1), reach, strides, inside, ORDER)


def _kernel_by_lax(x: Array, g: Array, *, size: Any, strides: Any, pads: Pads, inside: Any) -> Array:
    """The outputs' cotangent, as a kernel, over the inputs; examples are what is summed."""
    reach = []
    for axis, (low, _) in enumerate(pads):
        outputs = (g.shape[axis + 1] - 1) * strides[axis] + 1
        reach.append((low, (size[axis] - 1) * inside[axis] + outputs - x.shape[axis + 1] - low))
    x, g = x.transpose(3, 1, 2, 0), g.transpose(1, 2, 0, 3)
    found = lax.conv_general_dilated(x, g, inside, reach, (1, 1), strides, ORDER)
    return found.transpose(1, 2, 0, 3)


def _kernel_by_products(x: Array, g: Array, *, size: Any, strides: Any, pads: Pads, inside: Any) -> Array:
    """Position by position the inputs that it meets, times the outputs' cotangent; examples and places are summed."""
    x = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *((*pad, 0) for pad in pads), (0, 0, 0)))
    reach = [(outputs - 1) * by + 1 for outputs, by in zip(g.shape[1:3], strides, strict=True)]
    down, right = strides
    cotangent = g.reshape(-1, g.shape[3])

    def position(corner: Array) -> Array:
        met = lax.dynamic_slice(x, tuple(corner), (x.shape[0], *reach, x.shape[3]))[:, ::down, ::right]
        return met.reshape(-1, x.shape[3]).T @ cotangent

    # In a loop, as the products are: in a row they take longer to compile, and no less time.
    rows, columns = (np.arange(count) * by for count, by in zip(size, inside, strict=True))
    corners = np.array([(0, row, column, 0) for row in rows for column in columns], np.int32)
    return lax.map(position, corners).reshape(*size, x.shape[3], g.shape[3])


def _form(side: str, by_lax: Callable[..., Array], by_xla: Callable[..., Array] | None = None) -> Primitive:
    """One side of the form: a primitive, so that derivatives of all kinds and orders are there.

    Args:
      side: of onednn.SIDES.
      by_lax: what it is.
      by_xla: the same as XLA does it well on a CPU, where that is otherwise.
    """
    found, _ = onednn.SIDES[side]
    without = by_xla or by_lax
    form = Primitive(f'kdjax_convolution_{by_lax.__name__}')

    def shape(first: Any, second: Any, **fields: Any) -> Any:
        return jax.core.ShapedArray(
            jax.eval_shape(functools.partial(by_lax, **fields), first, second).shape, first.dtype
        )

    def on_cpu(first: Array, second: Array, **fields: Any) -> Array:
        if not onednn.does(first, second, fields['pads'], side):
            return without(first, second, **fields)
        shape = jax.eval_shape(functools.partial(by_lax, **fields), first, second).shape
        return onednn.convolution(first, second, found, shape, fields['strides'], fields['pads'], fields['inside'])

    def batched(values: Any, axes: Any, **fields: Any) -> tuple[Array, int]:
        """More examples or channels of one convolution where only one operand has the axis; else one after the other.

        As one they would be a convolution of groups, which is slow on a CPU.
        """
        if None not in axes:
            both = tuple(jnp.moveaxis(value, axis, 0) for value, axis in zip(values, axes, strict=True))
            return lax.map(lambda own: form.bind(*own, **fields), both), 0
        which = 1 if axes[0] is None else 0
        place, out = FREE[found][which]
        value = jnp.moveaxis(values[which], axes[which], place)
        cells, size = value.shape[place : place + 2]
        operands = list(values)
        operands[which] = value.reshape(*value.shape[:place], cells * size, *value.shape[place + 2 :])
        many = form.bind(*operands, **fields)
        return many.reshape(*many.shape[:out], cells, size, *many.shape[out + 1 :]), out

    form.def_impl(jax.jit(on_cpu, static_argnames=('size', 'strides', 'pads', 'inside')))
    form.def_abstract_eval(shape)
    mlir.register_lowering(form, mlir.lower_fun(by_lax, multiple_results=False))
    mlir.register_lowering(form, mlir.lower_fun(on_cpu, multiple_results=False), platform='cpu')
    batching.primitive_batchers[form] = batched
    return form


_outputs = _form('outputs', _outputs_by_lax)
_inputs = _form('inputs', _inputs_by_lax)
_kernel = _form('kernel', _kernel_by_lax, _kernel_by_products)


def _sized(form: Primitive, first: Array, second: Array, like: Any, axis: int, fields: Any) -> Array:
    """Inputs or kernel, of the height and width that `like` has from `axis` on."""
    return form.bind(first, second, **{**fields, 'size': tuple(like.aval.shape[axis : axis + 2])})


def _outputs_of(x: Array, w: Array, *, size: Any, **fields: Any) -> Array:
    return _outputs.bind(x, w, **fields)


ad.defbilinear(
    _outputs,
    lambda g, x, w, **fields: _sized(_inputs, g, w, x, 1, fields),
    lambda g, x, w, **fields: _sized(_kernel, x, g, w, 0, fields),
)
ad.defbilinear(
    _inputs,
    lambda x, g, w, **fields: _outputs_of(x, w, **fields),
    lambda x, g, w, **fields: _sized(_kernel, x, g, w, 0, fields),
)
ad.defbilinear(
    _kernel,
    lambda w, x, g, **fields: _sized(_inputs, g, w, x, 1, fields),
    lambda w, x, g, **fields: _outputs_of(x, w, **fields),
)


def _finished_primitive() -> Primitive:
    finish = Primitive('kdjax_convolution_finished')

    def shape(*operands: Any, **fields: Any) -> Any:
        found = jax.eval_shape(functools.partial(_finished_by_lax, **fields), *operands)
        return jax.core.ShapedArray(found.shape, found.dtype)

    def on_cpu(x: Array, w: Array, *more: Array, **fields: Any) -> Array:
        bias, *after = more
        known = bias.dtype == jnp.float32 and all(each.dtype == x.dtype for each in after)
        if not known or not onednn.does(x, w, fields['pads'], 'finished outputs'):
            return _finished_by_lax(x, w, *more, **fields)
        found = shape(x, w, *more, **fields).shape
        return onednn.convolution(
            x, w, onednn.OUTPUTS, found, fields['strides'], fields['pads'], (1, 1), more, fields['relu']
        )

    def batched(values: Any, axes: Any, **fields: Any) -> tuple[Array, int]:
        return jax.vmap(functools.partial(_finished_by_lax, **fields), axes)(*values), 0

    def pushed(primals: Any, tangents: Any, **fields: Any) -> tuple[Array, Array]:
        return jax.jvp(
            functools.partial(_finished_by_lax, **fields), primals, tuple(map(ad.instantiate_zeros, tangents))
        )

    finish.def_impl(jax.jit(on_cpu, static_argnames=('strides', 'pads', 'relu')))
    finish.def_abstract_eval(shape)
    mlir.register_lowering(finish, mlir.lower_fun(_finished_by_lax, multiple_results=False))
    mlir.register_lowering(finish, mlir.lower_fun(on_cpu, multiple_results=False), platform='cpu')
    batching.primitive_batchers[finish] = batched
    ad.primitive_jvps[finish] = pushed
    return finish


_finished = _finished_primitive()
