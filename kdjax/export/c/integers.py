"""A network in whole numbers of 8 bits, as a microcontroller computes it, and the same in numpy to hold it against.

A number x is (code - zero) * step. Weights have codes -127 ... 127 and a step for each output channel; what they are
multiplied with has 256 codes over its range. Sums are whole numbers of 32 bits; back to 8 bits they go by a
multiplication with a whole number and a shift, half away from zero.

Reference: Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference,
CVPR 2018, sec. 2.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from kdjax.errors import UsageError
from kdjax.export.c import layouts
from kdjax.export.c.kinds import MAXIMUM, PRODUCT, SUM, Graph, Operator

LARGEST = 2**31 - 1  # of a sum
SHIFT = 62  # at most
CHUNK = 256  # examples at once


class Grid(NamedTuple):
    """What codes of a tensor mean: (code - zero) * step, for codes from -128 to 127."""

    step: float
    zero: int


class Step(NamedTuple):
    """An operator in whole numbers."""

    operator: Operator
    codes: np.ndarray  # (O, h, w, I / groups) int8 of a product
    bias: np.ndarray  # (O,) int32, in steps of the sums
    multipliers: np.ndarray  # (O,) int32
    added: int  # multiplier of what is added
    shift: int
    reads: Grid
    adds: Grid
    gives: Grid
    low: int  # smallest code that it gives
    scales: np.ndarray  # (O,) float32, of a step of the sums: for the last operator, whose sums are the logits


class Integers(NamedTuple):
    """A network in whole numbers."""

    graph: Graph
    scale: np.ndarray  # float32: a code of the example is round(x * scale + offset), half away from zero
    offset: np.ndarray
    first: Grid
    steps: tuple[Step, ...]

    @property
    def weight_bytes(self) -> int:
        """Constants: codes of 1 byte, biases and multipliers of 4."""
        return sum(step.codes.nbytes + step.bias.nbytes + step.multipliers.nbytes for step in self.steps)


def ranges(graph: Graph, examples: np.ndarray) -> dict[int, tuple[float, float]]:
    """Smallest and largest number of every tensor over examples (N, ...), in float32."""
    found: dict[int, tuple[float, float]] = {}
    for start in range(0, len(examples), CHUNK):
        for tensor, numbers in floats(graph, examples[start : start + CHUNK]).items():
            low, high = found.get(tensor, (0.0, 0.0))
            found[tensor] = (min(low, float(numbers.min())), max(high, float(numbers.max())))
    return found


def floats(graph: Graph, examples: np.ndarray) -> dict[int, np.ndarray]:
    """What every tensor is for examples (N, ...), in float32: (N, numbers) each."""
    channels = layouts.map_of(graph.shape)[2]
    first = np.asarray(examples, np.float32).reshape(len(examples), -1, channels)
    tensors = {0: (first * graph.scale + graph.offset).astype(np.float32).reshape(len(examples), -1)}
    for operator in graph.operators:
        windows = _windows(operator, tensors[operator.reads], -np.inf if operator.kind == MAXIMUM else 0.0)
        if operator.kind == MAXIMUM:
            found = windows.max(axis=2)
        elif operator.kind == SUM:
            found = windows.sum(axis=2, dtype=np.float32) * operator.kernel + operator.bias
        else:
            found = _multiplied(operator, windows, operator.kernel.astype(np.float32)) + operator.bias
        found = found.astype(np.float32).reshape(len(examples), -1)
        found = found if operator.adds is None else found + tensors[operator.adds]
        tensors[operator.makes] = np.maximum(found, 0) if operator.relu else found
    return tensors


def integers(graph: Graph, seen: Mapping[int, tuple[float, float]], bits: Sequence[int] = ()) -> Integers:
    """A network in whole numbers.

    Args:
      graph: its operators.
      seen: smallest and largest number of every tensor that an operator reads.
      bits: of the weights of every product of the network, by `Operator.site`; 8 where there are none.

    Raises:
      UsageError: a sum that does not fit into 32 bits.
    """
    grids = {tensor: _grid(*ends) for tensor, ends in seen.items()}
    for operator in reversed(graph.operators):  # a maximum is one of the codes that it reads
        if operator.kind == MAXIMUM and _readers(graph, operator.reads) == 1:
            grids[operator.reads] = grids[operator.makes]
    for operator in graph.operators:
        if operator.kind == MAXIMUM:
            grids[operator.makes] = grids[operator.reads]
    nothing = Grid(1.0, 0)
    steps = []
    for operator in graph.operators:
        own = bits[operator.site] if operator.site is not None and operator.site < len(bits) else 8
        reads, adds, gives = (nothing if tensor is None else grids.get(tensor, nothing)
                              for tensor in (operator.reads, operator.adds, operator.makes))  # fmt: skip
        steps.append(_step(operator, own, reads, adds, gives))
    first = grids[0]
    return Integers(graph, (graph.scale / first.step).astype(np.float32),
                    (graph.offset / first.step + first.zero).astype(np.float32), first, tuple(steps))  # fmt: skip


def _readers(graph: Graph, tensor: int) -> int:
    return sum((operator.reads == tensor) + (operator.adds == tensor) for operator in graph.operators)


def _grid(low: float, high: float) -> Grid:
    """The codes of a range that is widened to hold 0, as in `compress.rounding.asymmetric_scale`."""
    low, high = min(low, 0.0), max(high, 0.0)
    step = (high - low) / 255 if high > low else 1.0
    return Grid(step, round(-low / step) - 128)


def _step(operator: Operator, bits: int, reads: Grid, adds: Grid, gives: Grid) -> Step:
    codes, scales = np.zeros((0,), np.int8), reads.step * operator.kernel  # of a sum the factor of each channel
    if operator.kind == PRODUCT:
        codes, scales = _codes(operator, bits, reads)
    bias = np.zeros(operator.gives[2])
    if operator.kind != MAXIMUM:
        if not np.all(scales):
            raise UsageError('a mean of a map is multiplied by 0: its channel can be left out')
        bias = operator.bias / scales
        _check_sums(operator, codes, bias)
    factors = scales / gives.step
    added = adds.step / gives.step if operator.adds is not None else 0.0
    shift = int(np.clip(30 - math.floor(math.log2(max(np.abs(factors).max(), added, 2.0**-40))), 1, SHIFT))
    multipliers = np.clip(np.rint(factors * 2.0**shift), -LARGEST, LARGEST).astype(np.int32)
    low = gives.zero if operator.relu else -128
    beside = int(min(round(added * 2.0**shift), LARGEST))
    return Step(operator, codes, np.rint(bias).astype(np.int32), multipliers, beside, shift, reads, adds, gives, low,
                scales.astype(np.float32))  # fmt: skip


def _codes(operator: Operator, bits: int, reads: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Weights (O, h, w, I / groups), and what a step of their sums is."""
    kernel = operator.kernel
    largest, top = np.abs(kernel).max(axis=(0, 1, 2)), 2 ** (bits - 1) - 1
    steps = np.where(largest > 0, largest, 1.0) / top
    # Of a channel with next to no weights the bias alone must fit.
    least = np.abs(operator.bias) / (reads.step * 2.0**29)
    steps = np.maximum(steps, least)
    codes = np.clip(np.rint(kernel / steps), -top, top).astype(np.int8)
    return np.ascontiguousarray(codes.transpose(3, 0, 1, 2)), steps * reads.step


