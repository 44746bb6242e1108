"""Conditional random fields by brute force, every sequence of tags by itself; and a tagger that is a table."""

import itertools

import numpy as np
from flax import linen as nn

from kdjax.nets.base import from_linen, tap
from kdjax.nets.sequences import Embedding, mask_of


def sequences(emissions, transitions, count):
    """All sequences of `count` tags and their scores, of one sentence: (K^count, count) and (K^count,)."""
    size = emissions.shape[1]
    paths = np.array(list(itertools.product(range(size), repeat=count)), int).reshape(size**count, count)
    return paths, np.array([score(emissions, transitions, path) for path in paths])


def score(emissions, transitions, path):
    """s(y) as the docstring of kdjax.crf has it; 0 of no tags."""
    if not len(path):
        return 0.0
    start, end = transitions[-2, path[0]], transitions[-1, path[-1]]
    return start + sum(emissions[i, k] for i, k in enumerate(path)) + transitions[path[:-1], path[1:]].sum() + end


def log_sum(scores):
    """log of the sum of exponentials."""
    top = scores.max()
    return top + np.log(np.exp(scores - top).sum())


def probabilities(scores):
    return np.exp(scores - log_sum(scores))


class _Table(nn.Module):
    classes: int
    vocabulary: int

    @nn.compact
    def __call__(self, ids, *, train):
        return tap(self, 'logits', Embedding(self.vocabulary, self.classes, 'float32', name='table')(ids), mask_of(ids))


def table(*, classes, vocabulary):
    """Logits (B, N, K) that each token has of its own."""
    return from_linen(_Table(classes, vocabulary))
