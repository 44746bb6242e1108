"""Networks of unlike kinds that teach together: each is trained as it is alone, and their probabilities are meant."""

import blobs
import jax
import numpy as np
import pytest

from configs import base
from kdjax import trees
from kdjax.errors import UsageError
from kdjax.study.recipe import evaluation, execute, plan
from kdjax.study.recipe.context import Context
from kdjax.study.recipe.resolve import resolve
from kdjax.study.sweep.rows import applied
from kdjax.train.screen import Screen
from kdjax.train.stop import StopSignals

SMALL = {
    'data.source': 'blobs:blobs', 'data.transfer_sizes': (20,), 'seeds': 1, 'student.args.widths': (4,),
    'fits.*.steps': 2, 'run.chunk': 1,
}  # fmt: skip


def network(**changes):
    return {**base.teacher().to_dict(), 'fit': {**base.fit(hard=1.0).to_dict(), 'steps': 2}, **changes}


def assistants():
    return {'wide': network(args={'widths': (8,)}), 'deep': network(args={'widths': (4, 4)})}


def recipe_of(**changes):
    team = {'assistants': assistants(), 'teacher.team': ('wide', 'deep')}
    return resolve(applied(base.config().lock(), {**SMALL, **team, **changes}))


def carried_out(recipe, folder, *names):
    context, stages = Context(recipe.execution, Screen(quiet=True), StopSignals()), plan.stages_of(recipe)
    execute.execute([stages[name] for name in names or stages], context, folder)
    return context, stages


@pytest.mark.parametrize('mode', ['cached', 'online'])
def test_a_team_teaches_the_mean_of_what_its_networks_say(mode, tmp_path):
    terms = {'hard': {'kind': 'cross_entropy.CrossEntropy'},
             'soft': {'kind': 'ca_mkd.ConfidentTeachers', 'members': 2}}  # fmt: skip
    recipe = recipe_of(**{'teacher.mode': mode, 'terms': terms})
    plan.check_shapes(recipe, Context(recipe.execution, Screen(quiet=True), StopSignals()).datasets(recipe.data))
    context, stages = carried_out(recipe, tmp_path)
    known = {name: stages[name].inputs for name in ('teacher', 'wide', 'deep')}
    said = {name: context.logits(context.teacher_net(one), context.teacher_variables(one), one, 'test')
            for name, one in known.items()}  # fmt: skip
    mean = (jax.nn.softmax(said['wide']) + jax.nn.softmax(said['deep'])) / 2
    np.testing.assert_allclose(jax.nn.softmax(said['teacher']), mean, rtol=1e-5)
    found, logits = evaluation._teacher(known['teacher'], context)
    np.testing.assert_array_equal(logits, said['teacher'])
    alone = [trees.count(context.teacher_variables(known[name])['params']) for name in ('wide', 'deep')]
    assert found['params'] == sum(alone) == context.done['teacher'].result['params']
    if mode == 'cached':
        table = np.load(context.done['cache'].folder / 'tables' / '0.npy', mmap_mode='r')
        assert len(table) == context.datasets(recipe.data).splits['train'].size


def test_its_networks_are_those_that_teach_alone():
    together, reordered = recipe_of(), recipe_of(**{'teacher.team': ('deep', 'wide')})
    alone = recipe_of(**{'teacher.team': ()})
    stages = [plan.stages_of(recipe) for recipe in (together, reordered, alone)]
    for name in ('wide', 'deep'):
        assert len({one[name].key for one in stages}) == 1
    assert len({one['teacher'].key for one in stages}) == 3  # the taps of members have numbers
    assert stages[0]['teacher'].needs == ('wide', 'deep')


def test_a_team_has_teams_and_ensembles_in_it(tmp_path):
    known = {**assistants(), 'several': network(members=2), 'both': network(team=('deep', 'several'))}
    recipe = recipe_of(**{'assistants': known, 'teacher.team': ('both', 'wide')})
    context, stages = carried_out(recipe, tmp_path, 'deep', 'several', 'wide', 'both', 'teacher')
    net = context.teacher_net(stages['teacher'].inputs)
    assert {'member0/member1/member0/logits', 'member1/hidden1'} <= {*net.taps}
    assert context.done['teacher'].result['validation']['accuracy'] >= 0


