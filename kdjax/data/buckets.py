"""Static shapes for examples of many lengths: each step has one width, a pure function of (seed, step)."""

import functools
from typing import NamedTuple

import numpy as np

from kdjax.dataset import bucket_of, widths
from kdjax.errors import UsageError


class Turn(NamedTuple):
    """What a step is given."""

    bucket: int
    before: int  # steps of this bucket before it
    end: int  # the first step after it that may have another bucket


class Buckets:
    """The width of each step, the same for all cells of a grid.

    A cycle visits every bucket in proportion to its examples, in a random order drawn anew for each cycle. Batches of a
    narrower bucket have a whole multiple of the examples of the widest, as many as keep the tokens of a batch constant.

    Args:
      known: the widths; that of the longest example is added.
      lengths: (N,) of every example.
      pools: ids of the examples of each cell.
      batch_size: examples of a batch of the widest bucket.
      run: steps in a row with one width, which go in one dispatch.
      seed: of the order.

    Raises:
      UsageError: widths that are not positive and increasing, or a cell without an example of some width.
    """

    def __init__(
        self, known: tuple[int, ...], lengths: np.ndarray, pools: list[np.ndarray], batch_size: int, run: int, seed: int
    ) -> None:
        if not known or sorted(set(known)) != list(known) or known[0] < 1:
            raise UsageError(f'data.buckets must be increasing widths >= 1, got {known}')
        if run < 1:
            raise UsageError(f'steps in a row with one width must be >= 1, got {run}')
        self.widths = widths(known, int(lengths.max()))
        self.of = bucket_of(lengths, self.widths)
        self.rows = tuple(batch_size * max(1, self.widths[-1] // width) for width in self.widths)
        self.run, self.seed = run, seed
        counts = np.zeros(len(self.widths))
        for pool in pools:
            members = np.bincount(self.of[pool], minlength=len(self.widths))
            if not members.all():
                raise UsageError(
                    f'a transfer set of {len(pool)} examples has none of width {self.widths[int(np.argmin(members))]}; '
                    f'choose fewer data.buckets than {known}'
                )
            counts += members / len(pool)
        batches = counts * max(map(len, pools)) / len(pools) / np.asarray(self.rows)
        self.turns = tuple(max(1, round(number / run)) for number in batches)  # runs of a cycle, by bucket

    def at(self, step: int) -> Turn:
        """The turn of a step."""
        cycle, place = divmod(step // self.run, sum(self.turns))
        order = self._order(cycle)
        bucket = int(order[place])
        runs = cycle * self.turns[bucket] + int(np.sum(order[:place] == bucket))
        return Turn(bucket, runs * self.run + step % self.run, (step // self.run + 1) * self.run)

    def _order(self, cycle: int) -> np.ndarray:
        return _shuffled(self.turns, self.seed, cycle)


@functools.lru_cache(maxsize=8)
def _shuffled(turns: tuple[int, ...], seed: int, cycle: int) -> np.ndarray:
    """Buckets in the order of a cycle."""
    return np.random.default_rng((seed, cycle)).permutation(np.repeat(np.arange(len(turns)), turns))
