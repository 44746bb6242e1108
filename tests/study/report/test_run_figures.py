"""Figures draw the numbers that they are given, all of them, and where they can be seen."""

import math

import numpy as np
import pytest

from kdjax.study.report import run_figures

STYLES = {'hard labels': {'color': 'black'}, 'soft': {'color': 'blue'}}
SHOWN = {
    'image': np.eye(8).tolist(),
    'label': 1,
    'class_names': ['zero', 'one', 'two'],
    'logits': [1.0, 5.0, -2.0],
    'temperatures': [1, 2, 4],
}


def estimate(mean, low, high):
    return {'mean': mean, 'ci95': [low, high]}


def row(name, size, accuracy, difference=None):
    return {'name': name, 'transfer_size': size, 'accuracy': accuracy, 'difference': difference}


ROWS = [
    row('hard labels', 100, estimate(0.80, 0.78, 0.82)),
    row('soft', 100, estimate(0.85, 0.84, 0.86), estimate(0.05, 0.02, 0.08)),
    row('hard labels', 1000, {'mean': 0.94, 'ci95': None}),
    row('soft', 1000, estimate(0.93, 0.86, 1.10), estimate(-0.01, -0.03, 0.01)),
]


def drawn(axes):
    """By label: means and the bars' (low, high) of every method in `axes`."""
    found = {}
    for container in axes.containers:
        data, _, (bars,) = container.lines
        found[container.get_label()] = data.get_ydata(), [segment[:, 1] for segment in bars.get_segments()]
    return found


def curve(method, size, ends):
    values = [[None if end is None else end * share for end in ends] for share in (0.1, 0.5, 1)]
    return {'method': method, 'transfer_size': size, 'steps': [0, 10, 20], 'accuracy': values}


def test_accuracy_against_size():
    (axes,) = run_figures.accuracy_vs_size(ROWS, {'accuracy': 0.96}, STYLES).axes
    found = drawn(axes)
    assert found['hard labels'][0] == pytest.approx([80, 94])
    assert found['soft'][0] == pytest.approx([85, 93])
    assert np.array(found['soft'][1]) == pytest.approx(np.array([[84, 86], [86, 110]]))
    assert found['hard labels'][1][1] == pytest.approx([94, 94])  # no interval, no bar
    assert axes.lines[0].get_ydata() == pytest.approx([96, 96])
    assert [label.get_text() for label in axes.get_xticklabels()] == ['100', '1000']
    assert axes.get_ylim()[1] <= 102


def test_gain_against_size():
    (axes,) = run_figures.gain_vs_size(ROWS, 'hard labels', STYLES).axes
    (found,) = drawn(axes).values()
    assert found[0] == pytest.approx([5, -1])
    assert np.array(found[1]) == pytest.approx(np.array([[2, 8], [-3, 1]]))
    assert axes.lines[0].get_ydata() == pytest.approx([0, 0])
    assert 'points' in axes.get_ylabel()


def test_methods_stand_beside_one_another_and_beside_their_size():
    (axes,) = run_figures.accuracy_vs_size(ROWS, {'accuracy': 0.96}, STYLES).axes
    left, right = (container.lines[0].get_xdata() for container in axes.containers)
    assert (left < [100, 1000]).all()
    assert (right > [100, 1000]).all()
    assert right[0] < left[1]


def test_gain_without_anything_to_compare():
    (axes,) = run_figures.gain_vs_size(ROWS[:1], 'hard labels', STYLES).axes
    assert not axes.containers


def test_every_learning_curve_is_seen_whole():
    curves = [curve('hard labels', 1000, [0.93, 0.95]), curve('soft', 100, [0.8, None, 0.9])]
    figure = run_figures.learning_curves(curves, STYLES)
    assert [axes.get_title() for axes in figure.axes] == ['100 transfer examples', '1000 transfer examples']
    (low,), (high,) = (axes.lines for axes in figure.axes)
    assert low.get_ydata() == pytest.approx([8.5, 42.5, 85])
    assert high.get_ydata() == pytest.approx([9.4, 47, 94])
    for axes in figure.axes:
        bottom, top = axes.get_ylim()
        assert -2 <= bottom < 8.5
        assert 94 < top <= 102


def test_one_seed_has_a_curve_and_no_band():
    (axes,) = run_figures.learning_curves([curve('soft', 100, [0.8])], STYLES).axes
    assert len(axes.lines) == 1
    assert not axes.collections


@pytest.mark.parametrize('curves', [[], [curve('soft', 100, [None, math.nan])]])
def test_no_curve_is_no_error(curves):
    assert not any(axes.lines for axes in run_figures.learning_curves(curves, STYLES).axes)


