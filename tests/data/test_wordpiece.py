"""WordPieces against BERT's own tokeniser (tests/nets/golden/bert.npz), and the first piece of every word."""

import pathlib

import numpy as np
import pytest

from kdjax.data import wordpiece
from kdjax.errors import UsageError

GOLDEN = pathlib.Path(__file__).parents[1] / 'nets' / 'golden'
VOCABULARY = GOLDEN / 'vocab.txt'
tokenizers = pytest.importorskip('tokenizers', reason='tokenizers is not here: pip install "kdjax[test]"')


def pieces(ids):
    known = VOCABULARY.read_text().splitlines()
    return [known[id] for id in ids if id]


def test_ids_are_those_of_bert():
    with np.load(GOLDEN / 'bert.npz') as golden:
        texts, ids, lengths = golden['texts'].tolist(), golden['ids'], golden['lengths']
    found = wordpiece.encoded(texts, VOCABULARY)
    np.testing.assert_array_equal(found.ids, ids)
    np.testing.assert_array_equal(found.lengths, lengths)
    assert found.first is None
    assert pieces(found.ids[1]) == ['[CLS]', 'un', '##believ', '##able', '[SEP]']


def test_a_tokenizer_json_says_the_same(tmp_path):
    texts = ['A bad film, badly made.', 'unbelievable']
    wordpiece._tokenizer(VOCABULARY).save(str(tmp_path / 'tokenizer.json'))
    for found, want in zip(*(wordpiece.encoded(texts, file) for file in (tmp_path / 'tokenizer.json', VOCABULARY)),
                           strict=True):  # fmt: skip
        np.testing.assert_array_equal(found, want)


def test_words_are_found_by_their_first_piece():
    found = wordpiece.encoded([['Unbelievable', 'film'], ['badly', '', 'made']], VOCABULARY)
    assert pieces(found.ids[1]) == ['[CLS]', 'bad', '##ly', 'made', '[SEP]']
    np.testing.assert_array_equal(found.first, [[1, 4, 0], [1, 0, 3]])
    np.testing.assert_array_equal(found.lengths, [6, 5])


def test_what_is_too_long_is_cut_and_words_beyond_have_no_piece():
    found = wordpiece.encoded([['unbelievable', 'film', 'made']], VOCABULARY, longest=6)
    assert pieces(found.ids[0]) == ['[CLS]', 'un', '##believ', '##able', 'film', '[SEP]']
    np.testing.assert_array_equal(found.first, [[1, 4, 0]])


@pytest.mark.parametrize(
    ('content', 'longest', 'message'),
    [
        (None, 8, 'there is no such file'),
        ('the\nfilm\n', 8, r'not read \(it has no \[PAD\], \[UNK\], \[CLS\], \[SEP\]\)'),
        ('[UNK]\n[PAD]\n[CLS]\n[SEP]\n', 8, r'\[PAD\] must be id 0, got 1'),
        ('', 1, r'longest must be at least 2, for \[CLS\] and \[SEP\], got 1'),
    ],
)
def test_what_is_no_vocabulary_is_refused(tmp_path, content, longest, message):
    if content is not None:
        (tmp_path / 'vocab.txt').write_text(content)
    with pytest.raises(UsageError, match=message):
        wordpiece.encoded(['film'], tmp_path / 'vocab.txt', longest)
