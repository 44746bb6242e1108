"""How few bits hold what is left of a kernel: where weights are, each by its distance from the one before, and what.

Reference: Han, Mao, Dally, Deep Compression, ICLR 2016, sec. 2 (relative indices) and sec. 4 (Huffman coding); Huffman,
A Method for the Construction of Minimum-Redundancy Codes, Proc. IRE 40(9), 1952.
"""

import heapq
import itertools
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

INDEX_BITS = 5  # of a distance, as the paper has it for dense layers


class Sparse(NamedTuple):
    """What is stored of an array that is mostly zero, in its order."""

    distances: np.ndarray  # (M,) from 1 to 2 ** bits, from the entry before
    values: np.ndarray  # (M,) zero where an entry only bridges a distance that is too large for one


def relative(array: np.ndarray, bits: int = INDEX_BITS) -> Sparse:
    """The entries of an array, row by row, that are not zero, by their distances (sec. 2, fig. 2).

    Args:
      array: of any shape.
      bits: of a distance; a larger one is bridged by entries that are zero.
    """
    flat, farthest = array.ravel(), 2**bits
    places = np.flatnonzero(flat)
    gaps = np.diff(places, prepend=-1)
    bridges = (gaps - 1) // farthest
    last = np.cumsum(bridges + 1) - 1
    distances = np.full(int(np.sum(bridges + 1)), farthest)
    values = np.zeros(len(distances), flat.dtype)
    distances[last], values[last] = gaps - bridges * farthest, flat[places]
    return Sparse(distances, values)


def code_lengths(counts: Iterable[int]) -> list[int]:
    """Bits of every symbol in a Huffman code of symbols that come so often; 0 where there is only one, or of no use."""
    tie = itertools.count()
    counts = list(counts)
    heap = [(count, next(tie), [symbol]) for symbol, count in enumerate(counts) if count]
    heapq.heapify(heap)
    lengths = [0] * len(counts)
    while len(heap) > 1:
        (one, _, left), (other, _, right) = heapq.heappop(heap), heapq.heappop(heap)
        for symbol in (*left, *right):
            lengths[symbol] += 1
        heapq.heappush(heap, (one + other, next(tie), left + right))
    return lengths


def coded_bits(symbols: np.ndarray) -> int:
    """Bits of symbols in their Huffman code, with a byte for the length of each symbol's, which say the code."""
    _, counts = np.unique(symbols, return_counts=True)
    lengths = code_lengths(counts.tolist())
    return sum(count * length for count, length in zip(counts.tolist(), lengths, strict=True)) + 8 * len(counts)
