"""A report says what its numbers say, in every form, at any time: checked on made-up studies."""

import copy
import csv
import dataclasses
import io
import json
import math
import re

import numpy as np
import pytest
from made_up import BASELINE, EXHIBIT, TEACHER, changed, cost, grid, half, many, record, results, temperatures
from rich.console import Console
from scipy import stats

from kdjax.errors import UsageError
from kdjax.study.report import csv_tables, document, networks, published, records, report, tables, text
from kdjax.study.report.document import TableCell
from kdjax.study.report.records import STATES, Acceptance, Attempt, Criterion, Summary

PAPER = {
    'source': 'Somebody 2015, table 1',
    'rows': [
        {'point': {'method': 'kd', 'temperature': 4}, 'metric': 'accuracy', 'value': 0.95, 'sd': 0.01, 'n': 5,
         'checkpoint': 'last', 'certainty': 'read in source'},
        {'point': {'method': 'dist', 'temperature': 4}, 'metric': 'nll', 'value': 0.2, 'checkpoint': 'best',
         'certainty': 'secondary', 'note': 'quoted elsewhere'},
        {'point': {'method': 'dist', 'temperature': 4}, 'metric': 'accuracy', 'value': 0.5, 'checkpoint': 'last',
         'certainty': 'recalled'},
    ],
}  # fmt: skip
TABLES = {'report.html', 'report.md', 'tables.tex', 'arms.csv', 'runs.csv', 'summary.json'}


@pytest.fixture(scope='module')
def study():
    found = temperatures(seeds=5, values=(1, 4, 20))
    return dataclasses.replace(found, published=published.check(PAPER, 'expected.json'))


@pytest.fixture(scope='module')
def folder(study, tmp_path_factory):
    where = tmp_path_factory.mktemp('sweep') / 'deeper'
    report.write(study, where)
    return where


@pytest.fixture(scope='module')
def summary(folder):
    return read(folder)


@pytest.fixture(scope='module')
def said(folder):
    return (folder / 'report.md').read_text()


def read(folder):
    """summary.json as the record that it holds; a number that is none is met."""
    content = json.loads((folder / 'summary.json').read_text(), parse_constant=pytest.fail)
    return records.from_json(Summary, content)


def page(study):
    """report.md without its figures: quick."""
    summary = report.summarise(study)
    none = dict.fromkeys(
        ('sizes', 'gains', 'along', 'heat', 'fidelity', 'pareto', 'learning', 'gradients', 'exhibit', 'classes'), ()
    )
    return document.markdown(text.full(study, summary, none))


def shown(study, width=80):
    console = Console(width=width, file=io.StringIO())
    console.print(report.terminal(study))
    return console.file.getvalue()


def rows(text):
    return list(csv.DictReader(io.StringIO(text, newline='')))


def texts(table):
    return [[cell.text if isinstance(cell, TableCell) else cell for cell in row] for row in table.rows]


def gain_of(gain, noise=0.002, seeds=6, method='kd'):
    """Hard labels and a method that gains so much, with paired noise."""
    rng = np.random.default_rng(5)
    luck, wobble = 0.01 * rng.normal(size=seeds), noise * rng.normal(size=seeds)
    base = [record(BASELINE, seed, accuracy=0.9 + luck[seed]) for seed in range(seeds)]
    ours = [record(method, seed, accuracy=0.9 + luck[seed] + gain + wobble[seed]) for seed in range(seeds)]
    return results(base + ours, ['method'])


def test_everything_is_written_and_nothing_else(folder):
    pictures = {path.name for path in folder.glob('*.png')}
    assert {path.name for path in folder.iterdir()} == TABLES | pictures
    assert pictures == {
        'gains.png', 'accuracy_vs_temperature.png', 'fidelity.png', 'learning_curves.png', 'gradient_norms.png',
        'gradient_cosines.png', 'soft_labels.png',
    }  # fmt: skip


def test_write_returns_what_it_wrote_and_leaves_the_results(study, folder, summary, tmp_path):
    before = copy.deepcopy(study)
    assert report.write(study, tmp_path) == summary
    assert study == before
    assert all((tmp_path / path.name).read_bytes() == path.read_bytes() for path in folder.iterdir())


