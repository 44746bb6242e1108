"""Recommendation from config to report: on made-up interactions; the experiment by its plan."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from configs import citeulike
from kdjax.errors import UsageError
from kdjax.study import run
from kdjax.study.recipe import plan
from kdjax.study.recipe.build import dataset
from kdjax.study.recipe.resolve import resolve

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENT = runpy.run_path(str(ROOT / 'experiments' / 'derrd2020_citeulike' / 'config.py'))
TECHNIQUES = '+'.join(EXPERIMENT['METHODS'])


def small(config):
    """The config on made-up interactions, a few steps long."""
    with config.unlocked(), config.ignore_type():
        config.data.source, config.data.args, config.seeds, config.expected = 'interactions:interactions', {}, 2, ''
        for group in ('first', 'interesting', 'uninteresting', 'first_users', 'uninteresting_users'):
            if group in config.task:
                config.task[group] = 3
        config.task.update({'pool': 8, 'kept': 10})
        config.teacher.args = {'width': 6}
        config.student.args = {'width': 3}
        for fit in (config.teacher.fit, *config.fits.values()):
            fit.update({'steps': 40, 'batch_size': 32, 'learning_rate': 3e-2})
        config.run.update({'validate_every': 20, 'layout': 'map'})
        for name in ('experts_users', 'experts_items', 'groups', 'dual'):
            if name in config.terms:
                sizes = {'experts': 2, 'groups': 2, 'under': 3, 'over': 3}
                config.terms[name].update({key: sizes[key] for key in sizes if key in config.terms[name]})
                if name == 'dual':
                    config.terms[name].update({'under': 3, 'over': 3})
    return config


def test_every_technique_of_the_experiment_could_run():
    """Networks, groups of items, taps and terms, by their shapes."""
    config = small(EXPERIMENT['get_config'](f'methods={TECHNIQUES}'))
    recipe = resolve(config)
    costs = plan.check_shapes(recipe, dataset(recipe.data))
    assert {'baseline', 'rrd', 'ir-rrd', 'de', 'htd', 'dcd'} <= set(costs)


def test_the_expected_numbers_are_of_methods_and_metrics_that_there_are():
    expected = json.loads((ROOT / EXPERIMENT['EXPECTED']).read_text())
    assert {row['point']['method'] for row in expected['rows']} <= set(EXPERIMENT['METHODS'])
    with pytest.raises(UsageError, match="unknown method 'RDD'"):
        EXPERIMENT['get_config']('methods=RDD')
    with pytest.raises(UsageError, match="unknown student 'mlp'"):
        citeulike.get_config('student=mlp')


@pytest.mark.slow
def test_a_run_from_teacher_to_report(tmp_path):
    """What a teacher ranks is asked once, and taught; its report has the costs and the exhibit of the task."""
    run.run(small(citeulike.get_config()), tmp_path, 'python run.py')
    summary = json.loads((tmp_path / 'report' / 'summary.json').read_text())
    rows = {row['method']: row for row in summary['rows']}
    assert set(rows) == {'student alone', 'RRD', 'IR-RRD'}
    for row in rows.values():
        assert 0.2 < row['last']['hit_5']['mean'] <= 1
        assert row['cost']['more']['table_mb'] == pytest.approx((40 + 64) * 3 * 4 / 1e6)
    assert 'overlap' in rows['RRD']['last']
    tables = [np.load(path) for path in next(tmp_path.glob('cache-*')).glob('tables/*.npy')]
    assert sorted(table.shape for table in tables) == [(40, 10), (64, 10)]
