"""Tagging: metrics of the whole split by hand, and the laws of a task."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from kdjax.crf import best_paths
from kdjax.dataset import Dataset, Split
from kdjax.errors import UsageError
from kdjax.nets.crf import crf
from kdjax.tasks.entities import entities, f1, tally
from kdjax.tasks.evaluation import evaluator, examiner
from kdjax.tasks.tagging import Tagging
from kdjax.types import Net, Outputs

TAGS = ('O', 'B-group', 'I-group', 'B-person', 'I-person')
TASK = Tagging(tags=TAGS)
CELLS, EXAMPLES, LONGEST, WORDS, K = 2, 13, 6, 9, len(TAGS)
RANDOM = np.random.default_rng(4)
LENGTHS = RANDOM.integers(1, LONGEST + 1, EXAMPLES)
LENGTHS[0] = LONGEST
REAL = np.arange(LONGEST) < LENGTHS[:, None]
INPUTS = np.where(REAL, RANDOM.integers(1, WORDS, REAL.shape), 0).astype(np.int32)
LABELS = np.where(REAL, RANDOM.integers(0, K, REAL.shape), 0).astype(np.int32)
SPLIT = Split(INPUTS, LABELS, {'length': LENGTHS.astype(np.int32)})
TEACHER = RANDOM.normal(size=(EXAMPLES, LONGEST, K)).astype(np.float32)
TABLES = RANDOM.normal(0, 2, (CELLS, WORDS, K)).astype(np.float32)
# Logits of a token are those of its word in a table.
TABLE = Net(
    init=lambda key, inputs: {'params': TABLES[0], 'stats': {}},
    apply=lambda variables, inputs, *, train, key: (Outputs(variables['params'][inputs], {}), {}),
    taps=(),
)
CRF = crf(classes=K, vocabulary=WORDS, net='chains:table')
TRANSITIONS = RANDOM.normal(0, 2, (CELLS, K + 2, K)).astype(np.float32)
VARIABLES = {
    TABLE: {'params': TABLES, 'stats': {}},
    CRF: {'params': {'net': {'table': {'table': TABLES}}, 'transitions': TRANSITIONS}, 'stats': {}},
}
every_net = pytest.mark.parametrize('net', [TABLE, CRF], ids=['table', 'crf'])
BUCKETS = {'padded': ('inputs', 'labels'), 'buckets': (2, 4)}


@functools.cache
def measured(net, taught=False):
    return evaluator(TASK, net, SPLIT, TEACHER if taught else None)(VARIABLES[net])


@functools.cache
def predicted(net):
    return examiner(TASK, net, SPLIT)(VARIABLES[net])[1]


def calibration_error(probabilities, labels):
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bins = np.minimum(np.floor(confidence * 15), 14)
    return sum(abs((right - confidence)[bins == b].sum()) for b in range(15)) / len(labels)


@pytest.mark.parametrize('cell', range(CELLS))
def test_metrics_are_those_of_all_real_tokens(cell):
    found, labels = measured(TABLE, taught=True), LABELS[REAL]
    logits = np.float64(TABLES[cell][INPUTS[REAL]])
    student, teacher = log_softmax(logits, axis=1), log_softmax(np.float64(TEACHER[REAL]), axis=1)
    tags = logits.argmax(axis=1)
    np.testing.assert_array_equal(predicted(TABLE)[cell][REAL], tags)
    before = np.where(np.arange(LONGEST) > 0, np.roll(predicted(TABLE)[cell], 1, axis=1), 0)[REAL]
    inner = np.isin(tags, (2, 4))
    want = {
        'accuracy': np.mean(tags == labels),
        'entity_share': np.mean(tags > 0),
        'invalid': np.mean(~((before == tags) | (before == tags - 1))[inner]),
        'nll': -np.mean(student[np.arange(len(labels)), labels]),
        'ece': calibration_error(np.exp(student), labels),
        'agreement': np.mean(tags == teacher.argmax(axis=1)),
        'kl': np.mean(np.sum(np.exp(teacher) * (teacher - student), axis=1)),
    }
    for name, value in want.items():
        np.testing.assert_allclose(found[name][cell], value, rtol=1e-5, err_msg=name)


def test_every_metric_is_known_before_there_are_data():
    assert set(measured(TABLE, taught=True)) == set(TASK.by_name)
    assert set(measured(TABLE)) == set(TASK.by_name) - {'agreement', 'kl'}
    assert [metric.name for metric in TASK.metrics][-2:] == ['f1_group', 'f1_person']
    assert TASK.judged.name == 'f1'


def test_f1_is_read_in_both_ways_and_by_type():
    found = measured(TABLE)
    for cell in range(CELLS):
        ours, gold = (entities(tags, REAL, TASK.scheme) for tags in (predicted(TABLE)[cell], LABELS))
        assert found['f1'][cell] == f1(tally(ours, gold, EXAMPLES).sum(axis=0)) > 0
        strict = tally(ours.where(ours.strict), gold.where(gold.strict), EXAMPLES).sum(axis=0)
        assert found['f1_strict'][cell] == f1(strict)
        right, tagged, there = tally(ours, gold, 2, by='type')[1]
        assert found['f1_person'][cell] == 2 * right / (tagged + there)
        right, tagged, there = tally(ours, gold, EXAMPLES).sum(axis=0)
        assert (found['precision'][cell], found['recall'][cell]) == (right / tagged, right / there)


def test_a_crf_predicts_the_best_sequence_and_is_judged_by_it():
    for cell in range(CELLS):
        transitions = np.broadcast_to(TRANSITIONS[cell], (EXAMPLES, K + 2, K))
        emissions = np.where(REAL[..., None], TABLES[cell][INPUTS], 0)
        best = np.asarray(best_paths(emissions, transitions, REAL.astype(np.float32))[0][:, 0])
        np.testing.assert_array_equal(predicted(CRF)[cell], best)
        assert measured(CRF)['accuracy'][cell] == np.mean((best == LABELS)[REAL])
    assert np.any(predicted(CRF) != predicted(TABLE))
    assert predicted(CRF).dtype == np.uint8


# ---- laws of a task


@every_net
def test_batches_and_buckets_change_nothing(net):
    for options in ({'batch_size': 4}, {**BUCKETS, 'batch_size': 3}):
        for name, values in evaluator(TASK, net, SPLIT, TEACHER, **options)(VARIABLES[net]).items():
            np.testing.assert_allclose(values, measured(net, taught=True)[name], rtol=1e-5, err_msg=name)


@every_net
def test_more_padding_changes_nothing(net):
    wider = Split(np.pad(INPUTS, ((0, 0), (0, 3))), np.pad(LABELS, ((0, 0), (0, 3))), SPLIT.more)
    for name, values in evaluator(TASK, net, wider)(VARIABLES[net]).items():
        np.testing.assert_allclose(values, measured(net)[name], rtol=1e-5, err_msg=name)
    tags = examiner(TASK, net, wider)(VARIABLES[net])[1][..., :LONGEST]
    np.testing.assert_array_equal(tags[:, REAL], predicted(net)[:, REAL])


@every_net
def test_the_order_of_sentences_does_not_matter(net):
    order = RANDOM.permutation(EXAMPLES)
    mixed = Split(INPUTS[order], LABELS[order])
    np.testing.assert_array_equal(examiner(TASK, net, mixed)(VARIABLES[net])[1], predicted(net)[:, order])
    for name, values in evaluator(TASK, net, mixed)(VARIABLES[net]).items():
        np.testing.assert_allclose(values, measured(net)[name], rtol=1e-5, err_msg=name)


@every_net
@pytest.mark.parametrize('inputs', ['padding', 'words'])
def test_a_batch_of_padding_alone_is_finite(net, inputs):
    """Of examples that are padding, or of sentences without a word."""
    ids, mask = (INPUTS, np.zeros(EXAMPLES)) if inputs == 'words' else (np.zeros_like(INPUTS), np.ones(EXAMPLES))
    variables = jax.tree.map(lambda leaf: leaf[0], VARIABLES[net])
    batch = TASK.prepare({'inputs': jnp.asarray(ids), 'labels': LABELS, 'mask': jnp.asarray(mask, jnp.float32)})
    outputs = net.apply(variables, batch['inputs'], train=False, key=None)[0]
    for leaf in jax.tree.leaves(TASK.sums(outputs, batch, TEACHER)):
        assert not np.any(leaf)
    assert batch['mask'].shape == INPUTS.shape
    measured = TASK.measure(np.asarray(TASK.predict(outputs, batch)), Split(np.zeros_like(INPUTS), LABELS))
    assert set(measured.values()) == {0.0}


@every_net
def test_a_teacher_agrees_with_itself(net):
    variables = jax.tree.map(lambda leaf: leaf[:1], VARIABLES[net])
    own = net.apply(jax.tree.map(lambda leaf: leaf[0], variables), INPUTS, train=False, key=None)[0].logits
    found = evaluator(TASK, net, SPLIT, np.asarray(own))(variables)
    assert found['agreement'] == 1
    np.testing.assert_allclose(found['kl'], 0, atol=1e-6)


def test_a_token_without_a_label_does_not_count():
    unknown = np.where(np.arange(EXAMPLES)[:, None] < 4, -1, LABELS)
    found = evaluator(TASK, TABLE, Split(INPUTS, unknown), TEACHER)(VARIABLES[TABLE])
    rest = evaluator(TASK, TABLE, Split(INPUTS[4:], LABELS[4:]))(VARIABLES[TABLE])
    for name, values in rest.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(found['kl'], measured(TABLE, taught=True)['kl'], rtol=1e-6)


# ---- what the report and paired tests are told


@pytest.mark.parametrize('score', ['f1', 'f1_strict', 'precision', 'recall', 'accuracy', 'f1_group', 'nll'])
def test_statistics_of_sentences_add_up_to_the_score(score):
    task = Tagging(tags=list(TAGS), score=score)
    statistics = task.statistics(predicted(TABLE)[0], SPLIT)
    assert statistics.shape == (EXAMPLES, 3)
    want = measured(TABLE)['f1' if score == 'nll' else score][0]
    assert task.score_of(statistics.sum(axis=0)) == pytest.approx(want)
    drawn = statistics[RANDOM.integers(0, EXAMPLES, (4, EXAMPLES))].sum(axis=1)
    assert task.score_of(drawn).shape == (4,)


def dataset(**changed):
    splits = {name: SPLIT for name in ('train', 'validation')}
    words = ('', '?', *(f'word{k}' for k in range(WORDS)))
    return Dataset(splits, TAGS, {'words': words}, ('inputs', 'labels'))._replace(**changed)


def sure(of, least):
    """Logits of a teacher that has the right tags of some sentences, the less surely the smaller `least`, else O."""
    right = log_softmax(3.0 * np.eye(K)[LABELS], axis=-1)
    right[np.arange(EXAMPLES)[:, None], np.arange(LONGEST), LABELS] += np.log(least)[:, None]
    return np.where(of[:, None, None], right, 3.0 * np.eye(K)[0]).astype(np.float32)


def test_the_exhibit_is_the_sentence_found_whole_about_which_the_teacher_is_least_sure():
    gold = entities(LABELS, REAL, TASK.scheme)
    candidates = np.flatnonzero(np.bincount(gold.sentence, minlength=EXAMPLES))[:3]
    least = np.ones(EXAMPLES)
    least[candidates[1]] = 0.5
    shown = TASK.exhibit(dataset(), sure(np.isin(np.arange(EXAMPLES), candidates), least))
    kept = REAL[candidates[1]]
    assert shown['kind'] == 'tags'
    assert shown['words'] == [dataset().facts['words'][token] for token in INPUTS[candidates[1]][kept]]
    assert shown['gold'] == shown['predicted'] == LABELS[candidates[1]][kept].tolist()
    assert shown['class_names'] == list(TAGS)
    np.testing.assert_allclose(shown['probabilities'], np.exp(3) / (np.exp(3) + 8), rtol=1e-5)  # half as likely as 1
    assert TASK.exhibit(dataset(), sure(np.zeros(EXAMPLES, bool), least)) is None


def test_draws_keep_the_proportions_of_sentences_with_entities():
    counts = np.bincount(entities(LABELS, REAL, TASK.scheme).sentence, minlength=EXAMPLES)
    np.testing.assert_array_equal(TASK.strata(SPLIT), np.minimum(counts, 2))
    drawn = TASK.draw(SPLIT, 5, 0)
    assert len(drawn) == 5
    assert set(drawn) <= set(TASK.draw(SPLIT, 8, 0))


def test_a_network_is_told_how_many_tags_there_are():
    TASK.check(dataset())
    assert TASK.net_arguments(dataset()) == {'classes': K}


def other(labels):
    return dataset(splits={'validation': Split(INPUTS, labels)})


@pytest.mark.parametrize(
    ('data', 'message'),
    [
        (dataset(classes=TAGS[::-1]), r"task\.tags must be the classes of the data, \('I-person'.*got \('O'"),
        (dataset(padded=('inputs',)), r"padded columns 'inputs' and 'labels', the data have \('inputs',\)"),
        (
            other(LABELS[:, 0]),
            r"label for every token, split 'validation' has labels int32 \(13,\) for inputs \(13, 6\)",
        ),
        (other(LABELS.astype(np.float32)), r'has labels float32'),
        (other(LABELS - 1), r"labels of split 'validation' must be in 0 to 4, got -1 to 3"),
        (other(LABELS + 1), r'must be in 0 to 4, got 1 to 5'),
    ],
)
def test_data_that_are_not_of_tagging_are_refused(data, message):
    with pytest.raises(UsageError, match=message):
        TASK.check(data)


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda: Tagging(tags=TAGS, score='f1_place'), "unknown score 'f1_place' of Tagging.*'f1_person'"),
        (lambda: Tagging(tags=('O', 'S-x')), 'tags must be O and'),
        (lambda: Tagging(tags=[f'B-{k}' for k in range(300)]), 'room for 256 tags, got 300'),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()
