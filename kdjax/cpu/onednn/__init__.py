"""Convolutions by oneDNN on a CPU: an optional library, which `python -m kdjax.cpu.onednn` builds.

XLA's own convolutions reach less of a CPU than oneDNN's, which PyTorch has, and know nothing of bfloat16. Where the
library was built, the programs of a CPU call it; everywhere else, and with KDJAX_CONVOLUTIONS=xla in the environment,
nothing changes. Several devices of one CPU (as tests have them) do without: their threads are the same ones.

What oneDNN can do depends on its version and on the processor (bfloat16 needs instructions that many do not have). The
library is asked, once for each dtype and side of a convolution, and what it cannot do stays with XLA.
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

from kdjax.errors import UsageError
from kdjax.types import Array

OPT_OUT = 'KDJAX_CONVOLUTIONS'  # 'xla' in the environment leaves convolutions to XLA
SOURCE = Path(__file__).with_name('convolution.cc')
BUILD = 'python -m kdjax.cpu.onednn'
DTYPES = ('float32', 'bfloat16')
OUTPUTS, INPUTS, KERNEL = range(3)  # what is found: as in the source
BIAS, ADD, RELU = 1, 2, 4  # what is then done to outputs: as in the source
# Sides of a convolution, as the library is asked about them: what is found, and what is then done to it.
SIDES = {
    'outputs': (OUTPUTS, 0),
    'finished outputs': (OUTPUTS, BIAS | ADD | RELU),
    'inputs': (INPUTS, 0),
    'kernel': (KERNEL, 0),
}


def library() -> Path:
    """Where the library of this source and this jaxlib is, once it is built."""
    cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache')
    state = hashlib.sha256(SOURCE.read_bytes() + jaxlib.__version__.encode()).hexdigest()[:16]
    return cache / 'kdjax' / 'onednn' / f'{state}.so'


def wanted() -> bool:
    """Whether programs of this process are to call the library, once it is built."""
    return os.environ.get(OPT_OUT) != 'xla' and jax.default_backend() == 'cpu' and jax.local_device_count('cpu') == 1


def outdated() -> bool:
    """Whether the library is wanted and not built, but was built of another source or for another jaxlib."""
    return wanted() and not library().exists() and any(library().parent.glob('*.so'))


@functools.cache
def loaded() -> ctypes.CDLL | None:
    """The library; None where it is not to be used.

    Raises:
      UsageError: it is there but cannot be loaded, or is not what this module needs.
    """
    path = library()
    if not wanted() or not path.exists():
        return None
    try:
        found = ctypes.CDLL(str(path))
        for name in ('kdjax_convolution', 'kdjax_onednn_version', 'kdjax_onednn_can'):
            getattr(found, name)
    except (OSError, AttributeError) as error:
        raise UsageError(f'{path} is of no use ({error}): build it again ({BUILD}) or set {OPT_OUT}=xla') from error
    return found


@functools.cache
def target() -> str | None:
    """The name under which XLA knows the library; None where it is not to be used.

    Raises:
      UsageError: as `loaded`.
    """
    found = loaded()
    if found is None:
        return None
    # Named by its contents: compiled programs that are kept on disk call the library that they were made for.
    name = f'kdjax_convolution_{library().stem}'
    jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(found.kdjax_convolution), platform='cpu')
    return name


@functools.cache
def can(dtype: str, side: str) -> bool:
    """Whether the library is to be used and, on this processor, does this one of SIDES for operands of this dtype.

    Raises:
      UsageError: as `loaded`.
    """
    found = loaded()
    return found is not None and found.kdjax_onednn_can(dtype == 'bfloat16', *SIDES[side]) == 1


def by() -> dict[str, str]:
    """Who does the convolutions of this process, by dtype: 'oneDNN 3.2.0', 'XLA', or who does which sides."""
    return {dtype: _by(dtype) for dtype in DTYPES}


def _by(dtype: str) -> str:
    left = [side for side in SIDES if not can(dtype, side)]
    found = loaded()
    if found is None or len(left) == len(SIDES):
        return 'XLA'
    number = found.kdjax_onednn_version()
    version = f'oneDNN {number // 10**6}.{number // 1000 % 1000}.{number % 1000}'
    return f'{version}, but XLA for {" and ".join(left)}' if left else version


def does(first: Any, second: Any, pads: tuple[tuple[int, int], ...], side: str) -> bool:
    """Whether the library is there and does this one of SIDES from such operands."""
    known = first.dtype == second.dtype and first.dtype.name in DTYPES
    fits = known and min(map(min, pads)) >= 0 and min(*first.shape, *second.shape) > 0
    return fits and can(first.dtype.name, side)


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