def _check_sums(operator: Operator, codes: np.ndarray, bias: np.ndarray) -> None:
    each = (
        np.abs(codes.astype(np.int64)).reshape(len(codes), -1).sum(axis=1) if codes.size else math.prod(operator.window)
    )
    if np.any(255 * each + np.abs(bias) > LARGEST):
        raise UsageError(f'sums of {operator.kind} {operator.kernel.shape} do not fit into 32 bits')


def coded(network: Integers, examples: np.ndarray) -> np.ndarray:
    """Codes (N, numbers) of examples (N, ...), int8: in float32, half away from zero."""
    channels = layouts.map_of(network.graph.shape)[2]
    first = np.asarray(examples, np.float32).reshape(len(examples), -1, channels)
    scaled = first * network.scale + network.offset
    scaled = np.clip(scaled, np.float32(-128), np.float32(127))
    return np.trunc(scaled + np.where(scaled >= 0, np.float32(0.5), np.float32(-0.5))).astype(np.int8).reshape(
        len(examples), -1)  # fmt: skip


def sums(network: Integers, codes: np.ndarray) -> np.ndarray:
    """The sums (N, K) int64 that the logits are, of codes (N, numbers) int8."""
    parts = [_sums(network, codes[start : start + CHUNK]) for start in range(0, len(codes), CHUNK)]
    return np.concatenate(parts)


