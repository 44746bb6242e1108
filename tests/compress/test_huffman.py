"""Distances and Huffman codes, held against what they say and against all codes that there are."""

import itertools
import math

import numpy as np
import pytest

from kdjax.compress import huffman


@pytest.mark.parametrize('bits', [1, 3, 5])
def test_an_array_can_be_had_again_from_its_distances(bits):
    random = np.random.default_rng(bits)
    array = np.where(random.random((20, 31)) < 0.06, random.integers(1, 60, (20, 31)), 0)
    found = huffman.relative(array, bits)
    assert found.distances.min() >= 1
    assert found.distances.max() <= 2**bits
    again = np.zeros(array.size, array.dtype)
    again[np.cumsum(found.distances) - 1] = found.values
    np.testing.assert_array_equal(again.reshape(array.shape), array)
    bridges = found.distances[found.values == 0]
    assert np.all(bridges == 2**bits), 'an entry that is zero goes as far as it can'


def test_the_example_of_the_paper():
    """Figure 2: distances of three bits, where one of more than eight has an entry of zero between."""
    array = np.zeros(16)
    array[[1, 4, 15]] = [3.4, 0.9, 1.7]
    found = huffman.relative(array, 3)
    assert found.distances.tolist() == [2, 3, 8, 3]
    assert found.values.tolist() == [3.4, 0.9, 0.0, 1.7]


def test_nothing_is_nothing():
    assert len(huffman.relative(np.zeros((3, 4))).values) == 0
    assert huffman.coded_bits(np.zeros(0, np.uint8)) == 0


def best(counts):
    """Least bits of any prefix code: of all lengths that have Kraft's sum."""
    lengths = range(1, len(counts))
    return min(sum(count * length for count, length in zip(counts, found, strict=True))
               for found in itertools.product(lengths, repeat=len(counts))
               if sum(0.5**length for length in found) <= 1)  # fmt: skip


@pytest.mark.parametrize('counts', [(1, 1), (5, 1, 1), (8, 4, 2, 1, 1), (3, 3, 2, 2, 2), (9, 1, 1, 5, 1)])
def test_no_code_is_shorter(counts):
    lengths = huffman.code_lengths(counts)
    assert sum(0.5**length for length in lengths) == 1
    assert sum(count * length for count, length in zip(counts, lengths, strict=True)) == best(counts)


def test_a_code_is_within_a_bit_of_the_entropy_and_what_is_not_there_has_none():
    random = np.random.default_rng(0)
    symbols = random.geometric(0.2, size=500)
    _, counts = np.unique(symbols, return_counts=True)
    entropy = -sum(count * math.log2(count / 500) for count in counts)
    assert entropy <= huffman.coded_bits(symbols) - 8 * len(counts) < entropy + 500
    assert huffman.code_lengths([0, 4, 0]) == [0, 0, 0]
    assert huffman.code_lengths([0, 4, 1]) == [0, 1, 1]
