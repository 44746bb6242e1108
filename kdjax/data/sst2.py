"""Sentences of film reviews, positive or negative: the sentence-level SST-2, tokenised and in lower case.

There are two data sets of this name. This one has 6,920 training sentences; GLUE's has 67,349 phrases of them, and its
tables are not comparable with what is measured here. Call this one sst2_sentences.

Source: Socher et al., Recursive Deep Models for Semantic Compositionality Over a Sentiment Treebank, EMNLP 2013.
"""

from typing import Any

import numpy as np

from kdjax.data import files, text, wordpiece
from kdjax.dataset import SPLITS, Dataset, Split
from kdjax.errors import UsageError

CLASSES = ('negative', 'positive')
FILES = dict(zip(SPLITS, ('train.tsv', 'dev.tsv', 'test.tsv'), strict=True))


def sentences(
    *,
    folder: str = '',
    vocabulary: int = 3000,
    minimum: int = 1,
    longest: int = 0,
    ngrams: int = 0,
    ngram_minimum: int = 1,
    pieces: str = '',
) -> Dataset:
    """6,920 training, 872 validation and 1,821 test sentences as word ids (N, L) int32, in the order of the files.

    Facts are 'vocabulary', the number of ids, and 'words', what they mean. With `ngrams`, 'teacher_inputs' (N, M) has
    ids of the n-grams of a sentence that training has too, each once, and the fact 'grams' is the number of those ids;
    with `pieces` it has those of its WordPieces between [CLS] and [SEP], for a teacher such as `bert.bert`.

    Args:
      folder: where the three .tsv files are, or a folder that has them in 'sst2'; by default what KDJAX_DATA names.
      vocabulary: how many words of the training sentences have an id of their own, the most frequent ones; 0 for all.
        All others are id 1. The n-grams are not limited by it.
      minimum: how often a word must occur in training to have an id.
      longest: words after which a sentence is cut off, in every split; 0 to keep all.
      ngrams: of how many words the longest n-gram is; 0 for no n-grams.
      ngram_minimum: how often an n-gram must occur in training to have an id.
      pieces: a tokenizer.json or vocab.txt (needs the extra `text`); '' for no WordPieces.

    Raises:
      UsageError: a file is missing or is another than the published one, or an argument is out of range.
    """
    if longest < 0 or ngrams < 0:
        raise UsageError(f'longest and ngrams of sst2 must be >= 0, got {longest} and {ngrams}')
    if ngrams and pieces:
        raise UsageError(f'a teacher of sst2 reads ngrams or pieces, not both, got {ngrams} and {pieces!r}')
    place = files.located('sst2', folder)
    texts, labels = {}, {}
    for split, name in FILES.items():
        rows = [line.rpartition('\t') for line in files.content('sst2', name, place).decode().splitlines()]
        texts[split] = [text.split(sentence)[: longest or None] for sentence, _, _ in rows]
        labels[split] = np.asarray([int(label) for _, _, label in rows], np.int32)
    words = text.vocabulary(texts['train'], vocabulary, minimum)
    width = max(len(sentence) for own in texts.values() for sentence in own)
    grams = _grams(texts, ngrams, ngram_minimum) if ngrams else _pieces(texts, pieces) if pieces else {}
    splits = {}
    for split, own in texts.items():
        more = {'length': text.lengths(own)} | ({'teacher_inputs': grams[split]} if grams else {})
        splits[split] = Split(text.padded([words.encoded(sentence) for sentence in own], width), labels[split], more)
    facts = {'vocabulary': words.known, 'words': words.words} | ({'grams': grams['count']} if ngrams else {})
    return Dataset(splits, CLASSES, facts, padded=('inputs',))


def _grams(texts: dict[str, list[list[str]]], longest: int, minimum: int) -> dict[str, Any]:
    """Ids (N, M) of the known n-grams of every split, and the 'count' of ids."""
    grams = {split: [text.ngrams(sentence, longest) for sentence in own] for split, own in texts.items()}
    known = text.vocabulary(grams['train'], minimum=minimum)
    # What training does not have has no weight that could have been learned.
    ids = {split: [[known.ids[gram] for gram in row if gram in known.ids] for row in own]
           for split, own in grams.items()}  # fmt: skip
    width = max(len(row) for own in ids.values() for row in own)
    return {**{split: text.padded(rows, width) for split, rows in ids.items()}, 'count': known.known}


def _pieces(texts: dict[str, list[list[str]]], file: str) -> dict[str, Any]:
    """Ids (N, M) of the WordPieces of every split."""
    found = {split: wordpiece.encoded([' '.join(words) for words in own], file).ids for split, own in texts.items()}
    width = max(ids.shape[1] for ids in found.values())
    return {split: np.pad(ids, [(0, 0), (0, width - ids.shape[1])]) for split, ids in found.items()}
