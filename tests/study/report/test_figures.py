"""Figures draw the numbers that they are given, say what they leave out, and exist only where data does."""

import numpy as np
import pytest
from made_up import BASELINE, EXHIBIT, changed, cost, grid, half, many, record, results, temperatures
from made_up import gradients as made_up_gradients

from kdjax.study.report import comparison, curves, exhibit, figure_style, gains, report, scatter, sizes
from kdjax.study.report.records import GradientStats
from kdjax.study.report.scatter import Point


@pytest.fixture(scope='module')
def temps():
    return report.summarise(temperatures(seeds=5))


@pytest.fixture(scope='module')
def three():
    return report.summarise(grid(seeds=3))


@pytest.fixture(scope='module')
def eighty():
    return report.summarise(many())


def line(axes, label):
    (found,) = [drawn for drawn in axes.lines if drawn.get_label() == label]
    return found.get_xdata(), found.get_ydata()


def labels(figure):
    """Names in the legend, or else those at the ends of lines."""
    beside = [text for axes in figure.axes for text in axes.texts if getattr(text, 'arrowprops', None)]
    named = [text for legend in figure.legends for text in legend.get_texts()] or beside
    return [' '.join(text.get_text().split()) for text in named]


def means(found, **point):
    rows = [row for row in found.rows if point.items() <= row.point.items()]
    return [100 * row.score.mean for row in rows]


def test_accuracy_against_an_axis(temps):
    (plot,) = gains.along(temps)
    (axes,) = plot.figure.axes
    assert plot.file == 'accuracy_vs_temperature.png'
    x, y = line(axes, 'kd')
    assert list(x) == [1, 2, 4, 6, 8, 10, 15, 20]
    assert y == pytest.approx(means(temps, method='kd'))
    assert axes.get_xscale() == 'log'
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ['1', '2', '4', '6', '8', '10', '15', '20']
    assert labels(plot.figure) == [BASELINE, 'kd', 'dist']


def test_the_baseline_is_a_band_where_it_lacks_the_axis(temps):
    (axes,) = gains.along(temps)[0].figure.axes
    _, y = line(axes, BASELINE)
    (base,) = [row for row in temps.rows if row.is_baseline]
    assert y == pytest.approx([100 * base.score.mean] * 2)
    (band,) = axes.patches
    assert (band.get_y(), band.get_y() + band.get_height()) == pytest.approx([100 * end for end in base.score.ci95])


def test_bands_are_the_intervals(temps):
    (axes,) = gains.along(temps)[0].figure.axes
    vertices = axes.collections[0].get_paths()[0].vertices
    for row in (row for row in temps.rows if row.method == 'kd'):
        at = vertices[vertices[:, 0] == row.point['temperature'], 1]
        assert (at.min(), at.max()) == pytest.approx([100 * end for end in row.score.ci95])


def test_other_axes_are_panels_and_the_baseline_a_line_where_it_has_the_axis(three):
    by_file = {plot.file: plot for plot in gains.along(three)}
    assert set(by_file) == {f'accuracy_vs_{axis}.png' for axis in ('temperature', 'weight', 'width')}
    figure = by_file['accuracy_vs_temperature.png'].figure
    assert [axes.get_title() for axes in figure.axes] == [
        f'weight {weight}, width {width}' for width in (32, 64) for weight in (0.1, 0.5, 0.9)
    ]
    assert line(figure.axes[0], 'kd')[1] == pytest.approx(means(three, method='kd', weight=0.1, width=32))
    assert line(figure.axes[0], BASELINE)[1][0] == pytest.approx(means(three, method=BASELINE, width=32)[0])
    wide = by_file['accuracy_vs_width.png']
    assert len(wide.figure.axes) == gains.PANELS
    assert 'the 6 of 9 settings that lie highest' in wide.says
    x, y = line(wide.figure.axes[0], BASELINE)
    assert list(x) == [32, 64]
    assert y == pytest.approx(means(three, method=BASELINE))


def test_many_methods_along_an_axis_are_cut_to_the_highest():
    runs = [
        record(f'method {place:02}', seed, {'size': size}, 0.5 + place / 100 + seed / 1000 + size / 10_000)
        for place in range(20) for seed in range(2) for size in (100, 200)
    ]  # fmt: skip
    runs += [record(BASELINE, seed, {'size': size}, 0.4 + seed / 1000) for seed in range(2) for size in (100, 200)]
    (plot,) = gains.along(report.summarise(results(runs, ['method', 'size'])))
    assert sorted(labels(plot.figure)) == sorted([BASELINE, *(f'method {place}' for place in range(13, 20))])
    assert 'the 7 of 20 methods that lie highest' in plot.says
    assert plot.figure.axes[0].get_xscale() == 'linear'


