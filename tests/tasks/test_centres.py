"""A detector of points: its targets by hand, its loss by numpy, its boxes from what it should say; and it learns."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import bccd, bccd_points
from kdjax import boxes as geometry
from kdjax.dataset import SPLITS, Dataset, Split
from kdjax.errors import UsageError
from kdjax.nets import centernet, gfl
from kdjax.study.recipe import plan
from kdjax.study.recipe.resolve import resolve
from kdjax.tasks import centres as points
from kdjax.tasks.detection import Detection
from kdjax.techniques.centernet import CentreDistance, CentreFocal
from kdjax.techniques.cwd import ChannelDistribution
from kdjax.techniques.fgd import FocalGlobal
from kdjax.techniques.mgd import MaskedGeneration
from kdjax.techniques.mld import MultiLabelTargets
from kdjax.techniques.pkd import PearsonFeatures
from kdjax.train import optim, teachers
from kdjax.train.objective import Objective
from kdjax.train.step import init_state, init_student, train_step
from kdjax.types import Outputs, TermInputs

HEIGHT, WIDTH, STRIDE = 30, 40, 4
CELLS = geometry.cells(HEIGHT, WIDTH, (STRIDE,))
M, COLUMNS, ROWS = len(CELLS.stride), 10, 8
TASK = Detection(classes=('ring', 'dot'), strides=(STRIDE,))
RANDOM = np.random.default_rng(3)
# In pixels: two large objects, a small one inside of one, and padding; one at the lower right corner; one alone.
PIXELS = np.asarray([
    [[2, 2, 22, 20], [12.5, 9, 37, 28], [17, 17, 23, 23], [0, 0, 0, 0]],
    [[35, 25, 40, 30], [1, 1, 9, 13], [0, 0, 0, 0], [0, 0, 0, 0]],
])  # fmt: skip
BOXES = (PIXELS / [WIDTH, HEIGHT, WIDTH, HEIGHT]).astype(np.float32)
LABELS = np.asarray([[0, 0, 1, 1], [1, 0, -1, -1]], np.int32)
TERMS = {
    'heat': CentreFocal(),
    'size': CentreDistance(weight=0.1),
    'offset': CentreDistance(tap='offsets', wanted='centre_offset'),
}


def batch(boxes=BOXES, labels=LABELS):
    size = len(boxes)
    return {
        'inputs': RANDOM.normal(size=(size, HEIGHT, WIDTH, 3)).astype(np.float32), 'boxes': boxes, 'labels': labels,
        'mask': np.ones(size, np.float32), 'id': np.arange(size, dtype=np.int32), 'view': np.zeros(size, np.int32),
    }  # fmt: skip


@pytest.fixture(scope='module')
def prepared():
    return jax.device_get(jax.jit(TASK.prepare)(batch()))


def radius_by_hand(width, height):
    """The largest by which both corners may be off, by trying: the IoU of the least favourable of three ways."""
    tried = np.linspace(0, max(width, height), 20001)
    with np.errstate(divide='ignore', invalid='ignore'):
        left = np.maximum(width - tried, 0) * np.maximum(height - tried, 0)
        same = left / (2 * width * height - left)
        inwards = np.maximum(width - 2 * tried, 0) * np.maximum(height - 2 * tried, 0) / (width * height)
        outwards = width * height / ((width + 2 * tried) * (height + 2 * tried))
    return min(tried[np.flatnonzero(way >= points.OVERLAP)[-1]] for way in (same, inwards, outwards))


def test_a_radius_is_what_leaves_the_overlap():
    sizes = RANDOM.uniform(0.5, 12, (20, 2))
    wanted = [radius_by_hand(*size) for size in sizes]
    np.testing.assert_allclose(points.radii(jnp.asarray(sizes, jnp.float32)), wanted, atol=2e-3)


def by_hand(boxes, labels):
    """Cell by cell: heat, class, size and offset."""
    heat, classes = np.zeros((M, 2)), np.full(M, -1)
    sizes, offsets = np.zeros((M, 2)), np.zeros((M, 2))
    for box, label in sorted(zip(boxes, labels, strict=True), key=lambda one: -np.prod(one[0][2:] - one[0][:2])):
        if label < 0 or (box[2:] <= box[:2]).any():
            continue
        middle, size = (box[:2] + box[2:]) / 2 / STRIDE, (box[2:] - box[:2]) / STRIDE
        column, row = (min(int(place), most - 1) for place, most in zip(middle, (COLUMNS, ROWS), strict=True))
        radius = int(radius_by_hand(*size))
        for y in range(max(row - radius, 0), min(row + radius + 1, ROWS)):
            for x in range(max(column - radius, 0), min(column + radius + 1, COLUMNS)):
                there = np.exp(-((x - column) ** 2 + (y - row) ** 2) / (2 * ((2 * radius + 1) / 6) ** 2))
                heat[y * COLUMNS + x, label] = max(heat[y * COLUMNS + x, label], there)
        cell = row * COLUMNS + column
        classes[cell], sizes[cell], offsets[cell] = label, size, middle - (column + 0.5, row + 0.5)
    return heat, classes, sizes, offsets


def test_targets_are_written_out_by_hand(prepared):
    for example in range(2):
        wanted = by_hand(PIXELS[example], LABELS[example])
        for name, own in zip(('heat', 'class', 'size', 'offset'), wanted, strict=True):
            np.testing.assert_allclose(prepared[f'centre_{name}'][example], own, atol=1e-5, err_msg=name)
    assert (prepared['centre_class'] >= 0).sum() == 5
    assert 0 < (prepared['centre_heat'][0] > 0).sum() < M
    assert 'centre_heat' not in TASK.__class__(classes=TASK.classes, strides=(4, 8)).prepare(batch())


def perfect(seen):
    """What a network says that says what it should, of `seen`, prepared."""
    heat = np.clip(seen['centre_heat'], 1e-4, 1 - 1e-4)
    logits = np.log(heat / (1 - heat)).astype(np.float32)
    plane = np.pad(logits.reshape(-1, ROWS, COLUMNS, 2), ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    highest = np.max([plane[:, y : y + ROWS, x : x + COLUMNS] for y in range(3) for x in range(3)], axis=0)
    peaks = (logits >= highest.reshape(logits.shape)).astype(np.float32)
    sizes, offsets = seen['centre_size'], seen['centre_offset']
    boxes = centernet.decoded(jnp.asarray(sizes), jnp.asarray(offsets), CELLS, HEIGHT, WIDTH)
    return Outputs(logits, {'sizes': sizes, 'offsets': offsets, 'peaks': peaks, 'boxes': np.asarray(boxes)})


def test_what_it_should_say_decodes_to_the_boxes(prepared):
    """Every object once, with its class and sure, although those that overlap stay."""
    found = np.asarray(jax.jit(TASK.detections)(perfect(prepared)))
    for example in range(2):
        real = LABELS[example] >= 0
        real &= (PIXELS[example, :, 2:] > PIXELS[example, :, :2]).all(axis=1)
        rows = found[example][found[example][:, 4] > 0.5]
        wanted = np.concatenate([BOXES[example][real], LABELS[example][real][:, None]], axis=1)
        own = np.concatenate([rows[:, :4], rows[:, 5:]], axis=1)
        np.testing.assert_allclose(own[np.lexsort(own.T)], wanted[np.lexsort(wanted.T)], atol=1e-5)


def test_with_peaks_nothing_is_suppressed_and_without_something_is(prepared):
    said = perfect(prepared)
    twice = np.repeat(BOXES[:1, :1], M, axis=1)
    everywhere = Outputs(np.ones((1, M, 2), np.float32), {'boxes': twice, 'peaks': np.ones((1, M, 2), np.float32)})
    assert (np.asarray(TASK.detections(everywhere))[0, :, 5] >= 0).all()
    plain = Outputs(everywhere.logits, {'boxes': twice})
    assert (np.asarray(TASK.detections(plain))[0, :, 5] >= 0).sum() == 2  # one of a class
    nothing = said._replace(features={**said.features, 'peaks': np.zeros_like(said.features['peaks'])})
    assert (np.asarray(TASK.detections(nothing))[..., 5] < 0).all()


@functools.partial(jax.jit, static_argnums=0)
def parts_of(names, said, seen):
    objective = Objective(tuple((name, TERMS[name]) for name in names))
    nothing = {name: {} for name in names}
    knobs = jax.tree.map(jnp.float32, objective.knobs())
    inputs = TermInputs(said, Outputs(None, {}), seen)
    return objective.shares(nothing, nothing, inputs, knobs, step=jnp.int32(0), key=jax.random.key(0)).parts


def test_the_loss_is_that_of_the_paper(prepared):
    shape = (2, M, 2)
    logits, sizes, offsets = (RANDOM.normal(size=shape).astype(np.float32) for _ in range(3))
    parts = parts_of(tuple(TERMS), Outputs(logits, {'sizes': sizes, 'offsets': offsets}), prepared)
    heat, here = prepared['centre_heat'].astype(np.float64), prepared['centre_class'] >= 0
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    found = np.where(heat == 1, (1 - p) ** 2 * np.log(p), (1 - heat) ** 4 * p**2 * np.log(1 - p))
    np.testing.assert_allclose(parts['heat'], -found.sum() / 5, rtol=1e-5)
    for name, said in (('size', sizes), ('offset', offsets)):
        away = np.abs(said - prepared[f'centre_{name}']).sum(axis=2)
        np.testing.assert_allclose(parts[name], away[here].sum() / 5, rtol=1e-5)
    best = parts_of(tuple(TERMS), perfect(prepared), prepared)
    assert best['size'] == best['offset'] == 0
    assert best['heat'] < 0.05 * parts['heat']


def net(width=1):
    return centernet.detector(classes=2, widths=(4 * width, 8 * width), counts=(0, 1), neck=8, head=8)


def test_shapes_and_peaks():
    said = jax.eval_shape(lambda: net().init(jax.random.key(0), batch()['inputs']))
    outputs = jax.eval_shape(lambda v: net().apply(v, batch()['inputs'], train=False, key=None)[0], said)
    assert outputs.logits.shape == (2, M, 2)
    shapes = {tap: outputs.features[tap].shape[1:] for tap in net().taps}
    assert shapes['sizes'] == shapes['offsets'] == shapes['peaks'] == (M, 2)
    assert shapes['boxes'] == (M, 4)
    assert shapes['neck1'] == (ROWS, COLUMNS, 8)
    assert shapes['class_map1'] == (ROWS, COLUMNS, 2)
    with pytest.raises(UsageError, match='needs one stride'):
        centernet.detector(classes=2, strides=(4, 8))


def test_the_config_is_that_of_cells_with_the_terms_of_points():
    found = resolve(bccd_points.get_config('quick'))
    assert found.baseline == 'student alone'
    assert set(resolve(bccd_points.get_config('methods=all')).methods) == {
        *(method for method, own in bccd.METHODS.items() if 'ld' not in own), bccd_points.METHOD[0]
    }  # fmt: skip


@pytest.mark.slow
def test_every_method_could_run_on_blood_cells():
    count = bccd.PICTURES
    labels, boxes = np.zeros((count, 2), np.int32), np.full((count, 2, 4), 0.5, np.float32)
    columns = {'boxes': boxes, 'size': np.full((count, 2), 100, np.int32)}
    data = dict.fromkeys(SPLITS, Split(np.zeros((count, 32, 40, 3), np.uint8), labels, columns))
    recipe = resolve(bccd_points.get_config('methods=all'))
    costs = plan.check_shapes(recipe, Dataset(data, bccd.CLASSES))
    assert len(costs) == 1 + len(recipe.methods)
    assert all(cost.flops > 0 for cost in costs.values())


@pytest.mark.slow
@pytest.mark.parametrize('family', ['points', 'cells'])
def test_it_learns_a_few_pictures_from_labels_and_a_teacher(family):
    """Each of its objects is a square of its colour; a teacher may be of the other family. Techniques read its maps."""
    task = dataclasses.replace(TASK, bins=8)
    size, random = 8, np.random.default_rng(0)
    boxes, labels = np.zeros((size, 2, 4), np.float32), np.tile(np.asarray([0, 1], np.int32), (size, 1))
    images = random.normal(0, 0.1, (size, HEIGHT, WIDTH, 3)).astype(np.float32)
    for image, own in zip(images, boxes, strict=True):
        for kind, (x, y) in enumerate(((random.integers(0, 8), random.integers(0, 18)),
                                       (random.integers(22, 30), random.integers(0, 18)))):  # fmt: skip
            image[y : y + 10, x : x + 8, kind] += 2
            own[kind] = np.asarray([x, y, x + 8, y + 10]) / [WIDTH, HEIGHT, WIDTH, HEIGHT]
    seen = jax.tree.map(jnp.asarray, {**batch(boxes, labels), 'inputs': images})
    teacher = net(2) if family == 'points' else gfl.detector(
        classes=2, strides=(4,), bins=8, widths=(8, 16), counts=(0, 1), neck=8, depth=1
    )  # fmt: skip
    terms = {
        **TERMS, 'fgd': FocalGlobal(layer='neck1', weight=1e-3),
        'cwd': ChannelDistribution(layer='class_map1', projected=False),
        'pkd': PearsonFeatures(layer='neck1', weight=0.1), 'mgd': MaskedGeneration(layer='neck1', weight=1e-5),
        'logits': MultiLabelTargets(weight=0.01),
    }  # fmt: skip
    objective = Objective(tuple(terms.items()))
    rates = {'learning_rate': 5e-3, 'weight_decay': 0.0}
    knobs = jax.tree.map(jnp.float32, {'terms': objective.knobs(), 'optim': {'student': rates, 'terms': rates}})
    knobs['seed'] = jnp.uint32(0)
    parts = {'net': net(), 'teacher': teachers.frozen(teacher), 'objective': objective,
             'tx': optim.build('adamw', schedule='constant', steps=200)}  # fmt: skip
    variables = jax.jit(teacher.init)(jax.random.key(1), images)

    @jax.jit
    def begin():
        return init_state(
            knobs, variables, task.prepare(seen), init_student(knobs['seed'], seen['inputs'], net()), **parts
        )

    @jax.jit
    def train(state):
        return jax.lax.scan(
            lambda state, _: train_step(state, variables, task.prepare(seen), knobs, **parts), state, length=200
        )

    state, logs = train(begin())
    for name in terms:
        assert np.all(np.isfinite(logs[f'term/{name}'])), name
    for name in TERMS:
        assert logs[f'term/{name}'][-1] < 0.3 * logs[f'term/{name}'][0], name
    said = net().apply({'params': state.params['student'], 'stats': state.stats}, seen['inputs'], train=False, key=None)
    found = np.asarray(jax.jit(task.detections)(said[0]))
    overlaps = np.asarray(geometry.iou(found[:, None, :, :4], boxes[:, :, None]))
    right = (overlaps > 0.5) & (found[:, None, :, 5] == labels[..., None])
    assert np.mean(right[:, :, :2].any(axis=2)) > 0.8  # among its two surest
