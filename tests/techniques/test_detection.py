"""Detectors' losses against numpy written from the papers."""

import functools
import pathlib

import conftest
import golden
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mappings.detection import MAPPINGS

from kdjax import boxes
from kdjax.errors import UsageError
from kdjax.techniques.fgd import FocalGlobal, pixel_weights
from kdjax.techniques.localization import Localization
from kdjax.types import Outputs, TermInputs

pytestmark = pytest.mark.rotating(0, 2)  # half of the families have their turn each day

B = 3
RNG = np.random.default_rng(13)


@pytest.fixture(autouse=True)
def _double():
    # Standard promotion: flax starts parameters in float32.
    with jax.enable_x64(True), jax.numpy_dtype_promotion('standard'):
        yield


def inputs(student, teacher, **batch):
    """Inputs of one tap 'f' on each side."""
    batch = {'mask': np.ones(len(student)), **batch}
    return TermInputs(Outputs(np.zeros((len(student), 2)), {'f': student}), Outputs(None, {'f': teacher}), batch)


@functools.partial(jax.jit, static_argnums=0)
def ask_with(term, knobs, seen, params):
    return term(params, {}, seen, knobs, step=jnp.int32(0), key=jax.random.key(0)).values


def ask(term, seen, params):
    return ask_with(term, term.knobs(), seen, params)  # traced: equal terms may differ in knobs


def close(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)


def softmax(x, axis=-1):
    exponential = np.exp(x - x.max(axis=axis, keepdims=True))
    return exponential / exponential.sum(axis=axis, keepdims=True)


GOLDEN = conftest.SHARED / 'golden_tasks'
RECORDS = [one for one in golden.records(GOLDEN) if one['technique'] in MAPPINGS]


@pytest.mark.parametrize('record', RECORDS or [
    pytest.param(None, marks=pytest.mark.skip('shared data is not here: no golden_tasks; set KDJAX_SHARED'))
], ids=lambda one: one and one['id'])  # fmt: skip
def test_we_agree_with_others(record):
    with np.load(pathlib.Path(GOLDEN) / record['file']) as file:
        arrays = dict(file)
    assert not golden.disagreements(MAPPINGS[record['technique']], record, arrays)
    if record['technique'] == 'nms':
        for name in record['outputs']:
            classes = arrays['in/classes'] if 'byclass' in name else None
            threshold = float(name.rpartition('_')[2])
            kept = boxes.nms_on_host(arrays['in/boxes'], arrays['in/scores'], threshold, classes)
            np.testing.assert_array_equal(kept, arrays[name])


# ---- localization


EDGES = RNG.normal(0, 3, (2, B, 5, 4, 6))


def edge_divergences(temperature):
    q, p = softmax(EDGES / temperature)
    return temperature**2 * (p * np.log(p / q)).sum(axis=-1)


@pytest.mark.parametrize(('form', 'divisor'), [('paper', 1), ('code', 6)])
def test_localization(form, divisor):
    want = edge_divergences(4.0).mean(axis=(1, 2)) / divisor
    close(ask(Localization(layer='f', temperature=4.0, form=form), inputs(*EDGES), {}), want)


def test_localization_of_some_anchors():
    """The others, whatever they are, change neither the value nor the gradient."""
    mask = np.array([[1, 0, 1, 0, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1.0]])
    student, teacher = (np.where(mask[..., None, None] > 0, side, np.nan) for side in EDGES)
    term, edges = Localization(layer='f', temperature=4.0), edge_divergences(4.0).mean(axis=2)
    close(ask(term, inputs(student, teacher, anchor_mask=mask), {}), [edges[0, [0, 2]].mean(), 0, edges[2].mean()])
    slope = jax.grad(lambda student: jnp.sum(ask(term, inputs(student, teacher, anchor_mask=mask), {})))(student)
    assert np.array_equal(np.any(np.asarray(slope) != 0, axis=(2, 3)), mask > 0)


def test_an_anchor_may_count_in_part():
    weight = np.array([[0.5, 0, 2.0, 0, 0], [0, 0, 0, 0, 0], [1, 0.25, 0.25, 1, 1]])
    edges = edge_divergences(4.0).mean(axis=2)
    want = (weight * edges).sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-9)
    close(ask(Localization(layer='f', temperature=4.0), inputs(*EDGES, anchor_mask=weight), {}), want)


def test_localization_ignores_what_is_added_to_all_bins():
    term = Localization(layer='f')
    close(ask(term, inputs(EDGES[0] + 7, EDGES[1] - 3), {}), ask(term, inputs(*EDGES), {}))


@pytest.mark.parametrize(
    ('student', 'batch', 'message'),
    [
        (EDGES[0, ..., :5], {}, r"edges 'f' \(3, 5, 4, 5\) and \(3, 5, 4, 6\) must both be \(B, M, 4, bins\)"),
        (EDGES[0], {'anchor_mask': np.ones((B, 4))}, r'anchor_mask.* \(3, 4\) does not fit edges \(3, 5, 4, 6\)'),
    ],
)
def test_edges_that_do_not_fit_are_refused(student, batch, message):
    with pytest.raises(UsageError, match=message):
        ask(Localization(layer='f'), inputs(student, EDGES[1], **batch), {})


# ---- focal and global


