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

from kdjax.compress import masks, products, quantized, rounding
from kdjax.compress.products import Site
from kdjax.compress.quantized import ROUNDING
from kdjax.types import Net, Tree


class Size(NamedTuple):
    """Of the weights and statistics of a network; of rounded ones as codes, with a float32 step a channel."""

    nonzeros: int  # parameters that are not zero
    bits_per_weight: float  # of all parameters, as stored
    bytes: int  # as they are; codes packed
    deflated: int  # of that as a file that zlib packs, or as it is where that is no smaller
    entropy: int  # bytes that no code of single weights goes below


class Work(NamedTuple):
    """Multiplications of one example's forward pass, of inputs with weights."""

    macs: int
    macs_effective: int  # of weights that are not zero: what nothing saves that does not skip zeros
    bops: int  # macs x bits of weights x bits of inputs


def size_of(variables: Tree) -> Size:
    """The size of a network of any kind, rounded or not; variables of one network, on the host."""
    params, stats = (_without_rounding(variables[part]) for part in ('params', 'stats'))
    leaves, kernels, others = jax.tree.leaves(params), masks.kernel_places(params), jax.tree.leaves(stats)
    raw, least, weights, count, stored = 0.0, 0.0, 0.0, 0, []
    names = [path for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    for place, leaf in enumerate([*leaves, *others]):
        array = np.asarray(leaf)
        kernel = place in kernels
        bits = _bits_of_weights(variables, names[place]) if kernel else 32
        if bits < rounding.FLOAT:
            codes, steps = _codes(array, bits)
            raw += math.ceil(codes.size * bits / 8) + steps.nbytes
            least += _entropy(codes) / 8 + steps.nbytes
            stored += [codes.astype(np.int8 if bits <= 8 else np.int16).tobytes(), steps.tobytes()]
        else:
            raw += array.nbytes
            values = np.count_nonzero(array) * array.itemsize if kernel else array.nbytes
            least += values + (_entropy(array != 0) / 8 if kernel else 0)
            stored.append(array.tobytes())
        if place < len(leaves):
            count, weights = count + array.size, raw
    return Size(
        sum(int(np.count_nonzero(leaf)) for leaf in leaves), 8 * weights / max(count, 1), int(raw),
        min(int(raw), len(zlib.compress(b''.join(stored), 9))), min(int(raw), math.ceil(least)),
    )  # fmt: skip


def _without_rounding(tree: Tree) -> Tree:
    return {name: leaf for name, leaf in tree.items() if name != ROUNDING} if isinstance(tree, Mapping) else tree


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
