"""What a compressed network takes: bytes as they are, as a deflated file, and at least; multiplications.

No single number is *the* size. Zeros and few bits make a file smaller only once it is packed: what lies in the memory
of a device is `bytes`. And zeros make nothing faster where nothing skips them.

Reference: Han, Mao, Dally, Deep Compression, ICLR 2016 (an entropy code of rounded weights that are mostly zero);
Baskin et al., UNIQ, 2018, sec. 4 (operations by bits).
"""

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from kdjax.compress import huffman, masks, products, quantized, rounding, shared
from kdjax.compress.products import Site
from kdjax.compress.quantized import ROUNDING
from kdjax.compress.shared import SHARED
from kdjax.types import Net, Tree


class Size(NamedTuple):
    """Of the weights and statistics of a network; of rounded ones as codes, with a float32 step a channel; of shared
    ones as codes, with a codebook a kernel."""

    nonzeros: int  # parameters that are not zero
    bits_per_weight: float  # of all parameters, as stored
    bytes: int  # as they are; codes packed
    indexed: int  # of every kernel what is not zero, by its distance from the one before; as it is where that is less
    deflated: int  # of `bytes` as a file that zlib packs, or as it is where that is no smaller
    huffman: int  # of `indexed`, with a Huffman code of the distances and one of the codes of every kernel
    entropy: int  # bytes that no code of single weights goes below


class _Part(NamedTuple):
    """A leaf as it is stored."""

    values: np.ndarray  # floats, or whole numbers of which zero is a weight that is gone
    bits: int  # of each
    tables: np.ndarray  # what whole numbers mean: steps, or a codebook
    kernel: bool
    nonzeros: int

    def raw(self) -> int:
        return math.ceil(self.values.size * self.bits / 8) + self.tables.nbytes

    def sparse(self, coded: bool) -> int:
        """By distances; with Huffman codes, or without."""
        if not self.kernel:
            return self.raw()
        distances, values = huffman.relative(self.values)
        bits = len(values) * (huffman.INDEX_BITS + self.bits)
        if coded:
            whole = self.bits < rounding.FLOAT
            bits = huffman.coded_bits(distances)
            bits += huffman.coded_bits(values) if whole else len(values) * self.bits
        return min(math.ceil(bits / 8) + self.tables.nbytes, self.raw())

    def least(self) -> float:
        if not self.kernel:
            return self.raw()
        if self.bits < rounding.FLOAT:
            return _entropy(self.values) / 8 + self.tables.nbytes
        return self.nonzeros * self.values.itemsize + _entropy(self.values != 0) / 8

    def file(self) -> bytes:
        return self.values.tobytes() + self.tables.tobytes()


class Work(NamedTuple):
    """Multiplications of one example's forward pass, of inputs with weights."""

    macs: int
    macs_effective: int  # of weights that are not zero: what nothing saves that does not skip zeros
    bops: int  # macs x bits of weights x bits of inputs


def size_of(variables: Tree) -> Size:
    """The size of a network of any kind, rounded, shared or neither; variables of one network, on the host."""
    params, others = _parts(variables)
    parts = [*params, *others]
    raw, count = sum(part.raw() for part in parts), sum(part.values.size for part in params)
    return Size(
        sum(part.nonzeros for part in params), 8 * sum(part.raw() for part in params) / max(count, 1), raw,
        sum(part.sparse(coded=False) for part in parts),
        min(raw, len(zlib.compress(b''.join(part.file() for part in parts), 9))),
        sum(part.sparse(coded=True) for part in parts),
        min(raw, math.ceil(sum(part.least() for part in parts))),
    )  # fmt: skip


