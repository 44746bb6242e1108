"""A report says what its numbers say: checked on a small study whose every number is known."""

import copy
import io
import json
import math
import re

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from kdjax.study.report import document, run_report

HARD = {100: [0.80, 0.82, 0.81, 0.79], 1000: [0.94, 0.95, 0.93, 0.94]}
SOFT = {100: [0.85, 0.86, None, 0.84], 1000: [0.945, 0.945, 0.935, 0.937]}
FILES = {'summary.json', 'report.md', 'report.html', *(f'{name}.png' for name in ('learning_curves', 'soft_labels'))}
FILES |= {'accuracy_vs_size.png', 'gain_vs_size.png'}


def row(method, size, accuracy):
    filled = [None if value is None else 0.25 for value in accuracy]
    failed = [{'seed': seed, 'step': 120, 'term': 'soft'} for seed, value in enumerate(accuracy) if value is None]
    return {
        'method': method,
        'stages': [method.split()[0]],
        'transfer_size': size,
        'seeds': list(range(len(accuracy))),
        'accuracy': accuracy,
        **dict.fromkeys(('nll', 'ece', 'agreement', 'kl', 'validation_accuracy'), filled),
        'params': 1000,
        'bytes': 4000,
        'flops': 2000,
        'latency_ms': {'1': 0.1, '128': 1.0},
        'chosen': {} if method == 'hard labels' else {'soft.temperature': 4.0},
        'failed': failed,
    }


def curve(method, size, accuracy):
    steps = [0, 10, 20]
    values = [[None if value is None else value * step / 20 for value in accuracy] for step in steps]
    return {'method': method, 'transfer_size': size, 'steps': steps, 'accuracy': values}


def attempt(override, got):
    bars = [
        {'name': 'accuracy', 'wanted': 0.95, 'got': got, 'met': got >= 0.95},
        {'name': 'max_params', 'wanted': 1500.0, 'got': 1000.0, 'met': True},
    ]
    return {'override': override, 'bars': bars, 'met': got >= 0.95}


@pytest.fixture(scope='module')
def study():
    cells = [(m, size, values[size]) for m, values in (('hard labels', HARD), ('soft', SOFT)) for size in (1000, 100)]
    return {
        'title': 'A <small> study',
        'baseline': 'hard labels',
        'teacher': {
            'accuracy': 0.96,
            'nll': 0.1,
            'ece': 0.01,
            'params': 100_000,
            'bytes': 400_000,
            'flops': 500_000,
            'latency_ms': {'1': 1.0, '128': 32.0},
        },
        'rows': [row(*cell) for cell in cells],
        'curves': [curve(*cell) for cell in cells],
        'dark_knowledge': {
            'image': np.eye(8).tolist(),
            'label': 1,
            'class_names': ['zero', 'one', 'two'],
            'logits': [1.0, 5.0, -2.0],
            'temperatures': [1, 2, 4],
        },
        'accept': {
            'method': 'soft',
            'transfer_size': 1000,
            'met': False,
            'shown': 1,
            'attempts': [attempt({}, 0.93), attempt({'soft.temperature': 8.0}, 0.94)],
        },
        'provenance': {
            'config': {'data': {'name': 'toy | <b>'}},
            'config_hash': 'c0ffee',
            'versions': {'jax': '0.10.2'},
            'machine': {'cpu': 'some', 'cores': 2, 'convolutions': {'float32': 'oneDNN 3.2.0', 'bfloat16': 'XLA'}},
            'git_commit': None,
            'data_checksum': 'f00d',
            'seconds': {'teacher': 1.5},
            'command': 'python run.py --config=a.py:quick',
        },
    }


@pytest.fixture
def results(study):
    return copy.deepcopy(study)


@pytest.fixture(scope='module')
def folder(study, tmp_path_factory):
    where = tmp_path_factory.mktemp('study') / 'deeper'
    run_report.write(study, where)
    return where


@pytest.fixture(scope='module')
def summary(folder):
    return json.loads((folder / 'summary.json').read_text(), parse_constant=pytest.fail)


