"""Data sets of words that take no time: sentences of two classes, some of whose words are tagged."""

import numpy as np

from kdjax.dataset import Dataset, Split

WORDS = ('', '?', 'a', 'bad', 'Good', 'film', 'ok', 'Rome', 'the', 'York', 'new')
TAGS = ('O', 'B-place', 'I-place')


def _sentences(size, seed):
    random = np.random.default_rng(seed)
    lengths = random.integers(2, 13, size).astype(np.int32)
    lengths[:3] = (3, 7, 12)
    tokens = random.integers(1, len(WORDS), (size, 12)).astype(np.int32)
    return np.where(np.arange(12) < lengths[:, None], tokens, 0), lengths


def sentences():
    """Whether a sentence has more good words than bad ones; a teacher reads its words in the reverse order."""
    splits = {}
    for seed, (name, size) in enumerate({'train': 60, 'validation': 24, 'test': 24}.items()):
        tokens, lengths = _sentences(size, seed)
        labels = (np.sum(tokens == 4, axis=1) > np.sum(tokens == 3, axis=1)).astype(np.int32)
        reverse = np.take_along_axis(tokens, (lengths[:, None] - 1 - np.arange(12)) % 12, axis=1)
        more = {'length': lengths, 'teacher_inputs': np.where(tokens > 0, reverse, 0)}
        splits[name] = Split(tokens, labels, more)
    facts = {'vocabulary': len(WORDS), 'words': WORDS, 'grams': len(WORDS)}
    return Dataset(splits, ('bad', 'good'), facts, padded=('inputs', 'teacher_inputs'))


def tagged():
    """The same sentences, of which names of places are tagged."""
    splits = {}
    for seed, (name, size) in enumerate({'train': 60, 'validation': 24, 'test': 24}.items()):
        tokens, lengths = _sentences(size, seed)
        tags = np.where((tokens == 7) | (tokens == 10), 1, 0)
        after_new = np.concatenate([np.zeros((size, 1), bool), tokens[:, :-1] == 10], axis=1)
        tags = np.where((tokens == 9) & after_new, 2, tags).astype(np.int32)
        splits[name] = Split(tokens, tags, {'length': lengths})
    facts = {'vocabulary': len(WORDS), 'words': WORDS}
    return Dataset(splits, TAGS, facts, padded=('inputs', 'labels'))


def pieced():
    """`tagged`, whose teacher reads each word in one or two pieces, behind a first token."""
    dataset = tagged()
    splits = {}
    for name, split in dataset.splits.items():
        pieces, first = np.zeros((split.size, 26), np.int32), np.zeros(split.inputs.shape, np.int32)
        for row, (words, count) in enumerate(zip(split.inputs, split.more['length'], strict=True)):
            found = [20]
            for place, word in enumerate(words[:count]):
                first[row, place] = len(found)
                found += [word] if word % 2 else [word, 12 + word // 2]
            pieces[row, : len(found)] = found
        splits[name] = split._replace(more={**split.more, 'teacher_inputs': {'pieces': pieces, 'first': first}})
    return dataset._replace(splits=splits)
