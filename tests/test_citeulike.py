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
from kdjax.study.sweep import expand
from kdjax.train import given

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
            fit.task.update({name: {'pool': 8}.get(name, min(value, 3)) for name, value in fit.task.items()})
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


def test_what_other_methods_read_of_the_teacher_trains_no_method_again():
    """A cache of answers has no features, so those that experts ask for are not in the address of what it teaches."""

    def planned(methods):
        config = small(EXPERIMENT['get_config'](methods))
        found = expand.expand(config, EXPERIMENT['sweep'](methods))
        caches = [stage.reads['taps'] for stage in found.stages.values() if stage.name == 'cache']
        return {cell.key for cell in found.cells.values() if cell.fit.name == 'rrd'}, caches

    alone, beside = planned('methods=RRD'), planned('methods=RRD+DE+FTD')
    assert beside == alone
    assert alone[1] == [[]]


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


@pytest.mark.slow
def test_a_table_that_ranks_teaches_as_a_network_would(tmp_path):
    """What everybody takes, ranked without any network: what a student is asked about, and what it is held against."""
    config = small(citeulike.get_config())
    data = dataset(resolve(config).data)
    taken = data.splits['train']
    items, users = (np.argsort(-np.bincount(np.asarray(ids), minlength=size), kind='stable')[:10].astype(np.int32)
                    for ids, size in ((taken.labels, 64), (taken.inputs['user'], 40)))  # fmt: skip
    ranked = {'ranked_items': np.tile(items, (40, 1)), 'ranked_users': np.tile(users, (64, 1))}
    looked = {name: {'top_ids': np.tile(items, (data.splits[name].size, 1)),
                     'top_log_probs': np.log(np.tile(0.1 * 0.9 ** np.arange(10), (data.splits[name].size, 1)))}
              for name in ('validation', 'test')}  # fmt: skip
    given.save(tmp_path / 'popular.npz', data, {'questions': ranked, **looked})
    with config.unlocked():
        config.teacher.outputs = str(tmp_path / 'popular.npz')
        config.methods = {name: config.methods[name] for name in ('student alone', 'RRD')}
    run.run(config, tmp_path / 'run', 'python run.py')
    summary = json.loads((tmp_path / 'run' / 'report' / 'summary.json').read_text())
    (teacher,) = summary['teachers'].values()
    assert teacher['cost'] is None
    assert 0.2 < teacher['metrics']['hit_5'] <= 1
    overlap = {row['method']: row['last']['overlap']['mean'] for row in summary['rows']}
    assert overlap['RRD'] > overlap['student alone']
