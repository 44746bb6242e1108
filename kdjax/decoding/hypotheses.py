"""A teacher's translations of training sentences: how good they are, and which of them students learn from.

Reference: Kim, Rush, Sequence-Level Knowledge Distillation, EMNLP 2016, sec. 3.2 (the best) and 3.3 (of the n best the
one that is closest to the reference); Gandhi, von Platen, Rush, Distil-Whisper, arXiv 2311.00430 (those that are too
far from the reference are left out).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kdjax.decoding import bleu
from kdjax.decoding.base import END

CHOICES = ('best', 'closest')  # of the n best; their places in the tables of a cache


class Filters(NamedTuple):
    """Which translations are good enough."""

    bleu: float = 0.0  # of the sentence, at least, to its reference
    ratio: float = 0.0  # of its tokens and the reference's, the larger over the smaller, at most; 0 for no bound

    def failed(self, text: 'Hypotheses', width: int) -> dict[str, np.ndarray]:
        """By the name of each filter which translations (N, n) it leaves out, each by the first alone."""
        longer, shorter = (of(text.lengths, text.references[:, None]) for of in (np.maximum, np.minimum))
        wrong = {
            'unended': ~text.ended,
            'too_long': text.lengths > width,
            'ratio': np.asarray(longer > self.ratio * np.maximum(shorter, 1)) if self.ratio else np.zeros(1, bool),
            'unlike': text.likeness < self.bleu,
        }
        before, found = np.zeros(text.ended.shape, bool), {}
        for name, here in wrong.items():
            found[name] = here & ~before
            before = before | here
        return found


class Hypotheses(NamedTuple):
    """The n best translations of N sentences, the best first."""

    tokens: np.ndarray  # (N, n, T) int32, 0 after the end
    texts: Sequence[Sequence[str]]  # of each sentence n
    likeness: np.ndarray  # (N, n), BLEU of the sentence to its reference, 0 to 100
    references: np.ndarray  # (N,) tokens of the reference, its end included

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each, the end included. (N, n)"""
        return np.sum(self.tokens > 0, axis=-1)

    @property
    def ended(self) -> np.ndarray:
        """Which have an end. (N, n)"""
        return np.any(self.tokens == END, axis=-1)


def likeness(texts: Sequence[Sequence[str]], references: Sequence[str]) -> np.ndarray:
    """BLEU of each of the n translations of a sentence to its reference. (N, n)"""
    found = []
    for several, reference in zip(texts, references, strict=True):
        known = {text: bleu.sentence(text, reference) for text in {*several}}
        found.append([known[text] for text in several])
    return np.asarray(found, np.float32)


def learned(text: Hypotheses, references: Sequence[str], filters: Filters, width: int) -> tuple[np.ndarray, Any]:
    """What students learn, for each of CHOICES (N, 2, T), 0 where nothing is good enough and the reference stands; and
    what is said of it in the record.

    Args:
      text: the translations.
      references: what others wrote, (N,).
      filters: which are good enough.
      width: tokens that a reference has at most, which is what there is room for.
    """
    failed = filters.failed(text, width)
    wrong = np.any(list(failed.values()), axis=0)
    places = {'best': np.zeros(len(wrong), int), 'closest': np.argmax(np.where(text.ended, text.likeness, -1), axis=1)}
    rows, chosen = np.arange(len(wrong)), []
    said: dict[str, Any] = {'sentences': len(wrong), 'searched': wrong.shape[1]}
    for name in CHOICES:
        where = places[name]
        good = ~wrong[rows, where]
        chosen.append(np.where(good[:, None], text.tokens[rows, where], 0))
        taken = [text.texts[row][where[row]] for row in rows[good]]
        said[name] = {
            'learned': int(good.sum()),
            **{fault: int(here[rows, where].sum()) for fault, here in failed.items()},
            'bleu': _corpus(taken, [references[row] for row in rows[good]]),
        }
    return np.stack(chosen, axis=1), said


def _corpus(ours: Sequence[str], theirs: Sequence[str]) -> float | None:
    return float(bleu.bleu(bleu.counts(ours, theirs).sum(axis=0))) if len(ours) else None


def as_searched(answer: Mapping[str, np.ndarray] | np.ndarray) -> dict[str, np.ndarray]:
    """Answers of a network, or ids (N, T) or (N, n, T) of a file, as 'tokens' (N, n, T) and 'scores', where known."""
    if isinstance(answer, Mapping):
        return {name: np.asarray(array) for name, array in answer.items()}
    tokens = np.asarray(answer)
    return {'tokens': tokens[:, None] if tokens.ndim == 2 else tokens}
