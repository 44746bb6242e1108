"""The study of MNIST: what its config means, and its measurements on a few steps of made-up images."""

import json
from collections import Counter

import fake_images
import numpy as np
import pytest
from ml_collections import ConfigDict

from experiments.hinton2015_mnist import config as study
from experiments.hinton2015_mnist import measure, publish
from experiments.hinton2015_mnist_long import config as lengths
from experiments.hinton2015_mnist_long import publish as lengths_page
from kdjax.errors import UsageError
from kdjax.study.recipe.inputs import teacher_of
from kdjax.study.sweep import expand, worker

PARTS = ('main', 'small', 'wide')


@pytest.fixture(scope='module')
def planned():
    return expand.expand(study.get_config(), study.sweep())


def test_every_arm_has_five_seeds_and_all_have_one_teacher(planned):
    seeds = Counter(str(run.point) for run in planned.runs)
    assert set(seeds.values()) == {5}
    assert [stage.name for stage in planned.stages.values()].count('teacher') == 1
    assert len(planned.cells) == len(planned.runs), 'no arm is another one under a second name'


def test_the_parts_are_the_whole():
    parts = [row for part in PARTS for row in study.sweep(f'part={part}')]
    assert parts == list(study.sweep())
    with pytest.raises(UsageError, match="unknown part 'man'; there is: 'main', "):
        study.sweep('part=man')


def test_students_are_plain_and_only_the_teacher_is_regularised(planned):
    tasks = [run.cells[-1].inputs for run in planned.runs]
    for own in tasks:
        assert set(own.student.args) == {'widths'}
        assert own.views.views == 1
        assert not own.fit.spec.optim.get('max_norm')
        assert len(set(own.student.args['widths'])) == 1
    teacher, *others = [teacher_of(own.source) for own in tasks if own.source]
    assert all(other == teacher for other in others)
    assert teacher.network.args['widths'] == (1200, 1200)
    assert teacher.network.args['dropout'] > 0
    assert teacher.augment == {'kind': 'augment.shift', 'pixels': 2}
    assert teacher.fit.spec.optim['max_norm'] > 0


def test_the_transfer_sets_are_those_of_the_paper(planned):
    classes = {run.point.get('transfer set', 'all'): run.cells[-1].inputs.classes for run in planned.runs}
    assert classes == {'all': (), 'without 3': (0, 1, 2, 4, 5, 6, 7, 8, 9), '7 and 8': (7, 8)}


def test_a_few_steps_are_measured_and_shown(tmp_path):
    config = study.get_config('quick').copy_and_resolve_references()
    with config.unlocked(), config.ignore_type():
        config.data.source, config.data.args = 'fake_images:mnist', ConfigDict({})
        config.data.transfer_sizes = (200,)
        config.teacher.args.widths = (16, 16)
        for fit in (config.teacher.fit, *config.fits.values()):
            fit.steps, fit.batch_size = 2, 20
    smaller = {'student.args.widths': (8, 8), 'fits.distilled.steps': 2}
    listed = [row._replace(changes={**row.changes, **smaller}) for row in study.sweep('part=main')]
    worker.run(config, listed, tmp_path, 'python run.py')
    planned = expand.expand(config, listed)
    found = json.loads(json.dumps(measure.measure(planned, tmp_path, 'python run.py')))
    assert found['runs'] == {'finished': 8, 'planned': 8}
    assert all(0 <= count <= 50 for arm in found['arms'] for count in arm['errors'].values())
    hard = publish.errors(found, 800, {'method': 'hard labels'})
    distilled = publish.errors(found, 800, publish.DISTILLED)
    for test in found['mcnemar']:  # cases that both get wrong are in both counts
        assert test['only_ours'] - test['only_theirs'] == distilled[test['seed']] - hard[test['seed']]
    for bias in found['biases']:
        assert bias['cases'] == sum(label % 10 in bias['classes'] for label in range(fake_images.SIZES['test']))
        assert len(bias['shift']) == 2
    assert np.isfinite([shift for bias in found['biases'] for shift in bias['shift']]).all()
    shown = publish.content(found)
    assert 'hard labels: errors' in shown
    assert '| 800 |' in shown
    assert publish.drawn(found).startswith(b'\x89PNG')


def test_what_is_not_finished_is_left_out_of_the_page():
    results = {
        'teacher': {'errors': [70]}, 'mcnemar': [],
        'arms': [{'point': {'units': 800, 'method': 'hard labels'}, 'errors': {'0': 150, '1': 140}}],
        'biases': [{'transfer set': name, 'shift': [], 'before': [], 'after': []} for name in measure.UNSEEN],
    }  # fmt: skip
    assert [line.what for line in publish.lines(results)] == ['teacher: errors', 'hard labels: errors']
    assert publish.findings(results) == []
    assert publish.tempered(results).rows == (('800', '145 ± 7'),)


def test_the_study_of_mnist_shows_its_results():
    """Where it does not: python experiments/hinton2015_mnist/publish.py WORKDIR"""
    readme = publish.HERE / 'README.md'
    results = json.loads((publish.HERE / 'results' / 'mnist.json').read_text())
    assert publish.filled(readme.read_text(), publish.BEGIN, publish.content(results)) == readme.read_text()
    assert results['runs']['finished'] == results['runs']['planned'] == 135
    assert all(len(arm['errors']) == study.SEEDS for arm in results['arms'])


def test_the_shortest_length_is_the_other_study_and_all_have_its_teacher():
    config, longer = study.get_config().unlock(), expand.expand(lengths.get_config(), lengths.sweep())
    config.run.validate_every = longer.config.run.validate_every
    planned = expand.expand(config, study.sweep())
    shortest = {run.cells[-1].key for run in longer.runs if run.point['epochs'] == 8.5}
    assert len(shortest) == (2 + 9) * 5
    assert shortest < set(planned.cells)
    assert {run.teacher.key for run in longer.runs} == {run.teacher.key for run in planned.runs}
    steps = {run.point['epochs']: run.cells[-1].fit.steps for run in longer.runs}
    assert {epochs: round(count * 250 / 59_000, 1) for epochs, count in steps.items()} == {
        8.5: 8.5, 40: 40, 150: 150, 500: 500,
    }  # fmt: skip
    with pytest.raises(UsageError, match="unknown epochs '9'; there is: '150', "):
        lengths.sweep('epochs=9')


def test_the_lengths_show_their_results():
    """Where it does not: python experiments/hinton2015_mnist_long/publish.py WORKDIR"""
    folder, shown = lengths_page.HERE, (lengths_page.HERE / 'README.md').read_text()
    found = json.loads((folder / 'results' / 'lengths.json').read_text())
    assert lengths_page.filled(shown, lengths_page.BEGIN, lengths_page.content(found)) == shown
    assert lengths_page.drawn(found).startswith(b'\x89PNG')
