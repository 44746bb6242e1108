"""Cells as grids: how they are divided, who holds which, what a trained one leaves."""

import dataclasses
import json
import random
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kdjax.study.sweep import collect, expand, grids, rows, worker
from kdjax.tasks.classification import Classification
from kdjax.train.screen import Screen
from kdjax.train.stop import StopSignals

pytestmark = pytest.mark.xdist_group('grids')  # its tests share what takes long to make
TINY = runpy.run_path(str(Path(__file__).resolve().parents[2] / 'configs' / 'tiny_sweep.py'))
CONFIG = TINY['get_config']()
SWEEP = expand.expand(CONFIG, TINY['sweep']())
ROOMS = dict.fromkeys(SWEEP.structures(), 4)


def test_grids_hold_cells_of_one_structure_and_at_most_as_many_as_have_room():
    divided = grids.divide(SWEEP, [], [], ROOMS)
    assert sorted(key for keys in divided for key in keys) == sorted(SWEEP.cells)
    for keys in divided:
        assert 1 <= len(keys) <= 4
        assert len({SWEEP.cells[key].structure for key in keys}) == 1


@pytest.mark.parametrize('seed', range(5))
def test_whichever_grids_are_finished_the_others_stay_as_they_are(seed):
    """So that what was begun by one process is gone on with by another."""
    divided = grids.divide(SWEEP, [], [], ROOMS)
    finished = random.Random(seed).sample(divided, 3)
    left = grids.divide(SWEEP, [key for keys in finished for key in keys], [], ROOMS)
    assert left == [keys for keys in divided if keys not in finished]


def test_a_grid_that_was_begun_stays_whole_and_one_that_is_no_longer_wanted_goes():
    structures = list(SWEEP.structures().values())
    begun = [cell.key for cell in structures[1][1:4]]
    divided = grids.divide(SWEEP, [], [begun, ['of', 'another', 'sweep']], ROOMS)
    assert divided[0] == begun
    assert sorted(key for keys in divided for key in keys) == sorted(SWEEP.cells)


def test_room_is_what_memory_allows_up_to_the_limit():
    cost = expand.check_shapes(SWEEP, sweep_datasets := worker.Datasets())
    cell = next(iter(SWEEP.cells.values()))
    own, dataset = cost[cell.structure], sweep_datasets(cell.inputs.data)
    assert grids.room(cell, own, dataset) == 4
    ample, tight = (grids.room(_with_memory(cell, gb), own, dataset) for gb in (1.0, 0.1))
    assert ample == pytest.approx(10 * tight, rel=0.01)
    assert grids.room(_with_memory(cell, 1e-9), own, dataset) == 1


def _with_memory(cell, gigabytes):
    return cell._replace(execution=dataclasses.replace(cell.execution, cells=10**6, memory=gigabytes))


HOLD = """
import sys, time
from pathlib import Path
from kdjax.study.sweep import grids
with grids.claimed(Path(sys.argv[1])) as mine:
    print(mine, flush=True)
    time.sleep(60)
"""


