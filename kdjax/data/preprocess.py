"""From inputs as stored to inputs as networks see them: pure functions, the same for every view and every split."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.errors import UsageError
from kdjax.types import Array, Tree

Preprocess = Callable[[Any], Any]  # inputs (..., H, W[, C]) -> the same shape; inputs of several arrays likewise


def unit() -> Preprocess:
    """Bytes become float32 in [0, 1]; anything else stays as it is."""
    return _unit


def _unit(inputs: Tree) -> Tree:
    return jax.tree.map(lambda x: x.astype(jnp.float32) / 255 if x.dtype == jnp.uint8 else x, inputs)


def normalise(*, mean: tuple[float, ...], std: tuple[float, ...]) -> Preprocess:
    """(x - mean) / std of each channel, the last axis, after `unit`, in float32.

    Args:
      mean, std: one for all channels, or one per channel; of bytes in units of [0, 1]. CIFAR-100: mean (0.5071, 0.4865,
        0.4409), std (0.2673, 0.2564, 0.2762); MNIST: (0.1307,), (0.3081,).

    Raises:
      UsageError: different numbers of them, one that is not finite, a std that is not positive, or, once called,
        inputs with other channels.
    """
    if len(mean) != len(std) or not mean or not np.isfinite([*mean, *std]).all() or min(std) <= 0:
        raise UsageError(f'normalise needs a mean and a positive std per channel, got {mean} and {std}')
    centre, scale = (np.asarray(values, np.float32) for values in (mean, std))

    def preprocess(inputs: Array) -> Array:
        if len(mean) not in (1, inputs.shape[-1]):
            raise UsageError(f'normalise has {len(mean)} channels, but inputs are {"x".join(map(str, inputs.shape))}')
        return (unit()(inputs).astype(jnp.float32) - centre) / scale

    return preprocess
