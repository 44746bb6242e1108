"""Laws of narrowing: what belongs together is found, and what is left is what it was without the others."""

import functools

import jax
import numpy as np
import pytest

from kdjax.compress import narrowed
from kdjax.errors import UsageError
from kdjax.nets import bag, cnn, mlp, resnet_cifar, shufflenet, transformer

IMAGES = np.random.default_rng(0).normal(size=(3, 8, 8)).astype(np.float32)
MAKES = {
    'mlp': (lambda widths: mlp.mlp(classes=3, widths=widths), (6, 5), IMAGES),
    'cnn': (lambda widths: cnn.cnn(classes=3, widths=widths), (4, 6, 8), IMAGES),
    'resnet': (lambda widths: resnet_cifar.resnet(classes=3, depth=8, widths=widths), (4, 4, 6, 8), IMAGES),
    'bag': (lambda widths: bag.bag(classes=3, vocabulary=9, width=widths[0], hidden=widths[1]), (4, 6),
            np.array([[1, 2, 3], [4, 5, 0], [8, 2, 2]], np.int32)),
}  # fmt: skip


@functools.cache
def found(name):
    make, widths, inputs = MAKES[name]
    shapes = jax.eval_shape(make(widths).init, jax.random.key(0), inputs)
    random = np.random.default_rng(1)
    variables = jax.tree.map(lambda leaf: np.abs(random.normal(0.4, 0.2, leaf.shape)).astype(np.float32), shapes)
    return narrowed.groups(make, widths, inputs), variables


@pytest.mark.parametrize(
    ('name', 'tied', 'leaves'),
    [('mlp', [(0,), (1,)], [3, 3]), ('cnn', [(0,), (1,), (2,)], [12, 6, 6]),
     ('resnet', [(0, 1), (2,), (3,)], [19, 18, 17])],
)  # fmt: skip
def test_groups_are_all_that_grows_with_a_width(name, tied, leaves):
    groups, _ = found(name)
    assert [group.widths for group in groups] == tied
    assert [sum(map(len, group.axes.values())) for group in groups] == leaves


@pytest.mark.parametrize('name', MAKES)
def test_a_narrower_network_is_the_wide_one_in_which_nothing_reads_the_other_channels(name):
    make, widths, inputs = MAKES[name]
    groups, variables = found(name)
    keep = [(group, narrowed.kept(narrowed.scores(group, variables), 0.5)) for group in groups]
    fewer, small = narrowed.narrowed(make, widths, variables, keep, inputs)  # which compares the logits
    assert fewer == tuple(width // 2 for width in widths)
    shapes = jax.eval_shape(make(fewer).init, jax.random.key(0), inputs)
    assert jax.tree.map(lambda leaf: leaf.shape, small) == jax.tree.map(lambda leaf: leaf.shape, shapes)


def test_a_flattened_map_has_its_channels_at_every_position():
    group = narrowed.Group((0,), 3, {'params/head/kernel': ((0, 4),)})
    kernel = np.zeros((12, 2), np.float32)
    kernel[[2, 5, 8, 11]] = 1  # the last channel at all four positions
    variables = {'params': {'head': {'kernel': kernel}}, 'stats': {}}
    assert narrowed.kept(narrowed.scores(group, variables), 1 / 3).tolist() == [2]
    np.testing.assert_array_equal(narrowed._positions(np.array([2]), 3, 4), [2, 5, 8, 11])


def test_scores_are_those_of_their_papers():
    groups, variables = found('cnn')
    named = narrowed._named(variables)
    kernels = [np.moveaxis(leaf, axis, 0).reshape(8, -1) for leaf, axis in
               ((named['params/stage3_conv/kernel'], 3), (named['params/head/kernel'], 0))]  # fmt: skip
    squares = [np.square(kernel.astype(np.float64)).sum(axis=1) for kernel in kernels]
    want = np.sqrt(sum(square / square.mean() for square in squares))
    np.testing.assert_allclose(narrowed.scores(groups[2], variables), want)
    scale = named['params/stage3_norm/scale']
    np.testing.assert_allclose(narrowed.scores(groups[2], variables, 'scale'), scale, rtol=1e-6)
    slopes = jax.tree.map(np.ones_like, variables['params'])
    sums = sum(kernel.sum(axis=1) for kernel in kernels) + scale + named['params/stage3_norm/bias']
    np.testing.assert_allclose(narrowed.scores(groups[2], variables, 'taylor', slopes), sums**2, rtol=1e-5)


@pytest.mark.parametrize(
    ('share', 'multiple', 'count'), [(0.5, 1, 8), (0.3, 1, 5), (0.3, 8, 8), (0.01, 1, 1), (1.0, 1, 16)]
)
def test_the_channels_that_stay_are_so_many_and_the_best(share, multiple, count):
    score = np.random.default_rng(0).normal(size=16)
    stay = narrowed.kept(score, share, multiple)
    assert stay.tolist() == sorted(np.argsort(-score)[:count].tolist())


def test_a_width_that_is_read_together_is_an_error():
    def make(widths):
        return transformer.encoder(classes=3, vocabulary=9, width=widths[0], heads=1, inner=5, depth=1)

    ids = np.array([[1, 2, 3]], np.int32)
    variables = jax.tree.map(np.asarray, make((4,)).init(jax.random.key(0), ids))
    (group,) = narrowed.groups(make, (4,), ids)
    with pytest.raises(UsageError, match='is not the same without some of its channels'):
        narrowed.narrowed(make, (4,), variables, [(group, np.array([0, 2]))], ids)


def test_grouped_channels_are_an_error():
    def make(widths):
        return shufflenet.shufflenetv1(classes=3, widths=widths, counts=(2, 2, 2))

    with pytest.raises(UsageError, match=r'width 0 \(240\) cannot be made larger by one'):
        narrowed.groups(make, (240, 480, 960), jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32))


def test_what_has_no_such_score_is_an_error():
    (group, _), variables = found('mlp')
    with pytest.raises(UsageError, match='these channels have none'):
        narrowed.scores(group, variables, 'scale')
    with pytest.raises(UsageError, match='needs the gradients'):
        narrowed.scores(group, variables, 'taylor')
    with pytest.raises(UsageError, match="unknown score 'l1'"):
        narrowed.scores(group, variables, 'l1')
