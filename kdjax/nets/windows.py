"""A window of words: the class of each from itself and its neighbours, by their words, affixes and shapes."""

import zlib
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from kdjax.errors import UsageError
from kdjax.nets.base import compute_dtype, from_linen, tap
from kdjax.nets.layers import Dropout
from kdjax.nets.sequences import Constant, Embedding, at_least, mask_of, only_real, windows
from kdjax.types import Array, Net

AFFIXES = ('prefix', 'suffix')


def affixes(words: Sequence[str], letters: int, buckets: int) -> np.ndarray:
    """The bucket of the first and of the last `letters` of every word, lower-case, (W, 2) int32; 0 is nobody's."""
    ends = [[word.lower()[:letters], word.lower()[-letters:]] for word in words]
    return np.asarray([[1 + zlib.crc32(part.encode()) % buckets for part in both] for both in ends], np.int32)


def shapes(words: Sequence[str]) -> np.ndarray:
    """What every word looks like, (W, 5) bytes of 0 and 1.

    A capital first; two letters or more, all capitals; a digit; a sign that is neither letter nor digit; an '@', '#' or
    'http' at its beginning.
    """
    return np.asarray([
        [
            word[:1].isupper(), len(word) > 1 and word.isupper(), any(map(str.isdigit, word)),
            any(not letter.isalnum() for letter in word), word.lower().startswith(('@', '#', 'http')),
        ]
        for word in words
    ], np.uint8)  # fmt: skip


class _Windows(nn.Module):
    classes: int
    vocabulary: int
    width: int
    affixes: Constant
    shapes: Constant
    buckets: int
    affix_width: int
    around: int
    hidden: int
    dropout: float
    axis: str | None
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool) -> Array:
        mask, drop = mask_of(inputs), Dropout(self.dropout, self.axis)
        x = tap(self, 'embedding', self._described(inputs, mask), mask)
        x = drop(windows(x, self.around, self.around), train)
        x = nn.relu(nn.Dense(self.hidden, dtype=self.dtype, name='hidden')(x))
        x = drop(tap(self, 'penult', only_real(x, mask), mask), train)
        return tap(self, 'logits', nn.Dense(self.classes, dtype=self.dtype, name='head')(x), mask)

    def _described(self, ids: Array, mask: Array) -> Array:
        """Each word by itself: its vector, those of its affixes, and its shape. (B, N, D)"""
        parts = [Embedding(self.vocabulary, self.width, self.dtype, name='words')(ids)]
        hashed, looks = (
            jnp.take(jnp.asarray(of.values), ids, axis=0, mode='clip') for of in (self.affixes, self.shapes)
        )
        for place, name in enumerate(AFFIXES):
            table = Embedding(self.buckets + 1, self.affix_width, self.dtype, name=name)
            parts.append(table(hashed[..., place]))
        return only_real(jnp.concatenate([*parts, looks.astype(self.dtype)], axis=-1), mask)


def mlp(
    *,
    classes: int,
    vocabulary: int,
    words: Sequence[str],
    width: int = 16,
    letters: int = 3,
    buckets: int = 1000,
    affix_width: int = 8,
    around: int = 2,
    hidden: int = 48,
    dropout: float = 0.3,
    precision: str = 'float32',
    axis: str | None = None,
) -> Net:
    """An MLP that slides over a sentence and says a class for every word; inputs (B, N) ids, 0 for padding.

    A word is its vector, those of its prefix and suffix, which share a number of buckets, and 5 facts about its shape
    (`shapes`). Affixes and shapes are of the strings, so that words without a vector have them too. Without recurrence
    it trains in seconds, and many of them as one program.

    Taps: 'embedding' (B, N, width + 2 affix_width + 5), 'penult' (B, N, hidden); all and the logits have masks.

    Args:
      classes: number of logits of a word.
      vocabulary: ids that have a vector; words beyond share that of id 1.
      words: of every id.
      width: of word vectors.
      letters: of an affix.
      buckets: into which prefixes are hashed, and as many for suffixes.
      affix_width: of their vectors.
      around: neighbours on either side.
      hidden: units between the window and the logits.
      dropout: probability of dropping a unit before either layer, in training.
      precision: dtype of activations, 'float32' or 'bfloat16'.
      axis: name of the device axis that a batch is split over, None where it is whole: which units are dropped.

    Raises:
      UsageError: a number below 1 (`around` below 0), or fewer words than ids that have a vector.

    Reference: Collobert et al., Natural Language Processing (Almost) from Scratch, JMLR 2011, sec. 3.
    """
    at_least(
        'window mlp', vocabulary=vocabulary, width=width, letters=letters, buckets=buckets, affix_width=affix_width,
        hidden=hidden,
    )  # fmt: skip
    at_least('window mlp', least=0, around=around)
    if len(words) < vocabulary:
        raise UsageError(f'a window mlp needs the words of all {vocabulary} ids, got {len(words)}')
    module = _Windows(
        classes, vocabulary, width, Constant(affixes(words, letters, buckets)), Constant(shapes(words)), buckets,
        affix_width, around, hidden, dropout, axis, compute_dtype(precision),
    )  # fmt: skip
    return from_linen(module, ('embedding', 'penult'))