LOOKS = {
    'hard labels': [{'step': step, 'norms': {'hard': [1.0, 3.0]}, 'cosines': {}} for step in (10, 20)],
    'soft': [
        {'step': 10, 'norms': {'hard': [0.1, 0.3], 'soft': [4.0, 4.0]}, 'cosines': {'hard|soft': [0.5, -0.1]}},
        {'step': 20, 'norms': {'hard': [0.0, 0.4], 'soft': [5.0, None]}, 'cosines': {'hard|soft': [0.9, None]}},
    ],
}


def curves(axes):
    return {line.get_label(): list(line.get_ydata()) for line in axes.lines if not line.get_label().startswith('_')}


def test_anatomy_shows_the_means_of_every_method():
    figure = run_figures.anatomy({**LOOKS, 'never looked at': []})
    assert [axes.get_title() for axes in figure.axes] == ['hard labels', 'hard labels', 'soft', 'soft']
    alone, nothing, norms, cosines = map(curves, figure.axes)
    assert alone == {'hard': [2, 2]}
    assert norms == {'hard': pytest.approx([0.2, 0.2]), 'soft': [4, 5]}
    assert cosines == {'cos(hard, soft)': pytest.approx([0.2, 0.9])}
    assert nothing == {}
    assert [text.get_text() for text in figure.axes[1].texts] == ['one term at a time']
    assert [text.get_text() for text in figure.legends[0].texts] == ['hard', 'soft', 'cos(hard, soft)']


def test_anatomy_has_a_band_where_there_is_an_interval_and_every_mean_in_sight():
    *_, norms, cosines = run_figures.anatomy(LOOKS).axes
    (band,) = cosines.collections  # one seed at the second step: no interval
    half = 12.706 * np.std([0.5, -0.1], ddof=1) / np.sqrt(2)  # the 97.5 % quantile of Student's t with 1 degree
    ys = band.get_paths()[0].vertices[:, 1]
    assert (ys.min(), ys.max()) == pytest.approx((0.2 - half, 0.2 + half), rel=1e-4)
    assert cosines.get_ylim() == pytest.approx((-1.08, 1.08))
    assert norms.get_yscale() == 'log'
    assert 0 < norms.get_ylim()[0] < 0.2
    assert norms.get_ylim()[1] > 5


def test_anatomy_of_nothing_and_of_gradients_that_are_zero():
    assert not any(curves(axes) for axes in run_figures.anatomy({}).axes)
    zero = {'soft': [{'step': 10, 'norms': {'soft': [0.0, 0.0]}, 'cosines': {}}]}
    assert curves(run_figures.anatomy(zero).axes[0]) == {'soft': [0]}
    run_figures.draw(
        {'baseline': '', 'teacher': {'accuracy': 1.0}, 'rows': [], 'curves': [], 'dark_knowledge': SHOWN,
         'anatomy': zero}, [],
    )['anatomy.png']  # fmt: skip


def test_soft_labels_are_softmax():
    figure = run_figures.soft_labels(SHOWN)
    bars = figure.axes[2].containers[0]  # the image, T = 1, T = 2, ...
    exponentials = np.exp(np.array([1.0, 5.0, -2.0]) / 2)
    assert [bar.get_height() for bar in bars] == pytest.approx(exponentials / exponentials.sum())
    assert [axes.texts[0].get_text() for axes in figure.axes[1:]] == ['T = 1', 'T = 2', 'T = 4']
    assert [label.get_text() for label in figure.axes[-1].get_xticklabels()] == ['zero', 'one', 'two']


def test_many_methods_and_classes_still_draw():
    methods = [f'method number {place}' for place in range(12)]
    students = [row(name, 100, estimate(0.8, 0.7, 0.9), estimate(0.0, -0.1, 0.1)) for name in methods]
    classes = {'class_names': [f'class {place}' for place in range(100)], 'logits': np.linspace(-800, 800, 100)}
    results = {
        'baseline': 'hard labels',
        'teacher': {'accuracy': 0.96},
        'rows': [{'method': name} for name in methods],
        'curves': [curve(name, 100, [0.8, 0.9]) for name in methods],
        'dark_knowledge': SHOWN | classes,
    }
    figures = run_figures.draw(results, students)
    assert len(figures) == 4
    assert all(content.startswith(b'\x89PNG\r\n\x1a\n') for content in figures.values())


def test_pyplot_is_left_alone():
    from matplotlib import _pylab_helpers

    run_figures.soft_labels(SHOWN)
    assert not _pylab_helpers.Gcf.figs