def _parts(variables: Tree) -> tuple[list[_Part], list[_Part]]:
    """Of the parameters, and of the statistics."""
    params, stats = (_without(variables[part], ROUNDING) for part in ('params', 'stats'))
    codes = shared.coded(params, stats[SHARED]) if isinstance(stats, Mapping) and SHARED in stats else {}
    kernels, none = masks.kernel_places(params), np.zeros(0, np.float32)
    found = []
    for place, (path, leaf) in enumerate(jax.tree_util.tree_leaves_with_path(params)):
        array = np.asarray(leaf)
        left, bits = int(np.count_nonzero(array)), _bits_of_weights(variables, path) if place in kernels else 32
        if place in codes:
            own, bits = np.asarray(codes[place]).astype(np.uint8), shared.bits_of(array.size)
            found.append(_Part(own, bits, array, True, int(np.count_nonzero(own))))
        elif bits < rounding.FLOAT:
            own, steps = _codes(array, bits)
            found.append(_Part(own.astype(np.int8 if bits <= 8 else np.int16), bits, steps, True, left))
        else:
            found.append(_Part(array, 8 * array.itemsize, none, place in kernels, left))
    others = (np.asarray(leaf) for leaf in jax.tree.leaves(_without(stats, SHARED)))
    return found, [_Part(array, 8 * array.itemsize, none, False, 0) for array in others]


def _without(tree: Tree, part: str) -> Tree:
    return {name: leaf for name, leaf in tree.items() if name != part} if isinstance(tree, Mapping) else tree


def bits_of(variables: Tree) -> tuple[int, int]:
    """Bits of weights and of what they are multiplied with; 32 of what is not rounded."""
    stats = variables['stats']
    known = stats.get(ROUNDING) if isinstance(stats, Mapping) else None
    bits = [32, 32] if known is None else [int(number) for number in np.asarray(known['bits'])]
    weights, inputs = (number if number < rounding.FLOAT else 32 for number in bits)
    return weights, inputs


def _least(variables: Tree) -> Mapping[str, Any]:
    """Bits that products have at least, by their key."""
    known = variables['stats'].get(ROUNDING) if isinstance(variables['stats'], Mapping) else None
    return {} if known is None else known['least']


def _bits_of_weights(variables: Tree, path: Any) -> int:
    """Bits of a kernel; 32 of one that is in no product."""
    start = jax.tree_util.keystr(path, simple=True, separator='.')
    least = [int(bits) for key, bits in _least(variables).items() if key.startswith((f'{start}:', f'{start}#'))]
    return max(bits_of(variables)[0], *least) if least else 32


def _codes(kernel: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers, and the step of each output channel, that a kernel is rounded to."""
    top = 2 ** (bits - 1) - 1
    largest = np.abs(kernel).max(axis=tuple(range(kernel.ndim - 1)))
    steps = np.where(largest > 0, largest / top, 1).astype(np.float32)
    return np.clip(np.rint(kernel / steps), -top, top), steps


def _entropy(codes: np.ndarray) -> float:
    """Bits of all codes together, each by how often it is there."""
    _, counts = np.unique(codes, return_counts=True)
    share = counts / codes.size
    return float(-codes.size * np.sum(share * np.log2(share)))


def work_of(net: Net, variables: Tree, inputs: Tree) -> Work:
    """The multiplications of a network.

    Args:
      net: of any make whose products can be found (`products.sites`).
      variables: of one network, on the host.
      inputs: one example, as a batch.
    """
    return work(products.sites(net, variables, inputs), variables)


def work(sites: Sequence[Site], variables: Tree) -> Work:
    """The multiplications at the products of a network."""
    found = [site for site in sites if site.weight is not None]
    leaves: list[Any] = jax.tree.leaves(variables)
    bits, effective, operations = bits_of(variables), 0, 0
    for site in found:
        assert site.leaf is not None
        leaf = np.asarray(leaves[site.leaf])
        effective += round(site.macs * np.count_nonzero(leaf) / leaf.size)
        least = int(_least(variables).get(quantized.key(site), 0))
        operations += site.macs * max(bits[0], least) * max(bits[1], least)
    return Work(sum(site.macs for site in found), effective, operations)
