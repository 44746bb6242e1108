"""Translation from its config to what is measured, on digits that are written in the reverse order."""

import numpy as np
import pytest
import reversed_digits
from ml_collections import ConfigDict

from configs import multi30k
from kdjax.decoding.alignment import aligned
from kdjax.decoding.base import END
from kdjax.errors import UsageError
from kdjax.study.recipe import execute, plan
from kdjax.study.recipe.context import Context
from kdjax.study.recipe.resolve import resolve
from kdjax.study.sweep.rows import applied
from kdjax.tasks.translation import Translation
from kdjax.techniques.gold import MatchedTokens
from kdjax.techniques.uld import UniversalLogits
from kdjax.train import teachers
from kdjax.train.screen import Screen
from kdjax.train.stop import StopSignals
from kdjax.types import Outputs, TermInputs

LITTLE = {'width': 32, 'depth': 1, 'heads': 4, 'inner': 64, 'dropout': 0.0, 'scanned': True}
FILTERS = ('unended', 'too_long', 'ratio', 'unlike')
SHORT = {
    'seeds': 1, 'data.source': 'reversed_digits:pairs', 'data.args': {}, 'teacher.args': LITTLE, 'student.args': LITTLE,
    'fits.*.steps': 400, 'teacher.fit.steps': 400, 'fits.*.batch_size': 64, 'teacher.fit.batch_size': 64,
    'fits.*.learning_rate': 5e-3, 'teacher.fit.learning_rate': 5e-3, 'run.validate_every': 400,
    'task.least_bleu': 50.0, 'task.longest_ratio': 1.5, 'data.transfer_sizes': (1500,),
}  # fmt: skip


@pytest.mark.parametrize('arg', ['quick', 'quick,methods=inter', 'full', 'beam=2,methods=word'])
def test_a_config_resolves(arg):
    config = multi30k.get_config(arg)
    assert config.is_locked
    recipe = resolve(applied(config, {'data.transfer_sizes': (10,)}))
    translations = {name: fit.spec.task for name, fit in recipe.fits.items() if fit.spec.task}
    assert ('word' in arg) == (recipe.teachers['teacher'].mode == 'online') == (not translations)
    # Where no term reads a teacher its translations are read all the same, and nobody is asked
    assert all(recipe.fits[name].teacher == 'teacher' for name in translations)
    assert not any(recipe.fits[name].asks for name in {*translations} - {'both'})


def test_of_a_task_a_fit_has_for_itself_what_it_learns_and_no_more():
    config = applied(multi30k.get_config(), {'data.transfer_sizes': (10,)})
    with config.unlocked():
        config.fits.sequence.task = ConfigDict({'beam': 2})
    with pytest.raises(UsageError, match="unknown attribute 'beam' of "):
        resolve(config)


def test_a_teacher_of_other_words_is_refused_where_words_are_compared():
    apart = {**SHORT, 'teacher.data_args': {'turned': True}}
    recipe = resolve(applied(multi30k.get_config('beam=2,methods=word+sequence'), apart))
    ours, theirs = (reversed_digits.pairs(turned).facts['fingerprint'] for turned in (False, True))
    with pytest.raises(UsageError, match=f"fit 'word': .*12 of the hash {theirs}, .* 12 of the hash {ours}; as many"):
        plan.check_shapes(recipe, reversed_digits.pairs())


def test_a_teacher_of_other_words_says_what_it_foresees_after_the_same_characters():
    ours, theirs = ('<pad>', '<unk>', '<s>', '</s>', '▁a', 'b', 'c', '▁ab'), ('', '', '', '', '▁', 'a', 'bc', '▁a', 'b')
    own = np.asarray([[4, 5, 6, END, 0], [7, 6, END, 0, 0], [4, 1, 6, END, 0]])  # a|b|c, ab|c, a|?|c
    others = np.asarray([[4, 5, 6, END], [7, 8, END, 0], [7, 6, END, 0]])  # |a|bc, a|b, a|bc
    found = aligned(own, others, ours, theirs)
    np.testing.assert_array_equal(found, [[0, 2, -1, 3, -1], [0, 2, -1, -1, -1], [0, 1, -1, -1, -1]])
    teach = teachers.aligned(lambda variables, batch: Outputs(variables, {'hidden': variables}))
    logits = np.arange(24, dtype=np.float32).reshape(3, 4, 2)
    said = teach(logits, {'aligned': found})
    assert not said.features
    np.testing.assert_array_equal(said.logits[0], logits[0, [0, 2, 0, 3, 0]])
    student = np.random.default_rng(0).normal(size=(3, 5, 3)).astype(np.float32)
    batch = {'aligned': found, 'mask': np.ones((3, 5), np.float32)}
    for term in (UniversalLogits(), MatchedTokens(matched=((0, 1),))):
        knobs = {name: np.float32(value) for name, value in term.knobs().items()}
        inputs = TermInputs(Outputs(student, {}), said, batch)
        values = np.asarray(term.values(inputs, knobs))
        whole = np.asarray(term.values(inputs._replace(batch={'mask': batch['mask']}), knobs))
        np.testing.assert_array_equal(values, np.where(found >= 0, whole, 0))
        assert np.all(whole != 0)


