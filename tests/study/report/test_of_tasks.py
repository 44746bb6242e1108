"""A report knows no task: it shows the metrics that a study names, and judges by its score, in its direction."""

import dataclasses
import re

import numpy as np
import pytest
from made_up import BASELINE, EXHIBIT, TEACHER, cost, errors, grid, many, record, results, temperatures

from kdjax.errors import UsageError
from kdjax.metrics import Metric
from kdjax.study.report import (
    comparison,
    csv_tables,
    curves,
    document,
    exhibit,
    figure_style,
    gains,
    networks,
    published,
    records,
    report,
    scatter,
    sizes,
    tables,
    text,
)
from kdjax.study.report.records import Acceptance, Attempt, Criterion, Results, Summary
from kdjax.study.report.scatter import Point

OTHER = {'helps': 'hurts', 'hurts': 'helps'}
TAGS = {
    'kind': 'tags',
    'words': ['Ada', 'wrote', 'to', 'Charles', 'Babbage', 'from', 'London', 'in', 'the', 'summer', 'of', '$1843$', '.'],
    'gold': ['B-person', 'O', 'O', 'B-person', 'I-person', 'O', 'B-place', *'OOOOOO'],
    'predicted': ['B-person', 'O', 'O', 'B-person', 'B-person', 'O', 'B-place', *'OOOOOO'],
    'probabilities': [0.99, 1.0, 1.0, 0.97, 0.51, 1.0, 0.88, 1.0, 1.0, 0.9, 1.0, 0.7, 1.0],
}


@pytest.fixture(scope='module')
def accuracy():
    return temperatures(seeds=5, values=(1, 4, 20))


@pytest.fixture(scope='module')
def right(accuracy):
    return report.summarise(accuracy)


@pytest.fixture(scope='module')
def wrong(accuracy):
    """The same study, judged by its error rate."""
    return report.summarise(errors(accuracy))


def page(study):
    summary = report.summarise(study)
    topics = ('sizes', 'gains', 'along', 'heat', 'fidelity', 'pareto', 'learning', 'gradients', 'exhibit', 'classes')
    return document.markdown(text.full(study, summary, dict.fromkeys(topics, ())))


def test_an_arm_with_fewer_errors_helps_as_the_one_with_the_higher_accuracy_does(right, wrong):
    for ours, theirs in zip(right.rows, wrong.rows, strict=True):
        assert theirs.score.mean == pytest.approx(1 - ours.score.mean, abs=1e-6)
        if ours.difference:
            assert theirs.difference.mean == pytest.approx(-ours.difference.mean, abs=1e-6)
            assert theirs.difference.verdict == ours.difference.verdict
            assert theirs.difference.detectable == pytest.approx(ours.difference.detectable, rel=1e-4)
            assert theirs.gap_recovered.value == pytest.approx(ours.gap_recovered.value, rel=1e-4)
    assert {row.difference.verdict for row in wrong.rows if row.difference} >= {'helps', 'hurts'}


def test_the_best_are_the_lowest(right, wrong):
    def names(summary):
        return [arm.name for arm in comparison.ranked(summary.rows, summary.judged.sign)]

    assert names(wrong) == names(right)
    best = [row[0].text for row in tables.pivot(right, 'temperature').rows if row[1].best]
    assert [row[0].text for row in tables.pivot(wrong, 'temperature').rows if row[1].best] == best
    assert [row[0] for row in tables.short(wrong, 3).rows] == [row[0] for row in tables.short(right, 3).rows]


def test_words_and_marks_say_which_way_is_better(accuracy, wrong):
    said = page(errors(accuracy))
    top = min(wrong.rows, key=lambda row: row.score.mean)
    assert f'The lowest mean is that of {top.name}, ' in said
    assert 'The lowest of 7 means tends to be too low' in said
    assert 'Differences, of which the lower are better, in points' in said
    assert 'difference to hard labels (lower is better)' in said
    assert '# Beyond word error rate' in said
    assert 'accuracy' not in said
    rows = tables.pivot(wrong, 'temperature').rows
    values = {row[0].text: row[1:] for row in rows}
    for arm in (row for row in wrong.rows if row.difference and row.difference.verdict in OTHER):
        mark = '↑' if arm.difference.mean < 0 else '↓'
        assert mark in values[arm.method][(1, 4, 20).index(arm.point['temperature'])].text