def test_summary_schema(folder):
    content = json.loads((folder / 'summary.json').read_text())
    assert list(content) == ['title', 'baseline', 'axes', 'teachers', 'provenance', 'acceptance', 'published',
                             'metrics', 'score', 'cost_metrics', 'counts', 'rows', 'failures']  # fmt: skip
    assert content['score'] == 'accuracy'
    assert [metric['name'] for metric in content['metrics']] == ['accuracy', 'nll', 'ece', 'agreement', 'kl']
    assert content['metrics'][1] == {'name': 'nll', 'title': 'negative log-likelihood', 'unit': 'nats',
                                     'better': 'lower', 'digits': 3, 'short': 'NLL'}  # fmt: skip
    assert set(content['provenance']) == {'config_hash', 'versions', 'machine', 'git_commit', 'data_checksum',
                                          'seconds', 'command', 'earlier'}  # fmt: skip
    assert content['counts'] == {'runs': 35, 'done': 35, 'failed': 0, 'running': 0, 'missing': 0}
    assert len(content['rows']) == 7
    assert len({frozenset(row) for row in content['rows']}) == 1
    row = content['rows'][1]
    assert {'name', 'method', 'point', 'transfer_size', 'n', 'counts', 'score', 'last', 'best', 'best_step',
            'difference', 'gap_recovered', 'chosen', 'stages', 'cost', 'teacher'} <= set(row)  # fmt: skip
    assert set(row['last']['accuracy']) == {'mean', 'sd', 'ci95', 'n', 'values'}
    assert row['score'] == row['last']['accuracy']
    assert set(row['difference']) == {'mean', 'ci95', 'p', 'p_holm', 'n', 'verdict', 'detectable', 'baseline',
                                      'values'}  # fmt: skip
    assert content['acceptance'] is None


def test_a_summary_of_before_there_were_tasks_is_of_classification(folder, summary):
    content = json.loads((folder / 'summary.json').read_text())
    for field in ('metrics', 'score', 'cost_metrics'):
        del content[field]
    for row in content['rows']:
        del row['score']
        del row['cost']['more']
    assert records.from_json(Summary, content) == summary


def test_what_is_not_a_summary_is_one_line(folder):
    content = json.loads((folder / 'summary.json').read_text())
    with pytest.raises(UsageError, match=r"unknown field 'arms' of Summary; there is: .*'rows'"):
        records.from_json(Summary, {**content, 'arms': []})
    with pytest.raises(UsageError, match="Arm lacks 'name'; it has name, method"):
        records.from_json(Summary, {**content, 'rows': [{}]})
    with pytest.raises(UsageError, match='Counts must be an object, not 3'):
        records.from_json(Summary, {**content, 'counts': 3})


