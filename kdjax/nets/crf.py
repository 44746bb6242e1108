"""Taggers with a conditional random field on top: the tags of a sentence are found together, not one by one."""

import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from kdjax.crf import log_marginals
from kdjax.nets.base import compute_dtype, from_linen, tap
from kdjax.nets.sequences import Constant, WordStates, at_least, mask_of, spelled, wordstate_taps
from kdjax.resolve import construct, resolve
from kdjax.types import Array, Net, Outputs, Tree

TAPS = ('emissions', 'transitions')
START = 0.1  # transitions start uniform within +- this


class _Emissions(nn.Module):
    states: Mapping[str, Any]
    classes: int

    @nn.compact
    def __call__(self, ids: Array, *, train: bool) -> Array:
        states, _, mask = WordStates(**self.states, name='states')(ids, train)
        return tap(self, 'logits', nn.Dense(self.classes, dtype=states.dtype, name='head')(states), mask)


def bilstm_crf(
    *,
    classes: int,
    vocabulary: int,
    words: Sequence[str] = (),
    width: int = 100,
    units: int = 100,
    layers: int = 1,
    filters: int = 50,
    dropout: float = 0.5,
    precision: str = 'float32',
    axis: str | None = None,
) -> Net:
    """BiLSTM-CRF over words and, where their strings are known, their letters; inputs (B, N) ids.

    Logits are log-probabilities of each token's tag given the sentence, as of `crf`. Taps: 'embedding' (B, N, width +
    filters), 'hidden1', ... (B, N, 2 units), 'emissions' (B, N, K), 'transitions' (B, K + 2, K).

    Args:
      classes: K.
      vocabulary: ids that have an embedding.
      words: the string of every id; without any, or without filters, no letters are read.
      width: of a word's embedding.
      units: of each direction of an LSTM.
      layers: LSTMs on each other.
      filters: features of a word's letters.
      dropout: probability of dropping an input of a layer or of the last, in training.
      precision: dtype of activations, 'float32' or 'bfloat16'; the CRF computes in float32.
      axis: name of the data axis; unused, there are no batch statistics.

    Raises:
      UsageError: a number that is too small, or an unknown precision.

    Reference: Ma, Hovy, End-to-End Sequence Labeling via Bi-directional LSTM-CNNs-CRF, ACL 2016.
    """
    del axis
    at_least('bilstm_crf', classes=classes, vocabulary=vocabulary, width=width, units=units, layers=layers)
    at_least('bilstm_crf', 0, filters=filters, dropout=dropout)
    letters: Constant | None = spelled(words, vocabulary) if len(words) and filters else None
    states = {
        'vocabulary': vocabulary, 'width': width, 'units': units, 'layers': layers, 'dropout': dropout,
        'dtype': compute_dtype(precision), 'letters': letters, 'filters': filters,
    }  # fmt: skip
    return chained(from_linen(_Emissions(states, classes), wordstate_taps(layers)), classes)


def crf(
    *,
    classes: int,
    net: str,
    args: Mapping[str, Any] | None = None,
    vocabulary: int | None = None,
    words: Sequence[str] = (),
    precision: str = 'float32',
    axis: str | None = None,
) -> Net:
    """A CRF whose emissions are the logits of another network of tokens, which is trained with it.

    Logits are log-probabilities of each token's tag given the sentence, so that every term and metric of tokens means
    the CRF. Taps are those of the network, 'emissions' (B, N, K), and 'transitions' (B, K + 2, K), see `kdjax.crf`.

    Args:
      classes: K.
      net: name of the network, such as 'window.window_mlp'; it reads ids (B, N) and answers (B, N, K).
      args: its own arguments.
      vocabulary, words: as that network wants them, if it does.
      precision: dtype of its activations; the CRF computes in float32.
      axis: name of the data axis.

    Raises:
      UsageError: an unknown network or an argument that it does not take.
    """
    takes = inspect.signature(resolve('kdjax.nets', net, 'network')).parameters
    facts = {'vocabulary': vocabulary, 'words': words, 'precision': precision, 'axis': axis, 'classes': classes}
    given = {name: value for name, value in facts.items() if name in takes and value is not None}
    return chained(construct('kdjax.nets', net, {**given, **dict(args or {})}, 'network'), classes)


def chained(net: Net, classes: int) -> Net:
    """A CRF whose emissions are the logits (B, N, K) of `net`; see `crf`.

    Variables are {'params': {'net': its own, 'transitions': (K + 2, K)}, 'stats': its own}.
    """

    def init(key: Array, inputs: Tree) -> Tree:
        own = net.init(key, inputs)
        drawn = jax.random.uniform(jax.random.fold_in(key, 1), (classes + 2, classes), jnp.float32, -START, START)
        return {'params': {'net': own['params'], 'transitions': drawn}, 'stats': own['stats']}

    # As of networks in linen: traced once for all programs that it is part of.
    @functools.partial(jax.jit, static_argnames='train')
    def apply(variables: Tree, inputs: Tree, *, train: bool, key: Array | None) -> tuple[Outputs, Tree]:
        params = variables['params']
        own = {'params': params['net'], 'stats': variables['stats']}
        outputs, stats = net.apply(own, inputs, train=train, key=key)
        (mask,) = outputs.masks['logits'] if 'logits' in outputs.masks else (mask_of(inputs),)
        transitions = jnp.broadcast_to(params['transitions'], (len(mask), *params['transitions'].shape))
        features = {**outputs.features, 'emissions': outputs.logits, 'transitions': transitions}
        masks = {**outputs.masks, 'emissions': (mask,), 'logits': (mask,)}
        return Outputs(log_marginals(outputs.logits, transitions, mask), features, masks), stats

    return Net(init, apply, (*net.taps, *TAPS))