def test_uld_compares_what_teachers_of_other_words_say():
    """Terms that read sorted probabilities are given them where both have read as much, and nothing where not."""
    config = multi30k.get_config('beam=2,methods=word')
    with config.unlocked(), config.ignore_type():
        config.terms.soft = ConfigDict({'kind': 'uld.UniversalLogits'})
    recipe = resolve(applied(config.lock(), {**SHORT, 'teacher.data_args': {'turned': True}}))
    assert plan.check_shapes(recipe, reversed_digits.pairs())['word'].flops > 0


def test_gold_is_told_which_ids_of_two_vocabularies_are_one_token():
    config = multi30k.get_config('beam=2,methods=word')
    with config.unlocked(), config.ignore_type():
        config.terms.soft = ConfigDict({'kind': 'gold.MatchedTokens'})
        config.terms.rest = ConfigDict({'kind': 'uld.UniversalLogits'})
        config.fits.word.weights.rest = 1.0
    config = applied(config.lock(), {**SHORT, 'teacher.data_args': {'turned': True}})
    pairs = ((END, END), *((4 + digit, 11 - digit) for digit in range(8)))
    recipe = resolve(config)
    terms = dict(recipe.fits['word'].objective.terms)
    assert terms['soft'].matched == terms['rest'].matched == pairs
    assert plan.check_shapes(recipe, reversed_digits.pairs())['word'].flops > 0
    given = dict(resolve(applied(config, {'terms.soft.matched': pairs[:2]})).fits['word'].objective.terms)
    assert given['soft'].matched == pairs[:2]
    alike = dict(resolve(applied(config, {'teacher.data_args': {}})).fits['word'].objective.terms)
    assert alike['soft'].matched == alike['rest'].matched == ()


def test_what_a_teacher_of_other_words_writes_is_read_as_text():
    ours, theirs = reversed_digits.pairs(), reversed_digits.pairs(turned=True)
    task = Translation(sequences=(1,), least_bleu=0.0)
    column = np.repeat(theirs.splits['train'].labels[:, None], 2, axis=1)
    column[3, 1] = 0  # was left out
    column[4, 0, :3] = (5, 5, END)
    found = task.carried(column, theirs, ours)
    want = np.repeat(ours.splits['train'].labels[:, None], 2, axis=1)
    want[3, 1] = 0
    want[4, 0] = [10, 10, END, *[0] * 4]
    np.testing.assert_array_equal(found, want)
    assert task.carried(column, theirs, theirs) is column
    fewer = ours._replace(splits={**ours.splits, 'train': ours.splits['test']})
    with pytest.raises(UsageError, match='has 1500 that are not their 100: leave pairs out by words'):
        task.carried(column, theirs, fewer)


def test_what_is_not_written_down_cannot_be_learned():
    recipe = resolve(applied(multi30k.get_config('beam=2,methods=sequence'), {**SHORT, 'teacher.mode': 'online'}))
    with pytest.raises(UsageError, match=r"fit 'sequence': it learns what 'teacher' wrote, .* set mode='cached'"):
        plan.check_shapes(recipe, reversed_digits.pairs())


@pytest.mark.slow
def test_students_learn_of_a_teacher_of_other_words(tmp_path):
    pytest.importorskip('sacrebleu')
    apart = {**SHORT, 'teacher.data_args': {'turned': True}}
    recipe = resolve(applied(multi30k.get_config('beam=2,methods=sequence'), apart))
    context = Context(recipe.execution, Screen(quiet=True), StopSignals())
    execute.execute(list(plan.stages_of(recipe).values()), context, tmp_path)
    (metrics,) = context.done['evaluate'].result['metrics']['sequence level']['1500']['last']
    assert metrics['accuracy'] > 0.99
    assert metrics['bleu'] > 97


@pytest.mark.slow
def test_a_teacher_writes_what_students_learn_to_write(tmp_path):
    """Word level, sequence level, both, and the closest of the n best, with filters: all to more than 99 %."""
    pytest.importorskip('sacrebleu')
    recipe = resolve(applied(multi30k.get_config('beam=2'), SHORT))
    context = Context(recipe.execution, Screen(quiet=True), StopSignals())
    execute.execute(list(plan.stages_of(recipe).values()), context, tmp_path)
    found = context.done['evaluate'].result
    assert found['teacher']['accuracy'] > 0.99
    assert found['teacher']['bleu'] > 97
    for method in recipe.methods:
        (metrics,) = found['metrics'][method]['1500']['last']
        assert metrics['accuracy'] > 0.99, method
        assert min(metrics['bleu'], metrics['beam_bleu']) > 97, method
        assert metrics['unended'] < 0.02
    said = context.done['cache'].result
    assert [said[f'written{width}']['searched'] for width in (1, 2)] == [1, 2]
    for written in (said['written1'], said['written2']):
        for learned in (written['best'], written['closest']):
            assert learned['learned'] > 1450
            assert learned['learned'] + sum(learned[name] for name in FILTERS) == written['sentences'] == 1500
            assert learned['bleu'] > 97
    cost = found['cost']['more']
    assert cost['decoder_layers'] == 1
    assert cost['ms_per_sentence'] > 0
