"""The report of a sweep says what its numbers say, in every form, at any time: checked on made-up studies."""

import copy
import csv
import io
import json
import math
import re

import numpy as np
import pytest
from made_up import BASELINE, TEACHER, cost, grid, half, many, record, results, temperatures
from rich.console import Console
from scipy import stats

from kdjax.errors import UsageError
from kdjax.study.report import comparison, csv_tables, document, sweep_report, sweep_tables, sweep_text
from kdjax.study.report.document import TableCell

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
    found['expected'] = PAPER
    return found


@pytest.fixture(scope='module')
def folder(study, tmp_path_factory):
    where = tmp_path_factory.mktemp('sweep') / 'deeper'
    sweep_report.write(study, where)
    return where


@pytest.fixture(scope='module')
def summary(folder):
    return json.loads((folder / 'summary.json').read_text(), parse_constant=pytest.fail)


@pytest.fixture(scope='module')
def said(folder):
    return (folder / 'report.md').read_text()


def page(study):
    """report.md without its figures: quick."""
    found = sweep_report.summarise(study)
    none = dict.fromkeys(('gains', 'along', 'heat', 'fidelity', 'pareto', 'learning', 'anatomy', 'teachers'), ())
    return document.markdown(sweep_text.full(study, found, none))


def shown(study, width=80):
    console = Console(width=width, file=io.StringIO())
    console.print(sweep_report.terminal(study))
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
    assert sweep_report.write(study, tmp_path) == summary
    assert study == before
    assert all((tmp_path / path.name).read_bytes() == path.read_bytes() for path in folder.iterdir())


def test_summary_schema(summary):
    expected = {'title', 'baseline', 'axes', 'counts', 'arms', 'failures', 'teachers', 'expected'}
    assert set(summary) == expected | {'config_hash', 'versions', 'machine', 'git_commit', 'data_checksum', 'seconds',
                                       'command'}  # fmt: skip
    assert summary['counts'] == {'runs': 35, 'done': 35, 'failed': 0, 'running': 0, 'missing': 0}
    assert len(summary['arms']) == 7
    assert len({frozenset(row) for row in summary['arms']}) == 1
    assert 'dark_knowledge' not in summary['teachers']['teacher']


