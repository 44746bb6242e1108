"""The benchmark of a config: who takes part, that the arithmetic of its table holds, and what it leaves."""

import json
import runpy
from pathlib import Path

import jax
import numpy as np
import pytest

from kdjax.errors import UsageError
from kdjax.study import bench
from kdjax.study.recipe import dry_run
from kdjax.study.recipe.context import Context
from kdjax.study.recipe.resolve import resolve
from kdjax.study.sweep.rows import applied
from kdjax.train import layout
from kdjax.train.screen import Screen
from kdjax.train.stop import StopSignals

CELLS = 2
ALONE = {'methods': {'hard labels': ('baseline',)}, 'accept.method': 'hard labels'}
TINY = Path(__file__).resolve().parents[1] / 'configs' / 'tiny.py'


def config_of(**changes):
    fields = {'run.cells': CELLS, 'methods': {'hard labels': ('baseline',), 'combined': ('combined',)}, **changes}
    return applied(runpy.run_path(str(TINY))['get_config'](), fields)


def bench_cases(config):
    recipe = resolve(config)
    return bench.bench_cases(recipe, Context(recipe.execution, Screen(quiet=True), StopSignals()))


@pytest.fixture(scope='module')
def listed():
    return bench_cases(config_of())


def test_every_fit_takes_part_in_every_layout_and_way_of_teaching(listed):
    found = {(one.fit, one.teacher, one.layout) for one in listed}
    layouts = layout.candidates(CELLS)
    assert found == {
        *(('baseline', 'none', each) for each in layouts),
        *(('combined', mode, each) for mode in ('online', 'cached') for each in layouts),
    }


def test_a_teacher_is_counted_once_for_all_cells_and_a_cached_one_never(listed):
    flops = {one.teacher: one.flops for one in listed if one.layout == 'map'}
    config = config_of()
    products = sum(a * b for a, b in ((64, 32), (32, 10)))
    teacher = 2 * products * config.fits.combined.batch_size
    assert flops['cached'] < flops['online'] < flops['cached'] + 1.5 * teacher
    assert flops['online'] - flops['cached'] >= teacher


def test_mixed_examples_cannot_be_looked_up():
    config = config_of(**{'data.mix': {'kind': 'mix.mixup', 'alpha': 0.2}, 'teacher.mode': 'online'})
    assert {one.teacher for one in bench_cases(config) if one.fit == 'combined'} == {'online'}


def test_a_teacher_that_is_asked_since_no_cache_would_fit_takes_part(monkeypatch):
    monkeypatch.setattr(dry_run.shapes, 'host_bytes', lambda: 10**8)
    views = {'data.augment': {'kind': 'augment.shift'}, 'data.views': 10_000, 'teacher.mode': 'online'}
    found = {one.teacher: one.flops for one in bench_cases(config_of(**views)) if one.fit == 'combined'}
    assert found['cached'] < found['online']


def test_a_turn_trains(listed):
    one = listed[0]
    before = one.grid.arguments(one.steps)[0]
    after, _ = one.program(*one.grid.arguments(one.steps))
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), before.params['student'], after.params['student'])
    assert min(jax.tree.leaves(moved)) > 0


def test_what_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, 'ROUNDS', 2)
    monkeypatch.setattr(bench, 'TURN', 0.0)
    bench.run(config_of(**ALONE), tmp_path, 'python run.py --mode=bench')
    found = json.loads((tmp_path / 'bench' / 'bench.json').read_text())
    assert [row['layout'] for row in found['rows']] == list(layout.candidates(CELLS))
    assert all(len(row['seconds']) == 2 and min(row['seconds']) > 0 for row in found['rows'])
    assert all(row['first'] > min(row['seconds']) for row in found['rows'])
    assert {'machine', 'versions', 'matmul_gflops', 'command', 'git_commit'} <= set(found)
    assert '2 x vmap' in (tmp_path / 'bench' / 'bench.md').read_text()
    assert (tmp_path / 'bench' / 'bench.png').read_bytes().startswith(b'\x89PNG')


def test_where_all_are_too_slow_it_says_what_to_lower(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, 'SLOWEST', 0.0)
    with pytest.raises(UsageError, match=r'lower run\.chunk or run\.cells'):
        bench.run(config_of(**ALONE), tmp_path, '')
