"""Runs on words: what the seam of tasks offers is what a run does, from the config to the report's numbers."""

import json

import jax
import numpy as np
import pytest
from sentences import TAGS, pieced, sentences

from configs import base
from kdjax import trees
from kdjax.errors import UsageError
from kdjax.nets.bert import tagger
from kdjax.nets.ngrams import linear
from kdjax.study.recipe import execute, grid_program, plan, stages, teaching
from kdjax.study.recipe.context import Context
from kdjax.study.recipe.resolve import resolve
from kdjax.study.sweep.rows import applied
from kdjax.train import cache
from kdjax.train.checkpoint import load_variables
from kdjax.train.screen import Screen
from kdjax.train.stop import StopSignals

WORDS = {
    'seeds': 2, 'data.source': 'sentences:sentences', 'data.transfer_sizes': (24,), 'data.buckets': (4, 8),
    'data.bucket_run': 5, 'student.net': 'bag.bag', 'student.args': {'width': 4, 'hidden': 3},
    'teacher.net': 'ngrams.linear', 'teacher.args': {}, 'teacher.inputs': 'teacher_inputs', 'teacher.folds': 3,
    'methods': {'hard labels': ('baseline',), 'combined': ('combined',)}, 'fits.combined.examples': 'all',
    'teacher.fit.steps': 20, 'fits.*.steps': 20, 'teacher.fit.batch_size': 8, 'fits.*.batch_size': 8,
    'teacher.fit.learning_rate': 0.1, 'run.chunk': 10, 'run.validate_every': 10,
}  # fmt: skip
ENTITIES = {
    'seeds': 2, 'task': {'kind': 'tagging.Tagging', 'tags': TAGS}, 'data.source': 'sentences:tagged',
    'data.transfer_sizes': (60,), 'data.buckets': (4, 8), 'student.net': 'windows.mlp',
    'student.args': {'width': 4, 'hidden': 8, 'buckets': 5, 'affix_width': 2, 'dropout': 0.0}, 'teacher.net': 'crf.crf',
    'teacher.args': {'args': {'width': 4, 'units': 3, 'spelling': 2, 'dropout': 0.0}},
    'terms.crf': {'kind': 'crf.CrfLikelihood'},
    'teacher.fit.weights': {'crf': 1.0}, 'methods': {'hard labels': ('baseline',), 'combined': ('combined',)},
    'teacher.fit.steps': 20, 'fits.*.steps': 20, 'teacher.fit.batch_size': 8, 'fits.*.batch_size': 8,
    'teacher.fit.learning_rate': 0.05, 'run.chunk': 10, 'run.validate_every': 10,
}  # fmt: skip


# What several tests look at is made once, by the worker that has them all.
pytestmark = pytest.mark.xdist_group('text run')


def configured(fields, **changes):
    return applied(base.config().lock(), {**fields, **changes})


def ran(fields, workdir, last='evaluate', **changes):
    """Runs the stages up to the last."""
    recipe = resolve(configured(fields, **changes))
    context = Context(recipe.execution, Screen(quiet=True), StopSignals())
    plan.check_shapes(recipe, context.datasets(recipe.data))
    todo = plan.stages_of(recipe)
    execute.execute(list(todo.values())[: list(todo).index(last) + 1], context, workdir)
    return context, todo


# One of the two runs a day.
of_words, of_entities = pytest.mark.rotating(0, 2), pytest.mark.rotating(1, 2)


@pytest.fixture(scope='module')
def words(tmp_path_factory):
    return ran(WORDS, tmp_path_factory.mktemp('words'))


@of_words
def test_each_example_is_labelled_by_the_teacher_that_did_not_see_it(words):
    context, todo = words
    assert list(todo) == ['teacher', 'folds', 'cache', 'baseline', 'combined', 'evaluate']
    inputs = todo['cache'].inputs
    variables = load_variables(context.done['folds'].folder / 'variables')
    tables = cache.load(context.done['cache'].folder / 'tables', teaching.address(context, inputs, variables))
    fold, net = stages.folds_of(inputs.folded, context), linear(classes=2, grams=11)
    read = sentences().splits['train'].more['teacher_inputs']
    assert sorted(np.bincount(fold)) == [20, 20, 20]
    for place in range(3):
        own = fold == place
        wanted = net.apply(trees.take(variables, place), read[own], train=False, key=None)[0].logits
        np.testing.assert_allclose(tables['teacher/logits'][own, 0], wanted, rtol=1e-5, atol=1e-6)