def cell(summary, name, size):
    return next(row for row in summary['rows'] if (row['name'], row['transfer_size']) == (name, size))


def shown(results):
    console = Console(width=80, file=io.StringIO())
    console.print(run_report.terminal_table(results))
    return console.file.getvalue()


def test_everything_is_written_and_nothing_else(folder):
    assert {path.name for path in folder.iterdir()} == FILES


def test_write_returns_what_it_wrote(results, tmp_path):
    assert run_report.write(results, tmp_path) == json.loads((tmp_path / 'summary.json').read_text())


def test_the_same_results_are_the_same_bytes(study, folder, tmp_path):
    run_report.write(study, tmp_path)
    assert all((tmp_path / name).read_bytes() == (folder / name).read_bytes() for name in FILES)


def test_results_are_left_as_they_were(study, folder, results):
    assert study == results


def test_summary_schema(summary):
    expected = {'title', 'baseline', 'rows', 'accept', 'config_hash', 'versions', 'machine', 'git_commit'}
    assert set(summary) == expected | {'data_checksum', 'seconds', 'command'}
    names = [(row['name'], row['transfer_size']) for row in summary['rows']]
    assert names == [('teacher', None), ('hard labels', 100), ('soft', 100), ('hard labels', 1000), ('soft', 1000)]
    assert len({frozenset(row) for row in summary['rows']}) == 1
    assert set(summary['rows'][0]) >= {'n', 'failed', 'accuracy', 'difference', 'gap_recovered', 'chosen', 'latency_ms'}
    assert set(summary['rows'][0]) >= {'params', 'bytes', 'flops', 'nll', 'ece', 'agreement', 'kl'}


def test_teacher_row(summary):
    teacher = summary['rows'][0]
    assert (teacher['n'], teacher['failed']) == (1, 0)
    assert teacher['accuracy'] == {'mean': 0.96, 'sd': None, 'ci95': None}
    assert (teacher['difference'], teacher['gap_recovered'], teacher['agreement']) == (None, None, None)
    assert (teacher['nll'], teacher['params']) == (0.1, 100_000)


def test_accuracy_is_scipys(summary):
    found = cell(summary, 'hard labels', 100)
    values = HARD[100]
    interval = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert found['accuracy']['mean'] == pytest.approx(np.mean(values))
    assert found['accuracy']['sd'] == pytest.approx(np.std(values, ddof=1))
    assert found['accuracy']['ci95'] == pytest.approx(interval)
    assert (found['difference'], found['gap_recovered']) == (None, None)


def test_difference_is_scipys_over_the_common_seeds(summary):
    found = cell(summary, 'soft', 100)
    ours, theirs = [0.85, 0.86, 0.84], [0.80, 0.82, 0.79]
    expected = stats.ttest_rel(ours, theirs)
    assert found['difference']['mean'] == pytest.approx(0.14 / 3)
    assert found['difference']['p'] == pytest.approx(expected.pvalue)
    assert found['difference']['ci95'] == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert (found['difference']['n'], found['difference']['verdict']) == (3, 'helps')
    assert found['gap_recovered']['value'] == pytest.approx((0.14 / 3) / (0.96 - np.mean(theirs)))


def test_failed_cells_are_counted_and_named(summary, folder):
    assert (cell(summary, 'soft', 100)['n'], cell(summary, 'soft', 100)['failed']) == (3, 1)
    said = (folder / 'report.md').read_text()
    assert '| 3 of 4 |' in said
    assert '1 of 16 runs failed' in said
    assert 'soft, 100 transfer examples, seed 2: not finite at step 120, in soft' in said


def test_the_finding_is_what_the_numbers_say(folder):
    said = (folder / 'report.md').read_text()
    assert '2 comparisons in all: helps 1, no significant difference 1' in said
    assert re.search(r'- 100 transfer examples: helps – soft \(\+4\.67 \[\+3\.\d\d, \+6\.\d\d\]\)', said)
    plain = (
        r'- 1000 transfer examples: no method is significantly better than hard labels; no significant difference – '
    )
    assert re.search(plain + r'soft \(\+0\.05 \[-0\.\d\d, \+0\.\d\d\]\)', said)


