"""Sweeps as commands, in processes of their own: resumed after anything, shared by several, reported at any time."""

import csv
import json
import random
import runpy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from processes import environment

import kdjax
from kdjax.data import digits
from kdjax.errors import Interrupted, UsageError
from kdjax.study.sweep import collect, expand, journal, rows, tune, worker
from kdjax.tasks.classification import Classification

pytestmark = pytest.mark.xdist_group('drive')  # its tests share what takes long to make
ROOT = Path(__file__).resolve().parents[3]
SWEEP = ROOT / 'tests' / 'configs' / 'tiny_sweep.py'
STRICT = ('-W', 'error', '-W', 'ignore:the load_module() method is deprecated:DeprecationWarning')


def command(workdir, *flags, mode='sweep', argument=''):
    config = f'--config={SWEEP}:{argument}' if argument else f'--config={SWEEP}'
    return [sys.executable, *STRICT, str(ROOT / 'run.py'), config, f'--mode={mode}', f'--workdir={workdir}', *flags]


def run(workdir, *flags, **how):
    return subprocess.run(command(workdir, *flags, **how), capture_output=True, text=True, env=environment())


def found(workdir):
    """Every number of a report but times, latencies and what the command was."""
    summary = json.loads((workdir / 'report' / 'summary.json').read_text())
    for name in ('seconds', 'command', 'git_commit'):
        summary['provenance'].pop(name)
    for part in (*summary['rows'], *summary['teachers'].values()):
        part['cost'].pop('latency_ms')
    return summary


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    workdir = tmp_path_factory.mktemp('whole')
    done = run(workdir, argument='kills')
    assert done.returncode == 0, done.stderr
    return workdir, done


def test_a_sweep_is_one_command_and_ends_as_tables(whole):
    workdir, done = whole
    assert 'combined, 4' in done.stdout
    assert {'report.html', 'report.md', 'tables.tex', 'arms.csv', 'runs.csv', 'summary.json'} <= {
        path.name for path in (workdir / 'report').iterdir()
    }
    runs = (workdir / 'report' / 'runs.csv').read_text().strip().splitlines()
    assert len(runs) == 1 + 7 * 2


@pytest.mark.rotating(2, 3)  # of runs, of processes and of sweeps one is killed each day
def test_killed_at_random_moments_a_sweep_ends_with_the_same_tables(whole, tmp_path, pytestconfig):
    """kill -9 as often as --kills says; then the same command once more."""
    moments = random.Random(time.time_ns())
    for _ in range(pytestconfig.getoption('--kills')):
        process = subprocess.Popen(command(tmp_path, argument='kills'), env=environment(),
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        time.sleep(moments.uniform(2, 10))
        process.send_signal(signal.SIGKILL)
        process.wait()
    last = run(tmp_path, argument='kills')
    assert last.returncode == 0, last.stderr
    assert found(tmp_path) == found(whole[0])


def test_two_processes_divide_a_sweep_and_find_the_same(whole, tmp_path):
    both = [
        subprocess.Popen(command(tmp_path, argument='kills'), env=environment(), text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]  # fmt: skip
    said = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert found(tmp_path) == found(whole[0])
    assert all('7 arms of 2 seeds' in out for out, _ in said)


def test_a_finished_sweep_does_nothing_again_and_reports_without_training(whole):
    workdir, _ = whole
    before = {path: path.stat().st_mtime_ns for path in workdir.glob('*/artifact.json')}
    for mode in ('sweep', 'report'):
        done = run(workdir, mode=mode, argument='kills')
        assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in workdir.glob('*/artifact.json')} == before


def test_the_best_student_of_a_sweep_is_in_the_hand(whole):
    workdir = whole[0]
    with (workdir / 'report' / 'runs.csv').open() as file:
        runs = list(csv.DictReader(file))
    student, test = kdjax.load(workdir), digits.digits().splits['test']
    accuracy = np.float32((student.predict(test.inputs) == test.labels).mean())
    assert str(accuracy) in {str(np.float32(run['last_accuracy'])) for run in runs if run['method'] == student.method}
    chosen = kdjax.load(workdir, student.method, seed=student.seed, point=student.candidate)
    np.testing.assert_array_equal(chosen.logits(test.inputs), student.logits(test.inputs))
    with pytest.raises(UsageError, match=r'seed must be one of \[.*got 99'):
        kdjax.load(workdir, seed=99)


def test_a_plan_trains_nothing_and_says_what_would_run(tmp_path):
    done = run(tmp_path / 'unused', mode='plan')
    assert done.returncode == 0, done.stderr
    lines = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line.strip()}
    assert '14 runs' in done.stdout
    assert lines['combined'][1:5] == ['0', 'of', '6', '2']  # done, cells, grids of at most 4
    assert not (tmp_path / 'unused').exists()


