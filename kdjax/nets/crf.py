"""Taggers with a conditional random field on top: the tags of a sentence are found together, not one by one."""

import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from kdjax.crf import log_marginals
from kdjax.errors import UsageError
from kdjax.nets.sequences import mask_of
from kdjax.resolve import construct, resolve
from kdjax.types import Array, Net, Outputs, Tree

TAPS = ('emissions', 'transitions')
START = 0.1  # transitions start uniform within +- this


def crf(
    *,
    classes: int,
    net: str = 'bilstm.tagger',
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
      net: name of the network, which reads ids (B, N) and answers (B, N, K).
      args: its own arguments; of the default, which makes it a BiLSTM-CNN-CRF, {'spelling': 50, ...}.
      vocabulary, words: as that network wants them, if it does.
      precision: dtype of its activations; the CRF computes in float32.
      axis: name of the data axis.

    Raises:
      UsageError: an unknown network or an argument that it does not take, or (in `apply`) one that is not of tokens.

    Reference: Ma, Hovy, End-to-End Sequence Labeling via Bi-directional LSTM-CNNs-CRF, ACL 2016.
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
        if outputs.logits.ndim != 3:
            raise UsageError(f'a CRF stands on a network of tokens, not on logits {outputs.logits.shape}')
        (mask,) = outputs.masks['logits'] if 'logits' in outputs.masks else (mask_of(inputs),)
        transitions = jnp.broadcast_to(params['transitions'], (len(mask), *params['transitions'].shape))
        features = {**outputs.features, 'emissions': outputs.logits, 'transitions': transitions}
        masks = {**outputs.masks, 'emissions': (mask,), 'logits': (mask,)}
        return Outputs(log_marginals(outputs.logits, transitions, mask), features, masks), stats

    return Net(init, apply, (*net.taps, *TAPS))