@pytest.mark.parametrize('shift', [0.03, -0.03])
def test_a_changed_number_changes_the_finding(results, tmp_path, shift):
    noisy = zip(HARD[1000], (0.001, -0.002, 0.001, 0.002), strict=True)
    results['rows'][2]['accuracy'] = [value + shift + noise for value, noise in noisy]
    run_report.write(results, tmp_path)
    verdict, other = ('helps', 'hurts') if shift > 0 else ('hurts', 'helps')
    finding = re.search(r'- 1000 transfer examples: .*', (tmp_path / 'report.md').read_text()).group()
    assert f'{verdict} – soft' in finding
    assert f'{other} –' not in finding
    assert ('no method is significantly better' in finding) == (verdict == 'hurts')


def test_page_tells_the_rest(folder):
    said = (folder / 'report.md').read_text()
    for words in ('common random numbers', 'looked at once', 'not corrected for the number of comparisons'):
        assert words in said
    assert '| parameters | 100.00 k | 1.00 k | 100.0× |' in said
    assert '| latency, batch of 128 | 32 ms | 1 ms | 32.0× |' in said
    assert '| 100 | soft | 25.00 | soft.temperature = 4 |' in said
    assert (
        'soft with 1000 transfer examples: the bars were NOT met after 2 attempts; the tables show attempt 2.' in said
    )
    assert 'Bars are held against validation data' in said
    assert '| 2 | soft.temperature = 8 | accuracy | ≥ 95.00 % | 94.00 % | no |' in said
    assert '| 1 | nothing | max_params | ≤ 1,500 | 1,000 | yes |' in said
    machine = 'cores 2, convolutions (float32 oneDNN 3.2.0, bfloat16 XLA)'
    for fact in ('c0ffee', 'f00d', 'git commit: none', 'jax 0.10.2', machine, 'teacher 1.5 s', '--config=a.py:quick'):
        assert fact in said


def test_students_of_different_cost_get_a_table_each(results, tmp_path):
    results['rows'][2]['params'] = 500
    run_report.write(results, tmp_path)
    said = (tmp_path / 'report.md').read_text()
    assert 'Teacher and student (hard labels, soft)' in said
    assert '| parameters | 100.00 k | 500 | 200× |' in said


def test_markdown_escapes_and_links(folder):
    said = (folder / 'report.md').read_text()
    assert said.startswith('# A \\<small> study\n')
    assert all((folder / name).exists() for name in re.findall(r'\]\((.*?\.png)\)', said))
    assert len(re.findall(r'!\[', said)) == 4
    for table in re.findall(r'(?:^\|.*\n)+', said, re.MULTILINE):
        assert len({len(re.findall(r'(?<!\\)\|', line)) for line in table.splitlines()}) == 1


