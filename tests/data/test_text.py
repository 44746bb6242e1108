"""Texts as ids: vocabularies know what training knows, and sentences can be read back from their ids."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from published_files import publish

from kdjax.data import sst2, text, wnut17
from kdjax.data.base import checked
from kdjax.errors import UsageError

SENTENCES = [['b', 'a', 'b'], ['c', 'a'], ['b', 'd']]
WORDS = st.lists(st.lists(st.sampled_from('abcdefgh'), min_size=1, max_size=6), min_size=1, max_size=8)


def test_frequent_words_come_first_and_equally_frequent_ones_in_the_order_of_the_alphabet():
    assert text.vocabulary(SENTENCES).words == ('', '<unknown>', 'b', 'a', 'c', 'd')
    assert text.vocabulary(SENTENCES, size=3).words == ('', '<unknown>', 'b', 'a', 'c')
    assert text.vocabulary(SENTENCES, minimum=2).words == ('', '<unknown>', 'b', 'a')
    assert text.vocabulary(SENTENCES, size=1, minimum=2).known == 3


@given(WORDS, WORDS, st.integers(0, 9))
def test_what_has_an_id_is_read_back_and_the_rest_is_unknown(train, other, size):
    known = text.vocabulary(train, size)
    for sentence in (*train, *other):
        for word, place in zip(sentence, known.encoded(sentence), strict=True):
            assert known.words[place] == word if word in known.ids else place == text.UNKNOWN
    whole = known.extended([*train, *other])
    assert whole.known == known.known == len(known.words)
    assert whole.words[: known.known] == known.words
    for sentence in (*train, *other):
        assert [whole.words[place] for place in whole.encoded(sentence)] == sentence


@given(st.permutations(SENTENCES))
def test_a_vocabulary_does_not_depend_on_the_order_of_the_sentences(sentences):
    assert text.vocabulary(sentences) == text.vocabulary(SENTENCES)
    assert hash(text.vocabulary(sentences)) == hash(text.vocabulary(SENTENCES))
    assert text.vocabulary(sentences).fingerprint == text.vocabulary(SENTENCES).fingerprint


def test_vocabularies_of_one_size_differ_where_their_words_do():
    one, other = text.vocabulary([['a', 'b']]), text.vocabulary([['a', 'c']])
    extended = text.vocabulary([['a']]).extended([['b']])
    assert len({one, other, extended}) == len({each.fingerprint for each in (one, other, extended)}) == 3
    code = "from kdjax.data import text; print(text.vocabulary([['a', 'b']]).fingerprint)"
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == one.fingerprint


@pytest.mark.parametrize(('size', 'minimum'), [(-1, 1), (0, 0)])
def test_a_vocabulary_that_cannot_be_is_refused(size, minimum):
    with pytest.raises(UsageError, match=f'a minimum >= 1, got {size} and {minimum}'):
        text.vocabulary(SENTENCES, size, minimum)


def test_ngrams_are_all_of_a_sentence_each_once():
    assert text.ngrams(['a', 'b', 'a', 'b'], 2) == ['a', 'b', 'a b', 'b a']
    assert text.ngrams(['a', 'b'], 5) == ['a', 'b', 'a b']


REVIEWS = {
    'train.tsv': b'a fine  film\t1\na dull film\t0\nfine\t1',
    'dev.tsv': b'fine acting\t1\n',
    'test.tsv': b'a dull , dull thing\t0\n',
}


@pytest.fixture
def reviews(tmp_path, monkeypatch):
    publish(monkeypatch, 'sst2', REVIEWS, tmp_path / 'sst2')
    return tmp_path


def test_sentences_are_ids_of_training_words_with_their_lengths(reviews):
    found = checked(sst2.sentences(folder=str(reviews)))
    assert found.facts == {'vocabulary': 6, 'words': ('', '<unknown>', 'a', 'film', 'fine', 'dull')}
    assert (found.classes, found.padded) == (('negative', 'positive'), ('inputs',))
    wanted = {
        'train': ([[2, 4, 3, 0, 0], [2, 5, 3, 0, 0], [4, 0, 0, 0, 0]], [1, 0, 1], [3, 3, 1]),
        'validation': ([[4, 1, 0, 0, 0]], [1], [2]),
        'test': ([[2, 5, 1, 5, 1]], [0], [5]),
    }
    for name, columns in wanted.items():
        split = found.splits[name]
        for values, own in zip((split.inputs, split.labels, split.more['length']), columns, strict=True):
            np.testing.assert_array_equal(values, own)
            assert values.dtype == np.int32


def test_a_vocabulary_may_be_smaller_and_sentences_cut_off(reviews):
    found = checked(sst2.sentences(folder=str(reviews), vocabulary=1, longest=2))
    assert found.facts['words'] == ('', '<unknown>', 'a')
    np.testing.assert_array_equal(found.splits['test'].inputs, [[2, 1]])
    np.testing.assert_array_equal(found.splits['train'].more['length'], [2, 2, 1])
    frequent = sst2.sentences(folder=str(reviews), minimum=2)
    assert frequent.facts['words'] == ('', '<unknown>', 'a', 'film', 'fine')


def test_a_teacher_is_told_the_ngrams_that_training_has(reviews):
    found = checked(sst2.sentences(folder=str(reviews), ngrams=2, vocabulary=1))
    grams = ('', '', 'a', 'film', 'fine', 'a dull', 'a fine', 'dull', 'dull film', 'fine film')
    assert found.facts['grams'] == len(grams)
    for name, split in found.splits.items():
        for line, row in zip(
            REVIEWS[sst2.FILES[name]].decode().split('\n'), split.more['teacher_inputs'], strict=False
        ):
            words = line.partition('\t')[0].split()
            own = {*words, *map(' '.join, itertools.pairwise(words))}
            assert {grams[gram] for gram in row if gram} == own & set(grams)
            assert list(row) == [*row[row > 0], *row[row == 0]]
    often = sst2.sentences(folder=str(reviews), ngrams=2, ngram_minimum=2)
    assert often.facts['grams'] == 5


def test_a_teacher_is_told_the_wordpieces_of_whole_sentences(reviews, tmp_path):
    pytest.importorskip('tokenizers', reason='tokenizers is not here: pip install "kdjax[test]"')
    known = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', 'a', 'fine', 'dull', 'film', 'act', '##ing', 'thing']
    (tmp_path / 'vocab.txt').write_text('\n'.join(known))
    found = checked(sst2.sentences(folder=str(reviews), pieces=str(tmp_path / 'vocab.txt'), vocabulary=1))
    ids = {name: split.more['teacher_inputs'].tolist() for name, split in found.splits.items()}
    assert ids == {
        'train': [[2, 4, 5, 7, 3, 0, 0], [2, 4, 6, 7, 3, 0, 0], [2, 5, 3, 0, 0, 0, 0]],
        'validation': [[2, 5, 8, 9, 3, 0, 0]],
        'test': [[2, 4, 6, 1, 6, 10, 3]],
    }


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'longest': -1}, 'longest and ngrams of sst2 must be >= 0, got -1 and 0'),
        ({'ngrams': -2}, 'longest and ngrams of sst2 must be >= 0, got 0 and -2'),
        ({'ngrams': 2, 'pieces': 'v.txt'}, "a teacher of sst2 reads ngrams or pieces, not both, got 2 and 'v.txt'"),
        ({'vocabulary': -1}, 'a vocabulary has a size >= 0'),
        ({'ngrams': 1, 'ngram_minimum': 0}, 'a minimum >= 1, got 0 and 0'),
    ],
)
def test_arguments_of_sentences_that_cannot_be_are_refused(arguments, message, reviews):
    with pytest.raises(UsageError, match=message):
        sst2.sentences(folder=str(reviews), **arguments)


def test_a_missing_file_is_answered_with_the_command_and_a_changed_one_with_its_hash(reviews, monkeypatch):
    wanted = sst2.sentences(folder=str(reviews)).checksum()
    assert sst2.sentences(folder=str(reviews / 'sst2')).checksum() == wanted
    monkeypatch.setenv('KDJAX_DATA', str(reviews))
    assert sst2.sentences().checksum() == wanted
    (reviews / 'sst2' / 'dev.tsv').write_bytes(REVIEWS['dev.tsv'].replace(b'1', b'0'))
    with pytest.raises(UsageError, match=r'dev\.tsv is not the original of sst2: its sha256 is .*, not '):
        sst2.sentences()
    (reviews / 'sst2' / 'dev.tsv').unlink()
    command = f'python run.py --mode=prepare --data=sst2 --data_dir={reviews}'
    with pytest.raises(UsageError, match=f"'dev.tsv' is neither in {reviews}/sst2 nor in {reviews}; .* {command}"):
        sst2.sentences()
    monkeypatch.delenv('KDJAX_DATA')
    with pytest.raises(UsageError, match=r'sst2: give the folder of its files, as data\.args\.folder or in KDJAX_DATA'):
        sst2.sentences()


TWEETS = {
    'wnut17train.conll': b'Green\tB-person\nLantern\tI-person\nis\tO\n\t\nis\tO\nGreen\tO\n\t\n\n',
    'emerging.dev.conll': b'green\tO\nIs\tO\n\nLima\tB-location\n',
    'emerging.test.annotated': b'IS\tO\nLantern\tB-creative-work\n\n',
}


@pytest.fixture
def tweets(tmp_path, monkeypatch):
    publish(monkeypatch, 'wnut17', TWEETS, tmp_path / 'wnut17')
    return str(tmp_path)


def spelled(found, split):
    return [[found.facts['words'][place] for place in row if place] for row in found.splits[split].inputs]


def test_entities_have_tags_of_their_tokens_and_every_word_its_spelling(tweets):
    found = checked(wnut17.entities(folder=tweets))
    assert found.padded == ('inputs', 'labels')
    assert found.facts['vocabulary'] == 4
    assert found.facts['words'] == ('', '<unknown>', 'Green', 'is', 'Lantern', 'IS', 'Is', 'Lima', 'green')
    assert spelled(found, 'train') == [['Green', 'Lantern', 'is'], ['is', 'Green']]
    assert spelled(found, 'validation') == [['green', 'Is'], ['Lima']]
    tags = [[found.classes[tag] for tag in row] for row in found.splits['train'].labels]
    assert tags == [['B-person', 'I-person', 'O'], ['O', 'O', 'O']]
    np.testing.assert_array_equal(found.splits['train'].more['length'], [3, 2])
    assert found.classes[found.splits['test'].labels[0, 1]] == 'B-creative-work'
    assert all(split.labels.dtype == split.inputs.dtype == np.int32 for split in found.splits.values())


def test_words_may_be_put_in_lower_case(tweets):
    found = checked(wnut17.entities(folder=tweets, lower=True))
    assert found.facts == {'vocabulary': 4, 'words': ('', '<unknown>', 'green', 'is', 'lantern', 'lima')}
    assert spelled(found, 'validation') == [['green', 'is'], ['lima']]


def test_how_many_words_have_an_embedding_is_an_argument(tweets):
    assert wnut17.entities(folder=tweets, minimum=1).facts['vocabulary'] == 5
    one = wnut17.entities(folder=tweets, vocabulary=1)
    assert (one.facts['vocabulary'], one.facts['words'][2]) == (3, 'Green')
    with pytest.raises(UsageError, match='a minimum >= 1, got 0 and 0'):
        wnut17.entities(folder=tweets, minimum=0)


def test_the_tags_are_thirteen_and_outside_is_the_first():
    assert len(wnut17.CLASSES) == len(set(wnut17.CLASSES)) == 13
    assert wnut17.CLASSES[:3] == ('O', 'B-corporation', 'I-corporation')


def test_the_real_sentences_have_the_published_counts(restored):
    found = checked(sst2.sentences(folder=str(restored('sst2')), ngrams=2))
    counts = {name: (split.size, int(split.labels.sum())) for name, split in found.splits.items()}
    assert counts == {'train': (6920, 3610), 'validation': (872, 444), 'test': (1821, 909)}
    assert found.facts['vocabulary'] == 3002
    assert found.facts['words'][:5] == ('', '<unknown>', 'the', ',', 'a')
    for split in found.splits.values():
        np.testing.assert_array_equal((split.inputs > 0).sum(axis=1), split.more['length'])
        assert (split.more['teacher_inputs'] > 0).any(axis=1).all()


def test_the_real_entities_have_the_published_counts_and_words(restored):
    folder = restored('wnut17')
    found = checked(wnut17.entities(folder=str(folder)))
    counts = {name: (split.size, int(split.more['length'].sum())) for name, split in found.splits.items()}
    assert counts == {'train': (3394, 62730), 'validation': (1009, 15733), 'test': (1287, 23394)}
    begins = [k for k, name in enumerate(found.classes) if name.startswith('B-')]
    entities = {name: int(np.isin(split.labels, begins).sum()) for name, split in found.splits.items()}
    assert entities == {'train': 1975, 'validation': 836, 'test': 1079}
    assert found.splits['test'].inputs.shape == (1287, 105)
    tokens = [line.split('\t') for line in (folder / 'wnut17' / wnut17.FILES['test']).read_text().split('\n') if line]
    split = found.splits['test']
    real = split.inputs > 0
    assert [found.facts['words'][place] for place in split.inputs[real]] == [word for word, _ in tokens]
    assert [found.classes[tag] for tag in split.labels[real]] == [tag for _, tag in tokens]
    assert not split.labels[~real].any()