H, W, C = 8, 4, 6
# x0, y0, x1, y1. The first example has a box in a box and padding, the second one at the edge, the third none.
BOXES = np.array([
    [[0.0, 0.25, 0.75, 0.75], [0.3, 0.5, 0.5, 0.625], [0.5, 0.5, 0.5, 0.9]],
    [[0.5, 0.5, 1.0, 1.0], [0, 0, 0, 0], [0, 0, 0, 0]],
    [[0, 0, 0, 0], [0, 0, 0, 0], [0.7, 0.2, 0.1, 0.9]],
])  # fmt: skip


def weights(form):
    """S of the paper, pixel by pixel, apart for the two sides of the mask."""
    inside, outside = np.zeros((2, B, H, W))
    extra = form == 'code'
    for b, i, j in np.ndindex(B, H, W):
        areas = []
        for x0, y0, x1, y1 in BOXES[b]:
            top, bottom = np.floor(y0 * H), np.ceil(y1 * H) + extra
            left, right = np.floor(x0 * W), np.ceil(x1 * W) + extra
            if x1 > x0 and y1 > y0 and top <= i < bottom and left <= j < right:
                areas.append((bottom - top) * (right - left))
        inside[b, i, j] = 1 / min(areas) if areas else 0
    for b in range(B):
        outside[b] = (inside[b] == 0) / (inside[b] == 0).sum()
    return inside, outside


def attention(x, temperature):
    pixels = softmax((np.abs(x).mean(axis=3) / temperature).reshape(B, -1)).reshape(B, H, W) * H * W
    return pixels, softmax(np.abs(x).mean(axis=(1, 2)) / temperature) * C


def context(x, params):
    """R of the paper."""
    pixels = x.reshape(B, -1, C)
    share = softmax(pixels @ params['Dense_0']['kernel'] + params['Dense_0']['bias'], axis=1)
    hidden = (share * pixels).sum(axis=1) @ params['Dense_1']['kernel'] + params['Dense_1']['bias']
    hidden = (hidden - hidden.mean(axis=1, keepdims=True)) / np.sqrt(hidden.var(axis=1, keepdims=True) + 1e-5)
    hidden = np.maximum(hidden * params['LayerNorm_0']['scale'] + params['LayerNorm_0']['bias'], 0)
    return x + (hidden @ params['Dense_2']['kernel'] + params['Dense_2']['bias'])[:, None, None, :]


@pytest.mark.parametrize('form', FocalGlobal.FORMS)
def test_the_weight_of_a_pixel_is_one_over_the_area_of_the_smallest_box_around_it(form):
    for got, want in zip(pixel_weights(jnp.asarray(BOXES), (B, H, W), form == 'code'), weights(form), strict=True):
        close(got, want)
    if form == 'paper':
        # Boxes apart from one another weigh 1 each, as does the background.
        close(weights(form)[0][1].sum(), 1)


@pytest.mark.parametrize('form', FocalGlobal.FORMS)
@pytest.mark.parametrize('channels', [4, C])
def test_focal_and_global(form, channels):
    student, teacher = RNG.normal(size=(B, H, W, channels)), RNG.normal(size=(B, H, W, C))
    term = FocalGlobal(
        layer='f', temperature=0.7, foreground=2.0, background=3.0, attention=0.5, context=0.25, form=form
    )
    seen = inputs(student, teacher, boxes=BOXES)
    shapes = jax.eval_shape(lambda: term.init(jax.random.key(0), seen)[0])
    params = jax.tree.map(lambda leaf: RNG.normal(size=leaf.shape), shapes)
    assert ('align' in params) == (channels != C)
    own = student @ params['align']['kernel'] + params['align']['bias'] if 'align' in params else student
    (pixels, depth), (own_pixels, own_depth) = attention(teacher, 0.7), attention(own, 0.7)
    error = pixels[..., None] * depth[:, None, None, :] * (teacher - own) ** 2
    inside, outside = (weight[..., None] * error for weight in weights(form))
    want = (
        (2 * inside + 3 * outside).sum(axis=(1, 2, 3))
        + 0.5 * (np.abs(own_pixels - pixels).sum(axis=(1, 2)) + np.abs(own_depth - depth).sum(axis=1))
        + 0.25 * ((context(own, params['student']) - context(teacher, params['teacher'])) ** 2).sum(axis=(1, 2, 3))
    )
    close(ask(term, seen, params), want)


def test_without_a_box_all_is_background():
    inside, outside = pixel_weights(jnp.zeros((B, 0, 4)), (B, H, W), False)
    assert not np.any(inside)
    close(outside, np.full((B, H, W), 1 / (H * W)))


@pytest.mark.parametrize(
    ('teacher', 'batch', 'message'),
    [
        (np.ones((B, H, W, C)), {}, r"needs batch\['boxes'\] \(B, M, 4\), got None; the batch has: mask"),
        (np.ones((B, H, 2 * W, C)), {'boxes': BOXES}, r'\(3, 8, 4, 6\) and \(3, 8, 8, 6\) must both be .* equally'),
    ],
)
def test_maps_without_boxes_or_of_two_sizes_are_refused(teacher, batch, message):
    with pytest.raises(UsageError, match=message):
        FocalGlobal(layer='f').init(jax.random.key(0), inputs(np.ones((B, H, W, C)), teacher, **batch))