def test_an_arm_without_a_number_is_left_out():
    study = temperatures(seeds=2, values=(1, 4, 8))
    runs = [
        record('kd', run.seed, run.point, status='failed')
        if run.point == {'method': 'kd', 'temperature': 4} else run
        for run in study.runs
    ]  # fmt: skip
    (plot,) = gains.along(report.summarise(results(runs, study.axes)))
    assert list(line(plot.figure.axes[0], 'kd')[0]) == [1, 8]


def test_heat_maps_hold_every_mean(three):
    plots = {plot.file: plot for plot in gains.heat(three)}
    assert set(plots) == {'heat_temperature_weight.png', 'heat_temperature_width.png', 'heat_weight_width.png'}
    panels = {axes.get_title(): axes for axes in plots['heat_temperature_weight.png'].figure.axes if axes.get_title()}
    assert list(panels) == ['kd, width 32', 'dist, width 32', 'kd, width 64', 'dist, width 64']
    image = panels['dist, width 64'].images[0].get_array()
    for row, weight in enumerate((0.1, 0.5, 0.9)):
        for column, temperature in enumerate((1, 4, 16)):
            (mean,) = means(three, method='dist', width=64, weight=weight, temperature=temperature)
            assert image[row, column] == pytest.approx(mean)
    assert panels['kd, width 32'].texts[0].get_text() == f'{means(three, method="kd", width=32, weight=0.1)[0]:.1f}'


def test_a_hole_in_a_heat_map_is_a_hole():
    study = grid(seeds=1, widths=(32,), methods=('kd',))
    runs = [run for run in study.runs if run.point.get('temperature') != 4 or run.point.get('weight') != 0.5]
    (plot,) = gains.heat(report.summarise(results(runs, study.axes)))
    axes = plot.figure.axes[0]
    assert np.isnan(axes.images[0].get_array().filled(np.nan)[1, 1])
    assert [text.get_text() for text in axes.texts].count('–') == 1


def test_one_numeric_axis_has_no_heat_map(temps, eighty):
    assert gains.heat(temps) == []
    assert gains.heat(eighty) == []
    assert gains.along(eighty) == []


def test_gains_are_sorted_with_their_intervals(temps):
    (plot,) = gains.gains(temps)
    (axes,) = plot.figure.axes
    arms = sorted((row for row in temps.rows if row.difference), key=lambda row: row.difference.mean)
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [row.name for row in arms]
    expected = [row.difference for row in arms]
    points = [drawn for drawn in axes.lines if drawn.get_label() in ('helps', 'hurts', 'no significant difference')]
    bars = [drawn for drawn in axes.lines if len(drawn.get_xdata()) == 2 and drawn.get_linewidth() == 1.6]
    for point, bar, row in zip(points, bars, expected, strict=True):
        assert point.get_xdata()[0] == pytest.approx(100 * row.mean)
        assert bar.get_xdata() == pytest.approx([100 * end for end in row.ci95])
        assert point.get_label() == row.verdict


def test_gains_of_too_many_arms_are_the_two_ends():
    found = report.summarise(many(count=120, seeds=2))
    (plot,) = gains.gains(found)
    assert len(plot.figure.axes[0].get_yticks()) == gains.LINES
    assert 'the 45 highest and the 45 lowest of 120 arms' in plot.says


def test_an_untested_gain_looks_untested():
    (plot,) = gains.gains(report.summarise(half()))
    hollow = [drawn for drawn in plot.figure.axes[0].lines if drawn.get_label() == 'cannot be tested']
    assert hollow
    assert {drawn.get_markerfacecolor() for drawn in hollow} == {'white'}


def test_long_names_are_told_apart(three):
    (plot,) = gains.gains(three)
    names = [tick.get_text() for tick in plot.figure.axes[0].get_yticklabels()]
    assert len(set(names)) == len(names) == 36
    assert 'kd, 4, 0.5, 64' in names
    assert plot.figure.axes[0].get_title(loc='left') == 'method, temperature, weight, width'


def test_wide_intervals_of_few_seeds_do_not_set_the_scale():
    ends = [(0.9, 1.1)] * 10 + [(-99, 101)]
    low, high = figure_style.focus(np.ones(11), np.array(ends))
    assert low == pytest.approx(0.7, abs=0.05)
    assert high == pytest.approx(1.3, abs=0.05)
    assert figure_style.focus(np.array([1, 2]), np.array([(0.5, 1.5), (1.5, 2.5)])) == pytest.approx((0.38, 2.62))


