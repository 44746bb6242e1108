"""Emerging and rare named entities in social media: WNUT-17, tokens with one of 13 tags.

Source: Derczynski, Nichols, van Erp, Limsopatham, Results of the WNUT2017 Shared Task on Novel and Emerging Entity
Recognition, W-NUT 2017.
"""

import numpy as np

from kdjax.data import files, text, wordpiece
from kdjax.dataset import SPLITS, Dataset, Split

ENTITIES = ('corporation', 'creative-work', 'group', 'location', 'person', 'product')
# The first token of an entity is B-, the others of it are I-.
CLASSES = ('O', *(f'{place}-{entity}' for entity in ENTITIES for place in 'BI'))
FILES = dict(zip(SPLITS, ('wnut17train.conll', 'emerging.dev.conll', 'emerging.test.annotated'), strict=True))

Tagged = tuple[list[str], list[str]]  # words, tags


def entities(
    *, folder: str = '', vocabulary: int = 0, minimum: int = 2, lower: bool = False, pieces: str = ''
) -> Dataset:
    """3,394 training, 1,009 validation and 1,287 test sentences: word ids and tags, each (N, L) int32.

    The fact 'words' has all words of all splits as they are written, by id. 'vocabulary' is the number of ids that may
    have an embedding: words of training. Of the ids from there on a network knows the spelling alone.

    With `pieces`, 'teacher_inputs' has the WordPieces of a sentence between [CLS] and [SEP], 'pieces' (N, P), and where
    those of each word begin, 'first' (N, L), for a teacher such as `bert.tagger`.

    Sentences of validation and test are longer than those of training (82 and 105 tokens against 41), and are whole.

    Args:
      folder: where the three files are, or a folder that has them in 'wnut17'; by default what KDJAX_DATA names.
      vocabulary: how many training words may have an embedding, the most frequent ones; 0 for all.
      minimum: how often a word must occur in training for one. With 1 no training word is unknown, and so the embedding
        of unknown words learns nothing.
      lower: whether all words are put in lower case first. More of them are known then, and what capitals say is lost.
      pieces: a tokenizer.json or vocab.txt (needs the extra `text`); '' for no WordPieces.

    Raises:
      UsageError: a file is missing or is another than the published one, or an argument is out of range.
    """
    place = files.located('wnut17', folder)
    tagged = {split: conll(files.content('wnut17', name, place).decode()) for split, name in FILES.items()}
    texts = {split: [[word.lower() if lower else word for word in words] for words, _ in own]
             for split, own in tagged.items()}  # fmt: skip
    known = text.vocabulary(texts['train'], vocabulary, minimum)
    words = known.extended(sentence for own in texts.values() for sentence in own)
    width = max(len(sentence) for own in texts.values() for sentence in own)
    splits = {}
    for split, own in texts.items():
        ids = text.padded([words.encoded(sentence) for sentence in own], width)
        tags = text.padded([[CLASSES.index(tag) for tag in tags] for _, tags in tagged[split]], width)
        more = {'teacher_inputs': _pieces(own, pieces, width)} if pieces else {}
        splits[split] = Split(ids, tags, {'length': text.lengths(own), **more})
    return Dataset(splits, CLASSES, {'vocabulary': known.known, 'words': words.words}, padded=('inputs', 'labels'))


def _pieces(sentences: list[list[str]], file: str, width: int) -> dict[str, np.ndarray]:
    """WordPieces of sentences, and the position of the first one of each word."""
    found = wordpiece.encoded(sentences, file)
    assert found.first is not None
    first = np.zeros((len(sentences), width), np.int32)
    first[:, : found.first.shape[1]] = found.first
    return {'pieces': found.ids, 'first': first}


def conll(content: str) -> list[Tagged]:
    """Sentences of a file with a token and its tag on a line, and lines without them between sentences."""
    sentences: list[Tagged] = [([], [])]
    for line in content.split('\n'):
        if line.strip():
            for column, value in zip(sentences[-1], line.split('\t'), strict=True):
                column.append(value)
        elif sentences[-1][0]:
            sentences.append(([], []))
    return sentences if sentences[-1][0] else sentences[:-1]
