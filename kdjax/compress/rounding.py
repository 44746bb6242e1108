"""Fewer bits: rounding of weights and of what they are multiplied with, by numbers of bits that are traced.

All arithmetic is in float32 at least: bfloat16 has eight bits of significand, of which codes of 8 bits need all. Beyond
what is rounded gradients pass as if nothing were (straight-through estimator), and where the code is clipped none does.

Reference: Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference,
CVPR 2018; Bengio, Leonard, Courville, Estimating or Propagating Gradients Through Stochastic Neurons, 2013 (the
gradient); Esser, McKinstry, Bablani, Appuswamy, Modha, Learned Step Size Quantization, ICLR 2020 (LSQ).
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.errors import unknown
from kdjax.types import Array

FLOAT = 16  # bits from which on nothing is rounded
FORMS = ('paper', 'pytorch')


def top(bits: Array | float) -> Array:
    """2^(bits - 1) - 1, the largest code of a symmetric range: 127 of 8 bits. () int32"""
    # A shift: the power of XLA is not exact.
    return (jnp.ones((), jnp.int32) << (_whole(bits) - 1)) - 1


def _whole(bits: Array | float) -> Array:
    return jnp.clip(jnp.asarray(bits), 2, FLOAT).astype(jnp.int32)


def affine(
    x: Array, scale: Array, zero: Array | float, low: Array | float, high: Array | float, bits: Array | float = 8
) -> Array:
    """scale (clip(round(x / scale) + zero, low, high) - zero), as a float; half rounds to even.

    The gradient is 1 where the code lies in the range, decided after rounding, and 0 elsewhere.

    Args:
      x: of any shape.
      scale: > 0, broadcasts against `x`; so does `zero`.
      zero: the code of 0.
      low, high: smallest and largest code.
      bits: () of the code; where there are 16 or more `x` stays as it is, bit for bit.
    """
    wide = _wide(x)
    scale, zero, low, high = (
        jax.lax.stop_gradient(jnp.asarray(value, wide.dtype)) for value in (scale, zero, low, high)
    )
    code = jnp.round(wide * (1 / scale)) + zero  # a division for every number would take longer than the rest
    inside, exact = jnp.clip(code, low, high), jnp.asarray(bits) >= FLOAT
    rounded = jnp.where(exact, wide, (inside - zero) * scale)
    return _straight(wide, rounded, exact | (inside == code)).astype(x.dtype)


@jax.custom_jvp
def _straight(x: Array, rounded: Array, inside: Array) -> Array:
    """`rounded`, with the gradient of `x` where it is inside."""
    return rounded


@_straight.defjvp
def _where_inside(values: tuple[Array, Array, Array], tangents: tuple[Array, Any, Any]) -> tuple[Array, Array]:
    _, rounded, inside = values
    return rounded, jnp.where(inside, tangents[0], jnp.zeros_like(rounded))


def _wide(x: Array) -> Array:
    return x if x.dtype == jnp.float64 else x.astype(jnp.float32)


def symmetric_scale(weights: Array, bits: Array | float, axes: Sequence[int] | None = None) -> Array:
    """max |w| / (2^(bits - 1) - 1) over `axes`, which stay with length 1; 1 where all weights are 0."""
    largest = jnp.max(jnp.abs(_wide(weights)), axis=None if axes is None else tuple(axes), keepdims=True)
    return jnp.where(largest > 0, largest / top(bits).astype(largest.dtype), jnp.ones_like(largest))


def symmetric(weights: Array, bits: Array | float, axes: Sequence[int] | None = None) -> Array:
    """Weights on the grid of so many bits, the same on both sides of 0: -127 ... 127 steps of 8 bits.

    The step follows from the largest weight, so there is nothing to calibrate. With one step per output channel it is
    the same whether normalisation is folded into the weights before or after.

    Args:
      weights: of any shape.
      bits: () from 2 on; from 16 on weights stay as they are, bit for bit.
      axes: that share a step: those that are summed over; None for all.
    """
    wide = _wide(weights)
    scale = jax.lax.stop_gradient(symmetric_scale(weights, bits, axes))
    # The largest weight has the largest code, so none is clipped and all gradients pass.
    rounded = jnp.where(jnp.asarray(bits) >= FLOAT, wide, jnp.round(wide * (1 / scale)) * scale)
    return _straight(wide, rounded, jnp.ones((), bool)).astype(weights.dtype)


def asymmetric_scale(low: Array, high: Array, bits: Array | float) -> tuple[Array, Array]:
    """Step, and code of 0, of a range that is widened to hold 0, which is thereby exact."""
    low, high = jnp.minimum(_wide(low), 0), jnp.maximum(_wide(high), 0)
    codes = (2 * top(bits) + 1).astype(low.dtype)
    scale = jnp.where(high > low, (high - low) / codes, jnp.ones_like(low))
    return scale, jnp.round(-low / scale)


def asymmetric(x: Array, bits: Array | float, low: Array, high: Array) -> Array:
    """Activations on the grid of so many bits over a range: codes 0 ... 255 of 8 bits.

    Args:
      x: of any shape.
      bits: () from 2 on; from 16 on they stay as they are, bit for bit.
      low, high: () the range.
    """
    scale, zero = asymmetric_scale(low, high, bits)
    return affine(x, scale, zero, 0, 2 * top(bits) + 1, bits)


def learned(
    weights: Array,
    scale: Array,
    bits: Array | float,
    low: Array | float | None = None,
    high: Array | float | None = None,
    form: str = 'paper',
) -> Array:
    """Weights on a grid whose step is learned (LSQ, eq. 1-3).

    The gradient of the step carries 1 / sqrt(weights per step * largest code) (sec. 2.2).

    Args:
      weights: of any shape.
      scale: the step, > 0; broadcasts against the weights.
      bits: () from 2 on; from 16 on weights stay as they are, bit for bit.
      low, high: smallest and largest code; those of `symmetric` if left out.
      form: 'paper' asks the weight whether it is clipped, 'pytorch' the rounded code.
    """
    if form not in FORMS:
        raise unknown('form', form, FORMS)
    wide = _wide(weights)
    high = jnp.asarray(top(bits) if high is None else high).astype(wide.dtype)
    low = -high if low is None else jnp.asarray(low).astype(wide.dtype)
    factor = jax.lax.rsqrt(high * (weights.size / jnp.size(scale)))
    step = scale.astype(wide.dtype)
    step = jax.lax.stop_gradient(step) + factor * (step - jax.lax.stop_gradient(step))
    ratio = wide / step
    code = jnp.round(ratio)
    inside = (ratio > low) & (ratio < high) if form == 'paper' else (code >= low) & (code <= high)
    moving = _straight(ratio, jax.lax.stop_gradient(jnp.clip(code, low, high)), inside)
    return jnp.where(jnp.asarray(bits) >= FLOAT, weights, (moving * step).astype(weights.dtype))


def learned_start(weights: Array, bits: Array | float, axes: Sequence[int]) -> Array:
    """Where the step begins: 2 mean |w| / sqrt(largest code) (LSQ, sec. 2.1), over `axes`; 1 where all are 0."""
    wide = _wide(weights)
    mean = jnp.mean(jnp.abs(wide), axis=tuple(axes), keepdims=True)
    return jnp.where(mean > 0, 2 * mean * jax.lax.rsqrt(top(bits).astype(wide.dtype)), jnp.ones_like(mean))


def integer_dense(
    inputs: np.ndarray,
    kernel: np.ndarray,
    bias: np.ndarray,
    *,
    scale_inputs: float,
    zero_inputs: int,
    scale_kernel: np.ndarray,
    scale_outputs: float,
    zero_outputs: int,
) -> tuple[np.ndarray, np.ndarray]:
    """A dense layer in integers, as a microcontroller computes it (Jacob et al., sec. 2.2), half to even.

    Args:
      inputs, kernel: codes (B, I) and (I, O), int8.
      bias: (O,) int32, in steps of scale_inputs * scale_kernel.
      scale_inputs, scale_kernel, scale_outputs: steps; (O,) of the kernel.
      zero_inputs, zero_outputs: codes of 0.

    Returns:
      Codes of the outputs (B, O), int8, and the sums that they are rounded from, int64.
    """
    sums = (inputs.astype(np.int64) - zero_inputs) @ kernel.astype(np.int64) + bias.astype(np.int64)
    codes = np.rint(sums * (scale_inputs * scale_kernel / scale_outputs)) + zero_outputs
    return np.clip(codes, -128, 127).astype(np.int8), sums