def test_a_score_without_a_unit_has_no_empty_brackets(accuracy):
    correlation = Metric('accuracy', 'correlation', '', 'higher', 3)
    said = page(dataclasses.replace(accuracy, metrics=(correlation, *accuracy.metrics[1:])))
    assert '()' not in said
    assert 'Gains, each with its own 95 % interval:' in said
    assert re.search(r'The highest mean is that of [^.]*, 0\.\d{3} ± 0\.\d{3} \(n = 5\)', said)


def test_figures_are_called_after_the_score_and_turned_round(wrong):
    (plot,) = gains.along(wrong)
    assert plot.file == 'wer_vs_temperature.png'
    assert plot.figure.axes[0].get_ylabel() == 'test word error rate (%, lower is better)'
    (bars,) = gains.gains(wrong)
    order = sorted((row for row in wrong.rows if row.difference), key=lambda row: -row.difference.mean)
    assert [tick.get_text() for tick in bars.figure.axes[0].get_yticklabels()] == [row.name for row in order]
    assert bars.says.startswith('Difference to hard labels (lower is better), with')


def test_figures_keep_the_lowest_of_many():
    study = errors(many(count=40))
    summary = report.summarise(study)
    (plot,) = curves.learning(summary, comparison.group_runs(study))
    lowest = sorted((row for row in summary.rows if not row.is_baseline), key=lambda row: row.score.mean)[:7]
    (axes,) = plot.figure.axes
    assert {' '.join(each.get_text().split()) for each in axes.texts} == {BASELINE, *(row.name for row in lowest)}
    files = [plot.file for plot in gains.heat(report.summarise(errors(grid(seeds=1))))]
    assert 'heat_temperature_weight.png' in files


def test_lines_over_sizes_are_cut_to_the_lowest():
    runs = [record(f'method {place:02}', seed, accuracy=0.5 + place / 100 + size / 10_000 + seed / 1000, size=size)
            for place in range(20) for seed in range(2) for size in (100, 200)]  # fmt: skip
    _, score = sizes.plots(report.summarise(errors(results(runs, []))))
    assert score.file == 'wer_vs_size.png'
    assert 'the 8 of 20 lines that lie lowest' in score.says


def test_front_of_a_score_that_is_better_when_it_is_lower():
    points = [Point(1, 50, 'a', None), Point(2, 60, 'b', None), Point(2, 40, 'c', None), Point(3, 40, 'd', None)]
    assert [point.name for point in scatter.front(points, -1)] == ['a', 'c']


def test_without_agreement_there_is_no_figure_of_it(accuracy, right):
    assert scatter.fidelity(right)
    kept = tuple(metric for metric in accuracy.metrics if metric.name != 'agreement')
    assert scatter.fidelity(report.summarise(dataclasses.replace(accuracy, metrics=kept))) == []


def test_csv_has_the_metrics_of_the_study(accuracy):
    summary = report.summarise(errors(accuracy))
    header = document.csv(csv_tables.of_arms(summary)).splitlines()[0].split(',')
    assert {'score_mean', 'last_wer_mean', 'best_wer_low'} <= set(header)
    assert not [name for name in header if 'accuracy' in name]


def by_type(count):
    """A study of a task with so many metrics of classes beside its own five."""
    metrics = tuple(Metric(f'f1_type{place}', f'F1 of type {place}', '%') for place in range(count))
    study = temperatures(seeds=2, values=(1, 4))
    runs = [
        dataclasses.replace(run, last={**run.last, **{metric.name: 0.5 for metric in metrics}}) for run in study.runs
    ]
    known = {**TEACHER.metrics, 'f1_type3': 0.75}
    teachers = {'teacher': dataclasses.replace(TEACHER, metrics=known)}
    return dataclasses.replace(study, runs=tuple(runs), metrics=(*study.metrics, *metrics), teachers=teachers)


def test_metrics_beyond_the_first_eight_have_a_table_of_their_own():
    summary = report.summarise(by_type(6))
    header = tables.beyond(summary).header
    assert header[-3:] == ('F1 of type 0', 'F1 of type 1', 'F1 of type 2')
    (table,) = tables.further(summary)
    assert table.header == ('method', 'temperature', 'F1 of type 3 (%)', 'F1 of type 4 (%)', 'F1 of type 5 (%)')
    assert [cell.text for cell in table.rows[0]] == ['teacher', '–', '75.00', '–', '–']
    assert [cell.text for cell in table.rows[1]][2:] == ['50.00'] * 3
    assert 'Further metrics' in page(by_type(6))
    assert tables.further(report.summarise(by_type(3))) == []


