"""The token that learns from a teacher, and branches that are skipped; the rest of DeiT is held against PyTorch."""

import functools

import jax
import numpy as np

from kdjax.nets import deit

KEY = jax.random.key(0)
IMAGES = np.random.default_rng(0).normal(size=(3, 8, 8, 3)).astype(np.float32)
BUILD = functools.partial(deit.deit, classes=5, width=6, depth=2, heads=2, patch=4)


@functools.cache
def variables():
    """Far from the small weights of the start, so that every branch shows."""
    random = np.random.default_rng(1)
    shapes = jax.eval_shape(BUILD(distilled=True).init, KEY, IMAGES)
    return jax.tree.map(lambda leaf: random.normal(size=leaf.shape).astype(np.float32), shapes)


def run(net, inputs=IMAGES, train=False, key=None):
    return jax.device_get(jax.jit(functools.partial(net.apply, train=train))(variables(), inputs, key=key)[0])


def test_the_second_token_has_its_own_head_and_a_say_in_use_but_not_in_training():
    params = variables()['params']
    used, trained = (run(BUILD(distilled=True), train=train) for train in (False, True))
    for outputs in (used, trained):
        taught = outputs.features['penult_dist'] @ params['head_dist']['kernel'] + params['head_dist']['bias']
        np.testing.assert_allclose(outputs.features['distill_logits'], taught, rtol=1e-4, atol=1e-4)
    own = used.features['penult'] @ params['head']['kernel'] + params['head']['bias']
    np.testing.assert_allclose(trained.logits, own, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(used.logits, (own + used.features['distill_logits']) / 2, rtol=1e-4, atol=1e-4)
    assert not np.allclose(used.features['penult'], used.features['penult_dist'], atol=0.1)


def test_examples_skip_whole_branches_of_the_last_layer_and_none_of_the_first():
    inputs = np.repeat(IMAGES[:1], 64, axis=0)
    net = BUILD(distilled=True, drop_path=0.5)
    trained, plain = run(net, inputs, train=True, key=KEY), run(net, inputs)
    np.testing.assert_allclose(trained.features['hidden1'], plain.features['hidden1'], rtol=1e-4, atol=1e-4)
    added = trained.features['hidden2'] - trained.features['hidden1']
    kinds = {tuple(np.round(row[0], 2)) for row in added}
    assert len(kinds) == 4, 'neither, one, the other or both branches'
    assert tuple(np.zeros(6)) in kinds
    np.testing.assert_array_equal(run(net, train=False, key=KEY).logits, run(BUILD(distilled=True)).logits)
