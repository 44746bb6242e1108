"""Every task: its metrics are those of numpy and scikit-learn on the whole split, however it is cut into batches."""

import functools

import jax
import numpy as np
import pytest
from scipy.special import expit, log_softmax, rel_entr
from sklearn import metrics as sk

from kdjax.dataset import UNLABELLED, Dataset, Split
from kdjax.errors import UsageError
from kdjax.tasks.classification import Classification
from kdjax.tasks.evaluation import evaluator, examiner
from kdjax.tasks.multilabel import MultiLabel
from kdjax.tasks.regression import Regression
from kdjax.types import Net, Outputs

CELLS, EXAMPLES, WIDTH, OUTPUTS = 2, 37, 5, 4
RANDOM = np.random.default_rng(1)
INPUTS = RANDOM.normal(size=(EXAMPLES, WIDTH)).astype(np.float32)
WEIGHTS = RANDOM.normal(size=(CELLS, WIDTH, OUTPUTS)).astype(np.float32)
TEACHER = RANDOM.normal(size=(EXAMPLES, OUTPUTS)).astype(np.float32)
NAMES = ('ant', 'bee', 'cat', 'dog')
KINDS = RANDOM.integers(0, 3, EXAMPLES).astype(np.int32)  # no dog
SOME = (RANDOM.random((EXAMPLES, OUTPUTS)) < (0.1, 0.3, 0.5, 0.7)).astype(np.int8)
SOME[:3] = 0
SOME[-1] = 1
UNKNOWN = np.where(RANDOM.random(SOME.shape) < 0.15, UNLABELLED, SOME)
UNKNOWN[5] = UNLABELLED
NUMBERS = RANDOM.normal(3, 2, (EXAMPLES, OUTPUTS)).astype(np.float32)
GAPS = np.where(RANDOM.random(NUMBERS.shape) < 0.2, np.nan, NUMBERS).astype(np.float32)
MORE = ('balanced_accuracy', 'macro_f1', 'recall_bee', 'recall_3')
LINEAR = Net(
    init=lambda key, inputs: {'params': WEIGHTS[0], 'stats': {}},
    apply=lambda variables, inputs, *, train, key: (Outputs(inputs @ variables['params'], {}), variables['stats']),
    taps=(),
)


def classified(labels, logits, teacher):
    predicted, log_p, log_t = logits.argmax(1), log_softmax(logits, axis=1), log_softmax(teacher, axis=1)
    recalls = sk.recall_score(labels, predicted, average=None, labels=range(OUTPUTS), zero_division=0)
    return {
        'accuracy': sk.accuracy_score(labels, predicted),
        'nll': -log_p[np.arange(len(labels)), labels].mean(),
        'balanced_accuracy': sk.balanced_accuracy_score(labels, predicted),
        'macro_f1': sk.f1_score(labels, predicted, average='macro', zero_division=0),
        'recall_bee': recalls[1],
        'recall_3': recalls[3] if np.any(labels == 3) else np.nan,
        'agreement': np.mean(predicted == teacher.argmax(1)),
        'kl': np.mean(np.sum(np.exp(log_t) * (log_t - log_p), axis=1)),
    }


def tagged(labels, logits, teacher):
    known, answers, p, q = labels >= 0, logits >= 0, expit(logits), expit(teacher)
    columns = [(labels[known[:, k], k], logits[known[:, k], k]) for k in range(OUTPUTS)]
    judged = [(truth, score >= 0) for truth, score in columns]
    rows = known.any(axis=1)
    together = [np.concatenate(side) for side in zip(*judged, strict=True)]
    return {
        'map': np.mean([sk.average_precision_score(*column) for column in columns]),
        'micro_f1': sk.f1_score(*together),
        'macro_f1': np.mean([sk.f1_score(*one, zero_division=0) for one in judged]),
        'exact': np.mean(np.all((answers == labels) | ~known, axis=1)[rows]),
        'nll': sk.log_loss(labels[known], p[known].astype(np.float64)),
        'agreement': np.mean(answers == (teacher >= 0)),
        'kl': np.mean(rel_entr(q, p) + rel_entr(1 - q, 1 - p)),
    }


