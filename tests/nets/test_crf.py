"""A CRF on a network of tokens: its logits are marginals, its taps are what marginals are made of."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chains import probabilities, sequences

from kdjax.errors import UsageError
from kdjax.nets.crf import crf
from kdjax.techniques.crf import CrfLikelihood
from kdjax.types import TermInputs

K, VOCABULARY = 4, 7
WORDS = ('', '?', 'the', 'cat', 'sat', 'on', 'Mats', 'unseen')
IDS = np.array([[2, 3, 4, 5, 6], [1, 7, 2, 0, 0], [6, 0, 0, 0, 0], [0, 0, 0, 0, 0]], np.int32)
REAL = IDS > 0
NETS = {
    'bilstm': functools.partial(
        crf, classes=K, vocabulary=VOCABULARY, words=WORDS, args={'width': 5, 'units': 3, 'spelling': 2}
    ),
    'table': functools.partial(crf, classes=K, vocabulary=VOCABULARY + 1, net='chains:table'),
}
every_net = pytest.mark.parametrize('name', NETS)


@functools.cache
def placed(name):
    net = NETS[name]()
    return net, jax.jit(net.init)(jax.random.key(0), IDS)


@functools.cache
def outputs(name):
    net, variables = placed(name)
    return jax.device_get(net.apply(variables, IDS, train=False, key=None)[0])


@every_net
def test_logits_are_the_logarithms_of_marginals(name):
    found = outputs(name)
    for b, count in enumerate(REAL.sum(axis=1)):
        emissions, transitions = found.features['emissions'][b], found.features['transitions'][b]
        paths, scores = sequences(np.float64(emissions), np.float64(transitions), count)
        want = np.einsum('p,pnk->nk', probabilities(scores), np.eye(K)[paths])
        np.testing.assert_allclose(np.exp(found.logits[b, :count]), want, rtol=1e-4)
    assert not np.any(found.logits[~REAL])


@every_net
def test_taps_and_masks(name):
    net, _ = placed(name)
    found = outputs(name)
    shapes = {tap: leaf.shape[1:] for tap, leaf in found.features.items()}
    own = {'embedding': (5, 7), 'hidden1': (5, 6)} if name == 'bilstm' else {}
    assert shapes == {**own, 'emissions': (5, K), 'transitions': (K + 2, K)}
    assert set(net.taps) == set(shapes)
    for tap in {*shapes, 'logits'} - {'transitions'}:
        np.testing.assert_array_equal(found.masks[tap][0], REAL)


@every_net
def test_more_padding_changes_nothing(name):
    net, variables = placed(name)
    wider = net.apply(variables, np.pad(IDS, ((0, 0), (0, 3))), train=False, key=None)[0]
    np.testing.assert_allclose(wider.logits[:, :5], outputs(name).logits, atol=1e-6)
    assert not np.any(wider.logits[:, 5:])


def test_without_transitions_a_crf_is_the_network_that_it_stands_on():
    net, variables = placed('table')
    params = {**variables['params'], 'transitions': jnp.zeros((K + 2, K))}
    found = net.apply({'params': params, 'stats': {}}, IDS, train=False, key=None)[0]
    table = variables['params']['net']['table']['table']
    np.testing.assert_allclose(found.logits[REAL], jax.nn.log_softmax(table[IDS[REAL]]), atol=1e-6)


@every_net
def test_its_likelihood_teaches_all_of_it(name):
    net, variables = placed(name)
    batch = {'mask': REAL.astype(np.float32), 'token_mask': REAL.astype(np.float32), 'labels': np.minimum(IDS, K - 1)}

    @jax.jit
    def loss(params):
        variables = {'params': params, 'stats': {}}
        found = net.apply(variables, IDS, train=True, key=jax.random.key(1))[0]
        return jnp.mean(CrfLikelihood().values(TermInputs(found, found, batch), {}))

    gradient = jax.grad(loss)(variables['params'])
    moved = jax.tree.map(lambda leaf, slope: leaf - 0.05 * slope, variables['params'], gradient)
    assert all(np.any(leaf) for leaf in jax.tree.leaves(gradient))
    assert loss(moved) < loss(variables['params'])


def test_activations_may_be_half_as_precise_and_scores_stay_single():
    net = NETS['bilstm'](precision='bfloat16')
    variables = jax.eval_shape(net.init, jax.random.key(0), IDS)
    found = jax.eval_shape(functools.partial(net.apply, train=False, key=None), variables, IDS)[0]
    assert found.features['hidden1'].dtype == jnp.bfloat16
    assert {found.logits.dtype, found.features['emissions'].dtype} == {jnp.dtype('float32')}


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda: NETS['bilstm'](args={'units': 0}), 'units of a tagger must be at least 1, got 0'),
        (lambda: NETS['bilstm'](precision='half'), "unknown precision 'half'"),
        (lambda: crf(classes=K, net='chains:tables'), "unknown network 'chains:tables'.*chains:table"),
        (lambda: crf(classes=K, net='chains:table'), 'missing a required argument'),
        (lambda: crf(classes=K, net='chains:table', vocabulary=3, args={'wide': 3}), "unknown argument 'wide'"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()


def test_a_network_of_whole_sentences_is_refused():
    net = crf(classes=K, net='bag.bag', vocabulary=VOCABULARY)
    variables = jax.eval_shape(net.init, jax.random.key(0), IDS)
    with pytest.raises(UsageError, match=r'a CRF stands on a network of tokens, not on logits \(4, 4\)'):
        jax.eval_shape(functools.partial(net.apply, train=False, key=None), variables, IDS)