def test_costs_that_a_task_counts_beside_are_columns():
    counted = (Metric('tokens_per_second', 'tokens per second', 'tokens/s', 'higher', 0),
               Metric('ms_per_sentence', 'time per sentence', 'ms', 'lower', 3, 'sentence'))  # fmt: skip
    speeds = [dataclasses.replace(cost(), more={'tokens_per_second': speed}) for speed in (900.0, 1000.0, 5000.0)]
    runs = [record('kd', seed, cost=speed) for seed, speed in enumerate(speeds)]
    table = networks.costs(report.summarise(results(runs, [], cost_metrics=counted)))
    assert table.header == ('network', 'parameters', 'size', 'FLOPs', 'tokens per second (tokens/s)', 'batch of 1',
                            'batch of 128')  # fmt: skip
    assert [row[4].text for row in table.rows] == ['–', '1000']
    assert 'FLOPs per example, tokens per second (tokens/s), latency' in table.caption


def test_how_even_the_classes_are_is_said_where_it_is_known(accuracy):
    balance = {'O': 8300, 'B-person': 1400, 'I-place': 300}
    assert (
        "Of the 10,000 labels of the training split, 83.00 % are 'O', the largest of 3 classes, and 3.00 % are "
        "'I-place', the smallest: always guessing 'O' is right for 83.00 % of them."
    ) in page(dataclasses.replace(accuracy, balance=balance))
    assert 'always guessing' not in page(accuracy)


def test_results_are_read_back_as_they_were_stored(accuracy):
    study = dataclasses.replace(errors(accuracy), balance={'a': 1}, cost_metrics=(Metric('speed', 'speed', '1/s'),))
    assert records.from_json(Results, dataclasses.asdict(study)) == study
    summary = report.summarise(study)
    assert records.from_json(Summary, records.to_json(summary)) == summary
    assert summary.judged == Metric('wer', 'word error rate', '%', 'lower')


def test_a_bar_on_an_error_rate_is_the_most_that_is_accepted(accuracy):
    bars = (Criterion('wer', 0.05, 0.04, True, 'lower'), Criterion('gap_recovered', 0.5, None, False))
    accepted = Acceptance('kd', 250, False, 0, (Attempt({}, bars, False),))
    rows = tables.attempts(report.summarise(dataclasses.replace(errors(accuracy), acceptance=accepted))).rows
    assert [row[2:] for row in rows] == [
        ('wer', '≤ 5.00 %', '4.00 %', 'yes'),
        ('gap_recovered', '≥ 50.00 %', '–', 'no'),
    ]


def test_a_published_number_is_of_a_metric_of_the_task(accuracy):
    study = errors(accuracy)
    row = {'point': {'method': 'kd', 'temperature': 4}, 'metric': 'wer', 'value': 0.01, 'checkpoint': 'last',
           'certainty': 'read in source'}  # fmt: skip
    content = {'source': 'Somebody 2015', 'rows': [row]}
    with pytest.raises(UsageError, match="unknown metric 'wer'"):
        published.check(content, 'expected.json')
    paper = published.check(content, 'expected.json', study.metrics)
    (number,) = report.summarise(dataclasses.replace(study, published=paper)).published.rows
    assert number.verdict == 'higher'


# ---- exhibits


def test_an_exhibit_of_a_text_shows_the_text(right):
    shown = {name: value for name, value in EXHIBIT.items() if name != 'image'}
    (plot,) = exhibit.plots(right, {'teacher': {'kind': 'classes', 'text': 'a $5 film with no plot', **shown}})
    assert plot.says == 'What the teacher says of one text, at several temperatures T.'
    assert plot.file == 'soft_labels.png'
    assert plot.figure.axes[0].texts[0].get_text() == 'a $5 film with no plot'
    assert figure_style.png(plot.figure).startswith(b'\x89PNG')


