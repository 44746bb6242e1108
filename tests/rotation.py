"""Which of many alike tests run today: every run has some of each kind, and a few days have all of them.

A test marked `rotating(kind, place, count)` is number `place` of `count` of its kind. It is its turn where the number
of the rotation, by default today's, says so; otherwise it counts as slow.
"""

import datetime

import pytest


def today():
    """The number of the rotation by default."""
    return str(datetime.date.today().toordinal())


def number(text):
    """A number of a rotation: None for 'all', whose turn is everyone's."""
    return None if text == 'all' else int(text)


def turns(kinds):
    """A mark for each of several alike, in the order of their `kinds`: one of every kind has its turn."""
    kinds = list(kinds)
    return [pytest.mark.rotating(kinds[:place].count(kind), kinds.count(kind)) for place, kind in enumerate(kinds)]


def apply(items, rotation):
    """Marks as slow what has to wait for its turn."""
    for item in items:
        marker = item.get_closest_marker('rotating')
        if marker and rotation is not None:
            place, count = marker.args
            if place != rotation % count:
                item.add_marker(pytest.mark.slow)
