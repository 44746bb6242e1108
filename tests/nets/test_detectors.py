"""Detectors: shapes, cells and boxes of their maps, and the weights of a backbone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import boxes as geometry
from kdjax.errors import UsageError
from kdjax.nets import gfl, resnet

KEY = jax.random.key(0)
IMAGES = np.zeros((2, 30, 40, 3), np.float32)


def shapes(net, train=False):
    variables = jax.eval_shape(net.init, KEY, IMAGES)
    return variables, jax.eval_shape(lambda v: net.apply(v, IMAGES, train=train, key=None), variables)[0]


def test_maps_and_cells_go_together():
    net = gfl.detector(classes=3, strides=(4, 8), bins=5, widths=(4, 6, 8), counts=(0, 1, 1), neck=8, depth=1)
    variables, said = shapes(net)
    cells = len(geometry.cells(30, 40, (4, 8)).stride)
    assert cells == 8 * 10 + 4 * 5
    assert said.logits.shape == (2, cells, 3)
    found = {tap: said.features[tap].shape[1:] for tap in net.taps}
    assert found['edges'] == (cells, 4, 5)
    assert found['boxes'] == (cells, 4)
    assert found['neck1'] == found['tower1'] == (8, 10, 8)
    assert found['class_map2'] == (4, 5, 3)
    assert found['edge_map2'] == (4, 5, 20)
    assert found['stage3'] == (4, 5, 8)
    assert len([name for name in variables['params'] if name.startswith('detect')]) == 1  # for all maps


def test_boxes_are_the_means_of_their_edges():
    cells = geometry.cells(16, 32, (8,))
    edges = np.full((1, 8, 4, 4), -50, np.float32)
    edges[..., 1] = 50  # one stride to every side
    edges[0, 0, 0, :] = [0, -50, -50, 0]  # to the left 1.5 strides on average, which is beyond the picture
    boxes = np.asarray(gfl.decoded(jnp.asarray(edges), cells, 16, 32))[0]
    wanted = np.concatenate([cells.centre - 8, cells.centre + 8], axis=1).clip(0) / [32, 16, 32, 16]
    np.testing.assert_allclose(boxes, wanted.clip(0, 1), atol=1e-6)


def test_a_backbone_may_start_as_a_published_resnet():
    net = gfl.detector(classes=3, strides=(8, 16, 32), widths=(64, 128, 256, 512), counts=(2, 2, 2, 2), first=64,
                       stem='imagenet')  # fmt: skip
    own = jax.eval_shape(net.init, KEY, IMAGES)
    whole = jax.eval_shape(resnet.resnet(classes=10).init, KEY, IMAGES)
    for part in ('params', 'stats'):
        shared = {name: leaf for name, leaf in whole[part].items() if name != 'head'}
        assert jax.tree.map(jnp.shape, {name: own[part][name] for name in shared}) == jax.tree.map(jnp.shape, shared)
        fresh = [f'{part}/{name}' for name in own[part] if name not in shared]
        assert all(name.startswith(net.names.fresh) for name in fresh)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'stem': 'large'}, "unknown stem 'large' of a detector"),
        ({'strides': (4, 16)}, r'strides of a detector must follow each other among those of its stages, \[2, 4, 8\]'),
        ({'strides': (32,)}, r'strides of a detector must follow each other'),
        ({'widths': (8,)}, 'as many widths as counts'),
    ],
)
def test_a_detector_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        gfl.detector(classes=3, **arguments)
