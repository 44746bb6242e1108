"""Descriptions of pictures in English and German, to be translated: Multi30k, task 1.

Sources: Elliott, Frank, Sima'an, Specia, Multi30K: Multilingual English-German Image Descriptions, VL 2016; Elliott,
Frank, Barrault, Bougares, Specia, Findings of the Second Shared Task on Multimodal Machine Translation, WMT 2017 (the
tests of 2017); Barrault et al., WMT 2018 (that of 2018).
"""

import gzip
from pathlib import Path

import numpy as np

from kdjax.data import files, subwords, text
from kdjax.dataset import Dataset, Split
from kdjax.decoding.base import BEGIN, END
from kdjax.errors import UsageError, unknown

TESTS = ('2016_flickr', '2017_flickr', '2017_mscoco', '2018_flickr')
LANGUAGES = ('en', 'de')
Pairs = list[tuple[str, str]]  # source, target


def pairs(
    *,
    folder: str = '',
    source: str = 'en',
    vocabulary: int = 4000,
    shared: bool = True,
    longest: int = 0,
    longest_evaluated: int = 0,
    words: int = 0,
    test: str = '2016_flickr',
) -> Dataset:
    """29,000 training, 1,014 validation and 461 to 1,071 test sentences with their translations, as sub-words.

    Inputs are 'source' (N, L) int32, which ends in the id of an end, and 'target' (N, L), which begins with that of a
    begin; labels (N, L) are the ids that follow those of the target, the end last. Both sides are padded to the longer
    one, whose ids 'length' counts. Validation and test have 'reference' (N, R) uint8, the translation in UTF-8, padded
    with 0, which BLEU is measured against.

    Facts are 'vocabulary', how many ids targets have, 'source_vocabulary', 'pieces', what those of targets are,
    'fingerprint', their hash, 'source_fingerprint', that of the pieces of sources, 'subwords', what makes ids of
    targets, and 'left_out', how many pairs of each split were too long.

    Args:
      folder: where the files are, or a folder that has them in 'multi30k_en_de'; by default what KDJAX_DATA names.
      source: the language that is read, 'en' or 'de'; the other is written.
      vocabulary: sub-words, made of the training sentences.
      shared: whether both languages have one vocabulary; if not, each has one of so many.
      longest: ids of a side above which a pair is left out of training; 0 for none.
      longest_evaluated: the same of validation and test, whose results are then no others' results; 0 for none.
      words: words of a side above which a pair is left out of every split, whatever the vocabulary; 0 for none.
      test: which test split, of TESTS.

    Raises:
      UsageError: a file is missing or is another than the published one, an argument is out of range, no pair is short
        enough, or sentencepiece is not installed.
    """
    if source not in LANGUAGES:
        raise unknown('source', source, LANGUAGES, ' of multi30k')
    if test not in TESTS:
        raise unknown('test', test, TESTS, ' of multi30k')
    place, languages = files.located('multi30k_en_de', folder), (source, LANGUAGES[1 - LANGUAGES.index(source)])
    names = {'train': 'train', 'validation': 'val', 'test': f'test_{test}'}
    texts = {split: _read(place, name, languages) for split, name in names.items()}
    read, written = _vocabularies(texts['train'], vocabulary, shared)
    limits = {'train': longest, 'validation': longest_evaluated, 'test': longest_evaluated}
    splits, left_out = {}, {}
    for split, own in texts.items():
        brief = [pair for pair in own if not words or max(len(side.split()) for side in pair) <= words]
        if not brief:
            raise UsageError(f'multi30k has no pair of at most {words} words in {split!r}')
        splits[split], cut = _split(brief, read, written, limits[split], split)
        left_out[split] = len(own) - len(brief) + cut
    splits = _alike(splits)
    facts = {
        'vocabulary': len(written.pieces), 'source_vocabulary': len(read.pieces), 'pieces': written.pieces,
        'fingerprint': written.fingerprint, 'source_fingerprint': read.fingerprint, 'subwords': written,
        'left_out': left_out,
    }  # fmt: skip
    return Dataset(splits, facts=facts, padded=('inputs', 'labels'))


def _read(place: Path, name: str, languages: tuple[str, str]) -> Pairs:
    """Sentences of both languages, line by line."""
    sides = [
        gzip.decompress(files.content('multi30k_en_de', f'{name}.{language}.gz', place)).decode().splitlines()
        for language in languages
    ]
    return [(source.strip(), target.strip()) for source, target in zip(*sides, strict=True)]


def _vocabularies(train: Pairs, size: int, shared: bool) -> tuple[subwords.Subwords, subwords.Subwords]:
    if shared:
        both = subwords.learned((side for pair in train for side in pair), size)
        return both, both
    return subwords.learned((pair[0] for pair in train), size), subwords.learned((pair[1] for pair in train), size)


def _split(
    own: Pairs, read: subwords.Subwords, written: subwords.Subwords, longest: int, name: str
) -> tuple[Split, int]:
    """The pairs of a split that are not too long, and how many are."""
    sources = [[*ids, END] for ids in read.encoded([pair[0] for pair in own])]
    targets = [[*ids, END] for ids in written.encoded([pair[1] for pair in own])]
    lengths = np.maximum(text.lengths(sources), text.lengths(targets))
    kept = np.flatnonzero(lengths <= longest) if longest else np.arange(len(own))
    if not len(kept):
        raise UsageError(f'multi30k has no pair of at most {longest} ids in {name!r}: the shortest has {lengths.min()}')
    width = int(lengths[kept].max())
    labels = text.padded([targets[row] for row in kept], width)
    begun = text.padded([[BEGIN, *targets[row][:-1]] for row in kept], width)
    inputs = {'source': text.padded([sources[row] for row in kept], width), 'target': begun}
    more = {'length': lengths[kept].astype(np.int32)}
    if name != 'train':
        more['reference'] = _bytes([own[row][1] for row in kept])
    return Split(inputs, labels, more), len(own) - len(kept)


def _bytes(texts: list[str]) -> np.ndarray:
    """UTF-8, padded with 0. (N, R) uint8"""
    rows = [list(each.encode()) for each in texts]
    return text.padded(rows, max(map(len, rows))).astype(np.uint8)


def _alike(splits: dict[str, Split]) -> dict[str, Split]:
    """With references of one width, as columns have that are no tokens."""
    width = max(split.more['reference'].shape[1] for name, split in splits.items() if name != 'train')
    found = {'train': splits['train']}
    for name in ('validation', 'test'):
        reference = splits[name].more['reference']
        wide = np.pad(reference, [(0, 0), (0, width - reference.shape[1])])
        found[name] = splits[name]._replace(more={**splits[name].more, 'reference': wide})
    return found
