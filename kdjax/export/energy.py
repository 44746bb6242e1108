"""What an inference costs in energy, as an estimate from counts: never measured, and worth a ratio at most.

Multiplications and bytes are multiplied with what each took in a chip of 45 nm at 0.9 V. A real device differs by what
it is made of, its caches and its idle current; two networks on one device differ by about what is said here.

Reference: Horowitz, Computing's Energy Problem (and what we can do about it), ISSCC 2014, figure 1.1.9.
"""

from typing import NamedTuple

# pJ of a multiplication and the addition of what it gives.
MAC = {32: 3.7 + 0.9, 16: 1.1 + 0.4, 8: 0.2 + 0.1}  # float32; float16; int8 into sums of int32
# pJ of a byte from a memory of so many bytes at most: reads of 64 bits took 10, 20 and 100.
SRAM = {8 * 2**10: 10 / 8, 32 * 2**10: 20 / 8, 2**20: 100 / 8}
DRAM = (1300 / 8, 2600 / 8)  # of 64 bits


class Energy(NamedTuple):
    """An inference, in pJ."""

    arithmetic: float
    low: float  # with memory
    high: float  # where memory is the dear kind


def energy(macs: int, bits: int, weight_bytes: int, activations: int) -> Energy:
    """An estimate.

    Args:
      macs: multiplications.
      bits: of what is multiplied: 32, 16 or 8.
      weight_bytes: read once, from the smallest memory that holds them.
      activations: numbers of all layers; written once and read once, in the same kind of memory as holds them.
    """
    arithmetic = macs * MAC[bits]
    moved = 2 * activations * bits // 8
    low, high = (sum(size * _byte(size, worst) for size in (weight_bytes, moved)) for worst in (0, 1))
    return Energy(arithmetic, arithmetic + low, arithmetic + high)


def ratio(of: Energy, to: Energy) -> tuple[float, float]:
    """How many times less `of` takes than `to`: smallest and largest of what arithmetic and both memories say."""
    found = [theirs / own for own, theirs in zip(of, to, strict=True)]
    return min(found), max(found)


def _byte(size: int, worst: int) -> float:
    """pJ of a byte of so many."""
    return next((cost for limit, cost in SRAM.items() if size <= limit), DRAM[worst])
