"""The job on sentences: its arguments, the techniques of transformers over words, and what is shown of them."""

import functools
import runpy
from pathlib import Path

import numpy as np
import pytest
import rotation
from sentences import sentences

from configs import sst2, words
from kdjax import trees
from kdjax.errors import UsageError
from kdjax.study.recipe import build, execute, plan, teaching
from kdjax.study.recipe.context import Context
from kdjax.study.recipe.resolve import resolve
from kdjax.study.sweep import expand
from kdjax.study.sweep.rows import applied
from kdjax.train import cache
from kdjax.train.checkpoint import load_variables
from kdjax.train.screen import Screen
from kdjax.train.stop import StopSignals

EXPERIMENTS = Path(__file__).resolve().parents[1] / 'experiments'
CONFIGS = ('', 'views=3', *(f'technique={name}' for name in words.TECHNIQUES))
LITTLE = {'width': 8, 'inner': 8, 'heads': 2}
SHORT = {
    'seeds': 1, 'data.source': 'sentences:sentences', 'data.args': {}, 'data.transfer_sizes': (24,),
    'data.buckets': (), 'teacher.fit.steps': 2, 'fits.*.steps': 2, 'teacher.fit.batch_size': 8, 'fits.*.batch_size': 8,
    'accept.transfer_size': 0, 'run.chunk': 2, 'run.validate_every': 2,
}  # fmt: skip


@functools.cache
def real(folder):
    """The data of every config, n-grams among them; what does not read them does not see them."""
    source = resolve(sst2.get_config()).data
    return build.dataset(source._replace(args={**source.args, 'folder': folder}))


def turn(cases):
    """A fourth of them a day."""
    return rotation.params([(case,) for case in cases], [place // 4 for place in range(len(cases))])


def ran(arg, method, workdir, **changes):
    """Two steps of one method of a config, without the look at the test split."""
    config = applied(sst2.get_config(arg), {**SHORT, **changes})
    with config.unlocked(), config.ignore_type():
        config.methods = {method: config.methods[method]}
        config.baseline = config.accept.method = method
    recipe = resolve(config.lock())
    plan.check_shapes(recipe, sentences())
    context = Context(recipe.execution, Screen(quiet=True), StopSignals())
    todo = plan.stages_of(recipe)
    execute.execute([stage for name, stage in todo.items() if name != 'evaluate'], context, workdir)
    return context, todo


@pytest.mark.parametrize('arg', turn(CONFIGS))
def test_a_config_could_run_on_the_real_sentences(arg, restored):
    recipe = resolve(sst2.get_config(arg))
    assert all(cost.flops > 0 for cost in plan.check_shapes(recipe, real(str(restored('sst2')))).values())
    lengths = {sum(recipe.fits[fit].steps for fit in fits) for fits in recipe.methods.values()}
    assert len(lengths) == 1, 'a method has more updates than another'


def test_what_anneals_lasts_as_long_as_its_fit():
    config = sst2.get_config('technique=annealing')
    assert config.terms.annealing_logits.steps == config.fits.annealing_1.steps


@pytest.mark.parametrize('name', turn(('tinybert', 'distilbert')))
def test_a_technique_trains(name, tmp_path):
    start = {'fits.*.learning_rate': 0.0} if name == 'distilbert' else {}
    little = {'teacher.args': {**LITTLE, 'depth': 4, 'pooling': 'token'},
              'student.args': {**LITTLE, 'depth': 2, 'pooling': 'token'}, **start}  # fmt: skip
    context, todo = ran(f'technique={name}', name, tmp_path, **little)
    if name == 'tinybert':
        assert list(todo) == ['teacher', 'tinybert_1', 'tinybert_1+tinybert_2', 'evaluate']
        return
    teacher = load_variables(context.done['teacher'].folder / 'variables')['params']['states']
    student = load_variables(context.done['distilbert_1'].folder / 'variables')['params']['states']
    for own, other in ((1, 1), (2, 3)):
        found, wanted = trees.take(student['encoder'][f'layer{own}'], 0), teacher['encoder'][f'layer{other}']
        assert trees.fingerprint(found) == trees.fingerprint(wanted)
    np.testing.assert_array_equal(student['words']['table'][0], teacher['words']['table'])


@pytest.mark.rotating(0, 3)
def test_a_teacher_that_reads_words_labels_views_that_it_was_not_trained_on(tmp_path):
    context, todo = ran('views=3', 'soft, all sentences', tmp_path)
    inputs, variables = todo['cache'].inputs, load_variables(context.done['folds'].folder / 'variables')
    tables = cache.load(context.done['cache'].folder / 'tables', teaching.address(context, inputs, variables))
    logits = tables['teacher/logits']
    assert logits.shape == (60, 3, 2)
    assert np.any(logits[:, 1] != logits[:, 0])
    assert np.any(logits[:, 2] != logits[:, 1])


@pytest.mark.parametrize(
    ('arg', 'message'),
    [
        ('technique=bert', "unknown technique 'bert'; there is: .*tinybert"),
        ('technique=minilm,views=3', 'a technique has networks of its own'),
        ('student=lstm', "unknown student 'lstm'"),
    ],
)
def test_arguments_that_make_no_job_are_refused(arg, message):
    with pytest.raises(UsageError, match=message):
        sst2.get_config(arg)


@pytest.mark.parametrize(('name', 'arms'), [('sst2_views', 6), ('sst2_techniques', 10)])
def test_a_sweep_has_an_arm_for_every_question(name, arms):
    module = runpy.run_path(str(EXPERIMENTS / name / 'config.py'))
    assert f'python run.py --config=experiments/{name}/config.py --mode=sweep' in module['__doc__']
    planned = expand.expand(module['get_config'](), module['sweep']())
    assert len({tuple(sorted(run.point.items())) for run in planned.runs}) == arms
    assert {'teacher', 'examine'} <= {stage.name for stage in planned.stages.values()}, 'nothing to be held against'
