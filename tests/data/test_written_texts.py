"""Sub-words, pairs of sentences and windows of characters, of files that are made up."""

import gzip

import numpy as np
import pytest
from published_files import publish

from kdjax.data import files, multi30k, subwords, tiny_shakespeare
from kdjax.decoding.base import BEGIN, END
from kdjax.errors import UsageError

ENGLISH = ('A man walks.', 'Two dogs run on the grass.', 'A dog walks on the grass and runs.', 'Two men.') * 3
GERMAN = ('Ein Mann geht.', 'Zwei Hunde laufen im Gras.', 'Ein Hund geht im Gras und läuft.', 'Zwei Männer.') * 3


@pytest.fixture
def pairs(monkeypatch, tmp_path):
    """The folder of twelve pairs of each split."""
    pytest.importorskip('sentencepiece')
    sides = {'en': ENGLISH, 'de': GERMAN}
    contents = {name.path: gzip.compress(('\n'.join(sides[name.path.split('.')[1]]) + '\n').encode())
                for name in files.SETS['multi30k_en_de']}  # fmt: skip
    publish(monkeypatch, 'multi30k_en_de', contents, tmp_path / 'multi30k_en_de')
    return str(tmp_path)


def test_pairs_are_begun_and_ended_and_shifted_by_one(pairs):
    found = multi30k.pairs(folder=pairs, vocabulary=60)
    split, pieces = found.splits['test'], found.facts['pieces']
    assert found.facts['vocabulary'] == len(pieces) == found.facts['source_vocabulary'] == 60
    target, labels, source = split.inputs['target'], split.labels, split.inputs['source']
    np.testing.assert_array_equal(target[:, 0], BEGIN)
    for row, (own, other) in enumerate(zip(ENGLISH, GERMAN, strict=True)):
        count, read = np.sum(labels[row] > 0), np.sum(source[row] > 0)
        assert split.more['length'][row] == max(count, read)
        assert (labels[row, count - 1], source[row, read - 1]) == (END, END)
        np.testing.assert_array_equal(target[row, 1:count], labels[row, : count - 1])
        for ids, text in ((labels[row, : count - 1], other), (source[row, : read - 1], own)):
            assert ''.join(pieces[token] for token in ids).replace('▁', ' ').strip() == text
        assert bytes(split.more['reference'][row]).rstrip(b'\0').decode() == other
    assert 'reference' not in found.splits['train'].more


def test_pairs_that_are_too_long_are_left_out_and_counted(pairs):
    whole = multi30k.pairs(folder=pairs, vocabulary=60, source='de', shared=False)
    lengths = whole.splits['train'].more['length']
    limit = int(np.sort(lengths)[5])
    short = multi30k.pairs(folder=pairs, vocabulary=60, source='de', shared=False, longest=limit)
    assert short.facts['left_out'] == {'train': int(np.sum(lengths > limit)), 'validation': 0, 'test': 0}
    assert short.splits['train'].labels.shape == (int(np.sum(lengths <= limit)), limit)
    assert short.splits['test'].size == 12
    most = np.asarray([max(len(a.split()), len(b.split())) for a, b in zip(ENGLISH, GERMAN, strict=True)])
    few = [multi30k.pairs(folder=pairs, vocabulary=size, words=int(np.median(most))) for size in (60, 70)]
    assert [each.splits['test'].size for each in few] == [np.sum(most <= np.median(most))] * 2
    assert few[0].facts['fingerprint'] != few[1].facts['fingerprint']
    for arguments, message in (
        ({'longest': 1}, "no pair of at most 1 ids in 'train'"),
        ({'source': 'fr'}, "unknown source 'fr' of multi30k"),
        ({'test': '2019'}, "unknown test '2019' of multi30k"),
        ({'vocabulary': 5000}, '5000 sub-words cannot be made of these texts'),
        ({'vocabulary': 3}, 'at least 8 pieces, got 3'),
    ):
        with pytest.raises(UsageError, match=message):
            multi30k.pairs(folder=pairs, **{'vocabulary': 60, **arguments})


def test_equally_many_pieces_are_not_the_same_pieces():
    pytest.importorskip('sentencepiece')
    one, again, other = (subwords.learned(texts, 40) for texts in (ENGLISH, ENGLISH, GERMAN))
    assert len(one.pieces) == len(other.pieces) == 40
    assert one.fingerprint == again.fingerprint != other.fingerprint


def test_every_character_is_foreseen_once(monkeypatch, tmp_path):
    written = ''.join(map(chr, np.random.default_rng(0).integers(97, 104, 60)))
    publish(monkeypatch, 'tiny_shakespeare', {'input.txt': written.encode()}, tmp_path / 'tiny_shakespeare')
    monkeypatch.setattr(tiny_shakespeare, 'TRAIN', 50)
    found = tiny_shakespeare.characters(folder=str(tmp_path), window=4, validation=10, stride=3)
    words = found.facts['words']
    assert found.facts['vocabulary'] == len(words) == 9

    def read(ids):
        return ''.join(words[token] for token in ids.ravel() if token)

    for name, (start, end) in {'validation': (40, 50), 'test': (50, 60)}.items():
        split = found.splits[name]
        assert read(split.inputs) == written[start : end - 1]
        assert read(split.labels) == written[start + 1 : end]
        np.testing.assert_array_equal(split.more['length'], np.sum(split.inputs > 0, axis=1))
    train = found.splits['train']
    assert [read(row) for row in train.inputs] == [written[start : start + 4] for start in range(0, 36, 3)]
    assert [read(row) for row in train.labels] == [written[start : start + 4] for start in range(1, 37, 3)]
    with pytest.raises(
        UsageError, match='a window >= 1, a stride >= 0 and a validation in 5 to 45 characters, got 4, -1'
    ):
        tiny_shakespeare.characters(folder=str(tmp_path), window=4, validation=10, stride=-1)
