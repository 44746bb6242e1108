"""Connectionist temporal classification: strings of labels as sums over their alignments with frames.

An alignment has a class for every frame: a label, or the blank, which is the last class unless said otherwise. Repeats
are one label unless a blank lies between them. Shapes: B examples, T frames, K classes with the blank, L labels.

Reference: Graves, Fernandez, Gomez, Schmidhuber, Connectionist Temporal Classification: Labelling Unsegmented Sequence
Data with Recurrent Neural Networks, ICML 2006.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import optax

from kdjax.errors import UsageError
from kdjax.types import Array


class Surprise(NamedTuple):
    """What a string costs."""

    loss: Array  # (B,) -log of its probability, >= 0; 0 where it is impossible
    possible: Array  # (B,) bool: there are frames enough for its labels and a blank between repeats


def surprise(logits: Array, frames: Array, labels: Array, lengths: Array, blank: int = -1) -> Surprise:
    """-log p of strings, and whether they can be aligned at all.

    Three things are guarded: a string that has no alignment costs 0 and has no gradient, and it is said; what rounding
    makes slightly negative is 0; and what is real are first frames and first labels, by their number.

    Args:
      logits: (B, T, K).
      frames: (B,) how many are real.
      labels: (B, L) integers, anything behind the end.
      lengths: (B,) how many are real.
      blank: its class; -1 is the last.
    """
    blank = blank % logits.shape[-1]
    behind, unread = _behind(frames, logits.shape[1]), _behind(lengths, labels.shape[1])
    safe = jnp.where(unread, (blank + 1) % logits.shape[-1], labels)
    repeats = jnp.sum((safe[:, 1:] == safe[:, :-1]) & ~unread[:, 1:], axis=1)
    possible = frames >= lengths + repeats.astype(lengths.dtype)
    dtype = logits.dtype
    # Nothing behind the end reaches a gradient, whatever stands there.
    clean = jnp.where(behind[..., None], 0, logits)
    loss = optax.ctc_loss(clean, behind.astype(dtype), safe, unread.astype(dtype), blank_id=blank)
    return Surprise(jnp.maximum(jnp.where(possible, loss, 0), 0), possible)


def _behind(lengths: Array, size: int) -> Array:
    """Which places lie behind the end. (B, size)"""
    return jnp.arange(size, dtype=lengths.dtype) >= lengths[:, None]


def greedy(logits: Array, frames: Array, blank: int = -1) -> tuple[Array, Array]:
    """The labels of the most probable alignment, in front (B, T) int32, 0 behind their end, and their number (B,)."""
    best = jnp.argmax(logits, axis=-1).astype(jnp.int32)
    before = jnp.pad(best, [(0, 0), (1, 0)], constant_values=-1)[:, :-1]
    kept = (best != blank % logits.shape[-1]) & (best != before) & ~_behind(frames, logits.shape[1])
    order = jnp.argsort(~kept, axis=1, stable=True)
    lengths = jnp.sum(kept, axis=1, dtype=jnp.int32)
    return jnp.where(_behind(lengths, best.shape[1]), 0, jnp.take_along_axis(best, order, axis=1)), lengths


class Hypothesis(NamedTuple):
    """A string, and log p of all its alignments that the search has kept."""

    labels: tuple[int, ...]
    score: float


def beam_search(log_probabilities: np.ndarray, width: int, blank: int = -1) -> list[Hypothesis]:
    """The most probable strings of one example (T, K) on the host, at most `width`, the best first.

    Prefixes are kept, each with its probability of ending in a blank and of ending in its last label.

    Raises:
      UsageError: a width below 1, or other than one row of classes for every frame.

    Reference: Hannun, Maas, Jurafsky, Ng, First-Pass Large Vocabulary Continuous Speech Recognition using
    Bi-Directional Recurrent DNNs, arXiv 1408.2873, algorithm 1 (without a language model).
    """
    if width < 1 or log_probabilities.ndim != 2:
        raise UsageError(f'a beam search needs width >= 1 and log-probabilities (T, K), got {width} and '
                         f'{log_probabilities.shape}')  # fmt: skip
    blank = blank % log_probabilities.shape[-1]
    beam: dict[tuple[int, ...], tuple[float, float]] = {(): (0.0, -math.inf)}
    for row in log_probabilities.tolist():
        ends: dict[tuple[int, ...], list[float]] = {}
        for prefix, (in_blank, in_label) in beam.items():
            both = _either(in_blank, in_label)
            _add(ends, prefix, 0, both + row[blank])
            for label, score in enumerate(row):
                if label == blank:
                    continue
                if prefix and label == prefix[-1]:
                    _add(ends, prefix, 1, in_label + score)
                    _add(ends, (*prefix, label), 1, in_blank + score)
                else:
                    _add(ends, (*prefix, label), 1, both + score)
        ranked = sorted(ends.items(), key=lambda item: -_either(*item[1]))[:width]
        beam = {prefix: (scores[0], scores[1]) for prefix, scores in ranked if _either(*scores) > -math.inf}
    return [Hypothesis(prefix, _either(*scores)) for prefix, scores in beam.items()]


def n_best(
    log_probabilities: np.ndarray, frames: np.ndarray, count: int, width: int = 16, blank: int = -1
) -> dict[str, np.ndarray]:
    """The `count` most probable strings of every example, as `techniques.ctc_sequences` reads them.

    Args:
      log_probabilities: (N, T, K).
      frames: (N,) how many are real.
      count: n.
      width: of the beam, at least n.
      blank: its class; -1 is the last.

    Returns:
      'hypotheses' (N, n, L) int32, the best first and 0 behind their end, L that of the longest; 'hypothesis_lengths'
      (N, n) int32; 'hypothesis_weights' (N, n) float32, their probabilities over their sum. Where fewer are possible,
      the others have no length and no weight.

    Raises:
      UsageError: less than one string, or more than the beam holds.
    """
    if not 1 <= count <= width:
        raise UsageError(f'n_best needs 1 <= count <= width, got {count} and {width}')
    found = [beam_search(rows[:real], width, blank)[:count]
             for rows, real in zip(log_probabilities, frames, strict=True)]  # fmt: skip
    longest = max((len(string.labels) for strings in found for string in strings), default=0)
    labels = np.zeros((len(found), count, max(longest, 1)), np.int32)
    lengths, scores = np.zeros(labels.shape[:2], np.int32), np.full(labels.shape[:2], -np.inf)
    for example, strings in enumerate(found):
        for place, string in enumerate(strings):
            labels[example, place, : len(string.labels)] = string.labels
            lengths[example, place], scores[example, place] = len(string.labels), string.score
    weights = np.exp(scores - scores[:, :1])
    weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return {'hypotheses': labels, 'hypothesis_lengths': lengths, 'hypothesis_weights': weights}


def _add(ends: dict[tuple[int, ...], list[float]], prefix: tuple[int, ...], which: int, score: float) -> None:
    own = ends.setdefault(prefix, [-math.inf, -math.inf])
    own[which] = _either(own[which], score)


def _either(a: float, b: float) -> float:
    """log(exp a + exp b)."""
    high, low = max(a, b), min(a, b)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))


def edits(found: Sequence[Sequence[object]], wanted: Sequence[Sequence[object]]) -> np.ndarray:
    """Insertions, deletions and substitutions that make each of `wanted` of `found`, the fewest: (N,) int64.

    Reference: Levenshtein, Binary Codes Capable of Correcting Deletions, Insertions and Reversals, 1966.
    """
    ids: dict[object, int] = {}
    a, b = (_table(rows, ids) for rows in (found, wanted))
    ends_a, ends_b = (np.asarray([len(row) for row in rows], np.int64) for rows in (found, wanted))
    places = np.arange(b.shape[1] + 1)
    row = np.broadcast_to(places, (len(a), len(places))).copy()
    result = np.where(ends_a == 0, ends_b, 0)
    for count in range(1, a.shape[1] + 1):
        substituted = row[:, :-1] + (a[:, count - 1, None] != b)
        best = np.concatenate([row[:, :1] + 1, np.minimum(substituted, row[:, 1:] + 1)], axis=1)
        row = np.minimum.accumulate(best - places, axis=1) + places  # insertions, one after the other
        result = np.where(ends_a == count, row[np.arange(len(a)), ends_b], result)
    return result


def _table(rows: Sequence[Sequence[object]], ids: dict[object, int]) -> np.ndarray:
    """A number for every symbol, (N, longest)."""
    table = np.full((len(rows), max((len(row) for row in rows), default=0)), -1)
    for line, row in zip(table, rows, strict=True):
        line[: len(row)] = [ids.setdefault(symbol, len(ids)) for symbol in row]
    return table