def logits(network: Integers, examples: np.ndarray) -> np.ndarray:
    """Logits (N, K) float32 of examples (N, ...)."""
    found = sums(network, coded(network, examples))
    return found.astype(np.float32) * network.steps[-1].scales


def _sums(network: Integers, codes: np.ndarray) -> np.ndarray:
    tensors = {0: codes.astype(np.int64)}
    for step in network.steps:
        operator = step.operator
        sums = _sum(step, tensors[operator.reads]).reshape(len(codes), -1, operator.gives[2])
        if step is network.steps[-1]:
            return sums.reshape(len(codes), -1)
        if operator.kind == MAXIMUM:
            tensors[operator.makes] = np.maximum(sums, step.low).reshape(len(codes), -1)
            continue
        products = sums * step.multipliers.astype(np.int64)
        if operator.adds is not None:
            beside = tensors[operator.adds].reshape(products.shape) - step.adds.zero
            products = products + beside * step.added
        half = np.int64(1) << (step.shift - 1)
        rounded = np.sign(products) * ((np.abs(products) + half) >> step.shift)
        found = np.clip(rounded + step.gives.zero, step.low, 127)
        tensors[operator.makes] = found.reshape(len(codes), -1)
    raise AssertionError('a network has a last operator')


def _sum(step: Step, tensor: np.ndarray) -> np.ndarray:
    operator = step.operator
    if operator.kind == MAXIMUM:
        return _windows(operator, tensor, -128).max(axis=2)
    windows = _windows(operator, tensor, step.reads.zero) - step.reads.zero
    if operator.kind == SUM:
        return windows.sum(axis=2) + step.bias
    return _multiplied(operator, windows, step.codes.transpose(1, 2, 3, 0).astype(np.int64)) + step.bias


def _windows(operator: Operator, tensor: np.ndarray, outside: float) -> np.ndarray:
    """What every position reads: (N, positions, h * w, channels)."""
    height, width, channels = operator.sees
    maps = tensor.reshape(-1, height, width, channels)
    padded = np.pad(maps, ((0, 0), *operator.pads, (0, 0)), constant_values=outside)
    view = np.lib.stride_tricks.sliding_window_view(padded, operator.window, axis=(1, 2))
    down, right = operator.strides
    view = view[:, ::down, ::right].transpose(0, 1, 2, 4, 5, 3)
    return view.reshape(len(maps), -1, math.prod(operator.window), channels)


def _multiplied(operator: Operator, windows: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """(N, positions, O) of windows and a kernel (h, w, I / groups, O)."""
    groups, (count, positions, taps, channels) = operator.groups, windows.shape
    own = kernel.reshape(taps, channels // groups, groups, -1)  # outputs of a group lie together
    if groups == 1:
        return windows.reshape(count, positions, -1) @ own.reshape(taps * channels, -1)
    parts = windows.reshape(count, positions, taps, groups, -1)
    return np.einsum('nptgi,tigo->npgo', parts, own, optimize=True).reshape(count, positions, -1)
