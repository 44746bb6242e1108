"""A teacher that is a table stands where a network would: the same soft labels, the same score, in a run of its own."""

import numpy as np
import pytest

from configs import base
from kdjax.errors import UsageError
from kdjax.study.recipe import build, evaluation, execute, plan
from kdjax.study.recipe.context import Context
from kdjax.study.recipe.resolve import resolve
from kdjax.study.sweep.rows import applied
from kdjax.train import given
from kdjax.train.screen import Screen
from kdjax.train.stop import StopSignals

SMALL = {
    'data.source': 'blobs:blobs', 'data.transfer_sizes': (20,), 'seeds': 1, 'teacher.args.widths': (4,),
    'teacher.fit.steps': 2, 'student.args.widths': (4,), 'fits.*.steps': 2, 'run.chunk': 1,
}  # fmt: skip


def recipe_of(**changes):
    return resolve(applied(base.config().lock(), {**SMALL, **changes}))


def carried_out(recipe, folder, *names):
    """What stages leave."""
    context, stages = Context(recipe.execution, Screen(quiet=True), StopSignals()), plan.stages_of(recipe)
    folder.mkdir(exist_ok=True)
    execute.execute([stages[name] for name in names], context, folder)
    return context, stages


@pytest.fixture(scope='module')
def asked(tmp_path_factory):
    """The path of a file of what a network answered, and what is known of that network."""
    folder = tmp_path_factory.mktemp('asked')
    recipe = recipe_of()
    context, stages = carried_out(recipe, folder / 'run', 'teacher', 'cache')
    inputs = stages['teacher'].inputs
    net, variables = context.teacher_net(inputs), context.teacher_variables(inputs)
    found = {name: {'logits': context.logits(net, variables, inputs, name)} for name in ('train', 'validation', 'test')}
    given.save(folder / 'answers.npz', build.dataset(recipe.data), found)
    return str(folder / 'answers.npz'), context, stages, evaluation._teacher(inputs, context)


def test_a_table_is_looked_up_as_the_network_that_filled_it(asked, tmp_path):
    path, before, _, (measured, logits) = asked
    context, stages = carried_out(recipe_of(**{'teacher.outputs': path}), tmp_path / 'run', 'teacher', 'cache')
    said, wanted = (found.done['teacher'].result['validation'] for found in (context, before))
    assert said == pytest.approx(wanted, rel=1e-6)
    tables, others = (np.load(found.done['cache'].folder / 'tables' / '0.npy') for found in (context, before))
    np.testing.assert_array_equal(tables, others)
    own, answered = evaluation._teacher(stages['teacher'].inputs, context)
    np.testing.assert_array_equal(answered, logits)
    shown = own.pop(evaluation.EXHIBIT)
    np.testing.assert_allclose(shown['logits'], measured[evaluation.EXHIBIT]['logits'], rtol=1e-6)
    assert own == pytest.approx({name: measured[name] for name in own}, rel=1e-6)
    assert evaluation.teachers({'teacher': own})['teachers']['teacher']['cost'] is None


def test_another_file_is_another_teacher_and_how_the_network_is_trained_changes_nothing(asked, tmp_path):
    path, *_ = asked

    def key(file, **changes):
        return plan.stages_of(recipe_of(**{'teacher.outputs': file, **changes}))['teacher'].key

    assert key(path) == key(path, **{'teacher.fit.steps': 7, 'teacher.args.widths': (8,)})
    copy = tmp_path / 'copy.npz'
    arrays = dict(np.load(path))
    np.savez(copy, **{**arrays, 'test/logits': arrays['test/logits'] + 1})
    assert key(path) != key(str(copy))


def test_what_a_table_lacks_is_met_before_anything_trains(asked, tmp_path):
    path, *_ = asked
    recipe = recipe_of(**{'teacher.outputs': path, 'terms.soft': {'kind': 'fitnets.Hint', 'layer': 'hidden1'}})
    with pytest.raises(UsageError, match=r"unknown tap 'hidden1'.*of the teacher"):
        plan.check_shapes(recipe, build.dataset(recipe.data))
    arrays = dict(np.load(path))
    np.savez(tmp_path / 'short.npz', **{**arrays, 'test/ids': arrays['test/ids'][:-1]})
    recipe = recipe_of(**{'teacher.outputs': str(tmp_path / 'short.npz')})
    with pytest.raises(UsageError, match=r'test/ids \(49,\) and test/logits \(50, 2\) must have a row for each'):
        plan.check_shapes(recipe, build.dataset(recipe.data))
    recipe = recipe_of(**{'teacher.outputs': path, 'data.source': 'digits.digits'})
    with pytest.raises(UsageError, match=r'its answers are to other data'):
        plan.check_shapes(recipe, build.dataset(recipe.data))


@pytest.mark.parametrize(
    ('changes', 'says'),
    [
        ({'teacher.outputs': 'nowhere.npz'}, r"teacher\.outputs: no file of what a network answered: 'nowhere\.npz'"),
        ({'teacher.members': 2}, r'teacher\.outputs stand for a network, which has no members: set .*=1, got 2'),
        ({'teacher.folds': 3}, r'has no folds: set teacher\.folds=0, got 3'),
        ({'teacher.bound': 0.1}, r'has no bound'),
        ({'teacher.mode': 'online'}, r"can only be looked up: set teacher\.mode='cached', got 'online'"),
        ({'student.start': {'layer1': 'layer1'}}, r'student\.start takes modules of the teacher'),
        ({'data.views': 4, 'data.augment': {'kind': 'augment.shift', 'pixels': 1}},
         r'answers to examples as they are, and students see 4 views'),
    ],
)  # fmt: skip
def test_what_a_table_cannot_be_is_said(asked, changes, says):
    with pytest.raises(UsageError, match=says):
        recipe_of(**{'teacher.outputs': asked[0], **changes})


def test_an_assistant_cannot_be_taught_by_a_table(asked):
    spec = {**base.teacher().to_dict(), 'fit': {**base.fit(soft=1.0).to_dict(), 'teacher': 'teacher'}}
    with pytest.raises(UsageError, match=r'middle asks its teacher in every step, and teacher\.outputs can only'):
        recipe_of(**{'teacher.outputs': asked[0], 'assistants': {'middle': spec}})


@pytest.mark.slow
def test_a_whole_run_with_a_table(asked, tmp_path):
    from kdjax.study import run

    config = applied(base.config().lock(), {**SMALL, 'teacher.outputs': asked[0], 'teacher.keep': 1,
                                            'terms.soft': {'kind': 'sparse.SparseTargets'}})  # fmt: skip
    run.run(config, tmp_path / 'run', 'python run.py')
    assert 'the teacher' in (tmp_path / 'run' / 'report' / 'report.md').read_text()
