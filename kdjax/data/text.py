"""Texts as numbers: vocabularies of training texts, and sentences of ids that are padded on the right.

Id 0 is padding and id 1 a word that the vocabulary does not have; words begin at 2, the most frequent one first.
"""

import collections
import dataclasses
import functools
import itertools
from collections.abc import Iterable, Sequence

import numpy as np

from kdjax import trees
from kdjax.errors import UsageError

PADDING, UNKNOWN = 0, 1
RESERVED = ('', '<unknown>')  # how the two are written

Sentence = Sequence[str]  # its words, or its n-grams


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Words by id. Two with the same words in the same order are equal; of a size alone they may still differ.

    Attributes:
      words: by id; the first two are RESERVED.
      known: ids below it are words that training knows; the others, where there are any, only have a spelling.
    """

    words: tuple[str, ...]
    known: int

    @functools.cached_property
    def ids(self) -> dict[str, int]:
        """Id by word, those without a word left out."""
        return {word: place for place, word in enumerate(self.words) if place >= len(RESERVED)}

    @functools.cached_property
    def fingerprint(self) -> str:
        """A hash that is the same in every process."""
        return trees.digest([self.words, self.known])

    def encoded(self, sentence: Sentence) -> list[int]:
        """The ids of a sentence."""
        return [self.ids.get(word, UNKNOWN) for word in sentence]

    def extended(self, sentences: Iterable[Sentence]) -> 'Vocabulary':
        """This one followed by all other words of `sentences`, as many as there are, which training does not know."""
        others = [word for word in ranked(sentences) if word not in self.ids]
        return Vocabulary((*self.words, *others), self.known)


def split(text: str) -> list[str]:
    """The words of a text that is tokenised already: what stands between white space."""
    return text.split()


def vocabulary(sentences: Iterable[Sentence], size: int = 0, minimum: int = 1) -> Vocabulary:
    """The words of training texts, the most frequent first.

    Args:
      sentences: of the training split alone.
      size: how many words at most, the ids of RESERVED not counted; 0 for all.
      minimum: how often a word must occur.

    Raises:
      UsageError: a negative size, or a minimum below 1.
    """
    if size < 0 or minimum < 1:
        raise UsageError(f'a vocabulary has a size >= 0 (0 for all words) and a minimum >= 1, got {size} and {minimum}')
    words = ranked(sentences, minimum)
    kept = (*RESERVED, *(words[:size] if size else words))
    return Vocabulary(kept, len(kept))


def ranked(sentences: Iterable[Sentence], minimum: int = 1) -> list[str]:
    """The words that occur at least `minimum` times: frequent ones first, equally frequent ones by code points."""
    counts = collections.Counter(itertools.chain.from_iterable(sentences))
    return sorted((word for word, count in counts.items() if count >= minimum), key=lambda word: (-counts[word], word))


def ngrams(sentence: Sentence, longest: int) -> list[str]:
    """The different n-grams of a sentence for n = 1 to `longest`, each once, as words with spaces between them."""
    found = (
        ' '.join(sentence[start : start + n]) for n in range(1, longest + 1) for start in range(len(sentence) - n + 1)
    )
    return list(dict.fromkeys(found))


def padded(rows: Sequence[Sequence[int]], width: int) -> np.ndarray:
    """Rows of at most `width` ids, padded on the right: (N, width) int32."""
    result = np.full((len(rows), width), PADDING, np.int32)
    for row, ids in zip(result, rows, strict=True):
        row[: len(ids)] = ids
    return result


def lengths(rows: Sequence[Sequence[object]]) -> np.ndarray:
    """How many ids each row has: (N,) int32."""
    return np.asarray([len(row) for row in rows], np.int32)