def test_a_failed_write_leaves_the_old_report(study, tmp_path, monkeypatch):
    sweep_report.write(gain_of(0.01), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    broken = gain_of(0.02)
    broken['provenance'] = {**broken['provenance'], 'seconds': {'teacher': object()}}
    with pytest.raises(TypeError):
        sweep_report.write(broken, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_wrong_expected_numbers_are_refused(study):
    wrong = {**study, 'expected': {'source': 'x', 'rows': [{**PAPER['rows'][0], 'value': 95.0}]}}
    with pytest.raises(UsageError, match='not percent'):
        sweep_report.summarise(wrong)


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
    compared = [row['difference'] for row in sweep_report.summarise(study)['arms'] if row['difference']]
    helps = sum(row['p_holm'] < 0.05 and row['mean'] > 0 for row in compared)
    raw = sum(row['p'] < 0.05 and row['mean'] > 0 for row in compared)
    assert 0 < helps < raw
    assert f'40 comparisons in all: helps {helps}' in page(study)


def test_long_lists_are_counted_not_recited():
    said = page(many(count=40))
    item = next(line for line in said.splitlines() if line.startswith('- no significant difference'))
    named, more = item.count('technique'), int(re.search(r'and (\d+) more$', item).group(1))
    assert named == sweep_text.NAMED
    assert named + more == int(re.search(r'no significant difference (\d+)', said).group(1))


def test_what_could_have_been_found_is_said():
    study = gain_of(0.0002)
    ours, theirs = ([run['last']['accuracy'] for run in study['records'] if run['method'] == method]
                    for method in ('kd', BASELINE))  # fmt: skip
    sd = np.std(np.subtract(ours, theirs), ddof=1)
    (size,) = re.findall(r'finds a true difference of (\d\.\d\d) points with probability 0.8', page(study))
    power = stats.nct.sf(stats.t.ppf(0.975, 5), 5, float(size) / 100 / sd * math.sqrt(6))
    assert power == pytest.approx(0.8, abs=0.02)


def test_the_highest_mean_is_named_with_its_bias(said, summary):
    top = max(summary['arms'], key=lambda row: row['last']['accuracy']['mean'])
    assert f'The highest mean is that of {top["name"]}, ' in said
    assert 'The highest of 7 means tends to be too high' in said


def test_a_finished_sweep_says_so(said):
    assert 'All 35 runs have ended. 7 arms of 5 seeds; method: hard labels, kd, dist; temperature: 1, 4, 20.' in said
    assert 'Half-way' not in said
    assert 'No run failed.' in said


def test_half_way_says_how_far_it_is(tmp_path):
    study = half()
    sweep_report.write(study, tmp_path)
    counts = {state: sum(run['status'] == state for run in study['records']) for state in comparison.STATES}
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
    found = sweep_report.write(results(runs, ['method'], teachers={}), tmp_path)
    assert [row['n'] for row in found['arms']] == [0, 0]
    said = (tmp_path / 'report.md').read_text()
    assert 'Half-way: 0 of 6 runs are finished, 0 failed, 0 are running, 6 are missing.' in said
    assert 'cannot be tested – kd (no common seed)' in said
    assert 'What it costs' not in said
    assert {path.name for path in tmp_path.iterdir()} == TABLES


def test_only_running_runs_still_have_curves(tmp_path):
    runs = [record(method, seed, status='running', steps=3) for method in (BASELINE, 'kd') for seed in range(3)]
    sweep_report.write(results(runs, ['method'], teachers={}), tmp_path)
    assert (tmp_path / 'learning_curves.png').exists()


def test_failures_without_a_reason_and_many_of_them():
    runs = [record(BASELINE, seed, status='failed', failure=None) for seed in range(50)]
    said = page(results(runs, ['method']))
    assert 'hard labels, seed 0: no reason was recorded' in said
    assert f'and {50 - sweep_text.REASONS} more, in runs.csv' in said


def test_nothing_to_compare_with():
    assert 'No arm can be compared' in page(results([record(BASELINE, seed) for seed in range(3)], ['method']))


def test_pivot_is_the_papers_form(study, summary):
    table = sweep_tables.pivot(summary, 'temperature')
    assert table.header == ('method / temperature', '1', '4', '20')
    body = {row[0].text: row[1:] for row in table.rows}
    assert list(body) == [BASELINE, 'kd', 'dist']
    values = [run['last']['accuracy'] for run in study['records'] if run['point'] == {'method': 'kd', 'temperature': 4}]
    assert body['kd'][1].text.startswith(f'{100 * np.mean(values):.2f} ± {100 * np.std(values, ddof=1):.2f}')
    assert body[BASELINE][0] == body[BASELINE][1]._replace(best=body[BASELINE][0].best)
    for column in range(3):
        best = [name for name, cells in body.items() if cells[column].best]
        assert best == [max(body, key=lambda name: body[name][column].value)]
    assert 'without temperature, the same number in every column: hard labels' in table.caption


def test_pivot_marks_what_is_significant_after_holm(summary):
    marks = {'helps': '↑', 'hurts': '↓'}
    body = {row[0].text: row[1:] for row in sweep_tables.pivot(summary, 'temperature').rows}
    arms_ = [row for row in summary['arms'] if row['difference']]
    assert {row['difference']['verdict'] for row in arms_} >= {'helps', 'hurts'}
    for row in arms_:
        cell = body[row['method']][(1, 4, 20).index(row['point']['temperature'])]
        assert [mark for mark in '↑↓' if mark in cell.text] == [
            mark for verdict, mark in marks.items() if verdict == row['difference']['verdict']
        ]


def test_pivot_says_n_where_it_differs():
    study = temperatures(seeds=4, values=(1, 4))
    study['records'][-1] = record('dist', 3, {'temperature': 4}, status='failed')
    *_, dist = texts(sweep_tables.pivot(sweep_report.summarise(study), 'temperature'))
    assert '(n=' not in dist[1]
    assert dist[2].endswith('(n=3)')


def test_pivot_keeps_other_axes_apart():
    found = sweep_report.summarise(grid(seeds=2))
    tables = sweep_tables.pivots(found)
    assert [table.header[0] for table in tables] == ['method / temperature', 'method / weight', 'method / width']
    assert len(tables[2].rows) == 1 + 2 * 9
    names = [row[0].text for row in tables[2].rows]
    assert 'kd, temperature 16, weight 0.9' in names
    by_name = {row['name']: row for row in found['arms']}
    cells = tables[2].rows[names.index('kd, temperature 16, weight 0.9')]
    assert cells[2].value == by_name['kd, temperature 16, weight 0.9, width 64']['last']['accuracy']['mean']


def test_an_arm_without_the_axis_never_stands_in_for_one_that_has_it():
    runs = [record('kd', seed, {'temperature': t}, 0.9) for seed in range(2) for t in (1, 4)]
    runs += [record('kd', seed, accuracy=0.5) for seed in range(2)]
    table = sweep_tables.pivot(sweep_report.summarise(results(runs, ['temperature'])), 'temperature')
    assert [[cell.value for cell in row[1:]] for row in table.rows] == [[0.9, 0.9], [0.5, 0.5]]


def test_main_table_has_both_epochs_and_every_count(summary):
    table = sweep_tables.main(summary)
    assert table.header == ('method', 'temperature', 'last step (%)', 'best step (%)', 'gain (points)', 'p', 'p (Holm)',
                            'verdict', 'pairs', 'seeds')  # fmt: skip
    for cells, row in zip(table.rows, summary['arms'], strict=True):
        assert cells[2].value == row['last']['accuracy']['mean']
        assert cells[3].value == row['best']['accuracy']['mean']
        assert (cells[7].value == 'baseline') == row['is_baseline']


def test_constant_axes_are_said_once():
    runs = [record(method, seed, {'weight': 0.5}, 0.9 + seed / 100) for method in (BASELINE, 'kd') for seed in range(3)]
    study = results(runs, ['method', 'weight'])
    assert 'Not varied: weight 0.5.' in page(study)
    assert sweep_tables.main(sweep_report.summarise(study)).header[:2] == ('method', 'last step (%)')


def test_costs_name_each_network_once():
    found = sweep_report.summarise(grid(seeds=2))
    names = [row[0].text for row in sweep_tables.costs(found).rows]
    assert names == ['teacher', 'student, width 32', 'student, width 64']
    (alone,) = sweep_tables.students(sweep_report.summarise(temperatures(seeds=2, values=(1, 2)))['arms'])
    assert alone[0] == 'student'
    mixed = results([record('kd', 0), record('dist', 0, cost=cost(128)), record('at', 0)], ['method'])
    names = [name for name, _ in sweep_tables.students(sweep_report.summarise(mixed)['arms'])]
    assert names == ['student of kd and 1 more', 'student, method dist']


def test_arms_csv_is_the_summary(folder, summary):
    lines = rows((folder / 'arms.csv').read_text())
    assert len(lines) == 7
    for line, row in zip(lines, summary['arms'], strict=True):
        assert line['arm'] == row['name']
        assert float(line['last_accuracy_mean']) == row['last']['accuracy']['mean']
        assert float(line['last_accuracy_low']) == row['last']['accuracy']['ci95'][0]
        assert float(line['best_nll_sd']) == row['best']['nll']['sd']
        assert line['p_holm'] == ('' if row['is_baseline'] else str(row['difference']['p_holm']))
        assert line['temperature'] == ('' if row['is_baseline'] else str(row['point']['temperature']))
        assert (line['n'], line['runs'], line['failed']) == ('5', '5', '0')
        assert float(line['latency_ms_1']) == row['cost']['latency_ms']['1']


def test_runs_csv_holds_every_run_unrounded(study, folder):
    lines = rows((folder / 'runs.csv').read_text())
    assert len(lines) == 35
    for line, run in zip(lines, study['records'], strict=True):
        assert (line['method'], int(line['seed']), line['status']) == (run['method'], run['seed'], 'done')
        assert float(line['last_accuracy']) == run['last']['accuracy']
        assert float(line['best_step']) == run['best']['step']


def test_runs_csv_of_runs_that_are_not_done():
    study = half()
    lines = rows(document.csv(csv_tables.of_runs(study)))
    assert [line['status'] for line in lines] == [run['status'] for run in study['records']]
    failed = [line for line in lines if line['status'] == 'failed']
    assert {(line['failure_step'], line['failure_term'], line['last_accuracy']) for line in failed} == {
        ('120', 'soft', '')
    }


def test_the_paper_is_shown_beside_ours(study, said, summary):
    (first, second, third) = summary['expected']['rows']
    ours = [run['last']['accuracy'] for run in study['records'] if run['point'] == first['point']]
    expected = stats.ttest_ind_from_stats(np.mean(ours), np.std(ours, ddof=1), 5, 0.95, 0.01, 5, equal_var=False)
    assert first['difference']['p'] == pytest.approx(expected.pvalue, rel=1e-5)
    assert first['verdict'] == 'lower'
    assert second['difference']['mean'] == pytest.approx(second['ours']['mean'] - 0.2, rel=1e-5)
    assert third['verdict'] == 'shown, not judged'
    assert '3 numbers of Somebody 2015, table 1, held against ours' in said
    assert 'From memory, and so shown and not judged: 1.' in said
    line = next(line for line in said.splitlines() if '95.00 ± 1.00 (n=5)' in line)
    assert '| kd, temperature 4 | accuracy | last |' in line
    assert '| lower | 5 | read in source |' in line
    recalled = next(line for line in said.splitlines() if '| recalled |' in line)
    assert '| – | shown, not judged |' in recalled
    assert '0.200 |' in next(line for line in said.splitlines() if 'quoted elsewhere' in line)  # nats, not percent


def test_html_is_self_contained_and_sorts(folder):
    page = (folder / 'report.html').read_text()
    assert page.count('<script>') == 1
    assert "script-src 'sha256-" in page
    sources = re.findall(r'(?:src|href)\s*=\s*"(.*?)"', page)
    assert len(sources) == len(list(folder.glob('*.png')))
    assert all(source.startswith('data:image/png;base64,') for source in sources)
    assert page.count('<th class=') == page.count('<button type="button">') + 4  # teachers: nothing to sort
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
    means = {row['name']: row['last']['accuracy']['mean'] for row in sweep_report.summarise(study)['arms']}
    best = sorted(means, key=means.get)[-39:]
    table = ' '.join(lines[: sweep_text.ARMS + 8])
    assert 'the 40 most accurate of 81 arms' in ' '.join(' '.join(lines).split())
    assert all(name in table for name in [BASELINE, *best])
    assert 'hard labels' in table


def test_terminal_ends_with_the_finding(study):
    words = ' '.join(shown(study).split())
    assert '6 comparisons in all: helps' in words
    assert 'A <made-up> sweep' in words


def test_no_nan_reaches_any_file(tmp_path):
    study = gain_of(0.01)
    study['records'][0]['last'] = {**study['records'][0]['last'], 'nll': math.nan}
    study['teachers'] = {'teacher': {**TEACHER, 'nll': math.inf}}
    sweep_report.write(study, tmp_path)
    json.loads((tmp_path / 'summary.json').read_text(), parse_constant=pytest.fail)
    for name in ('report.md', 'arms.csv', 'tables.tex'):
        assert not re.search(r'\b(nan|inf)\b', (tmp_path / name).read_text())
