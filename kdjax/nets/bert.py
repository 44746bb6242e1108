"""BERT, and what has its layers (MiniLM, TinyBERT): with the weights that were published, or fine-tuned from them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from kdjax.errors import UsageError, unknown
from kdjax.nets.base import compute_dtype, from_linen, tap
from kdjax.nets.blocks import Encoder, Shape
from kdjax.nets.layers import attention_taps
from kdjax.nets.sequences import POOLINGS, Embedding, at_least, mask_of, only_real, pooled
from kdjax.types import Array, Names, Net

POOLER = 'pooler'
START = nn.initializers.normal(0.02)
# What config.json calls the arguments.
CONFIG = {
    'vocabulary': 'vocab_size', 'width': 'hidden_size', 'depth': 'num_hidden_layers', 'heads': 'num_attention_heads',
    'inner': 'intermediate_size', 'positions': 'max_position_embeddings', 'types': 'type_vocab_size',
    'epsilon': 'layer_norm_eps', 'dropout': 'hidden_dropout_prob', 'attention_dropout': 'attention_probs_dropout_prob',
}  # fmt: skip
# What config.json may say of what is fixed here.
FIXED = {'hidden_act': ('gelu', 'gelu_python'), 'position_embedding_type': ('absolute',), 'model_type': ('bert',)}
# What Transformers calls the modules, and those of a layer.
MODULES = {
    'states/words': 'embeddings.word_embeddings', 'states/positions': 'embeddings.position_embeddings',
    'states/types': 'embeddings.token_type_embeddings', 'states/norm': 'embeddings.LayerNorm',
    'pooler': 'pooler.dense', 'head': 'classifier',
}  # fmt: skip
LAYER = {
    'attention/query': 'attention.self.query', 'attention/key': 'attention.self.key',
    'attention/value': 'attention.self.value', 'attention/out': 'attention.output.dense',
    'norm1': 'attention.output.LayerNorm', 'mlp/into': 'intermediate.dense', 'mlp/back': 'output.dense',
    'norm2': 'output.LayerNorm',
}  # fmt: skip


def published(path: str) -> str:
    """What Transformers calls a leaf: '.../layer1/mlp/into/kernel' -> 'encoder.layer.0.intermediate.dense.weight'."""
    module, _, leaf = path.removeprefix('params/').rpartition('/')
    if f'{module}/{leaf}' in MODULES:  # positions and types are no modules here
        module, leaf = f'{module}/{leaf}', 'kernel'
    layer, _, part = module.removeprefix('states/encoder/layer').partition('/')
    named = f'encoder.layer.{int(layer) - 1}.{LAYER[part]}' if layer.isdigit() else MODULES[module]
    return f'{named}.{"bias" if leaf == "bias" else "weight"}'


def plain(key: str) -> str:
    """A name in a file without what only some have: 'bert.' in front, and the older names of a norm's weights."""
    return key.removeprefix('bert.').replace('LayerNorm.gamma', 'LayerNorm.weight').replace(
        'LayerNorm.beta', 'LayerNorm.bias'
    )  # fmt: skip


NAMES = Names(
    published, plain, spare=('cls.', 'pooler.', 'embeddings.position_ids'), fresh=('params/head', 'params/pooler')
)


def arguments(path: str | Path) -> dict[str, Any]:
    """Arguments of `bert` and `tagger` from the config.json beside published weights.

    Raises:
      UsageError: no such file, a field that is missing, or a network that is no BERT.
    """
    if not Path(path).is_file():
        raise UsageError(f'config {str(path)!r}: there is no such file')
    fields = json.loads(Path(path).read_text())
    for name, known in FIXED.items():
        if fields.get(name, known[0]) not in known:
            raise unknown(name, fields[name], known, f' in {str(path)!r}')
    lacking = [field for field in CONFIG.values() if field not in fields]
    if lacking:
        raise UsageError(f'config {str(path)!r} has no {", ".join(lacking)}')
    return {name: fields[field] for name, field in CONFIG.items()}


class _States(nn.Module):
    """From ids (B, N) to a state of each token, and their mask."""

    shape: Shape
    depth: int
    vocabulary: int
    positions: int
    types: int

    @nn.compact
    def __call__(self, ids: Array, train: bool) -> tuple[Array, Array]:
        mask, count = mask_of(ids), ids.shape[1]
        if count > self.positions:
            raise UsageError(f'positions of a bert are {self.positions}, and a sentence has {count} tokens')
        x = Embedding(self.vocabulary, self.shape.width, self.shape.dtype, START, name='words')(ids)
        places = self.param('positions', START, (self.positions, self.shape.width))[:count]
        kinds = self.param('types', START, (self.types, self.shape.width))
        # All tokens are of the first type: there is one sentence.
        x = self.shape.norm('norm')(x + (places + kinds[0]).astype(x.dtype))
        x = self.shape.dropped(tap(self, 'embedding', only_real(x, mask), mask), train)
        return Encoder(self.shape, self.depth, name='encoder')(x, mask, train), mask


class _Classifier(nn.Module):
    classes: int
    states: _States
    pooling: str

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool) -> Array:
        shape = self.states.shape
        x, mask = self.states(inputs, train)
        x = pooled(x, mask, 'first' if self.pooling == POOLER else self.pooling)
        x = jnp.tanh(shape.dense(shape.width, 'pooler')(x)) if self.pooling == POOLER else x
        return shape.dense(self.classes, 'head')(shape.dropped(tap(self, 'penult', x), train))


