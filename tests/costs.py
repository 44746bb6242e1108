"""What tests cost: seconds of their own and of the processes that they start, by folder and by file."""

import collections
import os
import pathlib

import pytest

BEGUN = pytest.StashKey[float]()
DEAREST = 10


def used():
    """Processor seconds of this process and of those that it started and that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def begin(item):
    """Before the fixtures of a test."""
    item.stash[BEGUN] = used()


def end(item):
    """After a test: its report says what it cost."""
    if BEGUN in item.stash:
        item.user_properties.append(('processor_seconds', round(used() - item.stash[BEGUN], 3)))


class Cost:
    """Tests, seconds by the clock and seconds of processors of a folder or a file."""

    def __init__(self):
        self.tests, self.clock, self.processor = 0, 0.0, 0.0

    def add(self, report):
        self.clock += report.duration
        if report.when == 'teardown':
            self.tests += 1
            self.processor += dict(report.user_properties).get('processor_seconds', 0)


def table(reports):
    """Lines that show every folder, and the files that cost most; none where hardly anything ran."""
    by_folder, by_file = collections.defaultdict(Cost), collections.defaultdict(Cost)
    for report in reports:
        if hasattr(report, 'when') and hasattr(report, 'duration'):
            file = pathlib.PurePosixPath(report.nodeid.partition('::')[0])
            by_folder[f'{file.parent}/'].add(report)
            by_file[f'{file}'].add(report)
    if sum(cost.processor for cost in by_folder.values()) < 10:
        return []
    total = {'all': _sum(by_folder.values())}
    return [
        f'{"tests":>6} {"clock s":>9} {"CPU s":>9}',
        *_lines(by_folder), *_lines(total), 'the dearest files', *_lines(by_file)[:DEAREST],
    ]  # fmt: skip


def _sum(costs):
    total = Cost()
    for cost in costs:
        total.tests += cost.tests
        total.clock += cost.clock
        total.processor += cost.processor
    return total


def _lines(costs):
    dearest = sorted(costs.items(), key=lambda item: -item[1].processor)
    return [f'{cost.tests:6} {cost.clock:9.1f} {cost.processor:9.1f}  {name}' for name, cost in dearest]
