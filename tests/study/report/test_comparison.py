"""Arms are runs that differ in their seed alone; each stands against the arm that shares its settings."""

import dataclasses
import itertools

import numpy as np
import pytest
from made_up import BASELINE, TEACHER, changed, cost, grid, half, many, record, results, temperatures
from scipy import stats

from kdjax.errors import UsageError
from kdjax.study.report import comparison, report
from kdjax.study.report.records import Counts


def measured(study):
    return {row.name: row for row in comparison.compare(study, comparison.group_runs(study))}


def accuracies(study, method, checkpoint='last', **point):
    found = [run for run in study.runs if run.point == {'method': method, **point}]
    return [getattr(run, checkpoint)['accuracy'] for run in sorted(found, key=lambda run: run.seed)]


def test_runs_are_grouped_by_all_but_the_seed():
    study = temperatures(seeds=3, values=(1, 4))
    found = comparison.group_runs(study)
    assert [arm.name for arm in found] == [
        'hard labels', 'kd, temperature 1', 'kd, temperature 4', 'dist, temperature 1', 'dist, temperature 4',
    ]  # fmt: skip
    assert all([run.seed for run in arm.runs] == [0, 1, 2] for arm in found)
    assert found[1].point == {'method': 'kd', 'temperature': 1}


def test_names_leave_out_what_does_not_vary():
    runs = [record(method, 0, {'temperature': 4, 'width': width}) for method in ('kd', 'dist') for width in (32, 64)]
    assert [arm.name for arm in comparison.group_runs(results(runs, ['temperature', 'method', 'width']))] == [
        'kd, width 32', 'kd, width 64', 'dist, width 32', 'dist, width 64',
    ]  # fmt: skip


def test_names_are_never_the_same():
    runs = [record('kd', 0, {'temperature': 4}), record('kd', 0)]
    assert [arm.name for arm in comparison.group_runs(results(runs, ['temperature']))] == ['kd, temperature 4', 'kd']


def test_size_of_the_transfer_set_is_an_axis_where_it_varies():
    runs = [record('kd', 0, size=size) for size in (100, 1000)]
    study = results(runs, [])
    assert comparison.axes(study) == ['method', 'transfer_size']
    assert [arm.name for arm in comparison.group_runs(study)] == ['kd, transfer size 100', 'kd, transfer size 1000']
    named = results([record('kd', 0, {'size': size}, size=size) for size in (100, 1000)], ['size'])
    assert comparison.axes(named) == ['method', 'size']


def test_an_axis_that_repeats_the_method_is_not_shown_twice():
    study = results([record(method, 0, {'technique': method}) for method in ('kd', BASELINE)], ['technique'])
    assert comparison.axes(study) == ['method']
    assert measured(study)['kd'].difference is not None


def test_two_runs_of_one_seed_are_refused():
    with pytest.raises(UsageError, match='2 runs of kd have seed 7'):
        comparison.group_runs(results([record('kd', 7), record('kd', 7)], []))


def test_numeric_axes():
    rows = list(measured(grid(seeds=2)).values())
    assert comparison.numeric('temperature', rows) == [1, 4, 16]
    assert comparison.numeric('method', rows) == []
    assert comparison.numeric('width', [row for row in rows if row.point['width'] == 32]) == []
    texts = results([record('kd', 0, {'net': net}) for net in ('small', 2)], ['net'])
    assert comparison.numeric('net', list(measured(texts).values())) == []