@pytest.mark.parametrize(('changes', 'message'), [
    ({'teacher.team': ('wide', 'depe')}, r"unknown network 'depe' of teacher\.team"),
    ({'teacher.team': ('wide', 'teacher')}, r"unknown network 'teacher' of teacher\.team"),
    ({'teacher.team': ('wide',)}, r'teacher\.team must name two networks or more, each once'),
    ({'teacher.team': ('wide', 'wide')}, r'teacher\.team must name two networks or more, each once'),
    ({'teacher.members': 2}, r'teacher\.team stands for a network, and has no members .* set teacher\.members=1'),
    ({'teacher.folds': 2}, r'teacher\.team stands for a network, and has no folds of its own'),
    ({'teacher.inputs': 'other'}, r"teacher\.team reads as one: wide\.inputs must be as teacher\.inputs, 'other'"),
    ({'student.start': {'hidden1': 'hidden1'}}, r'teacher\.team is of several networks'),
    ({'student.pretrained': 'teacher'}, "student.pretrained: 'teacher' is 2 networks"),
    ({'assistants.wide.folds': 2}, "'wide' teaches with the others, and folds is of who teaches alone: leave wide"),
    ({'assistants.wide.keep': 1}, 'keep is of who teaches alone: leave wide.keep out, got 1'),
    ({'assistants.deep.precision': 'bfloat16'}, 'precision is of who teaches alone: leave deep.precision out'),
    ({'terms.soft': {'kind': 'averaged.AveragedLosses', 'members': 1}},
     r"term 'soft' listens to members=1 of the 2 networks of 'teacher': set terms\.soft\.members=2"),
])  # fmt: skip
def test_what_is_wrong_with_a_team_is_met_before_anything_trains(changes, message):
    with pytest.raises(UsageError, match=message):
        recipe_of(**changes)


@pytest.mark.parametrize(('column', 'message'), [
    ('id', "unknown column 'id' of the data"),
    ('numbers', "'soft' is taught by the member that the column 'numbers' says, 0 to 1, and training examples say 2"),
])  # fmt: skip
def test_who_teaches_an_example_is_met_before_anything_trains(column, message, monkeypatch):
    def numbered():
        data = blobs.blobs()
        splits = {name: split._replace(more={'numbers': np.arange(split.size, dtype=np.int32) % 3})
                  for name, split in data.splits.items()}  # fmt: skip
        return data._replace(splits=splits)

    monkeypatch.setattr(blobs, 'numbered', numbered, raising=False)
    soft = {'kind': 'averaged.AveragedLosses', 'members': 2, 'chosen': column}
    recipe = recipe_of(**{'terms.soft': soft, 'data.source': 'blobs:numbered'})
    with pytest.raises(UsageError, match=message):
        plan.check_shapes(recipe, Context(recipe.execution, Screen(quiet=True), StopSignals()).datasets(recipe.data))


def test_teams_that_are_in_each_other_are_a_circle():
    known = {**assistants(), 'both': network(team=('wide', 'teacher'))}
    with pytest.raises(UsageError, match='circle'):
        recipe_of(**{'assistants': known, 'teacher.team': ('both', 'deep')})


@pytest.mark.parametrize(('changes', 'message'), [
    ({'teacher.team': ('wide', 'deep')}, r'teacher\.team=.* answer with .* of Regression say none'),
    ({'teacher.members': 2}, r'teacher\.members=2 answer with the mean of their probabilities'),
])  # fmt: skip
def test_several_networks_have_a_mean_where_they_say_probabilities(changes, message):
    with pytest.raises(UsageError, match=message):
        recipe_of(**{'teacher.team': (), 'task': {'kind': 'regression.Regression'}, **changes})
