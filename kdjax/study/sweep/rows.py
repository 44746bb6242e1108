"""The language of sweeps: rows of changes to a config, made by axes and their products.

    def sweep(arg=''):
        return rows.product(
            rows.axis('method', 'combined', 'decoupled'),
            rows.axis('terms.*.temperature', 1, 2, 4, 8),
            rows.axis('seed', *range(20)),
        )

A field is dotted, as on the command line. A star stands for every entry that has the rest of the path. Two names are no
fields of the config: 'method', which of `config.methods` a row trains, and 'seed', of the run alone: its initial
weights, its transfer set and its order. What runs share (the teacher, augmentation) is drawn from `config.seed`.
"""

import itertools
import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from kdjax import errors
from kdjax.errors import UsageError, unknown
from kdjax.study.config import fields

OWN = ('method', 'seed')  # what a row says beside fields of the config


class Row(NamedTuple):
    """One run of a sweep."""

    point: Mapping[str, Any]  # axis -> its value as tables show it; a number, or text
    changes: Mapping[str, Any]  # field -> value


class Range(NamedTuple):
    """Where a number may lie, both ends included."""

    low: float
    high: float
    log: bool = False  # whether it is drawn by its order of magnitude
    whole: bool = False  # whether it is an integer


def axis(field: str, *values: Any, name: str = '') -> list[Row]:
    """One field, one row for each value.

    Args:
      field: 'method', 'seed', or a dotted field of the config.
      values: numbers, texts, tuples or whole mappings.
      name: of the axis in tables; the field's last part if left out.

    Raises:
      UsageError: no values.
    """
    if not values:
        raise UsageError(f'axis {field!r} has no values; give it at least one')
    return [Row({name or field.rpartition('.')[2]: shown(value)}, {field: value}) for value in values]


