"""A teacher that is a table: what a file must have, and that its answers are those of the examples."""

import numpy as np
import pytest
from blobs import blobs

from kdjax.errors import UsageError
from kdjax.tasks.base import Question
from kdjax.train import given

DATA = blobs()
SIZES = {name: split.size for name, split in DATA.splits.items()}


def answers():
    """Logits (N, 2) of every split, and a feature of training examples."""
    random = np.random.default_rng(0)
    found = {name: {'logits': random.normal(size=(size, 2)).astype(np.float32)} for name, size in SIZES.items()}
    found['train']['penult'] = random.normal(size=(SIZES['train'], 3)).astype(np.float32)
    return found


def best(logits, keep=1):
    """The first classes and their log-probabilities."""
    logs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    ids = np.argsort(-logs, axis=-1)[:, :keep]
    return {'top_ids': ids.astype(np.int32), 'top_log_probs': np.take_along_axis(logs, ids, axis=-1)}


@pytest.fixture
def file(tmp_path):
    """Writes a file, and gives its path."""

    def write(found, dataset=DATA):
        given.save(tmp_path / 'answers.npz', dataset, found)
        return str(tmp_path / 'answers.npz')

    return write


def test_answers_come_in_the_order_of_examples(file):
    found, order = answers(), np.random.default_rng(1).permutation(SIZES['train'])
    shuffled = {**found, 'train': {**{name: rows[order] for name, rows in found['train'].items()}, 'ids': order}}
    for path in (file(found), file(shuffled)):
        given.check(path, DATA, 2, {})
        tables = given.tables(path, DATA, {}, ('penult',), 0)
        np.testing.assert_array_equal(tables['teacher/logits'], found['train']['logits'])
        np.testing.assert_array_equal(tables['teacher/penult'], found['train']['penult'])


def test_the_most_probable_classes_are_those_that_a_cache_would_keep(file):
    found = answers()
    sparse = {name: best(rows['logits']) for name, rows in found.items()}
    path = file(found)
    wanted = given.tables(path, DATA, {}, (), 1)
    path = file(sparse)
    given.check(path, DATA, 2, {})
    for keep in (0, 1):
        tables = given.tables(path, DATA, {}, (), keep)
        assert {*tables} == {'teacher/top_ids', 'teacher/top_log_probs'}
        for name, table in tables.items():
            np.testing.assert_allclose(table, wanted[name], rtol=1e-5, atol=1e-6)
    logits = given.logits_of(given.of_split(path, 'test', SIZES['test']), 2)
    exact = given.logits_of({'logits': found['test']['logits']}, 2)
    # Of two classes the one that is left out has all that is left.
    np.testing.assert_allclose(logits[:, 0] - logits[:, 1], exact[:, 0] - exact[:, 1], rtol=1e-3, atol=1e-4)


def changed(split, **arrays):
    found = answers()
    found[split] = {name: rows for name, rows in {**found[split], **arrays}.items() if rows is not None}
    return found


LOGITS = answers()['train']['logits']
TOP = best(LOGITS)