@of_words
def test_a_fit_of_all_examples_has_the_labels_of_its_transfer_set_alone(words):
    context, todo = words
    for name in ('baseline', 'combined'):
        inputs = todo[name].inputs
        cells = inputs.fit.cells(inputs.transfer_sizes, inputs.seeds)
        data = grid_program.students_data(context, inputs, cells)
        assert [len(stream.pool) for stream in data.streams] == [60 if name == 'combined' else 24] * 2
        labelled = [stream.pool if stream.labelled is None else stream.labelled for stream in data.streams]
        assert [len(ids) for ids in labelled] == [24, 24]


@of_words
def test_students_are_measured_and_the_statistics_of_every_example_are_kept(words):
    context, _ = words
    result = context.done['evaluate'].result
    with np.load(context.done['evaluate'].folder / 'examples.npz') as kept:
        assert set(kept) == {'hard labels/24', 'combined/24'}
        for name, statistics in kept.items():
            method, size = name.split('/')
            wanted = [seed['accuracy'] for seed in result['metrics'][method][size]['last']]
            sums = statistics.sum(axis=1)
            np.testing.assert_allclose(sums[:, 0] / sums[:, 1], wanted, rtol=1e-6)
    assert set(result['cost']['more']) == {'params_without_embeddings', 'ms_per_example', 'tokens_per_second'}
    assert result['cost']['more']['params_without_embeddings'] == result['cost']['params'] - 11 * 4


@of_words
def test_a_stopped_run_of_buckets_goes_on_to_the_same_bits(words, tmp_path):
    class Once(StopSignals):
        """Asks for a stop once, after the first steps of students."""

        def agreed(self):
            asked, self.left = self.left == 0, self.left - 1
            return signal if asked else None

    signal = type('Signal', (), {'name': 'SIGTERM', '__bool__': lambda self: True})()
    recipe = resolve(configured(WORDS))
    stop = Once()
    stop.left = 7
    with pytest.raises(execute.Interrupted):
        execute.execute(
            list(plan.stages_of(recipe).values()), Context(recipe.execution, Screen(quiet=True), stop), tmp_path
        )
    again, _ = ran(WORDS, tmp_path)
    for name in ('baseline', 'combined'):
        found, wanted = (load_variables(of.done[name].folder / 'variables') for of in (again, words[0]))
        assert trees.fingerprint(found) == trees.fingerprint(wanted)


@pytest.mark.parametrize(('field', 'value', 'kept'), [('teacher.keep', 2, 2), ('teacher.bound', 1e-9, 2)])
def test_a_cache_may_keep_the_most_probable_classes_of_every_token(tmp_path, field, value, kept):
    sparse = {'terms.soft': {'kind': 'sparse.SparseTargets', 'temperature': 1.0}, field: value}
    context, _ = ran(ENTITIES, tmp_path, last='cache', **sparse)
    result = context.done['cache'].result
    assert result['kept'] == kept
    assert result['hidden_nats'] == pytest.approx(0, abs=1e-6)  # of two classes out of three the rest is one class
    assert result['bytes'] == 60 * 12 * kept * 8


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'teacher.folds': 1}, 'teacher.folds are 2 or more networks'),
        ({'teacher.mode': 'online'}, "teacher.folds are .* set mode='cached'"),
        (
            {'teacher.keep': 1, 'teacher.folds': 0, 'teacher.mode': 'online'},
            'teacher.keep is of what is cached: set mode=',
        ),
        ({'fits.combined.examples': 'some'}, "unknown fits.combined.examples 'some'"),
        ({'data.buckets': (8, 4)}, 'data.buckets must be increasing widths'),
        ({'task': {'kind': 'classification.Classification', 'score': 'f1'}}, "unknown metric 'f1' of Classification"),
        ({'task': {'kind': 'tagging'}}, "unknown task 'tagging'"),
    ],
)
def test_what_a_config_asks_for_in_vain_is_met_before_anything_trains(changes, message):
    with pytest.raises(UsageError, match=message):
        resolve(configured(WORDS, **changes))


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'student.net': 'mlp.mlp', 'student.args': {'widths': (3,)}}, "'mlp.mlp' does not read tokens"),
        ({'student.inputs': 'pixels'}, "unknown column 'pixels' of the data"),
        ({'data.buckets': (1, 4)}, 'has none of width 1'),
        ({'student.start': {'head': 'head'}}, "unknown module 'head' of the teacher, in student.start"),
    ],
)
def test_what_the_data_cannot_give_is_met_before_anything_trains(changes, message):
    recipe = resolve(configured(WORDS, **changes))
    with pytest.raises(UsageError, match=message):
        plan.check_shapes(recipe, sentences())


