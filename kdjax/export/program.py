"""A student as exporters take it: nothing but what makes logits of inputs, its weights inside."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import numpy as np

from kdjax.export.bundle import Student
from kdjax.types import Array


class Program(NamedTuple):
    """What is exported.

    Attributes:
      student: whose it is.
      function: {name: (B, ...)} as the network reads them -> logits (B, ...), for any B, also a symbolic one. Weights
        are constants in it, normalisation is part of them, and convolutions are those of `lax`.
      inputs: shape and dtype of ONE example by name, without an axis for examples.
    """

    student: Student
    function: Callable[[Mapping[str, Array]], Array]
    inputs: Mapping[str, jax.ShapeDtypeStruct]


class Calibration(NamedTuple):
    """What tells the ranges of a network's numbers.

    Attributes:
      examples: {name: (N, ...)} as the network reads them.
      ranges: of a student that was trained rounded, {product: (smallest, largest)} of what is multiplied there, by
        `compress.quantized.key` of its site; None of others.
    """

    examples: Mapping[str, np.ndarray]
    ranges: Mapping[str, tuple[float, float]] | None = None