def test_brief_keeps_both_ends():
    assert figure_style.brief('short') == 'short'
    cut = figure_style.brief('dist, temperature 4, weight 0.5, width 64', 20)
    assert len(cut) <= 20
    assert cut.startswith('dist, temp')
    assert cut.endswith('width 64')


def test_front_by_hand():
    points = [Point(1, 50, 'a', None), Point(2, 40, 'b', None), Point(2, 60, 'c', None), Point(3, 60, 'd', None),
              Point(4, 70, 'e', None), Point(1, 45, 'f', None)]  # fmt: skip
    assert [point.name for point in scatter.front(points)] == ['a', 'c', 'e']


def test_pareto_is_drawn_where_costs_differ(three, temps, eighty):
    assert scatter.pareto(temps) == []
    assert scatter.pareto(eighty) == []
    plots = {plot.file: plot for plot in scatter.pareto(three)}
    assert set(plots) == {'pareto_params.png', 'pareto_flops.png', 'pareto_latency_1.png'}  # batch of 128: all alike
    (axes,) = plots['pareto_params.png'].figure.axes
    x, y = line(axes, 'teacher')
    assert (x[0], y[0]) == (85_002, pytest.approx(96))
    x, y = line(axes, 'kd')
    assert set(x) == {cost(32).params, cost(64).params}
    assert sorted(y) == pytest.approx(sorted(means(three, method='kd')))
    x, y = line(axes, 'front of the means')
    assert list(x) == [cost(32).params, cost(64).params, 85_002]
    best = [max(mean for method in (BASELINE, 'kd', 'dist') for mean in means(three, method=method, width=width))
            for width in (32, 64)]  # fmt: skip
    assert y == pytest.approx([*best, 96])


def test_fidelity_is_a_point_per_arm(temps, eighty):
    (plot,) = scatter.fidelity(temps)
    x, y = line(plot.figure.axes[0], 'dist')
    rows = [row for row in temps.rows if row.method == 'dist']
    assert x == pytest.approx([100 * row.last['agreement'].mean for row in rows])
    assert y == pytest.approx(means(temps, method='dist'))
    (crowd,) = scatter.fidelity(eighty)
    assert len(labels(crowd.figure)) == scatter.METHODS + 1
    assert '73 other methods' in labels(crowd.figure)
    assert len(line(crowd.figure.axes[0], '73 other methods')[0]) == 73


def test_no_agreement_no_figure():
    study = temperatures(seeds=2, values=(1, 2))
    for place, run in enumerate(study.runs):
        study = changed(study, place, last={**run.last, 'agreement': None})
    assert scatter.fidelity(report.summarise(study)) == []


def test_learning_curves_are_those_of_the_best_arms():
    study = temperatures(seeds=3)
    found = report.summarise(study)
    (plot,) = curves.learning(found, comparison.group_runs(study))
    ranked = sorted((row for row in found.rows if not row.is_baseline),
                    key=lambda row: -row.score.mean)  # fmt: skip
    assert labels(plot.figure) == [BASELINE, *(row.name for row in ranked[:7])]
    assert 'the 8 best of 17 arms' in plot.says
    runs = [run for run in study.runs if run.method == BASELINE]
    expected = [100 * np.mean([run.history[place].metrics['accuracy'] for run in runs]) for place in range(5)]
    x, y = line(plot.figure.axes[0], BASELINE)
    assert list(x) == [0, 50, 100, 150, 200]
    assert y == pytest.approx(expected)


def test_learning_curves_leave_out_runs_that_are_not_finished():
    runs = [record('kd', 0, accuracy=0.9), record('kd', 1, accuracy=0.5, status='running', steps=2),
            record('kd', 2, accuracy=0.1, status='failed', steps=2)]  # fmt: skip
    study = results(runs, ['method'])
    (plot,) = curves.learning(report.summarise(study), comparison.group_runs(study))
    assert line(plot.figure.axes[0], 'kd')[1][0] == pytest.approx(100 * 0.9 * 0.3)