def test_a_report_before_anything_has_run_says_so(tmp_path):
    done = run(tmp_path, mode='report')
    assert done.returncode == 0, done.stderr
    assert '0 of 14 runs' in ' '.join(done.stdout.split())


def test_a_config_without_rows_has_no_sweep(tmp_path):
    words = [word for word in command(tmp_path) if not word.startswith('--config')]
    done = subprocess.run([*words, f'--config={ROOT / "tests/configs/tiny.py"}'], capture_output=True, text=True,
                          env=environment())  # fmt: skip
    assert done.returncode == 2
    assert 'no function sweep(arg)' in done.stderr


class Countdown:
    """Signals that ask for a stop at the n-th question."""

    def __init__(self, questions):
        self.left, self.asked = questions, None

    def agreed(self):
        self.left -= 1
        if self.left == 0:
            self.asked = signal.SIGTERM
        return self.asked


class Silent:
    """A screen that shows nothing."""

    def __getattr__(self, name):
        return lambda *arguments: None


def worked(planned, workdir, stop=None):
    workdir.mkdir(exist_ok=True)
    worker.Worker(planned, workdir, Silent(), stop or Countdown(-1)).work()
    return collect.results(planned, workdir, '')


def small():
    return runpy.run_path(str(SWEEP))['get_config']()


def test_rows_that_are_added_are_all_that_runs(tmp_path):
    config, method = small(), rows.axis('method', 'combined')
    few = expand.expand(config, rows.product(method, rows.axis('terms.soft.temperature', 2, 4)))
    worked(few, tmp_path)
    before = {path for path in tmp_path.glob('*/artifact.json')}
    more = expand.expand(config, rows.product(method, rows.axis('terms.soft.temperature', 2, 3, 4)))
    results = worked(more, tmp_path)
    (new,) = {path for path in tmp_path.glob('*/artifact.json')} - before
    assert len(json.loads(new.read_text())['result']['cells']) == 2
    assert {run.status for run in results.runs} == {'done'}


def test_half_way_a_report_tells_the_finished_from_those_under_way(tmp_path):
    temperatures = rows.axis('terms.soft.temperature', 2, 3, 4)
    planned = expand.expand(small(), rows.product(rows.axis('method', 'combined'), temperatures))
    with pytest.raises(Interrupted):
        worked(planned, tmp_path, Countdown(12))  # three stages, one grid, and the first steps of another
    by_status = {}
    for each in collect.results(planned, tmp_path, '').runs:
        by_status.setdefault(each.status, []).append(each)
    assert {status: len(found) for status, found in by_status.items()} == {'done': 4, 'running': 2}
    assert all(each.last is None and each.history for each in by_status['running'])
    assert {each.status for each in worked(planned, tmp_path).runs} == {'done'}


def tuned(workdir, stop=None):
    workdir.mkdir(exist_ok=True)
    config = small().copy_and_resolve_references().unlock()
    config.tune.trials, config.tune.batch, config.tune.parts = 8, 4, 2
    tuner = tune.Tuner(config.lock(), tune.usual_space(config), workdir, Silent(), stop or Countdown(-1))
    best = tuner.tuned()
    return best, [(trial.number, trial.state.name, trial.params, trial.value, trial.intermediate_values)
                  for trial in tuner._study.get_trials()]  # fmt: skip


def test_of_every_batch_of_trials_the_worst_stop_early_and_the_best_is_found(tmp_path):
    (best, met), trials = tuned(tmp_path)
    assert met  # no bar was set
    assert [trial[1] for trial in trials].count('PRUNED') == 2 * 2
    complete = [trial for trial in trials if trial[1] == 'COMPLETE']
    assert best == max(complete, key=lambda trial: trial[3])[2]
    for batch in (trials[:4], trials[4:]):
        first = {trial[1]: [] for trial in batch}
        for trial in batch:
            first[trial[1]].append(trial[4][0])
        assert min(first['COMPLETE']) >= max(first['PRUNED'])


def test_tuning_that_was_stopped_goes_on_with_the_same_trials(tmp_path):
    whole = tuned(tmp_path / 'whole')
    for questions in (9, 16):
        with pytest.raises(Interrupted):
            tuned(tmp_path / 'broken', Countdown(questions))
    assert tuned(tmp_path / 'broken') == whole