def test_a_claim_keeps_others_out_and_goes_with_its_process(tmp_path):
    holder = subprocess.Popen([sys.executable, '-c', HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == 'True\n'
        with grids.claimed(tmp_path) as mine:
            assert not mine
    finally:
        holder.kill()
        holder.communicate()
    with grids.claimed(tmp_path) as mine:
        assert mine


def trained(listed, workdir, **run):
    config = CONFIG.copy_and_resolve_references().unlock()
    config.run.update(run)
    planned = expand.expand(config.lock(), listed)
    with StopSignals() as stop:
        worker.Worker(planned, workdir, Screen(), stop).work()
    return planned, collect.results(planned, workdir, 'python run.py')


def accuracies(results):
    return {(tuple(r.point.items()), r.seed): r.last['accuracy'] for r in results.runs}


@pytest.fixture(scope='module')
def found(tmp_path_factory):
    return trained(TINY['sweep'](), tmp_path_factory.mktemp('sweep'), layout='map')


def test_every_run_has_its_record(found):
    planned, results = found
    assert len(results.runs) == len(planned.runs) == 14
    for record in results.runs:
        assert record.status == 'done'
        steps = [line.step for line in record.history]
        assert steps == list(range(10, 51 if record.method == 'soft, then hard' else 31, 10))
        assert 0 < record.last['accuracy'] <= 1
        assert record.best_step in steps
        assert record.last['agreement'] > 0
        assert record.cost.params == 610
    assert set(results.teachers) == {record.teacher for record in results.runs}
    json.dumps(dataclasses.asdict(results), allow_nan=False)


def test_the_best_of_a_run_is_the_validated_step_with_the_highest_accuracy(found):
    _, results = found
    for record in results.runs:
        own = [line for line in record.history if line.step > record.history[-1].step - 30]
        if record.method != 'soft, then hard':
            assert record.best_step == max(own, key=lambda line: line.metrics['accuracy']).step


@pytest.mark.parametrize('layout', ['vmap', 'unroll', 'cells', 'auto'])
def test_every_layout_finds_the_same(found, layout, tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    listed = rows.product(rows.axis('method', 'combined'), rows.axis('terms.soft.temperature', 2, 4, 8))
    _, results = trained(listed, tmp_path, layout=layout)
    wanted, got = accuracies(found[1]), accuracies(results)
    assert len(got) == 6
    assert all(abs(wanted[run] - value) <= 0.004 for run, value in got.items())


def test_a_cell_of_a_grid_is_what_it_is_alone(found, tmp_path):
    listed = rows.product(
        rows.axis('method', 'soft, then hard'), rows.axis('terms.soft.temperature', 4), rows.axis('seed', 1)
    )
    _, results = trained(listed, tmp_path, layout='map')
    (alone,) = results.runs
    (same,) = [r for r in found[1].runs if r.point == alone.point and r.seed == 1]
    np.testing.assert_allclose(
        [line.metrics['nll'] for line in alone.history], [line.metrics['nll'] for line in same.history], rtol=1e-4
    )


def test_a_cell_that_diverges_is_marked_with_its_reason_and_the_others_go_on(tmp_path):
    listed = rows.product(rows.axis('method', 'combined'), rows.axis('fits.combined.learning_rate', 1e-2, 1e30))
    _, results = trained(listed, tmp_path, layout='map')
    by_rate = {}
    for record in results.runs:
        by_rate.setdefault(record.point['learning_rate'], []).append(record)
    assert {record.status for record in by_rate[1e-2]} == {'done'}
    for record in by_rate[1e30]:
        assert record.status == 'failed'
        assert record.failure.step > 0
        assert record.failure.term
        assert record.last is None


def test_where_all_cells_of_a_grid_diverge_the_sweep_still_ends(tmp_path):
    listed = rows.product(rows.axis('method', 'hard labels'), rows.axis('fits.baseline.learning_rate', 1e30))
    _, results = trained(listed, tmp_path)
    assert [record.status for record in results.runs] == ['failed', 'failed']


def test_wrong_labels_reach_students_and_not_their_teacher(tmp_path):
    noisy = rows.axis('data.label_noise', 0.0, 1.0)
    _, results = trained(rows.product(rows.axis('method', 'hard labels'), noisy), tmp_path)
    nll = {(record.seed, record.point['label_noise']): record.last['nll'] for record in results.runs}
    assert all(nll[seed, 1.0] > nll[seed, 0.0] for seed in (0, 1))
    taught = expand.expand(CONFIG, rows.product(rows.axis('method', 'combined'), noisy))
    assert len([stage for stage in taught.stages.values() if stage.name == 'teacher']) == 1
    assert len(taught.cells) == 4


def test_of_equally_good_steps_the_first_is_best_whether_or_not_it_was_read_from_a_ledger():
    exact = float(np.float32(282 / 297))
    read = float(f'{exact:.7g}')
    assert read != exact
    metrics = {which: {'accuracy': np.ones(1)} for which in ('last', 'best')}
    for first, second in ((read, exact), (exact, read)):
        lines = [{'step': step, 'accuracy': [value], 'nll': [1.0]} for step, value in ((10, first), (20, second))]
        fitted = grids.loop.Fitted({}, {}, {}, lines, [], {})
        assert grids._record(fitted, metrics, 0, Classification().judged)['best']['step'] == 10