@of_words
def test_students_start_as_modules_of_their_teacher(tmp_path):
    like = {'teacher.net': 'bag.bag', 'teacher.args': {'width': 4, 'hidden': 5}, 'teacher.inputs': 'inputs',
            'teacher.folds': 0, 'student.start': {'words': 'words'}, 'fits.*.learning_rate': 0.0}  # fmt: skip
    context, todo = ran(WORDS, tmp_path, **like)
    teacher = load_variables(context.done['teacher'].folder / 'variables')['params']
    students = load_variables(context.done['baseline'].folder / 'variables')['params']
    for seed in range(2):
        np.testing.assert_array_equal(trees.take(students, seed)['words']['table'], teacher['words']['table'])
    assert 'teacher' in todo['baseline'].needs
    assert resolve(configured(WORDS, **{**like, 'student.start': {}})).start == {}


@pytest.fixture(scope='module')
def entities(tmp_path_factory):
    return ran(ENTITIES, tmp_path_factory.mktemp('entities'))[0]


@of_entities
def test_entities_are_a_run_like_any_other(entities):
    results = {name: artifact.result for name, artifact in entities.done.items()}
    assert 'f1' in results['teacher']['validation']
    last = results['evaluate']['metrics']['combined']['60']['last']
    assert len(last) == 2
    assert {'f1', 'f1_strict', 'f1_place', 'agreement', 'kl', 'nll'} <= set(last[0])
    json.dumps(results, allow_nan=False)


def weights(context, name):
    return load_variables(context.done[name].folder / 'variables')['params']


@pytest.mark.rotating(1, 4)
@pytest.mark.parametrize(
    'runner', ['pmap', *(pytest.param(name, marks=pytest.mark.slow) for name in ('sharded', 'shard_map'))]
)
def test_entities_are_the_same_on_four_devices(entities, tmp_path, runner):
    context, _ = ran(ENTITIES, tmp_path, **{'run.runner': runner})
    for name in ('teacher', 'baseline', 'combined'):
        jax.tree.map(
            lambda found, wanted: np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-5),
            weights(context, name), weights(entities, name),
        )  # fmt: skip
    found, wanted = (one.done['evaluate'].result['metrics']['combined']['60']['last'] for one in (context, entities))
    assert [seed['nll'] for seed in found] == pytest.approx([seed['nll'] for seed in wanted], rel=1e-4)


@pytest.mark.rotating(3, 4)
def test_a_cell_of_a_grid_of_sentences_is_the_run_by_itself(entities, tmp_path):
    context, _ = ran(ENTITIES, tmp_path, seeds=1)
    for name in ('baseline', 'combined'):
        jax.tree.map(
            lambda found, wanted: np.testing.assert_allclose(found[0], wanted[0], rtol=1e-4, atol=1e-6),
            weights(context, name), weights(entities, name),
        )  # fmt: skip


@of_entities
def test_a_teacher_may_read_words_in_pieces_and_tag_them_whole(tmp_path):
    like = {
        'data.source': 'sentences:pieced', 'teacher.net': 'bert.tagger', 'teacher.inputs': 'teacher_inputs',
        'teacher.args': {'vocabulary': 21, 'width': 4, 'depth': 1, 'heads': 2, 'inner': 4, 'positions': 26},
        'teacher.fit.weights': {'hard': 1.0}, 'seeds': 1,
    }  # fmt: skip
    context, todo = ran(ENTITIES, tmp_path, **like)
    variables = load_variables(context.done['teacher'].folder / 'variables')
    address = teaching.address(context, todo['cache'].inputs, variables)
    said = cache.load(context.done['cache'].folder / 'tables', address)['teacher/logits'][:, 0]
    split = pieced().splits['train']
    net = tagger(classes=3, **like['teacher.args'])
    by_piece = net.apply(variables, split.more['teacher_inputs']['pieces'], train=False, key=None)[0].logits
    for row, first in enumerate(split.more['teacher_inputs']['first']):
        real = split.inputs[row] > 0
        np.testing.assert_allclose(said[row][real], by_piece[row][first[real]], rtol=1e-4, atol=1e-5)
    assert context.done['evaluate'].result['metrics']['combined']['60']['last'][0]['agreement'] >= 0