def test_a_failed_write_leaves_the_old_report(study, tmp_path, monkeypatch):
    report.write(gain_of(0.01), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    broken = gain_of(0.02)
    monkeypatch.setattr(csv_tables, 'of_runs', lambda results: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        report.write(broken, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ('gain', 'verdict'), [(0.02, 'helps'), (-0.02, 'hurts'), (0.0002, 'no significant difference')]
)
def test_the_finding_is_what_the_numbers_say(gain, verdict):
    study = gain_of(gain)
    said = page(study)
    assert f'1 comparison in all: {verdict} 1' in said
    assert re.search(rf'- {verdict} – kd \([+-]\d', said)
    assert ('no arm is significantly better than hard labels' in said) == (verdict != 'helps')


def test_the_finding_judges_after_holm():
    study = many(count=40)
    compared = [row.difference for row in report.summarise(study).rows if row.difference]
    helps = sum(row.p_holm < 0.05 and row.mean > 0 for row in compared)
    raw = sum(row.p < 0.05 and row.mean > 0 for row in compared)
    assert 0 < helps < raw
    assert f'40 comparisons in all: helps {helps}' in page(study)


def test_long_lists_are_counted_not_recited():
    said = page(many(count=40))
    item = next(line for line in said.splitlines() if line.startswith('- no significant difference'))
    named, more = item.count('technique'), int(re.search(r'and (\d+) more$', item).group(1))
    assert named == text.NAMED
    assert named + more == int(re.search(r'no significant difference (\d+)', said).group(1))


def test_what_could_have_been_found_is_said():
    study = gain_of(0.0002)
    ours, theirs = ([run.last['accuracy'] for run in study.runs if run.method == method]
                    for method in ('kd', BASELINE))  # fmt: skip
    sd = np.std(np.subtract(ours, theirs), ddof=1)
    (size,) = re.findall(r'finds a true difference of (\d\.\d\d) points with probability 0.8', page(study))
    power = stats.nct.sf(stats.t.ppf(0.975, 5), 5, float(size) / 100 / sd * math.sqrt(6))
    assert power == pytest.approx(0.8, abs=0.02)


def test_the_highest_mean_is_named_with_its_bias(said, summary):
    top = max(summary.rows, key=lambda row: row.score.mean)
    assert f'The highest mean is that of {top.name}, ' in said
    assert 'The highest of 7 means tends to be too high' in said


def test_a_finished_sweep_says_so(said):
    assert 'All 35 runs have ended. 7 arms of 5 seeds; method: hard labels, kd, dist; temperature: 1, 4, 20.' in said
    assert 'Half-way' not in said
    assert 'No run failed.' in said


def test_half_way_says_how_far_it_is(tmp_path):
    study = half()
    report.write(study, tmp_path)
    counts = {state: sum(run.status == state for run in study.runs) for state in STATES}
    said = (tmp_path / 'report.md').read_text()
    assert (
        f'Half-way: {counts["done"]} of 170 runs are finished, {counts["failed"]} failed, {counts["running"]} are '
        f'running, {counts["missing"]} are missing.'
    ) in said
    assert f'{counts["failed"]} of 170 runs failed.' in said
    assert len(re.findall(r'^- .*, seed \d: not finite at step 120, in soft$', said, re.MULTILINE)) == counts['failed']
    assert 'cannot be tested' in said
    assert re.search(r'\| \d+ of 10 \|', said)
    assert 'Half-way' in shown(study)


def test_before_anything_is_finished_there_is_a_report(tmp_path):
    runs = [record(method, seed, status='missing') for method in (BASELINE, 'kd') for seed in range(3)]
    found = report.write(results(runs, ['method'], teachers={}, exhibits={}), tmp_path)
    assert [row.n for row in found.rows] == [0, 0]
    said = (tmp_path / 'report.md').read_text()
    assert 'Half-way: 0 of 6 runs are finished, 0 failed, 0 are running, 6 are missing.' in said
    assert 'cannot be tested – kd (no common seed)' in said
    assert 'What it costs' not in said
    assert {path.name for path in tmp_path.iterdir()} == TABLES


def test_only_running_runs_still_have_curves(tmp_path):
    runs = [record(method, seed, status='running', steps=3) for method in (BASELINE, 'kd') for seed in range(3)]
    report.write(results(runs, ['method'], teachers={}, exhibits={}), tmp_path)
    assert (tmp_path / 'learning_curves.png').exists()


def test_failures_without_a_reason_and_many_of_them():
    runs = [record(BASELINE, seed, status='failed', failure=None) for seed in range(50)]
    said = page(results(runs, ['method']))
    assert 'hard labels, seed 0: no reason was recorded' in said
    assert f'and {50 - text.REASONS} more, in runs.csv' in said


def test_nothing_to_compare_with():
    assert 'No arm can be compared' in page(results([record(BASELINE, seed) for seed in range(3)], ['method']))


def test_pivot_is_the_papers_form(study, summary):
    table = tables.pivot(summary, 'temperature')
    assert table.header == ('method / temperature', '1', '4', '20')
    body = {row[0].text: row[1:] for row in table.rows}
    assert list(body) == [BASELINE, 'kd', 'dist']
    values = [run.last['accuracy'] for run in study.runs if run.point == {'method': 'kd', 'temperature': 4}]
    assert body['kd'][1].text.startswith(f'{100 * np.mean(values):.2f} ± {100 * np.std(values, ddof=1):.2f}')
    assert body[BASELINE][0] == body[BASELINE][1]._replace(best=body[BASELINE][0].best)
    helping = {row.name for row in summary.rows if row.difference and row.difference.verdict == 'helps'}
    bold = {f'{name}, temperature {value}' for name, cells in body.items()
            for value, cell in zip((1, 4, 20), cells, strict=True) if cell.best}  # fmt: skip
    assert bold == helping
    assert 0 < len(helping) < 6
    assert 'without temperature, the same number in every column: hard labels' in table.caption


def test_pivot_marks_what_is_significant_after_holm(summary):
    marks = {'helps': '↑', 'hurts': '↓'}
    body = {row[0].text: row[1:] for row in tables.pivot(summary, 'temperature').rows}
    arms_ = [row for row in summary.rows if row.difference]
    assert {row.difference.verdict for row in arms_} >= {'helps', 'hurts'}
    for row in arms_:
        cell = body[row.method][(1, 4, 20).index(row.point['temperature'])]
        assert [mark for mark in '↑↓' if mark in cell.text] == [
            mark for verdict, mark in marks.items() if verdict == row.difference.verdict
        ]


def test_pivot_says_n_where_it_differs():
    study = temperatures(seeds=4, values=(1, 4))
    study = changed(study, -1, status='failed')
    *_, dist = texts(tables.pivot(report.summarise(study), 'temperature'))
    assert '(n=' not in dist[1]
    assert dist[2].endswith('(n=3)')


def test_pivot_keeps_other_axes_apart():
    found = report.summarise(grid(seeds=2))
    pivots = tables.pivots(found)
    assert [table.header[0] for table in pivots] == ['method / temperature', 'method / weight', 'method / width']
    assert len(pivots[2].rows) == 1 + 2 * 9
    names = [row[0].text for row in pivots[2].rows]
    assert 'kd, temperature 16, weight 0.9' in names
    by_name = {row.name: row for row in found.rows}
    cells = pivots[2].rows[names.index('kd, temperature 16, weight 0.9')]
    assert cells[2].value == by_name['kd, temperature 16, weight 0.9, width 64'].score.mean


def test_an_arm_without_the_axis_never_stands_in_for_one_that_has_it():
    runs = [record('kd', seed, {'temperature': t}, 0.9) for seed in range(2) for t in (1, 4)]
    runs += [record('kd', seed, accuracy=0.5) for seed in range(2)]
    table = tables.pivot(report.summarise(results(runs, ['temperature'])), 'temperature')
    assert [[cell.value for cell in row[1:]] for row in table.rows] == [[0.9, 0.9], [0.5, 0.5]]


def test_main_table_has_both_checkpoints_and_every_count(summary):
    table = tables.main(summary)
    assert table.header == ('method', 'temperature', 'last step (%)', 'best step (%)', 'gain (points)', 'p', 'p (Holm)',
                            'verdict', 'pairs', 'seeds')  # fmt: skip
    teacher, *arms = table.rows
    assert [cell.text for cell in teacher[:3]] == ['teacher', '–', '96.00']
    for cells, row in zip(arms, summary.rows, strict=True):
        assert cells[2].value == row.score.mean
        assert cells[3].value == row.best['accuracy'].mean
        assert (cells[7].value == 'baseline') == row.is_baseline


def test_constant_axes_are_said_once():
    runs = [record(method, seed, {'weight': 0.5}, 0.9 + seed / 100) for method in (BASELINE, 'kd') for seed in range(3)]
    study = results(runs, ['method', 'weight'])
    assert 'Not varied: weight 0.5.' in page(study)
    assert tables.main(report.summarise(study)).header[:2] == ('method', 'last step (%)')


def test_costs_name_each_network_once():
    found = report.summarise(grid(seeds=2))
    names = [row[0].text for row in networks.costs(found).rows]
    assert names == ['teacher', 'student, width 32', 'student, width 64']
    (alone,) = networks.students(report.summarise(temperatures(seeds=2, values=(1, 2))))
    assert alone[0] == 'student'
    mixed = results([record('kd', 0), record('dist', 0, cost=cost(128)), record('at', 0)], ['method'])
    names = [name for name, _ in networks.students(report.summarise(mixed))]
    assert names == ['student of kd and 1 more', 'student, method dist']


def test_arms_csv_is_the_summary(folder, summary):
    lines = rows((folder / 'arms.csv').read_text())
    assert len(lines) == 7
    for line, row in zip(lines, summary.rows, strict=True):
        assert line['arm'] == row.name
        assert float(line['last_accuracy_mean']) == row.score.mean
        assert float(line['last_accuracy_low']) == row.score.ci95[0]
        assert float(line['best_nll_sd']) == row.best['nll'].sd
        assert line['p_holm'] == ('' if row.is_baseline else str(row.difference.p_holm))
        assert line['temperature'] == ('' if row.is_baseline else str(row.point['temperature']))
        assert (line['n'], line['runs'], line['failed']) == ('5', '5', '0')
        assert float(line['latency_ms_1']) == row.cost.latency_ms['1']


def test_runs_csv_holds_every_run_unrounded(study, folder):
    lines = rows((folder / 'runs.csv').read_text())
    assert len(lines) == 35
    for line, run in zip(lines, study.runs, strict=True):
        assert (line['method'], int(line['seed']), line['status']) == (run.method, run.seed, 'done')
        assert float(line['last_accuracy']) == run.last['accuracy']
        assert float(line['best_step']) == run.best_step


def test_runs_csv_of_runs_that_are_not_done():
    study = half()
    lines = rows(document.csv(csv_tables.of_runs(study)))
    assert [line['status'] for line in lines] == [run.status for run in study.runs]
    failed = [line for line in lines if line['status'] == 'failed']
    before = document.csv(csv_tables.of_runs(results([record('kd', 0, status='missing')], ['temperature'])))
    assert {'last_accuracy', 'best_step', 'failure_step', 'params'} <= set(before.splitlines()[0].split(','))
    assert {(line['failure_step'], line['failure_term'], line['last_accuracy']) for line in failed} == {
        ('120', 'soft', '')
    }


def test_the_paper_is_shown_beside_ours(study, said, summary):
    (first, second, third) = summary.published.rows
    ours = [run.last['accuracy'] for run in study.runs if run.point == first.point]
    expected = stats.ttest_ind_from_stats(np.mean(ours), np.std(ours, ddof=1), 5, 0.95, 0.01, 5, equal_var=False)
    assert first.difference.p == pytest.approx(expected.pvalue, rel=1e-5)
    assert first.verdict == 'lower'
    assert second.difference.mean == pytest.approx(second.ours.mean - 0.2, rel=1e-5)
    assert third.verdict == 'shown, not judged'
    assert '3 numbers of Somebody 2015, table 1, held against ours' in said
    assert 'From memory, and so shown and not judged: 1.' in said
    line = next(line for line in said.splitlines() if '95.00 ± 1.00 (n=5)' in line)
    assert '| kd, temperature 4 | accuracy | last |' in line
    assert '| lower | 5 | read in source |' in line
    recalled = next(line for line in said.splitlines() if '| recalled |' in line)
    assert '| – | shown, not judged |' in recalled
    assert '0.200 |' in next(line for line in said.splitlines() if 'quoted elsewhere' in line)  # nats, not percent


# ---- what only a run of a recipe has


def attempt(override, got):
    criteria = (Criterion('accuracy', 0.95, got, got >= 0.95), Criterion('max_params', 1500.0, 1000.0, True))
    return Attempt(override, criteria, got >= 0.95)


def run_of(hard, soft, **more):
    """A run of two methods, whose scores are given by size of the transfer set and seed; None for a failed one."""
    runs = [
        record(method, seed, {}, 0.5 if score is None else score, size=size, stages=stages, chosen=chosen,
               status='failed' if score is None else 'done')
        for size in hard
        for method, scores, stages, chosen in (
            (BASELINE, hard, ('baseline',), {}), ('soft', soft, ('distill', 'finetune'), {'soft.temperature': 4.0})
        )
        for seed, score in enumerate(scores[size])
    ]  # fmt: skip
    accepted = Acceptance('soft', 1000, False, 1, (attempt({}, 0.93), attempt({'soft.temperature': 8.0}, 0.94)))
    return results(runs, ['method'], **{'acceptance': accepted, **more})


HARD = {100: [0.80, 0.82, 0.81, 0.79], 1000: [0.94, 0.95, 0.93, 0.94]}
SOFT = {100: [0.85, 0.86, None, 0.84], 1000: [0.945, 0.945, 0.935, 0.937]}


def test_a_run_is_compared_size_by_size_as_a_sweep_is():
    arms = {arm.name: arm for arm in report.summarise(run_of(HARD, SOFT)).rows}
    found = arms['soft, transfer size 100']
    ours, theirs = [0.85, 0.86, 0.84], [0.80, 0.82, 0.79]
    expected = stats.ttest_rel(ours, theirs)
    assert found.difference.p == pytest.approx(expected.pvalue)
    assert found.difference.ci95 == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert (found.difference.n, found.counts.failed, found.difference.verdict) == (3, 1, 'helps')
    assert found.gap_recovered.value == pytest.approx((0.14 / 3) / (0.96 - np.mean(theirs)))


def test_the_page_of_a_run_tells_how_it_came_about():
    said = page(run_of(HARD, SOFT))
    for words in (
        'common random numbers', '2 comparisons in all: helps 1, no significant difference 1',
        '- soft: distill → finetune', '1 of 16 runs failed',
        'soft, transfer size 100, seed 2: not finite at step 120, in soft',
        'soft with 1000 transfer examples: the bars were NOT met after 2 attempts; the tables show attempt 2.',
        'Bars are held against validation data',
        '| 2 | soft.temperature = 8 | accuracy | ≥ 95.00 % | 94.00 % | no |',
        '| 1 | nothing | max_params | ≤ 1,500 | 1,000 | yes |',
        'c0ffee', 'f00d', 'git commit: none', 'jax 0.10.2', 'teacher 1.5 s',
        'cores 2, convolutions (float32 oneDNN 3.2.0, bfloat16 XLA)',
    ):  # fmt: skip
        assert words in said
    validation = report.summarise(run_of(HARD, SOFT)).rows[3].validation.mean
    assert f'| soft | 1000 | {100 * validation:.2f} | soft.temperature = 4 |' in said
    assert '| soft | 100 | 85.00 (84.00–86.00) |' in said


@pytest.mark.parametrize('shift', [0.03, -0.03])
def test_a_changed_number_changes_the_finding(shift):
    noise = (0.001, -0.002, 0.001, 0.002)
    soft = {1000: [value + shift + luck for value, luck in zip(HARD[1000], noise, strict=True)]}
    said = page(run_of({1000: HARD[1000]}, soft))
    verdict, other = ('helps', 'hurts') if shift > 0 else ('hurts', 'helps')
    assert f'- {verdict} – soft (' in said
    assert f'{other} –' not in said


def test_a_run_without_criteria_and_a_sweep_say_what_they_are():
    bare = Acceptance('soft', 100, True, 0, (Attempt({}, (), True),))
    assert 'No acceptance bar was set.' in page(run_of(HARD, SOFT, acceptance=bare))
    assert 'Acceptance' not in page(run_of(HARD, SOFT, acceptance=None))


def test_acceptance_is_kept_in_the_summary():
    summary = report.summarise(run_of(HARD, SOFT))
    assert summary.acceptance == run_of(HARD, SOFT).acceptance


def test_a_method_of_which_every_seed_failed():
    study = run_of({100: HARD[100]}, {100: [None] * 4})
    arm = report.summarise(study).rows[1]
    assert (arm.n, arm.counts.failed, arm.score.mean, arm.last['nll'].mean) == (0, 4, None, None)
    assert (arm.difference.verdict, arm.gap_recovered) == ('cannot be tested', None)
    said = page(study)
    assert '| soft | – | – | – | – | – | cannot be tested | 0 | 0 of 4 |' in said
    assert 'cannot be tested – soft (no common seed)' in said


def test_one_seed_is_shown_but_not_tested():
    study = run_of({100: [0.8]}, {100: [0.85]})
    assert 'cannot be tested – soft (+5.00)' in page(study)
    assert '| soft | 85.00 | +5.00 | – | 1 |' in document.markdown([tables.plain(report.summarise(study))])


def test_the_plain_table_has_the_teacher_and_p_by_itself():
    summary = report.summarise(run_of(HARD, SOFT))
    table = tables.plain(summary)
    assert table.header == ('method', 'transfer size', 'accuracy (%)', 'gain (points)', 'p', 'seeds')
    assert texts(table)[0] == ['teacher', '–', '96.00', '–', '–', '1']
    assert [row[4].value for row in table.rows[1:]] == [arm.difference and arm.difference.p for arm in summary.rows]


def test_what_the_teacher_costs_beside_the_student_is_said():
    said = page(temperatures(seeds=2, values=(1, 2)))
    assert f'{85_002 / (130 * 64):.1f}× the parameters' in said
    assert '12.0× the latency with a batch of 128' in said
    assert 'as a multiple of the student' not in page(grid(seeds=2))  # of two students


def test_teachers_are_called_by_what_their_arms_share():
    runs = [record('kd', seed, {'pair': pair}, teacher=pair * 8) for pair in 'ab' for seed in range(2)]
    study = results(runs, ['pair'], teachers={'aaaaaaaa': TEACHER, 'bbbbbbbb': TEACHER}, exhibits={'bbbbbbbb': EXHIBIT})
    summary = report.summarise(study)
    assert [networks.teacher_name(key, summary) for key in summary.teachers] == ['teacher, pair a', 'teacher, pair b']
    assert 'teacher' not in [row[0] for row in texts(tables.main(summary))]


# ---- forms


@pytest.mark.parametrize('name', ['sizes', 'sweep'])
def test_figures_are_pictures_that_can_be_read(name, tmp_path):
    report.write(run_of(HARD, SOFT) if name == 'sizes' else temperatures(seeds=2, values=(1, 4)), tmp_path)
    pictures = list(tmp_path.glob('*.png'))
    assert {'gain_vs_size.png', 'accuracy_vs_size.png'} <= {path.name for path in pictures} or name == 'sweep'
    for path in pictures:
        content = path.read_bytes()
        width, height = (int.from_bytes(content[start : start + 4], 'big') for start in (16, 20))
        assert content.startswith(b'\x89PNG\r\n\x1a\n')
        assert width > 600
        assert height > 200


def test_wide_things_scroll_inside_their_own_box(folder):
    page = (folder / 'report.html').read_text()
    assert page.count('<div class="scroll') == page.count('<table>')
    style = document.asset('report.css')
    assert re.search(r'\.scroll \{ overflow-x: auto', style)
    assert re.search(r'pre \{ overflow-x: auto', style)
    assert re.search(r'img \{[^}]*width: 100%', style)
    assert style in page


def test_text_in_brackets_is_not_markup(study):
    assert 'A [bold]brave[/bold] study' in shown(dataclasses.replace(study, title='A [bold]brave[/bold] study'))


def test_markdown_escapes(said):
    assert said.startswith('# A \\<made-up> sweep\n')


def test_html_is_self_contained_and_sorts(folder):
    page = (folder / 'report.html').read_text()
    assert page.count('<script>') == 1
    assert "script-src 'sha256-" in page
    sources = re.findall(r'src\s*=\s*"(.*?)"', page)
    links = re.findall(r'href\s*=\s*"#(.*?)"', page)
    assert set(links) <= set(re.findall(r' id="(.*?)"', page))
    assert len(links) == page.count('href') == page.count('<h2')
    assert len(sources) == len(list(folder.glob('*.png')))
    assert all(source.startswith('data:image/png;base64,') for source in sources)
    assert page.count('<th class=') == page.count('<button type="button">') + 4  # teachers: nothing to sort
    assert 'prefers-color-scheme: dark' in page
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in page
    assert 'A &lt;made-up&gt; sweep' in page
    assert 'toy | &lt;b&gt;' in page
    assert not re.search(r'<link|@import|url\(|https?://', page)


def test_markdown_links_to_every_figure(folder, said):
    assert {name for name in re.findall(r'\]\((.*?\.png)\)', said)} == {path.name for path in folder.glob('*.png')}
    for table in re.findall(r'(?:^\|.*\n)+', said, re.MULTILINE):
        assert len({len(re.findall(r'(?<!\\)\|', line)) for line in table.splitlines()}) == 1


def test_tables_for_a_paper_are_all_tables(folder, said):
    tex = (folder / 'tables.tex').read_text()
    assert tex.count(r'\begin{table}') == tex.count(r'\end{table}') == said.count('\n\n| ')
    assert tex.count('{') == tex.count('}')
    assert r'\textbf{' in tex


@pytest.mark.parametrize('make', [lambda: temperatures(seeds=3), lambda: grid(seeds=2), many, half])
@pytest.mark.parametrize('width', [80, 120])
def test_terminal_fits_and_cuts_nothing(make, width):
    lines = shown(make(), width).splitlines()
    assert max(map(len, lines)) <= width
    assert '…' not in ''.join(lines)


def test_terminal_shows_the_best_of_many():
    study = many()
    lines = shown(study).splitlines()
    means = {row.name: row.score.mean for row in report.summarise(study).rows}
    best = sorted(means, key=means.get)[-39:]
    table = ' '.join(lines[: text.ARMS + 8])
    assert 'the 40 best of 81 arms' in ' '.join(' '.join(lines).split())
    assert all(name in table for name in [BASELINE, *best])
    assert 'hard labels' in table


def test_terminal_ends_with_the_finding(study):
    words = ' '.join(shown(study).split())
    assert '6 comparisons in all: helps' in words
    assert 'A <made-up> sweep' in words


def test_no_nan_reaches_any_file(tmp_path):
    study = gain_of(0.01)
    study = changed(study, 0, last={**study.runs[0].last, 'nll': math.nan})
    metrics = {**TEACHER.metrics, 'nll': math.inf}
    study = dataclasses.replace(study, teachers={'teacher': dataclasses.replace(TEACHER, metrics=metrics)})
    report.write(study, tmp_path)
    json.loads((tmp_path / 'summary.json').read_text(), parse_constant=pytest.fail)
    for name in ('report.md', 'arms.csv', 'tables.tex'):
        assert not re.search(r'\b(nan|inf)\b', (tmp_path / name).read_text())


# ---- what is read first


def test_the_card_has_teacher_baseline_best_student_gain_and_size(study, summary, folder):
    (card,) = networks.card(summary)
    facts = {fact.label: fact for fact in card.facts}
    top = max((row for row in summary.rows if not row.is_baseline), key=lambda row: row.score.mean)
    assert list(facts) == ['teacher', 'baseline', 'best student', 'gain', 'teacher / student size']
    assert facts['teacher'][1:3] == ('96.00 %', '85.00 k parameters')
    assert facts['best student'].value == f'{100 * top.score.mean:.2f} %'
    assert top.name in facts['best student'].note
    assert facts['gain'].value == f'{100 * top.difference.mean:+.2f} points'
    assert top.difference.verdict in facts['gain'].note
    assert facts['gain'].meant == ('good' if top.difference.verdict == 'helps' else '')
    assert facts['teacher / student size'].value == f'{340_008 / (4 * 8320):.1f}×'
    page = (folder / 'report.html').read_text()
    assert page.index('class="card"') < page.index('<p>')


@pytest.mark.parametrize('make', [half, lambda: grid(seeds=2), lambda: results([record('kd', 0)], []),
                                  lambda: results([record(BASELINE, 0)], [], teachers={})])  # fmt: skip
def test_there_is_a_card_of_whatever_there_is(make):
    (card,) = networks.card(report.summarise(make()))
    assert card.facts
    assert all(fact.value for fact in card.facts)


def test_nothing_finished_has_no_card():
    assert networks.card(report.summarise(results([record('kd', 0, status='missing')], []))) == []


def test_the_page_says_what_to_do_next_and_where_the_weights_lie():
    runs = [record('kd', seed, weights=f'distill-ab/variables, cell {seed}') for seed in range(2)]
    said = page(results(runs, ['method']))
    assert 'The weights of kd, seed 0, lie in distill-ab/variables, cell 0 of the workdir' in said
    assert 'python run.py --config=configs/sweeps/toy.py' in said[said.index('## What next') :]
    assert 'distill-ab/variables, cell 1' in document.csv(csv_tables.of_runs(results(runs, ['method'])))


def test_the_page_says_what_students_take_over_from_their_teacher():
    runs = [record('kd', 0)]
    start = {'detect': 'detect', 'layer1': 'layer2'}
    said = page(results(runs, ['method'], config={'student': {'start': start}}))
    assert "Students start with modules of their teacher: detect, layer1 as the teacher's layer2." in said
    assert 'Students start with' not in page(results(runs, ['method'], config={'student': {'start': {}}}))


def test_a_teacher_without_a_name_is_called_by_its_size():
    runs = [record('kd', seed) for seed in range(2)]
    summary = report.summarise(results(runs, [], teachers={'teacher': TEACHER, 'f4c7772caebbd871': TEACHER}))
    assert networks.teacher_name('f4c7772caebbd871', summary) == 'teacher 2 (85.00 k parameters)'