def test_an_exhibit_of_tags_shows_every_word_and_marks_what_is_wrong(right):
    (plot,) = exhibit.plots(right, {'teacher': TAGS})
    assert plot.file == 'tags.png'
    found = [axes.tables[0].get_celld() for axes in plot.figure.axes]
    lines = [[cells[line, column].get_text().get_text() for cells in found for column in range(exhibit.TAGGED)]
             for line in range(4)]  # fmt: skip
    words = len(TAGS['words'])
    assert lines[0][:words] == TAGS['words']
    assert lines[1][:words] == TAGS['gold']
    assert lines[2][:words] == TAGS['predicted']
    assert lines[3][:words] == [f'{probability:.2f}' for probability in TAGS['probabilities']]
    orange = [cells[2, column].get_text().get_text() for cells in found for column in range(exhibit.TAGGED)
              if cells[2, column].get_text().get_color() == figure_style.COLOURS[1]]  # fmt: skip
    assert orange == ['B-person']
    assert np.frombuffer(figure_style.png(plot.figure)[16:24], '>u4')[0] > 600


def test_of_the_probabilities_of_all_tags_that_of_the_predicted_one_is_shown(right):
    every = [[probability, 1 - probability] for probability in TAGS['probabilities']]
    (plot,) = exhibit.plots(right, {'teacher': {**TAGS, 'probabilities': every}})
    cells = plot.figure.axes[0].tables[0].get_celld()
    assert cells[3, 4].get_text().get_text() == '0.51'


def test_an_exhibit_of_a_ranking_marks_the_item_that_was_taken(right):
    shown = {'kind': 'ranking', 'user': 7, 'has': 20, 'items': [5, 9, 2], 'taken': [40, 3, 12], 'kept': 9}
    (plot,) = exhibit.plots(right, {'teacher': shown})
    (axes,) = plot.figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ['1. item 5', '2. item 9', '3. item 2']
    assert [bar.get_width() for bar in axes.patches] == [40, 3, 12]
    assert len({bar.get_facecolor() for bar in axes.patches}) == 2
    assert axes.patches[0].get_facecolor() == axes.patches[2].get_facecolor()


def test_an_exhibit_of_boxes_shows_the_true_ones_and_those_found(right):
    boxes = [[0, 0, 0.5, 0.5], [0.25, 0.5, 0.75, 1]]
    own = {'boxes': boxes[1:], 'scores': [0.875], 'classes': [1]}
    shown = {'kind': 'boxes', 'image': np.zeros((8, 16, 3)).tolist(), 'class_names': ['a', 'b'], 'boxes': boxes,
             'labels': [0, 1], 'found': {'teacher': own}}  # fmt: skip
    (plot,) = exhibit.plots(right, {'teacher': shown})
    assert plot.says.startswith('What the teacher says of one picture')
    true, found = plot.figure.axes
    assert [len(axes.lines) for axes in (true, found)] == [2 + 2, 1]  # two of the legend
    assert true.lines[1].get_color() == found.lines[0].get_color() != true.lines[0].get_color()
    np.testing.assert_allclose(np.asarray(found.lines[0].get_xydata())[[0, 2]], [[3.5, 3.5], [11.5, 7.5]])
    assert [text.get_text() for text in found.texts] == ['0.88']


def test_boxes_of_the_baseline_and_of_the_best_method_stand_beside_those_of_the_teacher(right):
    own = {'boxes': [[0, 0, 1, 1]], 'scores': [0.5], 'classes': [0]}
    methods = list(dict.fromkeys(arm.method for arm in right.rows))
    shown = {'kind': 'boxes', 'image': np.zeros((8, 16, 3)).tolist(), 'class_names': ['a'], 'boxes': [], 'labels': [],
             'found': dict.fromkeys(['teacher', *methods], own)}  # fmt: skip
    (plot,) = exhibit.plots(right, {'teacher': shown})
    best = max((arm for arm in right.rows if not arm.is_baseline), key=lambda arm: arm.score.mean).method
    titles = [axes.get_title() for axes in plot.figure.axes]
    assert titles == ['true boxes', 'found by the teacher', f'found by {right.baseline}', f'found by {best}']
    assert plot.says.startswith(f'What the teacher, {right.baseline} and {best} say of one picture')


def test_an_unknown_kind_of_exhibit_is_one_line(right):
    with pytest.raises(UsageError, match=r"unknown kind of exhibit 'masks'; there is: .*'classes'"):
        exhibit.plots(right, {'teacher': {'kind': 'masks'}})


