"""Where two writers of one text, each in sub-words of its own, have read the same of it, and so foresee the same."""

from collections.abc import Iterator, Sequence

import numpy as np

from kdjax.decoding.base import BEGIN, END, PADDING, UNKNOWN

NOWHERE = -1


def aligned(ours: np.ndarray, theirs: np.ndarray, our_pieces: Sequence[str], their_pieces: Sequence[str]) -> np.ndarray:
    """For every token that we foresee the place of the one that they foresee after the same characters.

    Args:
      ours, theirs: ids (N, W) and (N, V) that follow each other, an end last, 0 for padding, of the same N texts.
      our_pieces, their_pieces: strings of ids.

    Returns:
      (N, W) int32 places in `theirs`, NOWHERE at padding and where they have read another part of a word; after an
      unknown piece, of whose length nobody knows, too.
    """
    found = np.full(ours.shape, NOWHERE, np.int32)
    for row, (own, others) in enumerate(zip(ours.tolist(), theirs.tolist(), strict=True)):
        places = {read: place for place, read in enumerate(_read(others, their_pieces))}
        for place, read in enumerate(_read(own, our_pieces)):
            found[row, place] = places.get(read, NOWHERE)
    return found


def matched(our_pieces: Sequence[str], their_pieces: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Pairs of ids, ours and theirs, of equal strings; what nobody foresees (padding, beginnings) and what one of both
    does not know has none."""
    theirs = {piece: token for token, piece in enumerate(their_pieces) if token > BEGIN}
    return tuple((token, theirs[piece]) for token, piece in enumerate(our_pieces) if token > BEGIN and piece in theirs)


def _read(ids: Sequence[int], pieces: Sequence[str]) -> Iterator[int]:
    """Characters that have been read before each token."""
    read = 0
    for token in ids:
        if token == PADDING:
            return
        yield read
        if token in (UNKNOWN, END):
            return
        read += len(pieces[token])