def regressed(labels, outputs, teacher):
    known = ~np.isnan(labels)
    columns = [(labels[known[:, k], k], outputs[known[:, k], k]) for k in range(OUTPUTS)]
    return {
        'rmse': np.sqrt(sk.mean_squared_error(labels[known], outputs[known])),
        'mae': sk.mean_absolute_error(labels[known], outputs[known]),
        'r2': np.mean([sk.r2_score(*column) for column in columns]),
        'distance': np.sqrt(np.mean(np.square(outputs - teacher))),
    }


# By name: the task with a score, its labels, its metrics by hand.
TASKS = {
    'classes': (functools.partial(Classification, more=MORE, classes=NAMES), KINDS, classified),
    'labels': (MultiLabel, SOME, tagged),
    'labels, some unknown': (MultiLabel, UNKNOWN, tagged),
    'numbers': (Regression, NUMBERS, regressed),
    'numbers, some missing': (Regression, GAPS, regressed),
}  # fmt: skip
every_task = pytest.mark.parametrize('name', TASKS)


def measured(name, batch_size=1024, order=slice(None), teacher=TEACHER, weights=WEIGHTS):
    make, labels, _ = TASKS[name]
    held = None if teacher is None else teacher[order]
    evaluate = evaluator(make(), LINEAR, Split(INPUTS[order], labels[order]), held, batch_size=batch_size)
    return evaluate({'params': weights, 'stats': {}})


def same(found, wanted, rtol=1e-5):
    assert set(found) == set(wanted)
    for metric, value in wanted.items():
        np.testing.assert_allclose(found[metric], value, rtol=rtol, atol=1e-6, err_msg=metric)


@every_task
@pytest.mark.filterwarnings('ignore:y_pred contains classes not in y_true')
def test_metrics_are_those_of_the_whole_split(name):
    make, labels, by_hand = TASKS[name]
    found = measured(name)
    assert set(found) == set(make().by_name)
    for cell, weights in enumerate(WEIGHTS):
        wanted = by_hand(labels, np.float64(INPUTS) @ weights, np.float64(TEACHER))
        assert set(wanted) == set(found) - {'ece'}
        same({metric: found[metric][cell] for metric in wanted}, wanted, 1e-4)


@every_task
@pytest.mark.parametrize('batch_size', [1, 8])
def test_padding_and_the_order_of_examples_change_nothing(name, batch_size):
    order = np.random.default_rng(batch_size).permutation(EXAMPLES)
    same(measured(name, batch_size, order), measured(name))


@every_task
def test_a_batch_of_padding_alone_is_finite_and_adds_nothing(name):
    make, labels, _ = TASKS[name]
    task, batch = make(), {'inputs': INPUTS, 'labels': labels, 'mask': np.zeros(EXAMPLES, np.float32)}
    meters = task.sums(Outputs(INPUTS @ WEIGHTS[0], {}), task.prepare(batch), TEACHER)
    assert all(np.all(np.asarray(leaf) == 0) for leaf in jax.tree.leaves(meters))


@every_task
def test_a_student_that_is_its_teacher_agrees_with_it_wholly(name):
    found = measured(name, teacher=INPUTS @ WEIGHTS[0], weights=WEIGHTS[:1])
    for metric, value in {'agreement': 1, 'kl': 0, 'distance': 0}.items():
        np.testing.assert_allclose(found.get(metric, value), value, atol=1e-6)


@every_task
def test_without_a_teacher_there_is_no_likeness_to_it(name):
    alone, taught = measured(name, teacher=None), measured(name)
    same(alone, {metric: value for metric, value in taught.items() if metric not in ('agreement', 'kl', 'distance')})


@pytest.mark.parametrize(('name', 'score'), [(name, score) for name in TASKS for score in TASKS[name][0]().by_name])
def test_what_examples_add_to_the_score_adds_up_to_it(name, score):
    make, labels, _ = TASKS[name]
    task, split = make(score=score), Split(INPUTS, labels)
    assert task.has_statistics == (score not in ('ece', 'agreement', 'kl', 'map', 'distance'))
    if not task.has_statistics:
        return
    predictions = examiner(task, LINEAR, split, batch_size=8)({'params': WEIGHTS, 'stats': {}})[1]
    for cell in range(CELLS):
        rows = task.statistics(predictions[cell], split)
        assert rows.shape[0] == EXAMPLES
        np.testing.assert_allclose(task.score_of(rows.sum(axis=0)), measured(name)[score][cell], rtol=1e-5)