def test_a_trial_that_runs_to_the_end_in_parts_is_what_it_is_in_one(tmp_path):
    config = small().copy_and_resolve_references().unlock()
    config.tune.trials, config.tune.batch, config.tune.parts = 2, 2, 2
    space = {'terms.soft.temperature': rows.Range(2.0, 8.0)}
    tuner = tune.Tuner(config.lock(), space, tmp_path, Silent(), Countdown(-1))
    tuner.tuned()
    (grid,) = [path for path in tmp_path.glob('grid-*/artifact.json') if _begun_later(path)]
    (best,) = [trial.params for trial in tuner._study.get_trials() if trial.state.name == 'COMPLETE']
    temperature = rows.axis('terms.soft.temperature', best['terms.soft.temperature'])
    planned = expand.expand(config, rows.product(rows.axis('method', 'combined'), temperature))
    alone = worked(planned, tmp_path / 'alone')
    for cell, alone_run in zip(_cells(grid), alone.runs, strict=True):
        assert [line['step'] for line in cell['history']] == [10, 20, 30]
        wanted = [line.metrics['nll'] for line in alone_run.history]
        assert [line['nll'] for line in cell['history']] == pytest.approx(wanted, rel=1e-3)


def short(tmp_path, space, **steps):
    """Tunes four trials of fits of so many steps, in three parts and dispatches of ten steps."""
    config = small().copy_and_resolve_references().unlock()
    config.seeds, config.tune.trials, config.tune.batch, config.tune.parts = 1, 4, 4, 3
    for fit, count in steps.items():
        config.fits[fit].steps = count
    tuner = tune.Tuner(config.lock(), space, tmp_path, Silent(), Countdown(-1))
    best, _ = tuner.tuned()
    return best, tuner._study.get_trials()


@pytest.mark.parametrize(('steps', 'complete'), [(1, 4), (10, 4), (11, 2), (30, 2)])
def test_parts_of_a_short_fit_that_end_on_one_step_are_one(tmp_path, steps, complete):
    """Once the second of them trained nothing, saved nothing, and left the third nothing to start from."""
    best, trials = short(tmp_path, {'fits.combined.learning_rate': rows.Range(1e-3, 1e-1, log=True)}, combined=steps)
    states = [trial.state.name for trial in trials]
    assert states.count('COMPLETE') == complete
    assert states.count('PRUNED') == 4 - complete
    assert best in [trial.params for trial in trials if trial.state.name == 'COMPLETE']
    grids = [_cells(path) for path in tmp_path.glob('grid-*/artifact.json')]
    assert complete in [len(cells) for cells in grids if cells[0]['history'][-1]['step'] == steps]


@pytest.mark.parametrize('seed', range(20))
def test_a_journal_of_trials_that_is_not_as_it_was_written_is_named(proposed, tmp_path, seed):
    chance, path = random.Random(seed), tmp_path / journal.JOURNAL
    shutil.copytree(proposed, tmp_path, dirs_exist_ok=True)
    raw = bytearray(path.read_bytes())
    place = chance.randrange(8 * len(raw))
    raw[place // 8] ^= 1 << place % 8
    path.write_bytes(chance.choice([raw, raw[: place // 8], b'']))
    with pytest.raises(UsageError, match=f'^{path} is damaged .*; delete {path} and {tmp_path / journal.SEAL}: trials'):
        journal.opened(tmp_path, JUDGED)


JUDGED = Classification().judged


@pytest.fixture(scope='module')
def proposed(tmp_path_factory):
    """A workdir with trials that were proposed and told."""
    workdir = tmp_path_factory.mktemp('proposed')
    study = journal.opened(workdir, JUDGED)
    for value in (0.1, 0.2):
        study.tell(study.ask(tune._distributions({'x': rows.Range(0.0, 1.0)})), value)
    journal.seal(workdir)
    return workdir


@pytest.mark.parametrize('line', [b'{"op_code": 5}\n', b'3\n', b'{"op_co', b'\xff\n'])
def test_what_a_crash_left_at_the_end_of_a_journal_is_read_or_named(proposed, tmp_path, line):
    shutil.copytree(proposed, tmp_path, dirs_exist_ok=True)
    with (tmp_path / journal.JOURNAL).open('ab') as file:
        file.write(line)
    try:
        assert [trial.value for trial in journal.opened(tmp_path, JUDGED).get_trials()] == [0.1, 0.2]
    except UsageError as error:
        assert 'is damaged' in str(error)  # noqa: PT017


def test_fits_of_different_lengths_race_together(tmp_path):
    """A part of which the shorter ones know nothing leaves them as they are."""
    _, trials = short(tmp_path, {'fits.combined.steps': (10, 90)})
    assert {trial.state.name for trial in trials} <= {'COMPLETE', 'PRUNED'}
    assert any(trial.state.name == 'COMPLETE' for trial in trials)


def _cells(path):
    return json.loads(path.read_text())['result']['cells']


def _begun_later(path):
    """Whether the grid is the last part of a fit: its own ledger does not begin at the beginning."""
    lines = [json.loads(line) for line in (path.parent / 'ledger.jsonl').read_text().splitlines()]
    return min(line['step'] for line in lines) > 1
