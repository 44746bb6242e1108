"""Which of many alike tests run today: every run has some of each kind, and a few days have all of them.

A test marked `rotating(place, count)` is number `place` of `count` of its kind. It has its turn where the number of the
rotation, by default the day's, says so; otherwise it counts as slow.
"""

import datetime

import pytest


def today():
    """The number of the rotation by default."""
    return str(datetime.date.today().toordinal())


def number(text):
    """A number of a rotation: None for 'all', whose turn is everyone's."""
    return None if text == 'all' else int(text)


def turns(kinds, ways=None):
    """A mark for each of several alike, in the order of their `kinds`: one of every kind has its turn.

    With `ways` one of so many of a kind has: of two ways, every second. Kinds do not begin together, so that what they
    have in common comes in all its values every day.
    """
    kinds, marks = list(kinds), []
    begins = {kind: begin for begin, kind in enumerate(dict.fromkeys(kinds))}
    for place, kind in enumerate(kinds):
        count = min(kinds.count(kind), ways or len(kinds))
        marks.append(pytest.mark.rotating((kinds[:place].count(kind) + begins[kind]) % count, count))
    return marks


def params(cases, kinds):
    """The cases of a parametrised test, each a tuple, of which one of every kind has its turn."""
    return [pytest.param(*case, marks=turn) for case, turn in zip(cases, turns(kinds), strict=True)]


def apply(items, rotation):
    """Marks as slow what has to wait for its turn."""
    for item in items:
        marker = item.get_closest_marker('rotating')
        if marker and rotation is not None:
            place, count = marker.args
            if place != rotation % count:
                item.add_marker(pytest.mark.slow)
