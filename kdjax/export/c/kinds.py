"""The few operators that networks are written out with."""

from typing import NamedTuple

import numpy as np

PRODUCT, SUM, MAXIMUM, AFFINE, RELU, ADD = 'product', 'sum', 'maximum', 'affine', 'relu', 'add'
Map = tuple[int, int, int]  # height, width, channels
Pads = tuple[tuple[int, int], tuple[int, int]]  # above and below, left and right


class Operator(NamedTuple):
    """One step. Numbers lie as (height, width, channels)."""

    kind: str  # PRODUCT, SUM or MAXIMUM over a window; while a graph is made also AFFINE, RELU, ADD
    reads: int  # tensor
    makes: int  # tensor
    sees: Map  # shape as which the tensor is read
    gives: Map
    kernel: np.ndarray  # (h, w, I / groups, O) float64; of a sum the factor of each channel (C,)
    bias: np.ndarray  # (O,)
    window: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    pads: Pads = ((0, 0), (0, 0))
    groups: int = 1
    adds: int | None = None  # tensor that is added, of the shape that it gives
    relu: bool = False
    site: int | None = None  # number of the product among those of the network

    @property
    def macs(self) -> int:
        """Multiplications of an example."""
        positions = self.gives[0] * self.gives[1]
        return positions * self.kernel.size if self.kind == PRODUCT else 0


class Graph(NamedTuple):
    """What a network does to one example, in order; tensor 0 is the example, the last operator makes the logits."""

    sizes: tuple[int, ...]  # numbers in every tensor
    scale: np.ndarray  # (C,) or (1,): what the example is multiplied with first
    offset: np.ndarray  # the same shape: what is then added
    operators: tuple[Operator, ...]
    shape: tuple[int, ...]  # of an example

    @property
    def macs(self) -> int:
        """Multiplications of an example."""
        return sum(operator.macs for operator in self.operators)