def test_arm_numbers_are_scipys():
    study = temperatures(seeds=5)
    row = measured(study)['kd, temperature 4']
    for checkpoint in ('last', 'best'):
        ours = accuracies(study, 'kd', checkpoint, temperature=4)
        assert getattr(row, checkpoint)['accuracy'].mean == pytest.approx(np.mean(ours))
        assert getattr(row, checkpoint)['accuracy'].sd == pytest.approx(np.std(ours, ddof=1), rel=1e-5)
        assert getattr(row, checkpoint)['accuracy'].ci95 == pytest.approx(
            stats.t.interval(0.95, 4, loc=np.mean(ours), scale=stats.sem(ours)), rel=1e-6
        )
    ours, theirs = accuracies(study, 'kd', temperature=4), accuracies(study, BASELINE)
    expected = stats.ttest_rel(ours, theirs)
    assert row.difference.mean == pytest.approx(np.mean(ours) - np.mean(theirs), rel=1e-5)
    assert row.difference.p == pytest.approx(expected.pvalue, rel=1e-5)
    assert row.difference.baseline == BASELINE
    share = row.difference.mean / (TEACHER.metrics['accuracy'] - np.mean(theirs))
    assert row.gap_recovered.value == pytest.approx(share, rel=1e-5)
    assert row.cost.latency_ms['1'] == pytest.approx(0.164)
    assert row.best_step == 150
    assert (row.n, row.counts.runs, row.counts.done) == (5, 5, 5)


def test_p_values_of_a_sweep_are_one_family():
    rows = [row.difference for row in measured(temperatures(seeds=4)).values() if row.difference]
    raw, adjusted = (np.array([getattr(row, key) for row in rows]) for key in ('p', 'p_holm'))
    order = np.argsort(raw)
    expected = np.minimum(np.maximum.accumulate(raw[order] * np.arange(len(raw), 0, -1)), 1)
    assert len(rows) == 16
    assert adjusted[order] == pytest.approx(expected, rel=1e-5)
    helped = [row.verdict == 'helps' for row in rows]
    assert helped == [row.p_holm < 0.05 and row.mean > 0 for row in rows]
    assert sum(row.p < 0.05 for row in rows) > sum(row.p_holm < 0.05 for row in rows)


def test_an_arm_that_only_the_single_test_finds_is_not_judged_better():
    rows = [row.difference for row in measured(many()).values() if row.difference]
    between = [row for row in rows if row.p < 0.05 <= row.p_holm]
    assert between
    assert {row.verdict for row in between} == {'no significant difference'}


def test_the_baseline_shares_the_settings_that_both_have():
    study = grid(seeds=3)
    rows = measured(study)
    assert rows['kd, temperature 4, weight 0.5, width 64'].difference.baseline == 'hard labels, width 64'
    ours = accuracies(study, 'kd', temperature=4, weight=0.5, width=64)
    theirs = accuracies(study, BASELINE, width=64)
    difference = np.mean(ours) - np.mean(theirs)
    assert rows['kd, temperature 4, weight 0.5, width 64'].difference.mean == pytest.approx(difference, rel=1e-4)
    assert rows['hard labels, width 32'].difference is None
    assert rows['hard labels, width 32'].is_baseline


def test_the_baseline_has_the_same_transfer_set():
    runs = [
        record(method, seed, accuracy=0.8 + size / 10_000 + gain + 0.001 * seed * (1 + seed * gain), size=size)
        for (method, gain), size, seed in itertools.product(((BASELINE, 0), ('kd', 0.05)), (100, 1000), range(3))
    ]
    rows = measured(results(runs, []))
    assert rows['kd, transfer size 100'].difference.baseline == 'hard labels, transfer size 100'
    assert rows['kd, transfer size 100'].difference.mean == pytest.approx(0.05, abs=1e-3)


def test_an_ambiguous_baseline_is_none():
    runs = [record(BASELINE, seed, {'smoothing': value}) for seed in range(3) for value in (0.0, 0.1)]
    rows = measured(results([*runs, *(record('kd', seed) for seed in range(3))], ['smoothing']))
    assert rows['kd'].difference is None
    assert rows['kd'].gap_recovered is None


def test_every_state_is_counted_and_only_finished_runs_are_averaged():
    runs = [record(BASELINE, seed, accuracy=0.8 + seed / 100) for seed in range(5)]
    ours = [record('kd', 0, accuracy=0.9), record('kd', 1, accuracy=0.95), record('kd', 2, status='failed'),
            record('kd', 3, status='running'), record('kd', 4, status='missing')]  # fmt: skip
    row = measured(results(runs + ours, []))['kd']
    assert (row.counts, row.n) == (Counts(5, 2, 1, 1, 1), 2)
    assert row.score.mean == pytest.approx(0.925)
    assert row.difference.n == 2
    assert row.difference.mean == pytest.approx(0.925 - 0.805)


