"""Convolutions by oneDNN on a CPU: an optional library, which `python -m kdjax.cpu.onednn` builds.

XLA's own convolutions reach less of a CPU than oneDNN's, which PyTorch has, and know nothing of bfloat16. Where the
library was built, the programs of a CPU call it; everywhere else, and with KDJAX_CONVOLUTIONS=xla in the environment,
nothing changes. Several devices of one CPU (as tests have them) do without: their threads are the same ones.
"""

import ctypes
import functools
import hashlib
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np

from kdjax.types import Array

OPT_OUT = 'KDJAX_CONVOLUTIONS'  # 'xla' in the environment leaves convolutions to XLA
SOURCE = Path(__file__).with_name('convolution.cc')
DTYPES = (jnp.float32, jnp.bfloat16)
OUTPUTS, INPUTS, KERNEL = range(3)  # what is found: as in the source
BIAS, ADD, RELU = 1, 2, 4  # what is then done to outputs: as in the source


def library() -> Path:
    """Where the library of this source and this jaxlib is, once it is built."""
    cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache')
    state = hashlib.sha256(SOURCE.read_bytes() + jaxlib.__version__.encode()).hexdigest()[:16]
    return cache / 'kdjax' / 'onednn' / f'{state}.so'


@functools.cache
def target() -> str | None:
    """The name under which XLA knows the library; None where it is not to be used.

    Raises:
      OSError: the library is there but cannot be loaded.
    """
    path = library()
    if os.environ.get(OPT_OUT) == 'xla' or jax.default_backend() != 'cpu' or not path.exists():
        return None
    if jax.local_device_count('cpu') > 1:
        return None
    # Named by its contents: compiled programs that are kept on disk call the library that they were made for.
    name = f'kdjax_convolution_{path.stem}'
    handler = jax.ffi.pycapsule(ctypes.CDLL(str(path)).kdjax_convolution)
    jax.ffi.register_ffi_target(name, handler, platform='cpu')
    return name


def by() -> str:
    """Who does the convolutions of this process: 'oneDNN 3.2.0', or 'XLA'."""
    if target() is None:
        return 'XLA'
    number = ctypes.CDLL(str(library())).kdjax_onednn_version()
    return f'oneDNN {number // 10**6}.{number // 1000 % 1000}.{number % 1000}'


def does(first: Any, second: Any, pads: tuple[tuple[int, int], ...]) -> bool:
    """Whether the library is there and does a convolution of such operands."""
    known = first.dtype == second.dtype and first.dtype in DTYPES
    return known and min(map(min, pads)) >= 0 and min(*first.shape, *second.shape) > 0 and target() is not None


def convolution(
    first: Array,
    second: Array,
    found: int,
    shape: tuple[int, ...],
    strides: tuple[int, int],
    pads: tuple[tuple[int, int], ...],
    dilations: tuple[int, int],
    more: tuple[Array, ...] = (),
    relu: bool = False,
) -> Array:
    """One side of a convolution from the other two: outputs (B, H, W, O), inputs (B, H, W, I) or kernel (h, w, I, O).

    Args:
      first, second: inputs and kernel, outputs' cotangent and kernel, or inputs and outputs' cotangent.
      found: OUTPUTS, INPUTS or KERNEL.
      shape: of what is found.
      strides, pads, dilations: of the convolution from inputs to outputs; (low, high) pads are not negative.
      more: added to outputs: a bias (O,) in float32 and, after it, something of the shape of outputs.
      relu: whether outputs then go through a ReLU.
    """
    name = target()
    assert name is not None
    dtype = jnp.float32 if found == KERNEL else first.dtype  # sums over examples stay in float32 to the end
    numbers = {'strides': strides, 'pads': sum(pads, ()), 'dilations': dilations}
    attributes = {name: np.asarray(value, np.int64) for name, value in numbers.items()}
    then = (BIAS if more else 0) | (ADD if len(more) > 1 else 0) | (RELU if relu else 0)
    # What is added to outputs becomes them, without a copy where nobody else reads it.
    alias = {3: 0} if then & ADD else None
    call = jax.ffi.ffi_call(name, jax.ShapeDtypeStruct(shape, dtype), input_output_aliases=alias)
    return call(first, second, *more, found=np.int64(found), then=np.int64(then), **attributes).astype(first.dtype)