@every_task
def test_a_task_accepts_its_own_data_and_no_other(name):
    make, labels, _ = TASKS[name]
    train = Split(INPUTS, labels)
    whole = np.where(labels < 0, 0, labels) if name.startswith('labels') else np.nan_to_num(labels)
    dataset = Dataset({'train': train, 'test': Split(INPUTS, whole.astype(labels.dtype))}, NAMES)
    make().check(dataset)
    assert make().net_arguments(dataset) == {'classes': OUTPUTS}
    for other, (unlike, _, _) in TASKS.items():
        if other.partition(',')[0] != name.partition(',')[0]:
            with pytest.raises(UsageError):
                unlike().check(dataset)
    with pytest.raises(UsageError, match=r"unknown (score|metric) 'acuracy' of [CMR]"):
        make(score='acuracy')


@every_task
def test_draws_keep_the_proportions_of_labels(name):
    make, labels, _ = TASKS[name]
    split = Split(np.repeat(INPUTS, 20, axis=0), np.repeat(labels, 20, axis=0))
    strata = make().strata(split)
    assert strata.shape == (20 * EXAMPLES,)
    drawn = make().draw(split, 10 * EXAMPLES, 3)
    for stratum in np.unique(strata):
        assert abs(np.sum(strata[drawn] == stratum) - np.sum(strata == stratum) / 2) <= 1


def test_the_usual_columns_of_classification_stay_what_they_were():
    assert tuple(Classification().by_name) == ('accuracy', 'nll', 'ece', 'agreement', 'kl')
    assert tuple(Classification(score='macro_f1').by_name)[5:] == ('macro_f1',)
    assert Classification(score='macro_f1').judged.better == 'higher'
    assert Classification(more=('recall_1',)).by_name['recall_1'].title == 'recall of 1'


@pytest.mark.parametrize(
    ('fields', 'said'),
    [
        ({'more': ('recal_1',)}, "unknown metric 'recal_1' of Classification; there is: 'recall_0'"),
        ({'more': ('recall_wasp',), 'classes': NAMES}, "unknown class 'wasp' in the metric 'recall_wasp'.*; there is"),
        ({'more': ('recall_4',), 'classes': NAMES}, "unknown class '4' in the metric"),
        ({'more': ('recall_bee',)}, "unknown class 'bee' in the metric"),
    ],
)
def test_a_metric_that_there_is_not_is_refused(fields, said):
    with pytest.raises(UsageError, match=said):
        Classification(**fields)


@pytest.mark.parametrize(
    ('fields', 'said'),
    [
        ({'classes': ('a', 'b')}, r"classes of the task are \('a', 'b'\), those of the data \('ant'"),
        ({'more': ('recall_9',)}, "metric 'recall_9' is of none of the 4 classes"),
    ],
)
def test_a_class_that_the_data_do_not_have_is_refused(fields, said):
    dataset = Dataset({'train': Split(INPUTS, TASKS['classes'][1])}, NAMES)
    with pytest.raises(UsageError, match=said):
        Classification(**fields).check(dataset)


@pytest.mark.parametrize(
    ('task', 'labels', 'said'),
    [
        (MultiLabel, SOME + 1, r"labels of split 'train' must be 1, 0 or, where unknown, -1; got 2"),
        (MultiLabel, SOME[:, :3], r"labels of split 'train' must be \(N, 4\)"),
        (Regression, np.full((EXAMPLES, 2), np.inf), "labels of split 'train' must be finite"),
        (Regression, np.zeros((EXAMPLES, 2, 2)), 'regression needs labels'),
    ],
)
def test_labels_that_are_none_are_refused(task, labels, said):
    with pytest.raises(UsageError, match=said):
        task().check(Dataset({'train': Split(INPUTS, labels)}, NAMES))