@pytest.mark.parametrize('status', ['failed', 'running'])
def test_numbers_of_a_run_that_did_not_end_well_are_not_used(status):
    study = results([record('kd', seed, accuracy=0.9) for seed in range(3)], [])
    low = {**study.runs[0].last, 'accuracy': 0.1}
    row = measured(changed(study, 0, status=status, last=low))['kd']
    assert row.n == 2
    assert row.score.mean == pytest.approx(0.9)


def test_a_diverged_test_metric_is_no_number():
    study = results([record('kd', seed, accuracy=0.9) for seed in range(3)], [])
    for place, metric in enumerate(('accuracy', 'nll')):
        study = changed(study, place, last={**study.runs[place].last, metric: None})
    row = measured(study)['kd']
    assert (row.counts.done, row.n, row.last['nll'].n) == (3, 2, 2)


def test_half_way_everything_has_its_n():
    rows = measured(half())
    assert sum(row.counts.runs for row in rows.values()) == 170
    assert all(row.n == row.counts.done <= row.counts.runs == 10 for row in rows.values())
    pairs = [row.difference for row in rows.values() if row.difference]
    assert all(pair.n <= 10 for pair in pairs)
    assert any(pair.p is None for pair in pairs)
    assert {pair.verdict for pair in pairs if pair.p is None} == {'cannot be tested'}


def test_the_family_is_as_large_half_way_as_at_the_end():
    study = half()
    pairs = [row.difference for row in measured(study).values() if row.difference]
    smallest = min((pair for pair in pairs if pair.p is not None), key=lambda pair: pair.p)
    assert smallest.p_holm == pytest.approx(min(16 * smallest.p, 1))


def test_no_teacher_or_several_leave_no_gap():
    study = temperatures(seeds=3, values=(1, 4))
    assert all(row.gap_recovered for row in measured(study).values() if row.difference)
    teachers = {'teacher': TEACHER, 'other': TEACHER}
    several = [dataclasses.replace(run, teacher='other' if run.seed == 0 else 'teacher') for run in study.runs]
    assert not any(row.gap_recovered for row in measured(results(several, study.axes, teachers=teachers)).values())
    none = [dataclasses.replace(run, teacher=None) for run in study.runs]
    assert not any(row.gap_recovered for row in measured(results(none, study.axes)).values())


def test_cost_is_of_the_network_and_latency_is_the_median():
    costs = [dataclasses.replace(cost(), latency_ms={'1': latency, '128': None}) for latency in (0.1, 0.2, 9.0)]
    runs = [record('kd', seed, cost=one) for seed, one in enumerate(costs)]
    found = measured(results(runs, []))['kd'].cost
    assert found.latency_ms == {'1': pytest.approx(0.2), '128': None}
    assert found.params == cost().params
    assert measured(results([record('kd', 0, status='running')], []))['kd'].cost is None


def test_validation_is_that_of_the_last_step_of_the_runs_that_are_done():
    runs = [record('kd', 0, accuracy=0.9), record('kd', 1, accuracy=0.8), record('kd', 2, status='failed'),
            record('kd', 3, status='running')]  # fmt: skip
    row = measured(results(runs, []))['kd']
    assert row.validation.mean == pytest.approx(np.mean([run.history[-1].metrics['accuracy'] for run in runs[:2]]))
    assert row.validation.n == 2


def test_a_run_without_a_teacher_has_no_fidelity():
    """Nobody's answers to be held against: the metrics that need a teacher are not there."""
    study = results([record('kd', seed) for seed in range(2)], [])
    for place, run in enumerate(study.runs):
        own = {name: run.last[name] for name in ('accuracy', 'nll', 'ece')}
        study = changed(study, place, last=own, best=own)
    assert measured(study)['kd'].last['agreement'].mean is None


def test_the_axis_of_sizes_is_found_by_whatever_name():
    runs = [record('kd', seed, {'examples': size}, size=size) for seed in range(2) for size in (100, 1000)]
    summary = report.summarise(results(runs, ['examples']))
    assert comparison.size_axis(summary) == 'examples'
    assert comparison.size_axis(report.summarise(temperatures(seeds=2))) is None
