"""Experiments with detectors: larger pictures, and students that begin with their teacher's neck and head."""

import json
import runpy
from pathlib import Path

import pytest

from configs import bccd
from kdjax.study.recipe.resolve import resolve
from kdjax.study.sweep import expand

FOLDER = Path(__file__).resolve().parents[2] / 'experiments'
LARGER, INHERIT = (runpy.run_path(str(FOLDER / name / 'config.py')) for name in ('bccd_256', 'bccd_inherit'))


@pytest.mark.parametrize(('file', 'name'), [(LARGER, 'bccd_256'), (INHERIT, 'bccd_inherit')])
def test_a_config_says_what_it_is_and_has_a_quick_look(file, name):
    assert f'python run.py --config=experiments/{name}/config.py' in file['__doc__']
    assert file['get_config']('quick').is_locked
    assert resolve(file['get_config']('quick')).seeds == 2


def test_in_larger_pictures_what_is_of_the_size_of_objects_grows():
    small, large = resolve(bccd.get_config()), resolve(LARGER['get_config']())
    assert (large.task.args['bins'], large.task.args['anchor']) == (19, 1.6 * bccd.ANCHOR)
    same = {name: value for name, value in small.task.args.items() if name != 'bins'}
    assert same.items() <= large.task.args.items()
    for name in ('student_alone', 'cwd', 'pkd'):
        assert large.fits[name].spec == small.fits[name].spec
    assert (large.student, large.teachers['teacher'].network) == (small.student, small.teachers['teacher'].network)


def test_students_of_one_width_begin_anew_or_as_their_teacher():
    planned = expand.expand(INHERIT['get_config'](), INHERIT['sweep']())
    begun = {run.point['neck and head']: run.cells[-1].inputs for run in planned.runs}
    assert {name: dict(inputs.start) for name, inputs in begun.items()} == {
        INHERIT['NEW']: {}, INHERIT['INHERITED']: {'neck_out1': 'neck_out1', 'detect': 'detect'}
    }  # fmt: skip
    assert all(inputs.student.args['neck'] == bccd.TEACHER['neck'] for inputs in begun.values())
    assert len(planned.runs) == 2 * 2 * 5
    tried = expand.expand(INHERIT['get_config']('tune'), INHERIT['sweep']('tune'))
    assert {run.point.get('weight') for run in tried.runs} == {None, *INHERIT['TRIED']}
    assert {stage.key for stage in tried.stages.values()} == {stage.key for stage in planned.stages.values()}


def test_the_weights_of_fgd_are_those_that_validation_chose():
    tuned = json.loads((FOLDER / 'bccd_inherit' / 'results' / 'tuned.json').read_text())['runs']
    page = (FOLDER / 'bccd_inherit' / 'README.md').read_text()
    for begun, weight in INHERIT['WEIGHTS'].items():
        found = {run.get('weight'): run['ap50 in validation'] for run in tuned if run['neck and head'] == begun}
        alone = found.pop(None)
        assert {*found} == {*INHERIT['TRIED']}
        assert max(found, key=found.get) == weight
        shown = [f'{100 * found[tried]:.1f}' for tried in INHERIT['TRIED']]
        shown[INHERIT['TRIED'].index(weight)] = f'**{100 * found[weight]:.1f}**'
        assert f' | {" | ".join([*shown, f"{100 * alone:.1f}"])} |' in page