def test_gradients_is_of_the_best_arm_of_each_method():
    study = temperatures(seeds=3, values=(1, 4))
    found, gathered = report.summarise(study), comparison.group_runs(study)
    norms, cosines = curves.gradients(found, gathered)
    assert (norms.file, cosines.file) == ('gradient_norms.png', 'gradient_cosines.png')
    titles = [axes.get_title() for axes in norms.figure.axes]
    rows = sorted(found.rows, key=lambda row: row.score.mean)
    best = {row.method: row.name for row in rows if not row.is_baseline}  # the last of each method stays
    assert sorted(titles) == sorted(best.values())
    kd = norms.figure.axes[titles.index(best['kd'])]
    (arm,) = [arm for arm in gathered if arm.name == best['kd']]
    expected = [np.mean([run.gradients[place].norms['hard'] for run in arm.runs]) for place in range(5)]
    assert line(kd, 'hard')[1] == pytest.approx(expected)
    assert kd.get_yscale() == 'log'
    assert labels(cosines.figure) == ['hard and soft']
    assert cosines.figure.axes[0].get_ylim() == (-1.05, 1.05)


def test_no_gradients_no_figures(eighty):
    assert curves.gradients(eighty, comparison.group_runs(many())) == []


def test_gradients_of_a_single_term_has_no_cosines():
    rng = np.random.default_rng(0)
    lines = tuple(GradientStats(line.step, line.norms, {}) for line in made_up_gradients(rng))
    study = results([record('kd', seed, gradients=lines) for seed in range(2)], ['method'])
    plots = curves.gradients(report.summarise(study), comparison.group_runs(study))
    assert [plot.file for plot in plots] == ['gradient_norms.png']


def test_learning_curves_have_a_panel_for_every_size():
    (plot,) = curves.learning(*summarised(sized()))
    low, high = plot.figure.axes
    assert [axes.get_title() for axes in (low, high)] == ['100 transfer examples', '1000 transfer examples']
    runs = [run for run in sized().runs if run.method == 'kd' and run.transfer_size == 1000]
    expected = [100 * np.mean([run.history[place].metrics['accuracy'] for run in runs]) for place in range(5)]
    assert line(high, 'kd')[1] == pytest.approx(expected)
    assert labels(plot.figure) == [BASELINE, 'kd']


def test_one_seed_has_a_curve_and_no_band():
    (plot,) = curves.learning(*summarised(results([record('kd', 0)], [])))
    (axes,) = plot.figure.axes
    assert len(axes.lines) == 1
    assert not axes.collections


def test_few_seeds_are_drawn_one_by_one_and_without_a_band():
    study = temperatures(seeds=2, values=(1, 4))
    (axes,) = curves.learning(*summarised(study))[0].figure.axes
    assert not axes.collections
    thin = [drawn for drawn in axes.lines if drawn.get_linewidth() < 1]
    assert len(thin) == 2 * 5
    (axes,) = gains.along(report.summarise(study))[0].figure.axes
    assert not axes.collections
    assert not axes.patches
    spots = [drawn for drawn in axes.lines if drawn.get_marker() == '.']
    values = [100 * run.last['accuracy'] for run in study.runs if run.method == 'kd']
    assert sorted(spots[0].get_ydata()) == pytest.approx(sorted(values))
    low, high = axes.get_ylim()
    assert high - low < 20  # the intervals of two seeds reach over a hundred points


def test_lines_that_lie_on_each_other_differ_in_dash_and_in_the_places_of_markers():
    runs = [record(method, seed, accuracy=0.9) for method in (BASELINE, 'kd') for seed in range(5)]
    (axes,) = curves.learning(*summarised(results(runs, ['method'])))[0].figure.axes
    first, second = axes.lines
    assert first.get_linestyle() != second.get_linestyle()
    assert first.get_markevery() != second.get_markevery()


def test_names_at_lines_keep_their_distance():
    places = figure_style.spread([0.5, 0.5, 0.51, 0.99], [0.1] * 4)
    assert all(np.diff(places) > 0.0999)
    assert places[-1] == 0.99
    assert list(figure_style.spread([0.9, 0.1], [0.1, 0.2])) == [0.9, 0.1]


def test_gradients_have_a_band_where_there_is_an_interval():
    cosines = (0.5, -0.1, 0.3, 0.2, 0.6)
    lines = [
        (GradientStats(10, {'hard': 1.0}, {'hard|soft': cosine}),
         *([GradientStats(20, {}, {'hard|soft': 0.9})] * (not place)))
        for place, cosine in enumerate(cosines)
    ]  # fmt: skip
    runs = [record('kd', seed, gradients=stats) for seed, stats in enumerate(lines)]
    _, drawn = curves.gradients(*summarised(results(runs, [])))
    (axes,) = drawn.figure.axes
    (band,) = axes.collections  # one seed at the second step: no interval
    half = 2.7764 * np.std(cosines, ddof=1) / np.sqrt(5)  # the 97.5 % quantile of Student's t with 4 degrees
    ys = band.get_paths()[0].vertices[:, 1]
    assert (ys.min(), ys.max()) == pytest.approx((0.3 - half, 0.3 + half), abs=1e-4)
    assert line(axes, 'hard and soft')[1] == pytest.approx([0.3, 0.9])


