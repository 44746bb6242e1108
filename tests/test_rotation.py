"""Tests that take turns: one of every kind each day, all of them in as many days as a kind has."""

import datetime

import costs
import pytest
import rotation

KINDS = ['a', 'b', 'a', 'a', 'c', 'b']


class Item:
    """A test with its marks."""

    def __init__(self, name, *marks):
        self.name, self.marks = name, list(marks)

    def get_closest_marker(self, name):
        return next((mark.mark for mark in self.marks if mark.mark.name == name), None)

    def add_marker(self, mark):
        self.marks.append(mark)


def running(day):
    """Names of the tests that a day does not put off."""
    turns = zip(KINDS, rotation.turns(KINDS), strict=True)
    items = [Item('plain'), *(Item(f'{kind}{k}', turn) for k, (kind, turn) in enumerate(turns))]
    rotation.apply(items, day)
    return {item.name for item in items if not item.get_closest_marker('slow')}


@pytest.mark.parametrize('day', [0, 7, 739_000])
def test_every_day_has_one_of_every_kind_and_a_few_days_have_all(day):
    assert sorted(name[0] for name in running(day)) == ['a', 'b', 'c', 'p']
    assert set.union(*(running(day + later) for later in range(3))) == running(None)


def test_all_is_everyones_turn_and_the_days_number_the_default():
    assert len(running(rotation.number('all'))) == 1 + len(KINDS)
    assert rotation.number(rotation.today()) == datetime.date.today().toordinal()


class Report:
    """What pytest says of a phase of a test."""

    def __init__(self, nodeid, when, duration, *user_properties):
        self.nodeid, self.when, self.duration, self.user_properties = nodeid, when, duration, user_properties


def test_costs_are_summed_by_folder_and_the_dearest_come_first():
    reports = [
        Report('tests/nets/test_a.py::test_one', 'call', 2.0),
        Report('tests/nets/test_a.py::test_one', 'teardown', 1.0, ('processor_seconds', 4.0)),
        Report('tests/test_b.py::test_two[x::y]', 'call', 30.0, ('golden', 'matched')),
        Report('tests/test_b.py::test_two[x::y]', 'teardown', 0.0, ('processor_seconds', 8.0)),
    ]
    lines = [line.split() for line in costs.table(reports)]
    assert lines[1:4] == [
        ['1', '30.0', '8.0', 'tests/'],
        ['1', '3.0', '4.0', 'tests/nets/'],
        ['2', '33.0', '12.0', 'all'],
    ]
    assert [line[-1] for line in lines[5:]] == ['tests/test_b.py', 'tests/nets/test_a.py']
    assert costs.table(reports[:2]) == []


@pytest.mark.xdist_group('together')
def test_tests_of_a_group_stay_together(request):
    """pytest-xdist says so by their names; where it cannot, what they share is made by every worker."""
    together = request.config.getoption('loadgroup', False)
    assert request.node.nodeid.endswith('@together') == bool(together)
