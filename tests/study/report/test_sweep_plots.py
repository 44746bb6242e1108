"""Figures of a sweep draw the numbers that they are given, say what they leave out, and exist only where data does."""

import numpy as np
import pytest
from kdjax.study.report.sweep_scatter import Point
from made_up import BASELINE, anatomy, cost, grid, half, many, record, results, temperatures

from kdjax.study.report import comparison, figure_style, sweep_curves, sweep_plots, sweep_report, sweep_scatter


@pytest.fixture(scope='module')
def temps():
    return sweep_report.summarise(temperatures(seeds=4))


@pytest.fixture(scope='module')
def three():
    return sweep_report.summarise(grid(seeds=3))


@pytest.fixture(scope='module')
def eighty():
    return sweep_report.summarise(many())


def line(axes, label):
    (found,) = [drawn for drawn in axes.lines if drawn.get_label() == label]
    return found.get_xdata(), found.get_ydata()


def labels(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def means(found, **point):
    rows = [row for row in found['arms'] if point.items() <= row['point'].items()]
    return [100 * row['last']['accuracy']['mean'] for row in rows]


def test_accuracy_against_an_axis(temps):
    (plot,) = sweep_plots.along(temps)
    (axes,) = plot.figure.axes
    assert plot.file == 'accuracy_vs_temperature.png'
    x, y = line(axes, 'kd')
    assert list(x) == [1, 2, 4, 6, 8, 10, 15, 20]
    assert y == pytest.approx(means(temps, method='kd'))
    assert axes.get_xscale() == 'log'
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ['1', '2', '4', '6', '8', '10', '15', '20']
    assert labels(plot.figure) == [BASELINE, 'kd', 'dist']


def test_the_baseline_is_a_band_where_it_lacks_the_axis(temps):
    (axes,) = sweep_plots.along(temps)[0].figure.axes
    _, y = line(axes, BASELINE)
    (base,) = [row for row in temps['arms'] if row['is_baseline']]
    assert y == pytest.approx([100 * base['last']['accuracy']['mean']] * 2)
    (band,) = axes.patches
    assert (band.get_y(), band.get_y() + band.get_height()) == pytest.approx(
        [100 * end for end in base['last']['accuracy']['ci95']]
    )


def test_bands_are_the_intervals(temps):
    (axes,) = sweep_plots.along(temps)[0].figure.axes
    vertices = axes.collections[0].get_paths()[0].vertices
    for row in (row for row in temps['arms'] if row['method'] == 'kd'):
        at = vertices[vertices[:, 0] == row['point']['temperature'], 1]
        assert (at.min(), at.max()) == pytest.approx([100 * end for end in row['last']['accuracy']['ci95']])


def test_other_axes_are_panels_and_the_baseline_a_line_where_it_has_the_axis(three):
    by_file = {plot.file: plot for plot in sweep_plots.along(three)}
    assert set(by_file) == {f'accuracy_vs_{axis}.png' for axis in ('temperature', 'weight', 'width')}
    figure = by_file['accuracy_vs_temperature.png'].figure
    assert [axes.get_title() for axes in figure.axes] == [
        f'weight {weight}, width {width}' for width in (32, 64) for weight in (0.1, 0.5, 0.9)
    ]
    assert line(figure.axes[0], 'kd')[1] == pytest.approx(means(three, method='kd', weight=0.1, width=32))
    assert line(figure.axes[0], BASELINE)[1][0] == pytest.approx(means(three, method=BASELINE, width=32)[0])
    wide = by_file['accuracy_vs_width.png']
    assert len(wide.figure.axes) == sweep_plots.PANELS
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
    (plot,) = sweep_plots.along(sweep_report.summarise(results(runs, ['method', 'size'])))
    assert sorted(labels(plot.figure)) == sorted([BASELINE, *(f'method {place}' for place in range(13, 20))])
    assert 'the 7 of 20 methods that lie highest' in plot.says
    assert plot.figure.axes[0].get_xscale() == 'linear'


def test_an_arm_without_a_number_is_left_out():
    study = temperatures(seeds=2, values=(1, 4, 8))
    for place, run in enumerate(study['records']):
        if run['point'] == {'method': 'kd', 'temperature': 4}:
            study['records'][place] = record('kd', run['seed'], {'temperature': 4}, status='failed')
    (plot,) = sweep_plots.along(sweep_report.summarise(study))
    assert list(line(plot.figure.axes[0], 'kd')[0]) == [1, 8]


def test_heat_maps_hold_every_mean(three):
    plots = {plot.file: plot for plot in sweep_plots.heat(three)}
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
    study['records'] = [run for run in study['records'] if run['point'].get('temperature') != 4
                        or run['point'].get('weight') != 0.5]  # fmt: skip
    (plot,) = sweep_plots.heat(sweep_report.summarise(study))
    axes = plot.figure.axes[0]
    assert np.isnan(axes.images[0].get_array().filled(np.nan)[1, 1])
    assert [text.get_text() for text in axes.texts].count('–') == 1


def test_one_numeric_axis_has_no_heat_map(temps, eighty):
    assert sweep_plots.heat(temps) == []
    assert sweep_plots.heat(eighty) == []
    assert sweep_plots.along(eighty) == []


def test_gains_are_sorted_with_their_intervals(temps):
    (plot,) = sweep_plots.gains(temps)
    (axes,) = plot.figure.axes
    expected = sorted((row['difference'] | {'name': row['name']} for row in temps['arms'] if row['difference']),
                      key=lambda row: row['mean'])  # fmt: skip
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [row['name'] for row in expected]
    points = [drawn for drawn in axes.lines if drawn.get_label() in ('helps', 'hurts', 'no significant difference')]
    bars = [drawn for drawn in axes.lines if len(drawn.get_xdata()) == 2 and drawn.get_linewidth() == 1.6]
    for point, bar, row in zip(points, bars, expected, strict=True):
        assert point.get_xdata()[0] == pytest.approx(100 * row['mean'])
        assert bar.get_xdata() == pytest.approx([100 * end for end in row['ci95']])
        assert point.get_label() == row['verdict']


def test_gains_of_too_many_arms_are_the_two_ends():
    found = sweep_report.summarise(many(count=120, seeds=2))
    (plot,) = sweep_plots.gains(found)
    assert len(plot.figure.axes[0].get_yticks()) == sweep_plots.LINES
    assert 'the 45 highest and the 45 lowest of 120 arms' in plot.says


def test_an_untested_gain_looks_untested():
    (plot,) = sweep_plots.gains(sweep_report.summarise(half()))
    hollow = [drawn for drawn in plot.figure.axes[0].lines if drawn.get_label() == 'cannot be tested']
    assert hollow
    assert {drawn.get_markerfacecolor() for drawn in hollow} == {'white'}


def test_long_names_are_told_apart(three):
    (plot,) = sweep_plots.gains(three)
    names = [tick.get_text() for tick in plot.figure.axes[0].get_yticklabels()]
    assert len(set(names)) == len(names) == 36
    assert 'kd, 4, 0.5, 64' in names
    assert plot.figure.axes[0].get_ylabel() == 'method, temperature, weight, width'


def test_wide_intervals_of_few_seeds_do_not_set_the_scale():
    ends = [(0.9, 1.1)] * 10 + [(-99, 101)]
    low, high = figure_style.focus([1.0] * 11, ends)
    assert low == pytest.approx(0.7, abs=0.05)
    assert high == pytest.approx(1.3, abs=0.05)
    assert figure_style.focus([1, 2], [(0.5, 1.5), (1.5, 2.5)]) == pytest.approx((0.38, 2.62))


def test_brief_keeps_both_ends():
    assert figure_style.brief('short') == 'short'
    cut = figure_style.brief('dist, temperature 4, weight 0.5, width 64', 20)
    assert len(cut) <= 20
    assert cut.startswith('dist, temp')
    assert cut.endswith('width 64')


def test_front_by_hand():
    points = [Point(1, 50, 'a', None), Point(2, 40, 'b', None), Point(2, 60, 'c', None), Point(3, 60, 'd', None),
              Point(4, 70, 'e', None), Point(1, 45, 'f', None)]  # fmt: skip
    assert [point.name for point in sweep_scatter.front(points)] == ['a', 'c', 'e']


def test_pareto_is_drawn_where_costs_differ(three, temps, eighty):
    assert sweep_scatter.pareto(temps) == []
    assert sweep_scatter.pareto(eighty) == []
    plots = {plot.file: plot for plot in sweep_scatter.pareto(three)}
    assert set(plots) == {'pareto_params.png', 'pareto_flops.png', 'pareto_latency_1.png'}  # batch of 128: all alike
    (axes,) = plots['pareto_params.png'].figure.axes
    x, y = line(axes, 'teacher')
    assert (x[0], y[0]) == (85_002, pytest.approx(96))
    x, y = line(axes, 'kd')
    assert set(x) == {cost(32)['params'], cost(64)['params']}
    assert sorted(y) == pytest.approx(sorted(means(three, method='kd')))
    x, y = line(axes, 'front of the means')
    assert list(x) == [cost(32)['params'], cost(64)['params'], 85_002]
    best = [max(mean for method in (BASELINE, 'kd', 'dist') for mean in means(three, method=method, width=width))
            for width in (32, 64)]  # fmt: skip
    assert y == pytest.approx([*best, 96])


def test_fidelity_is_a_point_per_arm(temps, eighty):
    (plot,) = sweep_scatter.fidelity(temps)
    x, y = line(plot.figure.axes[0], 'dist')
    rows = [row for row in temps['arms'] if row['method'] == 'dist']
    assert x == pytest.approx([100 * row['last']['agreement']['mean'] for row in rows])
    assert y == pytest.approx(means(temps, method='dist'))
    (crowd,) = sweep_scatter.fidelity(eighty)
    assert len(labels(crowd.figure)) == sweep_scatter.METHODS + 1
    assert '73 other methods' in labels(crowd.figure)
    assert len(line(crowd.figure.axes[0], '73 other methods')[0]) == 73


def test_no_agreement_no_figure():
    study = temperatures(seeds=2, values=(1, 2))
    for run in study['records']:
        run['last'] = {**run['last'], 'agreement': None}
    assert sweep_scatter.fidelity(sweep_report.summarise(study)) == []


def test_learning_curves_are_those_of_the_best_arms():
    study = temperatures(seeds=3)
    found = sweep_report.summarise(study)
    (plot,) = sweep_curves.learning(found, comparison.gather(study))
    ranked = sorted((row for row in found['arms'] if not row['is_baseline']),
                    key=lambda row: -row['last']['accuracy']['mean'])  # fmt: skip
    assert labels(plot.figure) == [BASELINE, *(row['name'] for row in ranked[:7])]
    assert 'the 8 most accurate of 17 arms' in plot.says
    runs = [run for run in study['records'] if run['method'] == BASELINE]
    expected = [100 * np.mean([run['history'][place]['accuracy'] for run in runs]) for place in range(5)]
    x, y = line(plot.figure.axes[0], BASELINE)
    assert list(x) == [0, 50, 100, 150, 200]
    assert y == pytest.approx(expected)


def test_learning_curves_leave_out_runs_that_are_not_finished():
    runs = [record('kd', 0, accuracy=0.9), record('kd', 1, accuracy=0.5, status='running', steps=2),
            record('kd', 2, accuracy=0.1, status='failed', steps=2)]  # fmt: skip
    study = results(runs, ['method'])
    (plot,) = sweep_curves.learning(sweep_report.summarise(study), comparison.gather(study))
    assert line(plot.figure.axes[0], 'kd')[1][0] == pytest.approx(100 * 0.9 * 0.3)


def test_anatomy_is_of_the_best_arm_of_each_method():
    study = temperatures(seeds=3, values=(1, 4))
    found, gathered = sweep_report.summarise(study), comparison.gather(study)
    norms, cosines = sweep_curves.anatomy(found, gathered)
    assert (norms.file, cosines.file) == ('gradient_norms.png', 'gradient_cosines.png')
    titles = [axes.get_title() for axes in norms.figure.axes]
    rows = sorted(found['arms'], key=lambda row: row['last']['accuracy']['mean'])
    best = {row['method']: row['name'] for row in rows if not row['is_baseline']}  # the last of each method stays
    assert sorted(titles) == sorted(best.values())
    kd = norms.figure.axes[titles.index(best['kd'])]
    (arm,) = [arm for arm in gathered if arm.name == best['kd']]
    expected = [np.mean([run['anatomy'][place]['norms']['hard'] for run in arm.records]) for place in range(5)]
    assert line(kd, 'hard')[1] == pytest.approx(expected)
    assert kd.get_yscale() == 'log'
    assert labels(cosines.figure) == ['hard and soft']
    assert cosines.figure.axes[0].get_ylim() == (-1.05, 1.05)


def test_no_anatomy_no_figures(eighty):
    assert sweep_curves.anatomy(eighty, comparison.gather(many())) == []


def test_anatomy_of_a_single_term_has_no_cosines():
    rng = np.random.default_rng(0)
    lines = [{**step, 'cosines': {}} for step in anatomy(rng)]
    study = results([record('kd', seed, anatomy=lines) for seed in range(2)], ['method'])
    plots = sweep_curves.anatomy(sweep_report.summarise(study), comparison.gather(study))
    assert [plot.file for plot in plots] == ['gradient_norms.png']


def test_pyplot_is_left_alone(temps):
    from matplotlib import _pylab_helpers

    figure_style.png(sweep_plots.along(temps)[0].figure)
    assert not _pylab_helpers.Gcf.figs