class _Tagger(nn.Module):
    classes: int
    states: _States

    @nn.compact
    def __call__(self, inputs: Array | Mapping[str, Array], *, train: bool) -> Array:
        shape = self.states.shape
        first = inputs['first'] if isinstance(inputs, Mapping) else None
        x, mask = self.states(inputs['pieces'] if isinstance(inputs, Mapping) else inputs, train)
        if first is not None:  # a word is tagged where its first piece is; position 0 is [CLS], and of no word
            x, mask = jnp.take_along_axis(x, first[..., None], axis=1), (first > 0).astype(mask.dtype)
        x = shape.dropped(tap(self, 'penult', only_real(x, mask), mask), train)
        return tap(self, 'logits', shape.dense(self.classes, 'head')(x), mask)


def bert(
    *,
    classes: int,
    vocabulary: int = 30_522,
    width: int = 768,
    depth: int = 12,
    heads: int = 12,
    inner: int = 3072,
    positions: int = 512,
    types: int = 2,
    epsilon: float = 1e-12,
    pooling: str = POOLER,
    dropout: float = 0.1,
    attention_dropout: float = 0.1,
    precision: str = 'float32',
    axis: str | None = None,
) -> Net:
    """A sentence's class from BERT; inputs (B, N) ids of WordPieces, 0 for padding, [CLS] first.

    | published             | width | depth | heads | inner |
    |-----------------------|-------|-------|-------|-------|
    | bert-base             | 768   | 12    | 12    | 3072  |
    | distilled to 6 layers | 768   | 6     | 12    | 3072  |
    | MiniLM-L6-H384        | 384   | 6     | 12    | 1536  |
    | TinyBERT_General_4L   | 312   | 4     | 12    | 1200  |

    `arguments('.../config.json')` has these numbers of published weights. `torch_weights.load` reads them, from files
    of Transformers' BertModel or BertForSequenceClassification, and `torch_weights.start` where the head is new.

    Taps, all but the last with masks: 'embedding' (B, N, D), normalised; of each layer from 1 on, 'query1', 'key1',
    'value1' (B, N, D) over all heads, 'attention1' (B, heads, N, N), scores before masks and the softmax, 'hidden1'
    (B, N, D); and 'penult' (B, D).

    Args:
      classes: number of logits.
      vocabulary: number of WordPieces.
      width: D.
      depth: number of layers.
      heads: of attention; divides the width.
      inner: units of a layer's MLP.
      positions: how many there are, at least N.
      types: of tokens; all here are of the first.
      epsilon: of layer normalisation.
      pooling: 'pooler', a layer of its own on the state of [CLS]; or of the states 'first', 'mean' or 'max'.
      dropout: probability of dropping a unit of the embeddings, of what a branch adds and of 'penult', in training.
      attention_dropout: that of dropping a token that is read.
      precision: dtype of activations, 'float32' or 'bfloat16'.
      axis: name of the device axis that a batch is split over, None where it is whole: which units are dropped.

    Raises:
      UsageError: a number below 1, a width that the heads do not divide, an unknown pooling, or (in `init`) more tokens
        than positions.

    Reference: Devlin, Chang, Lee, Toutanova, BERT: Pre-training of Deep Bidirectional Transformers for Language
    Understanding, NAACL 2019.
    """
    if pooling not in (POOLER, *POOLINGS):
        raise unknown('pooling', pooling, (POOLER, *POOLINGS), ' of a bert')
    shape = Shape(
        width, heads, inner, dropout, attention_dropout, epsilon, False, compute_dtype(precision), START, axis
    ).checked('bert')
    states = _states(shape, depth, vocabulary, positions, types)
    net = from_linen(_Classifier(classes, states, pooling), ('embedding', *attention_taps(depth), 'penult'))
    return net._replace(names=NAMES)


def tagger(
    *,
    classes: int,
    vocabulary: int = 30_522,
    width: int = 768,
    depth: int = 12,
    heads: int = 12,
    inner: int = 3072,
    positions: int = 512,
    types: int = 2,
    epsilon: float = 1e-12,
    dropout: float = 0.1,
    attention_dropout: float = 0.1,
    precision: str = 'float32',
    axis: str | None = None,
) -> Net:
    """A class for every WordPiece from BERT, as BertForTokenClassification; inputs (B, N) ids, 0 for padding.

    Or for every word: inputs {'pieces': (B, N), 'first': (B, W)}, ids and the position of each word's first piece, 0
    for none, whose state is the word's. Logits are then (B, W, K). Devlin et al., BERT, NAACL 2019, sec. 5.3.

    Taps are those of `bert`, but 'penult' (B, N, D), which has a mask as the logits (B, N, K) have.

    Args:
      classes: number of logits of a piece.
      vocabulary, width, depth, heads, inner, positions, types, epsilon, dropout, attention_dropout, precision, axis: as
        of `bert`.

    Raises:
      UsageError: as of `bert`.
    """
    shape = Shape(
        width, heads, inner, dropout, attention_dropout, epsilon, False, compute_dtype(precision), START, axis
    ).checked('bert')
    states = _states(shape, depth, vocabulary, positions, types)
    net = from_linen(_Tagger(classes, states), ('embedding', *attention_taps(depth), 'penult'))
    return net._replace(names=NAMES)


def _states(shape: Shape, depth: int, vocabulary: int, positions: int, types: int) -> _States:
    at_least('bert', depth=depth, vocabulary=vocabulary, positions=positions, types=types)
    return _States(shape, depth, vocabulary, positions, types)
