"""Several networks as one: what an ensemble says, and what peers share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import trees
from kdjax.errors import UsageError
from kdjax.nets.cnn import cnn
from kdjax.nets.mlp import mlp
from kdjax.nets.team import ensemble, first_peer, peers

CLASSES, KEY = 3, jax.random.key(0)
IMAGES = np.random.default_rng(0).normal(size=(5, 6, 6)).astype(np.float32)


def ask(net, variables, **how):
    return jax.jit(lambda v, x: net.apply(v, x, **{'train': False, 'key': None, **how}))(variables, IMAGES)


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)


def test_an_ensemble_says_the_mean_of_its_members_probabilities():
    members = [mlp(classes=CLASSES, widths=(7,)), cnn(classes=CLASSES, widths=(4,))]
    team = ensemble(members)
    variables = jax.jit(team.init)(KEY, IMAGES)
    said, _ = ask(team, variables)
    alone = [
        ask(net, {part: variables[part][k] for part in variables})[0] for k, net in enumerate(members)
    ]  # fmt: skip
    wanted = np.mean([softmax(np.float64(one.logits)) for one in alone], axis=0)
    np.testing.assert_allclose(np.exp(said.logits), wanted, rtol=1e-5)
    assert set(said.features) == set(team.taps)
    np.testing.assert_array_equal(said.features['member1/logits'], alone[1].logits)
    np.testing.assert_array_equal(said.features['member0/hidden1'], alone[0].features['hidden1'])


def test_peers_differ_and_the_first_is_a_network_of_its_own():
    one = cnn(classes=CLASSES, widths=(4, 6))
    team = peers(one, 3)
    variables = jax.jit(team.init)(KEY, IMAGES)
    said, stats = ask(team, variables, train=True, key=KEY)
    assert said.features['peers'].shape == (len(IMAGES), 3, CLASSES)
    np.testing.assert_array_equal(said.features['peers'][:, 0], said.logits)
    assert len({float(jnp.sum(said.features['peers'][:, k])) for k in range(3)}) == 3
    alone, own = ask(one, first_peer(variables), train=True)
    np.testing.assert_allclose(said.logits, alone.logits, rtol=1e-4, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[0], b, rtol=1e-4, atol=1e-5), stats, own)
    assert trees.count(variables['params']) == 3 * trees.count(first_peer(variables)['params'])


def test_one_peer_is_no_company():
    with pytest.raises(UsageError, match='peers must be at least 2, got 1'):
        peers(mlp(classes=CLASSES, widths=(4,)), 1)