def summarised(study):
    return report.summarise(study), comparison.group_runs(study)


def sized(axis=None, methods=('kd',)):
    """Two sizes of the transfer set; as an axis of a sweep, or of a run, which names none."""
    base = {100: 0.8, 1000: 0.94}
    runs = [
        record(
            method, seed, {axis: size} if axis else {}, base[size] + gain + 0.004 * seed * (1 + 10 * gain), size=size
        )
        for size in (100, 1000)
        for gain, method in ((0, BASELINE), *((0.01 + place / 1000, name) for place, name in enumerate(methods)))
        for seed in range(5)
    ]
    return results(runs, [axis] if axis else [])


def bars(axes):
    """By label: means and the bars' (low, high) of every line in `axes`."""
    found = {}
    for container in axes.containers:
        data, _, (segments,) = container.lines
        found[container.get_label()] = data.get_ydata(), [segment[:, 1] for segment in segments.get_segments()]
    return found


@pytest.mark.parametrize('axis', [None, 'examples'])
def test_score_and_gain_against_the_size_of_the_transfer_set(axis):
    summary = report.summarise(sized(axis))
    gain, score = sizes.plots(summary)
    assert (gain.file, score.file) == ('gain_vs_size.png', 'accuracy_vs_size.png')
    (axes,) = score.figure.axes
    for name, (ys, ends) in bars(axes).items():
        arms = [arm for arm in summary.rows if arm.method == name]
        assert ys == pytest.approx([100 * arm.score.mean for arm in arms])
        assert np.array(ends) == pytest.approx(100 * np.array([arm.score.ci95 for arm in arms]))
    assert axes.lines[0].get_ydata() == pytest.approx([96, 96])  # the teacher
    assert [label.get_text() for label in axes.get_xticklabels()] == ['100', '1000']
    assert labels(score.figure) == ['teacher', BASELINE, 'kd']
    (axes,) = gain.figure.axes
    ((ys, ends),) = bars(axes).values()
    arms = [arm.difference for arm in summary.rows if arm.difference]
    assert ys == pytest.approx([100 * arm.mean for arm in arms])
    assert np.array(ends) == pytest.approx(100 * np.array([arm.ci95 for arm in arms]))
    assert axes.lines[0].get_ydata() == pytest.approx([0, 0])
    assert gains.along(summary) == []  # the same again


def test_lines_over_sizes_stand_beside_one_another_and_beside_their_size():
    (axes,) = sizes.plots(report.summarise(sized()))[1].figure.axes
    left, right = (container.lines[0].get_xdata() for container in axes.containers)
    assert (left < [100, 1000]).all()
    assert (right > [100, 1000]).all()
    assert right[0] < left[1]


def test_many_lines_over_sizes_are_cut_to_the_highest():
    gain, score = sizes.plots(report.summarise(sized(methods=[f'method {place:02}' for place in range(20)])))
    assert labels(score.figure) == ['teacher', BASELINE, *(f'method {place}' for place in range(13, 20))]
    assert 'the 8 of 21 lines that lie highest' in gain.says


def test_one_size_has_no_figure_over_sizes(temps):
    assert sizes.plots(temps) == []


def test_soft_labels_are_softmax():
    figure = exhibit.soft_labels(EXHIBIT)
    bars = figure.axes[2].containers[0]  # the image, T = 1, T = 2, ...
    exponentials = np.exp(np.array([1.0, 5.0, -2.0]) / 2)
    assert [bar.get_height() for bar in bars] == pytest.approx(exponentials / exponentials.sum())
    assert [axes.texts[0].get_text() for axes in figure.axes[1:]] == ['T = 1', 'T = 2', 'T = 4']
    assert [label.get_text() for label in figure.axes[-1].get_xticklabels()] == ['zero', 'one', 'two']


def test_many_classes_still_draw(temps):
    classes = {'class_names': [f'class {place}' for place in range(100)], 'logits': np.linspace(-800, 800, 100)}
    (plot,) = exhibit.plots(temps, {'teacher': EXHIBIT | classes})
    assert figure_style.png(plot.figure).startswith(b'\x89PNG\r\n\x1a\n')
    assert plot.says.startswith('What the teacher says of one image')
    assert len(plot.figure.axes[-1].get_xticklabels()) == 20


def test_pyplot_is_left_alone(temps):
    from matplotlib import _pylab_helpers

    figure_style.png(gains.along(temps)[0].figure)
    assert not _pylab_helpers.Gcf.figs