def test_gradients_are_shown_where_they_were_looked_at(results, tmp_path):
    results['anatomy'] = {
        'hard labels': [],
        'soft': [{'step': 10, 'norms': {'soft': [1.0] * 4}, 'cosines': {'hard|soft': [0.5, 0.4, None, 0.6]}}],
    }
    run_report.write(results, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == FILES | {'anatomy.png'}
    assert '(anatomy.png)' in (tmp_path / 'report.md').read_text()
    assert 'with the largest transfer set' in (tmp_path / 'report.html').read_text()


def test_html_is_self_contained(folder):
    said = (folder / 'report.html').read_text()
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in said
    sources = re.findall(r'(?:src|href)\s*=\s*"(.*?)"', said)
    assert len(sources) == 4
    assert all(source.startswith('data:image/png;base64,') for source in sources)
    assert not re.search(r'<script|<link|@import|url\(|https?://', said)


def test_html_says_what_markdown_says(folder):
    said = (folder / 'report.html').read_text()
    assert '<h1>A &lt;small&gt; study</h1>' in said
    assert 'toy | &lt;b&gt;' in said
    assert 'no method is significantly better than hard labels' in said
    assert said.count('<figcaption>') == 4 + 5
    assert 'prefers-color-scheme: dark' in said


def test_wide_things_scroll_inside_their_own_box(folder):
    said = (folder / 'report.html').read_text()
    assert said.count('<div class="scroll"') == said.count('<table>') == 5
    assert re.search(r'\.scroll \{ overflow-x: auto', document.STYLE)
    assert re.search(r'pre \{ overflow-x: auto', document.STYLE)
    assert re.search(r'img \{[^}]*width: 100%', document.STYLE)


@pytest.mark.parametrize('name', sorted(name for name in FILES if name.endswith('.png')))
def test_figures_are_pictures(folder, name):
    content = (folder / name).read_bytes()
    width, height = (int.from_bytes(content[start : start + 4], 'big') for start in (16, 20))
    assert content.startswith(b'\x89PNG\r\n\x1a\n')
    assert width > 600
    assert height > 400


def test_terminal_fits_80_columns_and_says_the_same(results, folder):
    lines = shown(results).splitlines()
    assert max(map(len, lines)) <= 80
    assert '…' not in ''.join(lines)
    words = ' '.join(' '.join(lines).split())
    table = re.findall(r'^\| +(?:100|1000) \|.*\|$', (folder / 'report.md').read_text(), re.MULTILINE)
    for cells in (line.strip('| ').split(' | ') for line in table[:8]):  # the accuracies, and what is beyond them
        assert ' '.join(cells) in words
    assert 'no method is significantly better than hard labels' in words
    assert '1 of 16 runs failed' in words


def test_text_in_brackets_is_not_markup(results):
    results['title'] = 'A [bold]brave[/bold] study'
    assert 'A [bold]brave[/bold] study' in shown(results)


def test_nothing_failed_nothing_set_nothing_to_compare(results, tmp_path):
    results['rows'] = [row('hard labels', 100, HARD[100])]
    bare = {'override': {}, 'bars': [], 'met': True}
    accept = {'method': 'soft', 'transfer_size': 100, 'met': True, 'shown': 0, 'attempts': [bare]}
    results['curves'], results['accept'] = [], accept
    run_report.write(results, tmp_path)
    said = (tmp_path / 'report.md').read_text()
    for words in ('Only hard labels was run', 'No run failed.', 'No acceptance bar was set.'):
        assert words in said
    assert 'runs failed' not in shown(results)


def test_a_method_of_which_every_seed_failed(results, tmp_path):
    results['rows'][2] = row('soft', 1000, [None] * 4)
    results['curves'][2] = curve('soft', 1000, [None, math.nan, None, None])
    found = cell(run_report.write(results, tmp_path), 'soft', 1000)
    assert (found['n'], found['failed'], found['accuracy']['mean'], found['nll']) == (0, 4, None, None)
    assert (found['difference']['verdict'], found['gap_recovered']) == ('cannot be tested', None)
    said = (tmp_path / 'report.md').read_text()
    assert '| 1000 | soft | – | – | – | 0 of 4 |' in said
    assert 'cannot be tested – soft (no common seed)' in said


def test_one_seed_is_shown_but_not_tested(results, tmp_path):
    results['rows'] = [row('hard labels', 100, [0.8]), row('soft', 100, [0.85])]
    run_report.write(results, tmp_path)
    said = (tmp_path / 'report.md').read_text()
    assert 'cannot be tested – soft (+5.00)' in said
    assert '| 100 | soft | 85.00 | +5.00 | – | 1 |' in said


def test_no_nan_reaches_json(results, tmp_path):
    results['teacher']['nll'] = math.nan
    results['accept']['attempts'][0]['bars'][0]['got'] = math.inf
    run_report.write(results, tmp_path)
    found = json.loads((tmp_path / 'summary.json').read_text(), parse_constant=pytest.fail)
    assert found['rows'][0]['nll'] is None
    assert found['accept']['attempts'][0]['bars'][0]['got'] is None


def test_a_failed_write_leaves_the_old_report(study, results, tmp_path):
    run_report.write(study, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    results['provenance']['seconds'] = {'teacher': object()}
    with pytest.raises(TypeError):
        run_report.write(results, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