def choice(name: str, options: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """An axis whose values change several fields at once: a technique with its terms and weights, a recipe, a pair.

    Args:
      name: of the axis.
      options: what a value is called -> its changes, by field.
    """
    if not options:
        raise UsageError(f'choice {name!r} has no options; give it at least one')
    return [Row({name: label}, dict(changes)) for label, changes in options.items()]


def product(*axes: Sequence[Row]) -> list[Row]:
    """Every combination, the last axis fastest."""
    return [_joined(combination) for combination in itertools.product(*axes)]


def zipped(*axes: Sequence[Row]) -> list[Row]:
    """The first of each, the second of each, ...

    Raises:
      UsageError: axes of different lengths.
    """
    if len({len(each) for each in axes}) > 1:
        raise UsageError(f'zipped axes must have one length, got {", ".join(str(len(each)) for each in axes)}')
    return [_joined(combination) for combination in zip(*axes, strict=True)]


def chained(*parts: Iterable[Row]) -> list[Row]:
    """One list after the other."""
    return list(itertools.chain(*parts))


SAMPLERS = ('random', 'sobol', 'halton')


def sampled(count: int, ranges: Mapping[str, Range], *, seed: int = 0, sampler: str = 'sobol') -> list[Row]:
    """Points drawn from a box, one range for each field.

    Args:
      count: how many points. Sobol points are balanced where it is a power of two.
      ranges: by field.
      seed: of the draw.
      sampler: 'random' or a scrambled low-discrepancy sequence, 'sobol' or 'halton' (scipy.stats.qmc).

    Raises:
      UsageError: no points, an unknown sampler, or a range that is empty or not positive where it is logarithmic.
    """
    if not isinstance(count, int) or count < 1:
        raise UsageError(f'count of sampled must be >= 1, got {errors.shown(count)}')
    for field, spread in ranges.items():
        check_range(field, spread)
    unit = _unit_points(count, len(ranges), seed, sampler)
    drawn = [[scaled(spread, x) for spread, x in zip(ranges.values(), point, strict=True)] for point in unit]
    return [_joined([axis(field, value)[0] for field, value in zip(ranges, point, strict=True)]) for point in drawn]


def check_range(field: str, spread: Range) -> None:
    """Raises UsageError where nothing could be drawn from a range."""
    if not isinstance(spread, Range) or not all(isinstance(end, int | float) and math.isfinite(end) for end in spread):
        raise UsageError(f'range of {field!r} must be a rows.Range of two numbers, got {errors.shown(spread)}')
    if not spread.low < spread.high or (spread.log and spread.low <= 0):
        raise UsageError(f'range of {field!r} must have low < high{", and low > 0 for log" * spread.log}, got {spread}')


def scaled(spread: Range, x: float) -> float:
    """The value at `x` in [0, 1] of the way through a range, to six significant digits."""
    if spread.log:
        value = math.exp(math.log(spread.low) + x * (math.log(spread.high) - math.log(spread.low)))
    else:
        value = spread.low + x * (spread.high - spread.low)
    return round(value) if spread.whole else float(f'{value:.6g}')


def applied(config: ConfigDict, changes: Mapping[str, Any]) -> ConfigDict:
    """A copy of `config` with the changes of a row; locked. What a row gives is not searched any more.

    Raises:
      UsageError: a field that does not exist, or a value of another type than the field's.
    """
    return fields.changed(config, {field: value for field, value in changes.items() if field not in OWN})


def checked(listed: Any) -> list[Row]:
    """What a function sweep(arg) gave, as rows.

    Raises:
      UsageError: it is no list of rows, or a row has what no config can have.
    """
    if not isinstance(listed, Iterable) or isinstance(listed, str | Mapping):
        raise UsageError(
            f'sweep(arg) must return rows, as rows.axis and rows.product make them, got {errors.shown(listed)}'
        )
    found = list(listed)
    for place, row in enumerate(found, 1):
        if not isinstance(row, Row) or not all(isinstance(part, Mapping) for part in row):
            raise UsageError(
                f'row {place} of sweep(arg) is none that rows.axis or rows.choice makes: {errors.shown(row)}'
            )
        for name in (*row.point, *row.changes):
            if not isinstance(name, str):
                raise UsageError(f'row {place} of sweep(arg): fields and axes are text, got {errors.shown(name)}')
        for field, value in row.changes.items():
            if not _plain(value):
                raise UsageError(f'row {place} of sweep(arg): {field} cannot be {errors.shown(value)}')
    return found


def _plain(value: Any) -> bool:
    """Whether something has an address: texts, finite numbers, and lists and mappings of them."""
    if isinstance(value, Mapping | ConfigDict):
        return all(isinstance(name, str) and _plain(one) for name, one in dict(value.items()).items())
    if isinstance(value, tuple | list):
        return all(map(_plain, value))
    return value is None or isinstance(value, str) or (isinstance(value, numbers.Real) and math.isfinite(value))


def shown(value: Any) -> Any:
    """A value as tables show it: a number, or a text."""
    if isinstance(value, Mapping):
        return ', '.join(f'{name} {shown(inner)}' for name, inner in value.items())
    if isinstance(value, tuple | list):
        return shown(value[0]) if len(value) == 1 else 'x'.join(str(shown(inner)) for inner in value)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _joined(rows: Sequence[Row]) -> Row:
    points = [item for row in rows for item in row.point.items()]
    changes = [item for row in rows for item in row.changes.items()]
    for pairs in (points, changes):
        twice = {name for name, _ in pairs if sum(other == name for other, _ in pairs) > 1}
        if twice:
            raise UsageError(f'axes {", ".join(sorted(twice))} are given twice in one product; give each its own name')
    return Row(dict(points), dict(changes))


def _unit_points(count: int, dimensions: int, seed: int, sampler: str) -> np.ndarray:
    if sampler not in SAMPLERS:
        raise unknown('sampler', sampler, SAMPLERS)
    if sampler == 'random':
        return np.random.default_rng(seed).random((count, dimensions))
    from scipy.stats import qmc

    if sampler == 'halton':
        return qmc.Halton(dimensions, rng=seed).random(count)
    # Drawn to the next power of two, the only numbers of points for which Sobol's sequence is balanced.
    return qmc.Sobol(dimensions, rng=seed).random_base2(max(count - 1, 0).bit_length())[:count]
