"""Segmentation: mIoU of a whole split against scikit-learn's, maps made of boxes, and the seam it rests on."""

import dataclasses

import jax
import numpy as np
import pytest
from sklearn import metrics as sk

from configs import bccd_masks
from kdjax.data import bccd
from kdjax.dataset import SPLITS, Dataset, Split
from kdjax.errors import UsageError
from kdjax.nets import fcn
from kdjax.study.recipe import plan
from kdjax.study.recipe.resolve import resolve
from kdjax.tasks.evaluation import evaluator, examiner
from kdjax.tasks.segmentation import Segmentation
from kdjax.types import Net, Outputs

CLASSES = ('sky', 'sea', 'sand')
EXAMPLES, HEIGHT, WIDTH = 7, 3, 4
RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(size=(EXAMPLES, HEIGHT, WIDTH, 3)).astype(np.float32)
LABELS = RANDOM.integers(-1, 3, (EXAMPLES, HEIGHT, WIDTH)).astype(np.int32)
TEACHER = RANDOM.normal(size=LOGITS.shape).astype(np.float32)
NET = Net(
    init=lambda key, inputs: {'params': {}, 'stats': {}},
    apply=lambda variables, inputs, *, train, key: (Outputs(inputs + variables['params'], {}), variables['stats']),
    taps=(),
)
CELLS = {'params': np.zeros((1, 1), np.float32), 'stats': {}}
TASK = Segmentation(classes=CLASSES)


def test_metrics_are_those_of_the_whole_split_however_it_is_cut():
    known, answers = LABELS >= 0, LOGITS.argmax(-1)
    by_class = sk.jaccard_score(LABELS[known], answers[known], average=None, labels=range(3))
    wanted = {'miou': by_class.mean(), 'accuracy': np.mean((answers == LABELS)[known]),
              **{f'iou_{name}': by_class[k] for k, name in enumerate(CLASSES)},
              'agreement': np.mean(answers == TEACHER.argmax(-1))}  # fmt: skip
    assert set(wanted) == {metric.name for metric in TASK.metrics}
    for batch_size, order in ((1024, slice(None)), (3, RANDOM.permutation(EXAMPLES))):
        split = Split(LOGITS[order], LABELS[order])
        found = evaluator(TASK, NET, split, TEACHER[order], batch_size=batch_size)(CELLS)
        for name, value in wanted.items():
            np.testing.assert_allclose(found[name][0], value, rtol=1e-5, err_msg=name)
    metrics, predicted = examiner(TASK, NET, Split(LOGITS, LABELS), TEACHER)(CELLS)
    predictions = predicted[0]
    assert {name: metrics[name][0] for name in wanted} == pytest.approx(wanted, rel=1e-5)
    for score in ('miou', 'iou_sea'):
        task = dataclasses.replace(TASK, score=score)
        sums = task.statistics(predictions, Split(LOGITS, LABELS)).sum(axis=0)
        np.testing.assert_allclose(task.score_of(sums), wanted[score], rtol=1e-6)


def test_padding_counts_nothing():
    meters = TASK.sums(Outputs(LOGITS, {}), {'labels': LABELS, 'mask': np.zeros(EXAMPLES, np.float32)}, TEACHER)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(meters))


def test_maps_are_ellipses_and_the_smallest_is_on_top():
    boxes = np.asarray([[0.0, 0.0, 1.0, 1.0], [0.4, 0.4, 0.6, 0.6], [0, 0, 0, 0]])
    labels = bccd.ellipses(boxes, np.asarray([0, 2, -1]), (40, 80))
    assert {*labels[0, :20]} == {0}  # a corner
    assert labels[20, 2] == 1
    assert labels[20, 40] == 3
    np.testing.assert_allclose((labels == 3).mean(), np.pi / 4 * 0.04, rtol=0.03)
    np.testing.assert_allclose((labels > 0).mean(), np.pi / 4, rtol=0.01)


def test_data_and_networks_are_checked():
    split = Split(np.zeros((2, 8, 8, 3), np.uint8), np.zeros((2, 2, 2), np.int32))
    data = Dataset(dict.fromkeys(SPLITS, split), CLASSES)
    TASK.check(data)
    assert TASK.balance(data) == {'sky': 8, 'sea': 0, 'sand': 0}
    with pytest.raises(UsageError, match=r'integer labels \(N, H, W\)'):
        TASK.check(data._replace(splits={'train': split._replace(labels=np.zeros(2, np.int32))}))
    with pytest.raises(UsageError, match='network and data must have one stride'):
        TASK.sums(Outputs(LOGITS, {}), {'labels': LABELS[:, :2], 'mask': np.ones(EXAMPLES, np.float32)})
    with pytest.raises(UsageError, match=r'stride of a segmenter must be one of \[2, 4, 8\], got 16'):
        fcn.segmenter(classes=3, stride=16)


def test_logits_have_the_stride_that_is_asked_for():
    for stride, shape in ((2, (15, 20)), (4, (8, 10)), (8, (4, 5))):
        net = fcn.segmenter(classes=3, stride=stride, widths=(2, 2, 2))
        inputs = np.zeros((1, 30, 40, 3), np.float32)
        variables = jax.eval_shape(net.init, jax.random.key(0), inputs)
        said = jax.eval_shape(lambda v, net=net, x=inputs: net.apply(v, x, train=False, key=None)[0], variables)
        assert said.logits.shape == said.features['class_map'].shape == (1, *shape, 3)


@pytest.mark.slow
def test_every_method_could_run_on_blood_cells():
    count = bccd_masks.PICTURES
    split = Split(np.zeros((count, 32, 40, 3), np.uint8), np.zeros((count, 8, 10), np.int32))
    found = resolve(bccd_masks.get_config('methods=all'))
    costs = plan.check_shapes(found, Dataset(dict.fromkeys(SPLITS, split), bccd_masks.CLASSES))
    assert len(costs) == 1 + len(bccd_masks.METHODS)