@pytest.mark.parametrize(
    ('found', 'says'),
    [
        (changed('test', logits=None, other=np.zeros((50, 2))), r'neither test/logits nor test/top_ids .* own score'),
        (changed('train', **TOP), r'train/logits and train/top_ids: answers are given once; leave one out'),
        (changed('train', ids=np.zeros(100, int)), r'ids must be the positions 0 to 99 .* got int64 \(100,\), 0 to 0'),
        (changed('train', ids=np.arange(50)), r'train/ids \(50,\) and train/\w+ \(100, \d\) must have a row for each'),
        (changed('train', logits=LOGITS[:, :1]), r'train/logits must have the 2 classes of the task .* got \(100, 1\)'),
        (changed('train', logits=np.where(LOGITS > 1, np.nan, LOGITS)), r'train/logits must be .* finite'),
        (changed('train', logits=LOGITS.astype(float) * 1e300), r'logits must be numbers that are finite in float32'),
        (changed('train', top_ids=np.zeros((100, 0), int), top_log_probs=np.zeros((100, 0)), logits=None), 'k > 0'),
        (changed('train', mask=np.ones((100, 3))), r'train/mask must be of the frames of its answers, \(100, 2\)'),
        (changed('train', **TOP | {'top_ids': TOP['top_ids'] + 2}, logits=None), r'different classes in 0 to 1, got'),
        (changed('train', **TOP | {'top_ids': LOGITS}, logits=None), r'top_ids must be integers and top_log_probs'),
        (changed('train', **TOP | {'top_log_probs': TOP['top_log_probs'] + 1}, logits=None), r'that sum to 1 at most'),
        (changed('train', **best(LOGITS, 2) | {'top_log_probs': np.log(np.tile([0.4, 0.6], (100, 1)))}, logits=None),
         r'the best first'),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_said(file, found, says):
    with pytest.raises(UsageError, match=says):
        given.check(file(found), DATA, 2, {})


def test_answers_to_other_data_are_refused(file):
    images = np.zeros((SIZES['test'], 4, 4), np.float32)
    other = DATA._replace(splits={**DATA.splits, 'test': DATA.splits['test']._replace(inputs=images)})
    with pytest.raises(UsageError, match=r"answers are to other data, of the checksum '\w+'; the data of this run"):
        given.check(file(answers(), other), DATA, 2, {})


def test_what_a_fit_needs_and_a_file_lacks_is_said(file):
    dense, sparse = answers(), {name: best(rows['logits']) for name, rows in answers().items()}
    with pytest.raises(UsageError, match=r"unknown tap 'stem'.*there is: 'penult'"):
        given.tables(file(dense), DATA, {}, ('stem',), 0)
    with pytest.raises(UsageError, match=r'must be in 1 to 2, its classes, got 3'):
        given.tables(file(dense), DATA, {}, (), 3)
    with pytest.raises(UsageError, match=r"unknown tap 'stem'"):
        given.tables(file(sparse), DATA, {}, ('stem',), 0)
    with pytest.raises(UsageError, match=r'has 1 classes of each answer, of which keep=2'):
        given.tables(file(sparse), DATA, {}, (), 2)


def test_what_is_no_such_file_is_said(tmp_path):
    (tmp_path / 'text.npz').write_text('no archive')
    np.savez(tmp_path / 'other.npz', weights=np.zeros(3))
    np.savez(tmp_path / 'objects.npz', checksum=np.array([{}], object))
    (tmp_path / 'empty.npz').write_bytes(b'')
    with (tmp_path / 'single.npz').open('wb') as file:
        np.save(file, np.zeros(3))
    for name, says in (('text', 'is no .npz of arrays'), ('other', "unknown array 'checksum'"), ('objects', 'no .npz'),
                       ('empty', 'is no .npz of arrays'), ('single', 'is one array, and must be an .npz')):  # fmt: skip
        with pytest.raises(UsageError, match=says):
            given.check(str(tmp_path / f'{name}.npz'), DATA, 2, {})


def test_questions_have_answers_of_their_own(file):
    questions = {'ranked': Question(DATA.splits['test'], np.zeros(100, np.int32))}
    found = {name: rows for name, rows in answers().items() if name != 'train'}
    path = file({**found, 'questions': {'ranked': np.zeros((50, 3), np.int64)}})
    given.check(path, DATA, 2, questions)
    assert given.tables(path, DATA, questions, (), 0)['teacher/ranked'].dtype == np.int32
    with pytest.raises(UsageError, match=r'questions/ranked must be integers \(50, ...\)'):
        given.check(file({**found, 'questions': {'ranked': np.zeros((49, 3), int)}}), DATA, 2, questions)
    with pytest.raises(UsageError, match=r"unknown array 'questions/ranked'"):
        given.check(file(found), DATA, 2, questions)
