"""The ranges that a student learned in rounded training, for the tensors of a file that is made of it.

A file has names of its own for its tensors. What belongs together is known by the weights: a product of the file and
one of the network are the same where their weights are, in whatever layout.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from kdjax.compress import products, quantized, rounding
from kdjax.compress.quantized import ROUNDING
from kdjax.errors import UsageError
from kdjax.export import bundle
from kdjax.export.bundle import Student
from kdjax.export.program import Learned
from kdjax.types import Tree

BITS = 8  # of what a file of whole numbers multiplies


def rounded(student: Student) -> bool:
    """Whether it was trained with its products rounded."""
    stats = student.variables['stats']
    return isinstance(stats, Mapping) and ROUNDING in stats


def with_whole_inputs(student: Student) -> Student:
    """A rounded student without what rounds the inputs of its products, which a file does by itself."""
    own = student.variables['stats'][ROUNDING]
    bits = np.asarray([own['bits'][0], 32], np.float32)
    stats = {**student.variables['stats'], ROUNDING: {**own, 'bits': bits}}
    return dataclasses.replace(student, variables={**student.variables, 'stats': stats})


def learned(student: Student, example: Tree) -> dict[str, Learned]:
    """By product what a rounded student knows of what is multiplied there; {} of inputs that were not rounded.

    Args:
      student: a rounded one.
      example: shapes and dtypes of one example as its network reads it, without an axis for examples.

    Raises:
      UsageError: inputs were rounded to another number of bits than a file has.
    """
    own = student.variables['stats'][ROUNDING]
    bits = int(own['bits'][1])
    if bits >= rounding.FLOAT or not own['seen']:
        return {}
    if bits != BITS:
        raise UsageError(f'files of whole numbers multiply numbers of {BITS} bits; this student was trained for {bits}')
    found: dict[str, Learned] = {}

    def noted(site: products.Site, operands: Sequence[Any], product: Callable[..., list[Any]]) -> list[Any]:
        key = quantized.key(site)
        if site.weight is not None and key in own['ranges']:
            low, high = map(float, own['ranges'][key])
            found[key] = Learned(min(low, 0.0), max(high, 0.0), np.asarray(operands[site.weight]))
        return product(*operands)

    changes = {**student.about['changes'], 'rounding': {}}
    net = bundle.build({**student.about, 'changes': changes}, {}).net
    inputs = jax.tree.map(lambda one: np.zeros((1, *one.shape), one.dtype), example)
    products.applied(net, quantized.plain(student.variables), inputs, noted, train=False, key=None)
    return found


def by_tensor(
    known: Mapping[str, Learned], multiplied: Sequence[tuple[str, np.ndarray]]
) -> dict[str, tuple[float, float]]:
    """{tensor: (smallest, largest)} of the tensors of a file that are multiplied with weights.

    Args:
      known: by product of the network.
      multiplied: of every product of the file the tensor, and its weights.
    """
    left, found = dict(known), dict[str, tuple[float, float]]()
    for tensor, weights in multiplied:
        alike = {key: _apart(one.weights, weights) for key, one in left.items() if one.weights.size == weights.size}
        if alike:
            low, high, _ = left.pop(min(alike, key=lambda key: alike[key]))
            old = found.get(tensor, (low, high))
            found[tensor] = (min(low, old[0]), max(high, old[1]))
    return found


def _apart(left: np.ndarray, right: np.ndarray) -> float:
    """How far weights are from each other, in whatever order they lie."""
    one, other = (np.sort(np.abs(np.asarray(array, np.float64)), axis=None) for array in (left, right))
    return float(np.max(np.abs(one - other)))
