"""Where activations lie while a network runs, and how little memory it can run in."""

from collections.abc import Sequence
from typing import NamedTuple


class Buffer(NamedTuple):
    """What has to be kept from one step of a network to another."""

    name: int
    bytes: int
    first: int  # step that makes it; -1 for what is given
    last: int  # step that reads it last


def bound(buffers: Sequence[Buffer]) -> int:
    """Bytes that no order of places goes below: the largest sum of what is kept at once."""
    steps = {buffer.first for buffer in buffers} | {buffer.last for buffer in buffers}
    return max(sum(one.bytes for one in buffers if one.first <= step <= one.last) for step in steps)


def placed(buffers: Sequence[Buffer]) -> tuple[dict[int, int], int]:
    """Where each may lie, by its name, and how many bytes all take: the largest first, each as low as it fits."""
    places: dict[int, int] = {}
    done: list[Buffer] = []
    for buffer in sorted(buffers, key=lambda one: -one.bytes):
        beside = [one for one in done if one.first <= buffer.last and buffer.first <= one.last]
        place = 0
        for one in sorted(beside, key=lambda other: places[other.name]):
            if place + buffer.bytes <= places[one.name]:
                break
            place = max(place, places[one.name] + one.bytes)
        places[buffer.name] = place
        done.append(buffer)
    return places, max((places[one.name] + one.bytes for one in done), default=0)
