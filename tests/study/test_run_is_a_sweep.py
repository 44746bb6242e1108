"""A run is a sweep of its methods: its report has the numbers that the report of that sweep has, one by one."""

import json
import runpy
from pathlib import Path

import pytest

from kdjax.study import run
from kdjax.study.config.search import Search
from kdjax.study.sweep import rows, worker

TINY = runpy.run_path(str(Path(__file__).resolve().parents[1] / 'configs' / 'tiny.py'))['get_config']
SIZES = (50, 100)


pytestmark = pytest.mark.xdist_group('run and sweep')  # its tests share what takes long to make


@pytest.fixture(scope='module')
def reports(tmp_path_factory):
    """The summaries of a run of three methods with two sizes of the transfer set, and of the sweep over both."""
    config = TINY().copy_and_resolve_references()
    with config.unlocked(), config.ignore_type():
        config.search, config.run.layout, config.run.anatomy_every = Search(), 'map', 10
    single, swept = tmp_path_factory.mktemp('run'), tmp_path_factory.mktemp('sweep')
    with config.unlocked():
        config.data.transfer_sizes = SIZES
    run.run(config.lock(), single, 'python run.py')
    methods = rows.axis('method', 'hard labels', 'combined', 'soft, then hard')
    sizes = rows.axis('data.transfer_sizes', *((size,) for size in SIZES), name='transfer_size')
    worker.run(config, rows.product(sizes, methods), swept, 'python run.py')
    return [json.loads((folder / 'report' / 'summary.json').read_text()) for folder in (single, swept)]


def test_every_number_of_an_arm_is_the_same(reports):
    single, swept = reports
    assert [row['name'] for row in single['rows']] == [row['name'] for row in swept['rows']]
    assert len(single['rows']) == 6
    for ours, theirs in zip(single['rows'], swept['rows'], strict=True):
        for row in (ours, theirs):
            row['cost'].pop('latency_ms')
            row.pop('teacher')  # its key: a name in a run, an address in a sweep
        assert ours == theirs


def test_all_else_is_the_same_but_for_what_only_a_run_has(reports):
    single, swept = reports
    for name in ('baseline', 'axes', 'counts', 'failures', 'published', 'title'):
        assert single[name] == swept[name]
    (ours,), (theirs,) = (summary['teachers'].values() for summary in reports)
    assert ours['metrics'] == theirs['metrics']
    assert single['provenance']['data_checksum'] == swept['provenance']['data_checksum']
    assert single['acceptance']['method'] == 'combined'
    assert swept['acceptance'] is None