@pytest.mark.parametrize(
    'shape', [(8,), (1,), (4, 4), (4, 4, 1), (4, 4, 2), (4, 4, 3), (4, 4, 4), (4, 5, 9), (2, 3, 4, 5), ()]
)
def test_whatever_examples_are_the_report_is_not_lost(right, shape):
    shown = {**EXHIBIT, 'image': np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(float).tolist()}
    (plot,) = exhibit.plots(right, {'teacher': shown})
    assert figure_style.png(plot.figure).startswith(b'\x89PNG')
    assert ('one image' in plot.says) == (len(shape) in (2, 3))


def test_an_example_of_several_arrays_says_what_it_is(right):
    shown = {name: value for name, value in EXHIBIT.items() if name != 'image'}
    (plot,) = exhibit.plots(right, {'teacher': {**shown, 'shapes': {'inputs/left': [3], 'inputs/right': [4, 5]}}})
    said = ' '.join(plot.figure.axes[0].texts[0].get_text().split())
    assert said == 'an example that cannot be drawn: inputs/left (3,); inputs/right (4, 5)'


def test_bytes_are_colours():
    image = np.array([[[0, 128, 255], [255, 0, 0]]])
    np.testing.assert_allclose(exhibit.picture(image), image / 255)
    np.testing.assert_allclose(exhibit.picture(image / 255), image / 255)
    np.testing.assert_allclose(exhibit.picture(image / 255 * 4 - 2), image / 255)  # normalised
    assert exhibit.picture(np.stack([np.zeros((2, 3)), np.ones((2, 3))], axis=-1)).tolist() == [[0, 0, 0, 1, 1, 1]] * 2


def test_names_are_nowhere_a_language(accuracy, tmp_path):
    name = '=$\\write18{id}$ [a](b) _#&'
    exhibits = {'teacher': {**EXHIBIT, 'class_names': [name] * 3}}
    runs = tuple(dataclasses.replace(run, method=name, point={**run.point, 'method': name})
                 if run.method == 'kd' else run for run in accuracy.runs)  # fmt: skip
    report.write(dataclasses.replace(accuracy, runs=runs, exhibits=exhibits, title=name), tmp_path)
    said = {path.suffix: path.read_text() for path in tmp_path.iterdir() if path.suffix != '.png'}
    assert said['.md'].startswith('# \\=\\$\\\\write18{id}\\$ [a\\](b) \\_#\\&')
    assert '\\write18' not in said['.tex']
    assert '<title>=$\\write18{id}$ [a](b) _#&amp;</title>' in said['.html']
    assert f"\n'{name}" in (tmp_path / 'runs.csv').read_text()


def classes(count, seed=0):
    """Answers of a network to a test split of so many classes."""
    rng = np.random.default_rng(seed)
    pairs = {(truth, int(answer)) for truth in range(count) for answer in (truth, *rng.integers(0, count, 2))}
    return {
        'class_names': [f'class $x_{place}$' for place in range(count)],
        'confusion': [[*pair, 5 if pair[0] == pair[1] else 1] for pair in sorted(pairs)],
        'calibration': [[0, 1.5, 2.7], [0, 1, 3], [0, 2, 3]],
    }


@pytest.mark.parametrize('count', [2, 10, 100])
def test_classes_are_drawn_however_many(right, count):
    found = {'teacher': classes(count), BASELINE: classes(count, 1), 'kd': classes(count, 2), 'dist': classes(count, 3)}
    recalls, confusion, calibration = exhibit.classes(right, found)
    best = max((arm for arm in right.rows if not arm.is_baseline), key=lambda arm: arm.score.mean).method
    counts = exhibit.matrix(found[best])
    drawn = next(line for line in recalls.figure.axes[0].lines if line.get_label() == best)
    expected = np.sort(100 * np.diag(counts) / counts.sum(axis=1))[: exhibit.CLASSES]
    assert drawn.get_xdata() == pytest.approx(expected)
    assert bool(confusion.figure.axes[0].images) == (count <= exhibit.MATRIX)
    line = next(line for line in calibration.figure.axes[0].lines if line.get_label() == best)
    assert line.get_xydata() == pytest.approx(np.array([[75, 50], [90, 100]]))
    for plot in (recalls, confusion, calibration):
        assert figure_style.png(plot.figure).startswith(b'\x89PNG')


def test_without_classes_there_are_no_figures_of_them(right):
    assert exhibit.classes(right, {}) == []
    assert exhibit.classes(right, {'kd': {**classes(3), 'confusion': []}}) == []
