"""Detection: targets, suppression and average precision against what is written out by hand; laws of boxes."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rotation

from configs import bccd
from kdjax import boxes as geometry
from kdjax.dataset import SPLITS, Dataset, Split
from kdjax.errors import UsageError
from kdjax.study.recipe import plan
from kdjax.study.recipe.resolve import resolve
from kdjax.tasks import average_precision
from kdjax.tasks.detection import Detection
from kdjax.techniques.gfl import DistributionFocal, QualityFocal
from kdjax.techniques.giou import GeneralizedIoU
from kdjax.train.objective import Objective
from kdjax.types import Outputs, TermInputs

CLASSES = ('ring', 'dot')
HEIGHT, WIDTH, STRIDE, BINS = 24, 32, 8, 5
CELLS = geometry.cells(HEIGHT, WIDTH, (STRIDE,))
M = len(CELLS.stride)
TASK = Detection(classes=CLASSES, bins=BINS, anchor=2.0, valuable=0.25)
RANDOM = np.random.default_rng(0)
# In pixels: two objects, one over a corner of the other, and one so small that no cell's centre lies in it.
PIXELS = np.asarray(
    [[[2, 2, 22, 22], [17, 17, 23, 23], [0, 0, 0, 0]], [[16.5, 0.5, 19, 3], [0, 0, 0, 0], [0, 0, 0, 0]]]
)
BOXES = (PIXELS / [WIDTH, HEIGHT, WIDTH, HEIGHT]).astype(np.float32)
LABELS = np.asarray([[0, 1, 1], [1, -1, -1]], np.int32)  # the third box has no area, whatever its label
TERMS = {'qfl': QualityFocal(), 'dfl': DistributionFocal(weight=0.25), 'giou': GeneralizedIoU(weight=2.0)}


def batch(boxes=BOXES, labels=LABELS, **more):
    size = len(boxes)
    return {'inputs': np.zeros((size, HEIGHT, WIDTH, 3), np.float32), 'boxes': boxes, 'labels': labels,
            'mask': np.ones(size, np.float32), **more}  # fmt: skip


def by_hand(boxes, labels, radius=TASK.radius):
    """Centre sampling, cell by cell."""
    classes, edges = np.full(M, -1), np.zeros((M, 4))
    real = [k for k in range(len(boxes)) if labels[k] >= 0 and (boxes[k, 2:] > boxes[k, :2]).all()]
    fits = {k: [] for k in real}
    for k in real:
        middle = (boxes[k, :2] + boxes[k, 2:]) / 2
        apart = np.abs(CELLS.centre - middle)
        within = (CELLS.centre > boxes[k, :2]).all(1) & (CELLS.centre < boxes[k, 2:]).all(1)
        fits[k] = np.flatnonzero(within & (apart <= radius * STRIDE).all(1))
        if not len(fits[k]):
            fits[k] = [np.argmin((apart**2).sum(1))]
    for k in sorted(real, key=lambda k: -np.prod(boxes[k, 2:] - boxes[k, :2])):
        for cell in fits[k]:
            gap = [*(CELLS.centre[cell] - boxes[k, :2]), *(boxes[k, 2:] - CELLS.centre[cell])]
            classes[cell], edges[cell] = labels[k], np.clip(np.asarray(gap) / STRIDE, 0, BINS - 1)
    return classes, edges


prepare = jax.jit(lambda task, batch: task.prepare(batch), static_argnums=0)


def test_cells_find_the_smallest_object_about_them():
    found = prepare(TASK, batch())
    for example in range(2):
        classes, edges = by_hand(PIXELS[example], LABELS[example])
        np.testing.assert_array_equal(found['anchor_class'][example], classes)
        np.testing.assert_allclose(found['anchor_edges'][example], edges, atol=1e-5)
    np.testing.assert_array_equal(found['anchor_mask'], found['anchor_class'] >= 0)
    assert {*np.asarray(found['anchor_class'][0]).tolist()} == {-1, 0, 1}
    assert (found['anchor_class'][1] >= 0).sum() == 1
    assert not np.any(found['boxes'][0, 2])


@pytest.mark.rotating(0, 3)
def test_cells_beside_those_of_an_object_are_valuable():
    """About an object that one cell answers for: a DIoU of the anchors from a fourth of the threshold up to it."""
    found = prepare(dataclasses.replace(TASK, radius=0.9), batch())
    np.testing.assert_array_equal(found['anchor_class'][0], by_hand(PIXELS[0], LABELS[0], 0.9)[0])
    side = TASK.anchor * STRIDE / 2
    anchors = np.concatenate([CELLS.centre - side, CELLS.centre + side], axis=1)
    valuable = np.zeros(M, bool)
    for box in PIXELS[0, :2]:
        around = np.maximum(anchors[:, 2:], box[2:]) - np.minimum(anchors[:, :2], box[:2])
        apart = (anchors[:, :2] + anchors[:, 2:] - box[:2] - box[2:]) / 2
        distance = geometry.iou(anchors, box) - (apart**2).sum(1) / (around**2).sum(1)
        threshold = threshold_by_hand(anchors, box)[1]
        valuable |= (distance >= threshold / 4) & (distance <= threshold)
    valuable &= np.asarray(found['anchor_class'][0]) < 0
    np.testing.assert_array_equal(found['anchor_valuable'][0] > 0, valuable)
    assert valuable.any()


def threshold_by_hand(anchors, box):
    """The nine nearest cells, and the mean of their overlaps and one standard deviation."""
    near = np.argsort(((CELLS.centre - (box[:2] + box[2:]) / 2) ** 2).sum(1), kind='stable')[:9]
    overlap = geometry.iou(anchors[near].astype(np.float64), box)
    return near, overlap.mean() + overlap.std(ddof=1)


def atss_by_hand(boxes, labels, side):
    """Zhang et al., algorithm 1, object by object."""
    half = side * STRIDE / 2
    anchors = np.concatenate([CELLS.centre - half, CELLS.centre + half], axis=1)
    best, classes = np.full(M, -1.0), np.full(M, -1)
    for box, label in zip(boxes, labels, strict=True):
        if label < 0 or (box[2:] <= box[:2]).any():
            continue
        middle = (box[:2] + box[2:]) / 2
        near, threshold = threshold_by_hand(anchors, box)
        overlap = geometry.iou(anchors.astype(np.float64), box)
        within = (CELLS.centre > box[:2]).all(1) & (CELLS.centre < box[2:]).all(1)
        chosen = [cell for cell in near if overlap[cell] >= threshold and within[cell]]
        for cell in chosen or [np.argmin(((CELLS.centre - middle) ** 2).sum(1))]:
            if overlap[cell] > best[cell]:
                best[cell], classes[cell] = overlap[cell], label
    return classes


@pytest.mark.rotating(1, 3)
def test_atss_takes_the_cells_whose_anchors_stand_out():
    task = dataclasses.replace(TASK, assign='atss', anchor=3.0)
    found = prepare(task, batch())
    for example in range(2):
        wanted = atss_by_hand(PIXELS[example], LABELS[example], 3.0)
        np.testing.assert_array_equal(found['anchor_class'][example], wanted)


@pytest.mark.rotating(2, 3)
def test_an_object_belongs_to_the_first_map_that_reaches_over_it():
    task = Detection(classes=CLASSES, strides=(4, 8), bins=4)
    boxes = np.asarray([[[0.1, 0.1, 0.4, 0.5], [0.05, 0.05, 0.9, 0.95]]], np.float32)  # 10 and 27 pixels
    found = prepare(task, batch(boxes, np.asarray([[0, 1]], np.int32)))
    fine = geometry.cells(HEIGHT, WIDTH, (4, 8)).level == 0
    classes = np.asarray(found['anchor_class'][0])
    assert {*classes[fine]} == {-1, 0}
    assert {*classes[~fine]} == {-1, 1}


def outputs(size, seed=0):
    rng = np.random.default_rng(seed)
    return Outputs(
        rng.normal(size=(size, M, 2)).astype(np.float32),
        {'edges': rng.normal(size=(size, M, 4, BINS)).astype(np.float32)},
    )


@jax.jit
def loss(said, seen, axis=None):
    objective = Objective(tuple(TERMS.items()))
    knobs = jax.tree.map(jnp.float32, objective.knobs())
    nothing = {name: {} for name in TERMS}
    inputs = TermInputs(said, Outputs(None, {}), TASK.prepare(seen))
    shares = objective.shares(nothing, nothing, inputs, knobs, step=jnp.int32(0), key=jax.random.key(0),
                              axis=axis)  # fmt: skip
    return shares.loss, shares.parts


def test_the_loss_is_divided_by_the_objects_cells_of_the_whole_batch():
    said, seen = outputs(2), batch()
    parts = loss(said, seen)[1]
    positive = np.asarray([(by_hand(PIXELS[k], LABELS[k])[0] >= 0).sum() for k in range(2)])
    assert len({*positive}) == 2
    each = []
    for k in range(2):
        one = {name: np.concatenate([leaf[[k]]] * 2) for name, leaf in seen.items()}
        one['mask'] = np.asarray([1, 0], np.float32)
        shown = jax.tree.map(lambda leaf, k=k: np.concatenate([leaf[[k]]] * 2), said)
        each.append(loss(shown, one)[1])
    for name in TERMS:
        wanted = sum(float(each[k][name]) * positive[k] for k in range(2)) / positive.sum()
        np.testing.assert_allclose(parts[name], wanted, rtol=1e-5)


@pytest.mark.parametrize('devices', rotation.params([(2,), (4,)], [''] * 2))
def test_the_divisor_is_one_number_on_any_devices(devices):
    """Pictures without an object, and padding, on some of them: the shares of the devices add up to the loss of one."""
    said = outputs(4, 2)
    labels = np.stack([LABELS[0], LABELS[1], [-1, -1, -1], LABELS[0]])
    seen = batch(BOXES[[0, 1, 1, 0]], labels, mask=np.asarray([1, 1, 1, 0], np.float32))
    apart = jax.tree.map(lambda leaf: leaf.reshape(devices, -1, *leaf.shape[1:]), (said, seen))
    shares = jax.pmap(functools.partial(loss.__wrapped__, axis='data'), 'data', devices=jax.devices()[:devices])(*apart)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a.sum(), b, rtol=1e-5), shares, loss(said, seen))


def test_a_flip_of_picture_and_boxes_changes_no_loss():
    said, seen = outputs(2, 1), batch()
    rows, columns = HEIGHT // STRIDE, WIDTH // STRIDE

    def flipped(leaf):
        return leaf.reshape(2, rows, columns, *leaf.shape[2:])[:, :, ::-1].reshape(leaf.shape)

    other = Outputs(flipped(said.logits), {'edges': flipped(said.features['edges'])[:, :, [2, 1, 0, 3]]})
    boxes = np.where(BOXES.any(-1, keepdims=True), np.stack(
        [1 - BOXES[..., 2], BOXES[..., 1], 1 - BOXES[..., 0], BOXES[..., 3]], axis=-1), 0)  # fmt: skip
    one, mirrored = loss(said, seen), loss(other, batch(boxes.astype(np.float32)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), one, mirrored)


def test_padding_of_boxes_changes_nothing_and_their_order_neither():
    wanted = prepare(TASK, batch())
    order = [2, 1, 0]
    more = np.concatenate([BOXES[:, order], np.full((2, 2, 4), 0.5, np.float32)], axis=1)
    labels = np.concatenate([LABELS[:, order], [[0, -1], [1, -1]]], axis=1).astype(np.int32)
    found = prepare(TASK, batch(more, labels))
    for name in ('anchor_class', 'anchor_edges', 'anchor_mask', 'anchor_valuable'):
        np.testing.assert_allclose(found[name], wanted[name], atol=1e-6, err_msg=name)


def test_a_picture_that_nobody_looked_at_has_no_loss():
    said = outputs(2)
    hidden = batch(labels=np.where([[True], [False]], -1, LABELS))
    alone = jax.tree.map(lambda leaf: leaf[[1, 1]], said)
    only = {**jax.tree.map(lambda leaf: leaf[[1, 1]], batch()), 'mask': np.asarray([1, 0], np.float32)}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), loss(said, hidden), loss(alone, only))


def test_a_batch_of_padding_alone_is_finite():
    total, parts = loss(outputs(2), batch(mask=np.zeros(2, np.float32)))
    assert not any(map(float, (total, *parts.values())))


# ---- what is found


detect = jax.jit(lambda outputs: TASK.detections(outputs))


def found_of(boxes, scores):
    """Detections of cells that find these boxes (M, 4) with scores (M, K)."""
    logits = np.log(scores / (1 - scores)).astype(np.float32)
    return np.asarray(detect(Outputs(logits[None], {'boxes': boxes[None].astype(np.float32)}))[0])


def test_suppression_is_that_of_the_host_and_idempotent():
    corners = RANDOM.uniform(0, 0.2, (M, 2))
    boxes = np.concatenate([corners, corners + RANDOM.uniform(0.3, 0.4, (M, 2))], axis=1).astype(np.float32)
    scores = RANDOM.uniform(0.03, 0.99, (M, 2))
    scores[0] = 0.001  # below `least`
    rows = found_of(boxes, scores)
    flat, place = scores.astype(np.float32).ravel(), np.arange(2 * M)
    flat[:2] = -np.inf
    kept = geometry.nms_on_host(boxes[place // 2], flat, TASK.suppress, place % 2)
    real = rows[:, 5] >= 0
    assert real.sum() == len(kept) < 2 * M - 2
    np.testing.assert_allclose(rows[real][:, :4], boxes[kept // 2], atol=1e-6)
    np.testing.assert_array_equal(rows[real][:, 5], kept % 2)
    np.testing.assert_allclose(rows[real][:, 4], flat[kept], rtol=1e-4)
    again = jax.jit(geometry.nms, static_argnums=(2, 3))(
        rows[real][:, :4], rows[real][:, 4], TASK.suppress, len(kept), rows[real][:, 5]
    )
    np.testing.assert_array_equal(again.place, np.arange(len(kept)))
    assert np.all(again.valid)
    assert not np.any(rows[~real][:, :5])


@pytest.mark.rotating(0, 2)
def test_nothing_is_found_of_a_network_that_diverged():
    assert np.all(found_of(np.full((M, 4), np.nan), np.full((M, 2), np.nan))[:, 5] == -1)


# ---- average precision: three pictures of 100x100, by hand


TRUE = np.zeros((3, 2, 4), np.float32)
TRUE[0] = [[0.1, 0.1, 0.5, 0.5], [0.6, 0.6, 0.9, 0.9]]
TRUE[1, 0] = [0.2, 0.2, 0.6, 0.6]
KINDS = np.asarray([[0, 1], [0, -1], [-1, -1]], np.int32)
SPLIT = Split(np.zeros((3, HEIGHT, WIDTH, 3), np.uint8), KINDS, {'boxes': TRUE, 'size': np.full((3, 2), 100, np.int32)})
PREDICTED = {
    'boxes': np.stack([TRUE[:, 0], TRUE[:, 1], np.asarray([[0.7, 0.1, 0.9, 0.3]] * 3, np.float32)], axis=1),
    'scores': np.asarray([[0.9, 0.6, 0.8], [0.5, 0, 0], [0.1, 0, 0]], np.float32),
    'classes': np.asarray([[0, 1, 0], [0, -1, -1], [-1, -1, -1]], np.int32),
}


def test_average_precision_is_that_of_hand():
    pytest.importorskip('pycocotools', reason="needs the extra 'detection'")
    task = Detection(classes=CLASSES)
    found = task.measure(PREDICTED, SPLIT)
    # Of the rings: right (0.9), wrong (0.8), right (0.5). Up to recall 0.5 precision is 1, beyond it 2/3.
    ring = (51 + 50 * 2 / 3) / 101
    np.testing.assert_allclose(found['ap50_ring'], ring, rtol=1e-6)
    np.testing.assert_allclose(found['ap50_dot'], 1, rtol=1e-6)
    for name in ('ap', 'ap50', 'ap75'):  # boxes are exact
        np.testing.assert_allclose(found[name], (ring + 1) / 2, rtol=1e-6)
    assert np.isnan(found['ap_large'])
    assert {metric.name for metric in task.metrics} == {*found, 'overlap', 'agreement'}
    for score in ('ap', 'ap50', 'ap75', 'ap50_ring', 'ap_medium'):
        judged = Detection(classes=CLASSES, score=score)
        sums = judged.statistics(PREDICTED, SPLIT).sum(axis=0)
        np.testing.assert_allclose(judged.score_of(sums), found[score], rtol=1e-5, err_msg=score)
        assert judged.score_of(np.stack([sums, sums])).shape == (2,)
    nothing = {**PREDICTED, 'classes': np.full((3, 3), -1)}
    assert task.measure(nothing, SPLIT)['ap'] == 0


def test_counts_add_up_to_what_they_are_of():
    # One class, scores in bins of their own: 1 right of 0.95, 1 wrong of 0.85, 1 right of 0.75; three objects.
    counts = np.zeros((1, 2 * average_precision.BINS + 1))
    counts[0, [95, 75]], counts[0, average_precision.BINS + 85], counts[0, -1] = 1, 1, 3
    np.testing.assert_allclose(average_precision.of_counts(counts, 1), (34 + 33 * 2 / 3) / 101)
    assert np.isnan(average_precision.of_counts(np.zeros((1, 2 * average_precision.BINS + 1)), 1))


@pytest.mark.rotating(1, 2)
def test_overlap_and_agreement_are_meters():
    task = dataclasses.replace(TASK, least=0.02)
    said = Outputs(np.full((2, M, 2), -9, np.float32), {'boxes': np.zeros((2, M, 4), np.float32)})
    said.logits[0, 3, 0], said.features['boxes'][0, 3] = 5, BOXES[0, 0]
    teacher = np.zeros((2, 100, 6), np.float32)
    teacher[..., 5] = -1
    teacher[0, 0], teacher[0, 1] = [*BOXES[0, 0], 0.9, 0], [*BOXES[0, 1], 0.8, 1]
    meters = jax.jit(lambda said, seen, teacher: task.sums(said, task.prepare(seen), teacher))(said, batch(), teacher)
    np.testing.assert_allclose(meters['overlap'].compute(), 1 / 3, rtol=1e-5)
    np.testing.assert_allclose(meters['agreement'].compute(), 1 / 2)


# ---- the seam


def dataset(**columns):
    split = SPLIT._replace(more={**SPLIT.more, **columns})
    return Dataset(dict.fromkeys(SPLITS, split), CLASSES)


def test_data_of_boxes_are_checked_counted_and_shown(monkeypatch):
    monkeypatch.setattr(average_precision, 'find_spec', lambda name: name)
    task = Detection(classes=CLASSES)
    task.check(dataset())
    assert task.net_arguments(dataset()) == {'classes': 2, 'strides': (8,)}
    assert task.net_offers(dataset()) == {'bins': 12}
    assert task.balance(dataset()) == {'ring': 2, 'dot': 1}
    shown = task.exhibit(dataset(), np.concatenate([PREDICTED['boxes'], PREDICTED['scores'][..., None],
                                                    PREDICTED['classes'][..., None]], axis=-1))  # fmt: skip
    assert shown['kind'] == 'boxes'
    assert (len(shown['boxes']), len(shown['found']['teacher']['boxes'])) == (2, 3)
    rows = np.zeros((SPLIT.size, 1, 6))
    assert task.exhibit_together(dataset(), {'teacher': rows, 'LD': rows})['found']['LD']['boxes'] == []
    with pytest.raises(UsageError, match=r'boxes of split .train. must be in'):
        task.check(dataset(boxes=TRUE * 100))
    with pytest.raises(UsageError, match=r"'boxes' \(N, M, 4\) and 'size'"):
        task.check(dataset(boxes=TRUE[:, :1]))
    with pytest.raises(UsageError, match=r'task\.classes must be the classes of the data'):
        Detection(classes=('a',)).check(dataset())
    monkeypatch.setattr(average_precision, 'find_spec', lambda name: None)
    with pytest.raises(UsageError, match="average precision needs pycocotools, of the extra 'detection'"):
        task.check(dataset())


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'assign': 'center'}, "unknown assign 'center' of Detection"),
        ({'bins': 1}, 'bins of Detection must be in 2 to inf, got 1'),
        ({'strides': (16, 8)}, 'strides >= 1 in ascending order'),
        ({'considered': 50}, 'considered of Detection must be in 100 to inf, got 50'),
        ({'score': 'map'}, "unknown score 'map' of Detection"),
    ],
)
def test_numbers_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        Detection(classes=CLASSES, **arguments)


def test_a_network_without_boxes_is_refused():
    with pytest.raises(UsageError, match="needs a network with the tap 'boxes', this one has: edges"):
        TASK.detections(outputs(1))


@pytest.mark.parametrize(
    'arg', rotation.params([('quick',), ('methods=all,stride=4',), ('width=256,height=192,inherit',)], [''] * 3)
)
def test_the_config_resolves(arg):
    found = resolve(bccd.get_config(arg))
    assert found.baseline == 'student alone'
    assert set(found.methods) <= set(bccd.METHODS)


@pytest.mark.slow
def test_every_technique_for_detectors_could_run_on_blood_cells():
    """Every fit is traced with shapes as the data have them: networks, taps, teachers, terms, updates."""
    count = bccd.PICTURES
    labels, boxes = np.zeros((count, 2), np.int32), np.full((count, 2, 4), 0.5, np.float32)
    columns = {'boxes': boxes, 'size': np.full((count, 2), 100, np.int32)}
    data = dict.fromkeys(SPLITS, Split(np.zeros((count, 32, 40, 3), np.uint8), labels, columns))
    costs = plan.check_shapes(resolve(bccd.get_config('methods=all')), Dataset(data, bccd.CLASSES))
    assert len(costs) == 1 + len(bccd.METHODS)
    assert all(cost.flops > 0 for cost in costs.values())
