"""Bidirectional LSTMs over words: a class for a sentence, or one for each of its words."""

from collections.abc import Sequence

import jax.numpy as jnp
from flax import linen as nn

from kdjax.errors import unknown
from kdjax.nets.base import compute_dtype, from_linen, tap
from kdjax.nets.sequences import POOLINGS, States, WordStates, pooled, state_taps, states
from kdjax.types import Array, Net

LAST = 'last'


class _BiLSTM(nn.Module):
    classes: int
    of: States
    pooling: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool) -> Array:
        x, last, mask = WordStates(self.of, self.dtype, name='states')(inputs, train)
        x = tap(self, 'penult', last if self.pooling == LAST else pooled(x, mask, self.pooling))
        return nn.Dense(self.classes, dtype=self.dtype, name='head')(x)


class _Tagger(nn.Module):
    classes: int
    of: States
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool) -> Array:
        x, _, mask = WordStates(self.of, self.dtype, name='states')(inputs, train)
        return tap(self, 'logits', nn.Dense(self.classes, dtype=self.dtype, name='head')(x), mask)


def bilstm(
    *,
    classes: int,
    vocabulary: int,
    width: int = 50,
    units: int = 50,
    layers: int = 1,
    pooling: str = LAST,
    dropout: float = 0.3,
    precision: str = 'float32',
    axis: str | None = None,
) -> Net:
    """A sentence's class from the states of a bidirectional LSTM; inputs (B, N) ids, 0 for padding.

    Taps: 'embedding' (B, N, width), 'hidden1', ... (B, N, 2 units) and 'penult' (B, 2 units).

    Args:
      classes: number of logits.
      vocabulary: ids that have a vector; words beyond share that of id 1.
      width: of word vectors.
      units: of each direction.
      layers: LSTMs on each other.
      pooling: 'last', the state of each direction where it ends; or of all states 'mean', 'max' or 'first'.
      dropout: probability of dropping a unit between layers in training, first and last included.
      precision: dtype of activations, 'float32' or 'bfloat16'.
      axis: name of the device axis that a batch is split over, None where it is whole: which units are dropped.

    Raises:
      UsageError: a number below 1, or a pooling that is none of these.

    Reference: Tang et al., Distilling Task-Specific Knowledge from BERT into Simple Neural Networks, arXiv 1903.12136.
    """
    if pooling not in (LAST, *POOLINGS):
        raise unknown('pooling', pooling, (LAST, *POOLINGS), ' of a bilstm')
    of = states('bilstm', vocabulary=vocabulary, width=width, units=units, layers=layers, dropout=dropout, axis=axis)
    return from_linen(_BiLSTM(classes, of, pooling, compute_dtype(precision)), (*state_taps(layers), 'penult'))


def tagger(
    *,
    classes: int,
    vocabulary: int,
    words: Sequence[str] = (),
    width: int = 50,
    units: int = 50,
    layers: int = 1,
    spelling: int = 0,
    dropout: float = 0.3,
    precision: str = 'float32',
    axis: str | None = None,
) -> Net:
    """A class for every word from the states of a bidirectional LSTM; inputs (B, N) ids, 0 for padding.

    Taps: 'embedding' (B, N, width + spelling), 'hidden1', ... (B, N, 2 units); all and the logits have masks.

    Args:
      classes: number of logits of a word.
      vocabulary: ids that have a vector; words beyond share that of id 1.
      words: of every id; only read with `spelling`.
      width: of word vectors.
      units: of each direction.
      layers: LSTMs on each other.
      spelling: features of a word's letters beside its vector; 0 for none.
      dropout: probability of dropping a unit between layers in training, first and last included.
      precision: dtype of activations, 'float32' or 'bfloat16'.
      axis: name of the device axis that a batch is split over, None where it is whole: which units are dropped.

    Raises:
      UsageError: a number below 1 (`spelling` below 0), or fewer words than ids that have a vector.

    Reference: Ma, Hovy, End-to-End Sequence Labeling via Bi-directional LSTM-CNNs-CRF, ACL 2016, without its CRF.
    """
    of = states(
        'tagger', vocabulary=vocabulary, width=width, units=units, layers=layers, dropout=dropout, axis=axis,
        spelling=spelling, words=words,
    )  # fmt: skip
    return from_linen(_Tagger(classes, of, compute_dtype(precision)), state_taps(layers))
