"""Entities in tags B-x, I-x and O: where they begin and end, and which ones two taggings have in common; in numpy.

Two readings of tags are in use, which differ where an I- continues nothing. To conlleval (and seqeval by default) an
entity begins there all the same; to strict IOB2 entities begin at B- alone. So the entities of the strict reading are
those of the other that begin at B-.

Reference: Tjong Kim Sang, Buchholz, Introduction to the CoNLL-2000 Shared Task: Chunking (the script conlleval).
"""

import functools
from typing import NamedTuple

import numpy as np

from kdjax.errors import UsageError

OUTSIDE = -1  # the type of a token in no entity


class Scheme(NamedTuple):
    """What tags mean."""

    types: tuple[str, ...]  # of entities, in the order of the alphabet
    type: np.ndarray  # (K,) of each tag, OUTSIDE for O
    begins: np.ndarray  # (K,) whether a tag is B-


@functools.cache
def scheme(tags: tuple[str, ...]) -> Scheme:
    """What tags mean, by their names.

    Raises:
      UsageError: a tag that is not O, B-x or I-x, none for O, none of an entity, or one twice.
    """
    parts = [tag.partition('-') for tag in tags]
    known = [part == ('O', '', '') or (part[0] in ('B', 'I') and bool(part[2])) for part in parts]
    if not all(known) or len(set(tags)) < len(tags) or 'O' not in tags or len(tags) < 2:
        raise UsageError(f'tags must be O and, of every type x of entities, B-x and I-x, each once, got {tags}')
    types = tuple(sorted({kind for _, _, kind in parts if kind}))
    places = {'': OUTSIDE, **{kind: place for place, kind in enumerate(types)}}
    return Scheme(types, np.asarray([places[kind] for _, _, kind in parts]), np.asarray([p[0] == 'B' for p in parts]))


class Entities(NamedTuple):
    """Entities of many sentences, in order. Each (E,)."""

    sentence: np.ndarray
    type: np.ndarray
    start: np.ndarray  # positions count through all sentences
    last: np.ndarray  # position of the last token
    strict: np.ndarray  # whether it begins at B-

    def where(self, chosen: np.ndarray) -> 'Entities':
        """Some of them."""
        return Entities(*(column[chosen] for column in self._asdict().values()))


def entities(tags: np.ndarray, real: np.ndarray, meaning: Scheme) -> Entities:
    """All entities as conlleval reads them.

    An entity begins at B-, and at I- after O, after another type or at the start of a sentence; it goes on at I- of its
    type.

    Args:
      tags: (N, L), of which only `real` (N, L) count.
      meaning: of the tags.
    """
    count, length = tags.shape
    types = np.full((count, length + 1), OUTSIDE)  # behind every sentence is a token in no entity
    types[:, :length] = np.where(real, meaning.type[tags], OUTSIDE)
    begins = np.zeros((count, length + 1), bool)
    begins[:, :length] = meaning.begins[tags]
    types, begins = types.ravel(), begins.ravel()
    inside = types != OUTSIDE
    first = inside & (begins | (types != np.concatenate([[OUTSIDE], types[:-1]])))
    goes_on = np.concatenate([(inside & ~first)[1:], [False]])
    start, last = np.flatnonzero(first), np.flatnonzero(inside & ~goes_on)
    return Entities(start // (length + 1), types[start], start, last, begins[start])


def shared(left: Entities, right: Entities) -> np.ndarray:
    """Which entities of `left` are in `right` too, from the first token to the last and with their type. (E,)"""
    _, own, other = np.intersect1d(left.start, right.start, assume_unique=True, return_indices=True)
    found = np.zeros(len(left.start), bool)
    found[own] = (left.last[own] == right.last[other]) & (left.type[own] == right.type[other])
    return found


def tally(found: Entities, wanted: Entities, size: int, by: str = 'sentence') -> np.ndarray:
    """How many entities are found rightly, found, and there to find; (size, 3), by 'sentence' or by 'type'."""
    right = found.where(shared(found, wanted))
    counts = [np.bincount(getattr(some, by), minlength=size) for some in (right, found, wanted)]
    return np.stack(counts, axis=-1).astype(np.float64)


def f1(counts: np.ndarray) -> np.ndarray:
    """Of `tally` (..., 3), 2 right / (found + there), 0 where there is neither, as conlleval has it. (...)"""
    right, found, there = np.moveaxis(counts, -1, 0)
    return share(2 * right, found + there)


def share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, 0 where there is no whole."""
    return np.asarray(part, np.float64) / np.maximum(whole, 1)
