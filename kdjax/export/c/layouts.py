"""Where numbers lie: reshapes, padding and windows, followed on arrays of places instead of numbers; -1 is a zero."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from kdjax.compress import products
from kdjax.export.c.kinds import Map, Pads

Places = np.ndarray
STRIDES = 8  # that windows over time are looked for with, at most


def map_of(shape: Sequence[int]) -> Map:
    """Height, width and channels of an example or an activation, without its batch axis; (H, W) is a map of one."""
    if len(shape) == 3:
        return tuple(shape)  # type: ignore[return-value]
    return (shape[0], 1, shape[1]) if len(shape) == 2 else (1, 1, math.prod(shape))


def whole(places: Places) -> bool:
    """Whether all numbers are there, in their order."""
    return bool(np.array_equal(places.reshape(-1), np.arange(places.size)))


def within(places: Places) -> tuple[Pads, Map] | None:
    """The zeros around a map (1, H, W, C) whose numbers are otherwise in order, and its own shape; or None."""
    if places.ndim != 4:
        return None
    real = places[0] >= 0
    rows, columns = (np.flatnonzero(real.any(axis=axes)) for axes in ((1, 2), (0, 2)))
    if not len(rows):
        return None
    (top, bottom), (left, right) = ((found[0], found[-1] + 1) for found in (rows, columns))
    inner = places[0, top:bottom, left:right]
    if not whole(inner):
        return None
    height, width = places.shape[1:3]
    return ((int(top), int(height - bottom)), (int(left), int(width - right))), inner.shape


def joined(pads: Pads, around: Pads) -> Pads:
    """Padding by both."""
    (above, left), (more, beside) = pads, around
    return (above[0] + more[0], above[1] + more[1]), (left[0] + beside[0], left[1] + beside[1])


def by_channel(places: Places, numbers: Any, channels: int) -> np.ndarray | None:
    """One number for each channel of a tensor, or for all of them, of numbers that meet it in some shape.

    Returns:
      (C,) or (1,) float64; None where places of one channel meet different ones.
    """
    numbers = np.asarray(numbers, np.float64)
    if numbers.size == 1:
        return numbers.reshape(1)
    flat = places.reshape(-1)
    if not np.array_equal(np.sort(flat), np.arange(flat.size)):
        return None
    there = np.empty(flat.size)
    there[flat] = np.broadcast_to(numbers, places.shape).reshape(-1)
    rows = there.reshape(-1, channels)
    return rows[0] if np.array_equal(rows, np.broadcast_to(rows[0], rows.shape)) else None


def strided(size: Sequence[int], window: Sequence[int], strides: Sequence[int], pads: Any) -> tuple[int, int]:
    """Height and width of what windows give."""
    down, right = (
        (extent + sum(pad) - reach) // stride + 1
        for extent, reach, stride, pad in zip(size, window, strides, pads, strict=True)
    )
    return down, right


def convolution(name: str, params: Any) -> tuple[tuple[int, int] | None, Pads, int]:
    """Strides, padding and groups of a convolution of maps (B, H, W, C); no strides where it is another one."""
    if name != products.CONVOLUTION:
        inside = params.get('inside', (1, 1))
        return (tuple(params['strides']) if inside == (1, 1) else None), tuple(params['pads']), 1
    numbers = params['dimension_numbers']
    order = (tuple(numbers.lhs_spec), tuple(numbers.rhs_spec), tuple(numbers.out_spec))
    plain = order == ((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2)) and params['batch_group_count'] == 1
    plain &= set(params['lhs_dilation']) == set(params['rhs_dilation']) == {1}
    return (tuple(params['window_strides']) if plain else None), tuple(params['padding']), params['feature_group_count']


def as_convolution(places: Places, sees: Map) -> tuple[tuple[int, int], tuple[int, int], Pads] | None:
    """Windows (1, T[, W], h * C) over a map (H, W, C), as a matrix product reads them, as those of a convolution.

    Returns:
      Window, strides and padding; None where they are none, or reach over several columns.
    """
    height, width, channels = sees
    *_, count = places.shape
    size, rest = divmod(count, channels)
    given = places.shape[1:-1] if places.ndim == 4 else (*places.shape[1:-1], 1)
    if rest or len(given) != 2:
        return None
    order = np.arange(height * width * channels).reshape(sees)
    for stride, before in itertools.product(range(1, STRIDES + 1), range(size)):
        across = stride if width > 1 else 1
        after = max((given[0] - 1) * stride + size - before - height, 0)
        padded = np.pad(order, ((before, after), (0, 0), (0, 0)), constant_values=-1)
        rows = [padded[tap : tap + (given[0] - 1) * stride + 1 : stride, ::across] for tap in range(size)]
        if all(row.shape[:2] == given for row in rows):
            found = np.concatenate(rows, axis=-1)
            if np.array_equal(found.reshape(-1), places.reshape(-1)):
                return (size, 1), (stride, across), ((before, after), (0, 0))
    return None


def places_of(cases: Sequence[Any]) -> Places:
    """Of several operands that of one that is read."""
    return next(case.places for case in cases if hasattr(case, 'places'))


def _padded(operands: list[Places], params: Any) -> Places:
    """Negative padding cuts off."""
    (places, _), config = operands, params['padding_config']
    for axis, (low, high, inside) in enumerate(config):
        if inside:
            places = _spread(places, axis, inside)
        places = np.pad(places, [(max(low, 0), max(high, 0)) if own == axis else (0, 0) for own in range(places.ndim)],
                        constant_values=-1)  # fmt: skip
        size = places.shape[axis]
        places = np.take(places, range(max(-low, 0), size - max(-high, 0)), axis)
    return places


def _spread(places: Places, axis: int, inside: int) -> Places:
    shape = list(places.shape)
    shape[axis] = (shape[axis] - 1) * (inside + 1) + 1
    found = np.full(shape, -1)
    found[(slice(None),) * axis + (slice(None, None, inside + 1),)] = places
    return found


def _sliced(operands: list[Places], params: Any) -> Places:
    strides = params['strides'] or [1] * operands[0].ndim
    return operands[0][tuple(map(slice, params['start_indices'], params['limit_indices'], strides))]


def _broadcast(operands: list[Places], params: Any) -> Places:
    shape = [1] * len(params['shape'])
    for axis, size in zip(params['broadcast_dimensions'], operands[0].shape, strict=True):
        shape[axis] = size
    return np.broadcast_to(operands[0].reshape(shape), params['shape'])


# What only moves numbers: places of the operands and parameters of the operation -> places of what it gives.
MOVES: Mapping[str, Callable[[list[Places], Any], Places]] = {
    'reshape': lambda operands, params: operands[0].reshape(params['new_sizes']),
    'squeeze': lambda operands, params: np.squeeze(operands[0], tuple(params['dimensions'])),
    'expand_dims': lambda operands, params: np.expand_dims(operands[0], tuple(params['dimensions'])),
    'transpose': lambda operands, params: operands[0].transpose(params['permutation']),
    'rev': lambda operands, params: np.flip(operands[0], tuple(params['dimensions'])),
    'concatenate': lambda operands, params: np.concatenate(operands, params['dimension']),
    'broadcast_in_dim': _broadcast,
    'slice': _sliced,
    'pad': _padded,
}
