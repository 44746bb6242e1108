"""BERT against Transformers' (golden/bert.npz, see golden/make.py), its files of weights, and what they lack."""

import functools
import json
import pathlib

import jax
import numpy as np
import pytest

from kdjax import trees
from kdjax.errors import UsageError
from kdjax.nets import bert, torch_weights

GOLDEN = pathlib.Path(__file__).parent / 'golden' / 'bert.npz'
ARGS = {'classes': 3, 'vocabulary': 97, 'width': 32, 'depth': 2, 'heads': 2, 'inner': 64, 'positions': 40}
NET, TAGGER = bert.bert(**ARGS), bert.tagger(**ARGS)
CONFIG = {
    'model_type': 'bert', 'vocab_size': 97, 'hidden_size': 32, 'num_hidden_layers': 2, 'num_attention_heads': 2,
    'intermediate_size': 64, 'max_position_embeddings': 40, 'type_vocab_size': 2, 'layer_norm_eps': 1e-12,
    'hidden_dropout_prob': 0.1, 'attention_probs_dropout_prob': 0.1, 'hidden_act': 'gelu',
}  # fmt: skip


@functools.cache
def golden():
    with np.load(GOLDEN) as found:
        return dict(found)


@functools.cache
def state():
    """As Transformers calls them."""
    return {name.removeprefix('weights/'): leaf for name, leaf in golden().items() if name.startswith('weights/')}


@functools.cache
def like(net=NET):
    return jax.eval_shape(net.init, jax.random.key(0), golden()['ids'])


def loaded(state, net=NET):
    return torch_weights.variables(state, like(net), net.names)


def without(state, *parts):
    return {name: leaf for name, leaf in state.items() if not any(part in name for part in parts)}


@functools.cache
def outputs():
    run = jax.jit(functools.partial(NET.apply, train=False, key=None))
    return jax.device_get(run(loaded(state()), golden()['ids'])[0])


def test_it_says_what_transformers_says():
    real = golden()['ids'] > 0
    features = outputs().features
    for layer, name in enumerate(('embedding', 'hidden1', 'hidden2')):
        np.testing.assert_allclose(features[name][real], golden()[f'hidden{layer}'][real], atol=3e-6)
    np.testing.assert_allclose(outputs().logits, golden()['logits'], atol=3e-6)


def test_it_attends_where_transformers_does():
    real = golden()['ids'] > 0
    for name in ('attention1', 'attention2'):
        scores = np.where(real[:, None, None], outputs().features[name], -np.inf)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        rows = np.broadcast_to(real[:, None], weights.shape[:3])
        np.testing.assert_allclose(weights[rows], golden()[name][rows], atol=2e-6)


@pytest.mark.parametrize(
    'change',
    [
        lambda name: name.removeprefix('bert.'),
        lambda name: name.replace('LayerNorm.weight', 'LayerNorm.gamma').replace('LayerNorm.bias', 'LayerNorm.beta'),
        lambda name: f'cls.{name}' if name.startswith('spare') else name,
    ],
)
def test_other_names_of_the_same_weights_are_understood(change):
    spare = {'spare.predictions.bias': np.zeros(97), 'bert.embeddings.position_ids': np.arange(40)}
    found = loaded({change(name): leaf for name, leaf in {**state(), **spare}.items() if change(name) != name
                    or not name.startswith('spare')})  # fmt: skip
    assert trees.fingerprint(found) == trees.fingerprint(loaded(state()))


def test_a_tagger_does_not_want_the_pooler():
    weights = {**state(), 'classifier.weight': np.zeros((3, 32)), 'classifier.bias': np.arange(3.0)}
    found = loaded(weights, TAGGER)
    run = jax.jit(functools.partial(TAGGER.apply, train=False, key=None))
    logits = run(found, golden()['ids'])[0].logits
    np.testing.assert_array_equal(logits[golden()['ids'] > 0], [[0, 1, 2]] * int((golden()['ids'] > 0).sum()))


@pytest.mark.parametrize(
    ('drop', 'add', 'message'),
    [
        ('layer.1.output.dense.bias', {}, 'missing: params/states/encoder/layer2/mlp/back/bias$'),
        ('classifier', {}, 'missing: params/head/bias, params/head/kernel$'),
        ('nothing', {'bert.encoder.layer.2.output.dense.bias': np.zeros(32)},
         r'unexpected: bert\.encoder\.layer\.2\.output\.dense\.bias$'),
        ('classifier.bias', {'classifier.bias': np.zeros(4)},
         r'of another shape: classifier\.bias \(4,\) for params/head/bias \(3,\)$'),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_listed(drop, add, message):
    with pytest.raises(UsageError, match=f'they are not of this network; {message}'):
        loaded({**without(state(), drop), **add})


@pytest.fixture
def file(tmp_path):
    """Weights without a head, as of BertModel."""
    numpy = pytest.importorskip('safetensors.numpy', reason='safetensors is not here: pip install "kdjax[test]"')
    weights = {name.removeprefix('bert.'): leaf for name, leaf in without(state(), 'classifier', 'pooler').items()}
    numpy.save_file(weights, tmp_path / 'model.safetensors')
    return tmp_path / 'model.safetensors'


@pytest.mark.parametrize(('net', 'fresh'), [(NET, ('head', 'pooler')), (TAGGER, ('head',))])
def test_a_network_that_starts_from_a_file_has_its_own_head(file, net, fresh):
    drawn = np.random.default_rng(0)
    initial = jax.tree.map(lambda leaf: drawn.normal(size=leaf.shape).astype(np.float32), like(net))
    found = torch_weights.start(file, initial, net.names)
    trained = loaded(state(), net)
    for name in trained['params']:
        same_as = initial if name in fresh else trained
        assert trees.fingerprint(found['params'][name]) == trees.fingerprint(same_as['params'][name])
    with pytest.raises(UsageError, match=r"weights '.*model\.safetensors': .* missing: params/head/bias"):
        torch_weights.load(file, like(net), net.names)


def test_config_json_has_the_arguments(tmp_path):
    path = tmp_path / 'config.json'
    path.write_text(json.dumps({**CONFIG, 'architectures': ['BertModel']}))
    assert bert.arguments(path).items() >= {name: ARGS[name] for name in ARGS if name != 'classes'}.items()
    assert jax.tree.structure(like(bert.bert(classes=3, **bert.arguments(path)))) == jax.tree.structure(like())


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ({'hidden_act': 'relu'}, "unknown hidden_act 'relu' in .*; there is: 'gelu'"),
        ({'model_type': 'roberta'}, "unknown model_type 'roberta' in .*; there is: 'bert'"),
        ({'hidden_size': None, 'vocab_size': None}, 'has no vocab_size, hidden_size$'),
        (None, 'there is no such file'),
    ],
)
def test_a_config_of_something_else_is_refused(tmp_path, fields, message):
    if fields is not None:
        whole = {name: value for name, value in {**CONFIG, **fields}.items() if value is not None}
        (tmp_path / 'config.json').write_text(json.dumps(whole))
    with pytest.raises(UsageError, match=message):
        bert.arguments(tmp_path / 'config.json')
