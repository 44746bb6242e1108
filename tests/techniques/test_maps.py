"""Feature maps, second half: values against numpy written from the papers, their limits, and what is refused."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.errors import UsageError
from kdjax.techniques.afd import AttentiveFeatures
from kdjax.techniques.cwd import ChannelDistribution
from kdjax.techniques.fbkd import AttentionGuided
from kdjax.techniques.ickd import ChannelCorrelation
from kdjax.techniques.kta import Affinity, Translation
from kdjax.techniques.mgd import MaskedGeneration
from kdjax.techniques.pad import PrimeAware
from kdjax.techniques.pkd import PearsonFeatures
from kdjax.techniques.reviewkd import Review, nearest
from kdjax.techniques.semckd import SemanticCalibration
from kdjax.techniques.show_attend_distill import AttentionLinks
from kdjax.techniques.simkd import ReusedClassifier
from kdjax.techniques.srd import LogPowerSum
from kdjax.types import Outputs, TermInputs

pytestmark = pytest.mark.rotating(1, 2)  # half of the families have their turn each day

B, K = 6, 10
RNG = np.random.default_rng(11)
STUDENT, TEACHER = RNG.normal(size=(2, B, 4, 4, 3))
WIDER = RNG.normal(size=(B, 4, 4, 5))
MASK = np.array([1, 1, 0, 1, 0, 1.0])
LIVE = MASK > 0


@pytest.fixture(autouse=True)
def _double():
    # Standard promotion: flax starts running statistics in float32.
    with jax.enable_x64(True), jax.numpy_dtype_promotion('standard'):
        yield


def inputs(student, teacher, mask=None, ids=None):
    """Inputs with taps by name, where an array alone is the tap 'f'."""
    sides = [taps if isinstance(taps, dict) else {'f': taps} for taps in (student, teacher)]
    size = len(next(iter(sides[0].values())))
    batch = {
        'mask': np.ones(size) if mask is None else mask,
        'id': np.arange(size) if ids is None else ids,
        'view': np.zeros(size, int),
    }
    logits = jnp.zeros((size, K))
    return TermInputs(
        *(Outputs(logits, jax.tree.map(jnp.asarray, taps)) for taps in sides), jax.tree.map(jnp.asarray, batch)
    )


@functools.partial(jax.jit, static_argnums=0)
def ask_with(term, knobs, seen, params, key):
    return term(params, term.init(key, seen)[1], seen, knobs, step=jnp.int32(0), key=key).values


def ask(term, seen, params, key):
    return ask_with(term, term.knobs(), seen, params, key)  # traced: equal terms may differ in knobs


def values(term, seen, params=None, key=0):
    return np.asarray(ask(term, seen, params or {}, jax.random.key(key)))


def fresh(term, seen):
    return jax.jit(lambda: term.init(jax.random.key(0), seen)[0])()


def answers(term, seen):
    """Value and gradients of a freshly initialised term."""
    params = fresh(term, seen)

    def loss(params, features):
        moved = seen._replace(student=seen.student._replace(features=features))
        return jnp.sum(jnp.where(seen.batch['mask'] > 0, ask(term, moved, params, jax.random.key(0)), 0))

    return jax.value_and_grad(loss, (0, 1))(params, seen.student.features)


def close(got, want, rtol=1e-9):
    np.testing.assert_allclose(got, want, rtol=rtol, atol=1e-12)


def finite(tree):
    return all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(tree))


def single(tree):
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32) if leaf.dtype == jnp.float64 else leaf, tree)


def softmax(x, axis):
    exponential = np.exp(x - x.max(axis=axis, keepdims=True))
    return exponential / exponential.sum(axis=axis, keepdims=True)


def positions(x):
    """(B, H, W, C) as (B, H W, C)."""
    return x.reshape(len(x), -1, x.shape[-1])


def unit(x, axis):
    return x / np.linalg.norm(x, axis=axis, keepdims=True)


def blocks(x, size):
    """A map (B, H, W, C) whose sides are multiples of `size`, averaged to size x size."""
    n, height, width, channels = x.shape
    return x.reshape(n, size, height // size, size, width // size, channels).mean(axis=(2, 4))


def normalised(x, live=slice(None)):
    """Batch normalisation with the statistics of the real examples."""
    axes = tuple(range(x.ndim - 1))
    return (x - x[live].mean(axis=axes)) / np.sqrt(x[live].var(axis=axes) + 1e-5)


# ---- knowledge review


def test_the_context_loss_weighs_a_pyramid():
    """Levels 4, 2, 1 of an 8 x 8 map count 1/2, 1/4, 1/8 beside the whole map's 1, over their sum."""
    student, teacher = RNG.normal(size=(2, B, 8, 8, 3))
    gaps = [(x - y) for x, y in ((blocks(student, n), blocks(teacher, n)) for n in (8, 4, 2, 1))]
    want = sum(w * (gap**2).mean(axis=(1, 2, 3)) for w, gap in zip((1, 0.5, 0.25, 0.125), gaps, strict=True)) / 1.875
    close(values(Review(layers=('f',), fused=False), inputs(student, teacher)), want)


def test_a_vector_is_a_map_of_one_position():
    student, teacher = RNG.normal(size=(2, B, 5))
    want = ((student - teacher) ** 2).mean(axis=1)
    close(values(Review(layers=('f',), fused=False), inputs(student, teacher)), want)


def test_resizing_shows_the_nearest_position():
    x = RNG.normal(size=(1, 3, 2, 1))
    close(nearest(jnp.asarray(x), 5, 4)[0, :, :, 0], x[0, [0, 0, 1, 1, 2], :, 0][:, [0, 0, 1, 1]])


def test_a_review_hands_the_deeper_mixture_up():
    """With gates at 1/2 each level's mixture is half its own map and half the deeper one's."""
    shallow, deep = RNG.normal(size=(B, 4, 4, 2)), RNG.normal(size=(B, 2, 2, 2))
    teachers = {'a': RNG.normal(size=(B, 4, 4, 3)), 'b': RNG.normal(size=(B, 2, 2, 3))}
    term, seen = Review(layers=('a', 'b')), inputs({'a': shallow, 'b': deep}, teachers, MASK)
    params = jax.tree.map(jnp.zeros_like, fresh(term, seen))
    same = {'kernel': np.eye(2)[None, None]}
    out = {'kernel': np.zeros((3, 3, 2, 3))}
    out['kernel'][1, 1, 0, 0] = 1.0  # the teacher's first channel is guessed by the mixture's first
    ones = [{'scale': np.ones(n), 'bias': np.zeros(n)} for n in (2, 3)]
    top = {'Conv_0': same, 'Conv_1': out, 'BatchNorm_0': ones[0], 'BatchNorm_1': ones[1]}
    params = {'Fusion_0': top, 'Fusion_1': {**params['Fusion_1'], **top}}
    got = term.reviewed(params, seen)
    mixed = normalised(deep, LIVE)
    halves = (normalised(shallow, LIVE) + mixed.repeat(2, axis=1).repeat(2, axis=2)) / 2
    close(got[1][LIVE][..., 0], normalised(mixed, LIVE)[LIVE][..., 0])
    close(got[0][LIVE][..., 0], normalised(halves, LIVE)[LIVE][..., 0])


# ---- the reused classifier


def test_a_reused_classifier_is_adopted_and_answers():
    term, seen = ReusedClassifier(layer='f'), inputs(STUDENT, WIDER)
    params, memory = jax.jit(term.init)(jax.random.key(0), seen)
    head = {'kernel': RNG.normal(size=(5, K)), 'bias': RNG.normal(size=K)}
    adopted = term.adopt(params, {}, {'params': {'head': head, 'stem': {}}})
    call = jax.jit(lambda memory: term(adopted, memory, seen, {}, step=jnp.int32(0), key=jax.random.key(0)))
    after = call(memory).memory
    # Of one batch alone: what is seen has a share of 0.1 in the running statistics, which begin at mean 0, variance 1.
    own = jax.tree.map(lambda old, new: (new - 0.9 * old) / 0.1, memory, after)
    got = projected(adopted['projector'], STUDENT)
    close(term.answer(adopted, own, seen.student), got.mean(axis=(1, 2)) @ head['kernel'] + head['bias'])
    close(call(memory).values, ((got - WIDER) ** 2).mean(axis=(1, 2, 3)))


def projected(layers, x):
    """Three convolutions of which the middle one sees its neighbours, each normalised by the batch, without padding."""
    for k in range(3):
        kernel = np.asarray(layers[f'Conv_{k}']['kernel'])
        side = kernel.shape[0] // 2
        wide = np.pad(x, ((0, 0), (side, side), (side, side), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(wide, kernel.shape[:2], axis=(1, 2))
        x = np.einsum('bhwcij,ijco->bhwo', windows, kernel)
        x = np.maximum((x - x.mean(axis=(0, 1, 2))) / np.sqrt(x.var(axis=(0, 1, 2)) + 1e-5), 0)
    return x


def test_a_classifier_that_is_not_there_is_an_error():
    with pytest.raises(UsageError, match=r"'head'.*of the teacher.*'last'"):
        ReusedClassifier().adopt({}, {}, {'params': {'last': {}}})
    with pytest.raises(UsageError, match=r"no teacher weights to adopt; set classifier=''"):
        ReusedClassifier().adopt({}, {}, {})
    assert ReusedClassifier(classifier='').adopt({'projector': 1}, {}, {}) == {'projector': 1}


# ---- channels and positions


@pytest.mark.parametrize('temperature', [1.0, 4.0])
def test_channel_distributions(temperature):
    p, q = (softmax(positions(x) / temperature, axis=1) for x in (TEACHER, STUDENT))
    want = temperature**2 * (p * np.log(p / q)).sum(axis=1).mean(axis=1)
    term = ChannelDistribution(layer='f', projected=False, temperature=temperature)
    close(values(term, inputs(STUDENT, TEACHER)), want)


def test_channel_distributions_ignore_an_offset_of_a_channel():
    term = ChannelDistribution(layer='f', projected=False)
    moved = inputs(STUDENT + RNG.normal(size=3), TEACHER - 5)
    close(values(term, moved), values(term, inputs(STUDENT, TEACHER)))


@pytest.mark.parametrize('form', ChannelCorrelation.FORMS)
def test_channel_correlations(form):
    left, right = (np.einsum('bnc,bnd->bcd', positions(x), positions(x)) for x in (STUDENT, TEACHER))
    if form == 'code':
        left, right = unit(left, 2), unit(right, 2)
    want = ((left - right) ** 2).sum(axis=(1, 2)) / (3 if form == 'code' else 9)
    term = ChannelCorrelation(layer='f', projected=False, form=form)
    close(values(term, inputs(STUDENT, TEACHER)), want)
    close(values(term, inputs(STUDENT[:, ::-1], TEACHER[:, :, ::-1])), want)  # no matter which position is where


def test_a_learned_projection_is_a_1x1_convolution():
    kernel, bias = RNG.normal(size=(3, 5)), RNG.normal(size=5)
    learned = values(ChannelCorrelation(layer='f'), inputs(STUDENT, WIDER), {'kernel': kernel, 'bias': bias})
    fixed = ChannelCorrelation(layer='f', projected=False)
    close(learned, values(fixed, inputs(STUDENT @ kernel + bias, WIDER)))


# ---- Pearson's correlation


@pytest.mark.parametrize('form', PearsonFeatures.FORMS)
def test_pearson_features_are_one_less_the_correlation(form):
    rows = [x[LIVE].reshape(-1, 3) for x in (STUDENT, TEACHER)]
    want = 1 - np.mean([np.corrcoef(rows[0][:, c], rows[1][:, c])[0, 1] for c in range(3)])
    got = values(PearsonFeatures(layer='f', projected=False, form=form), inputs(STUDENT, TEACHER, MASK))
    if form == 'mmrazor':  # one degree of freedom less, and 1e-6 added to the deviation
        want *= (len(rows[0]) - 1) / len(rows[0])
    close(got[LIVE].mean(), want, rtol=1e-5 if form == 'mmrazor' else 1e-9)


def test_pearson_features_by_the_letter_of_mmrazor():
    z = [(x - x.mean(axis=(0, 1, 2))) / (x.std(axis=(0, 1, 2), ddof=1) + 1e-6) for x in (STUDENT, TEACHER)]
    want = ((z[0] - z[1]) ** 2).mean(axis=(1, 2, 3)) / 2
    close(values(PearsonFeatures(layer='f', projected=False, form='mmrazor'), inputs(STUDENT, TEACHER)), want)


def test_pearson_features_ignore_scale_and_offset_of_channels():
    term = PearsonFeatures(layer='f', projected=False)
    scaled = inputs(STUDENT * [2, 0.1, 7] + [1, 2, 3], 5 * TEACHER - 1)
    close(values(term, scaled), values(term, inputs(STUDENT, TEACHER)))


# ---- masked generation


def generation(width=5):
    """Parameters whose two 3x3 convolutions look at the middle only, and the same as matrices."""
    align, first, second = RNG.normal(size=(3, 5)), RNG.normal(size=(5, width)), RNG.normal(size=(width, 5))
    kernels = [np.zeros((3, 3, *x.shape)) for x in (first, second)]
    for kernel, matrix in zip(kernels, (first, second), strict=True):
        kernel[1, 1] = matrix
    names = {'align': (align[None, None], 5), 'first': (kernels[0], width), 'second': (kernels[1], 5)}
    return {name: {'kernel': k, 'bias': np.zeros(n)} for name, (k, n) in names.items()}, (align, first, second)


@pytest.mark.parametrize(('mask', 'shape'), [('spatial', (4, 4, 1)), ('channel', (1, 1, 5))])
def test_masked_generation(mask, shape):
    noise = RNG.uniform(size=(B, *shape))

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Drawn(MaskedGeneration):
        def draw(self, key, inputs, shape):
            assert shape == noise.shape[1:]
            return jnp.asarray(noise)

    params, (align, first, second) = generation()
    guess = np.maximum(STUDENT @ align * (noise >= 0.4) @ first, 0) @ second
    got = values(Drawn(layer='f', mask=mask, masked=0.4), inputs(STUDENT, WIDER), params)
    close(got, ((guess - WIDER) ** 2).sum(axis=(1, 2, 3)))


def test_masks_are_drawn_by_step_and_by_example_with_the_share_asked_for():
    term, seen = MaskedGeneration(layer='f'), inputs(STUDENT, WIDER)
    draw = lambda seen, key: np.asarray(term.draw(jax.random.key(key), seen, (20, 20, 1)))  # noqa: E731
    straight, other = draw(seen, 0), draw(seen, 1)
    close(draw(inputs(STUDENT, WIDER, ids=np.arange(B)[::-1]), 0), straight[::-1])
    assert not np.allclose(straight, other)
    assert (straight < term.masked).mean() == pytest.approx(0.65, abs=0.03)


def test_the_share_that_is_masked_is_below_one():
    with pytest.raises(UsageError, match=r'masked of MaskedGeneration must be in \[0, 1\), got 1\.0'):
        MaskedGeneration(masked=1.0)
    with pytest.raises(UsageError, match=r"'pixel'.*'spatial'"):
        MaskedGeneration(mask='pixel')


# ---- attention over channels and layers


def test_attentive_features():
    squeeze, excite = RNG.normal(size=(3, 2)), RNG.normal(size=(2, 3))
    hidden = np.maximum(TEACHER.mean(axis=(1, 2)) @ squeeze, 0) @ excite
    share = 1 / (1 + np.exp(-hidden))
    share /= share.sum(axis=1, keepdims=True)
    gap = [x / (np.linalg.norm(x, axis=1, keepdims=True) + 1e-6) for x in (positions(STUDENT), positions(TEACHER))]
    want = (share * ((gap[0] - gap[1]) ** 2).mean(axis=1)).sum(axis=1)
    layers = {'squeeze': {'kernel': squeeze, 'bias': np.zeros(2)}, 'excite': {'kernel': excite, 'bias': np.zeros(3)}}
    term = AttentiveFeatures(layer='f', projected=False, reduction=0.7)
    close(values(term, inputs(STUDENT, TEACHER), {'attention': layers, 'projection': {}}), want)


def energy(x):
    return unit((x**2).mean(axis=3).reshape(len(x), -1), 1)


def test_attention_links_weigh_pairs_of_layers():
    """With all parameters 0 every student layer has the same share."""
    students = {'a': STUDENT, 'b': RNG.normal(size=(B, 8, 8, 2))}
    term = AttentionLinks(students=('a', 'b'), teachers=('f',), width=3)
    seen = inputs(students, {'f': WIDER})
    pooled = blocks((students['b'] ** 2).mean(axis=3, keepdims=True), 4).reshape(B, -1)
    distances = [((h - energy(WIDER)) ** 2).mean(axis=1) for h in (energy(STUDENT), unit(pooled, 1))]
    params = fresh(term, seen)
    close(values(term, seen, jax.tree.map(jnp.zeros_like, params)), sum(distances) / 2)
    # Without anything read from the features, shares are the softmax of the learned positions' products.
    position = {'teacher_position': RNG.normal(size=(1, 3)), 'student_position': RNG.normal(size=(2, 3))}
    scores = position['teacher_position'] @ position['student_position'].T / np.sqrt(3)
    want = (softmax(scores, 1)[0][:, None] * np.stack(distances)).sum(axis=0)
    close(values(term, seen, {**jax.tree.map(jnp.zeros_like, params), **position}), want)


@pytest.mark.parametrize('form', SemanticCalibration.FORMS)
def test_semantic_calibration_shares_teacher_layers_by_cosine(form):
    """Projectors at 0 guess 0, so that a pair's distance is the teacher's mean square."""
    term = SemanticCalibration(students=('f',), teachers=('a', 'b'), width=2, temperature=0.5, form=form)
    teachers = {'a': TEACHER, 'b': WIDER}
    ids = np.array([4, 0, 9, 2, 7, 1])
    seen = inputs(STUDENT, teachers, ids=ids)
    params = {name: jax.tree.map(jnp.zeros_like, leaf) for name, leaf in fresh(term, seen).items()}
    vectors = {}
    for name, x in {'query0': STUDENT, 'key0': TEACHER, 'key1': WIDER}.items():
        rows = x.reshape(B, -1)
        known = x.mean(axis=(1, 2)) if form == 'pooled' else (rows @ rows.T)[:, np.argsort(ids)]
        first, second = RNG.normal(size=(known.shape[-1], 4)), RNG.normal(size=(4, 2))
        params[name] = {
            'Dense_0': {'kernel': first, 'bias': np.ones(4)},
            'Dense_1': {'kernel': second, 'bias': np.ones(2)},
        }
        vectors[name] = unit(np.maximum(known @ first + 1, 0) @ second + 1, 1)
    scores = np.stack([(vectors['query0'] * vectors[f'key{t}']).sum(axis=1) for t in range(2)], axis=1) / 0.5
    squares = np.stack([(x**2).mean(axis=(1, 2, 3)) for x in teachers.values()], axis=1)
    close(values(term, seen, params), (softmax(scores, 1) * squares).sum(axis=1))


def test_similarities_to_a_batch_need_batches_of_one_size():
    term, seen = SemanticCalibration(students=('f',), teachers=('f',), form='paper'), inputs(STUDENT, TEACHER)
    params = fresh(term, seen)
    with pytest.raises(UsageError, match="form 'paper' was made for 6 examples or channels, and is given 4"):
        values(term, inputs(STUDENT[:4], TEACHER[:4]), params)


@pytest.mark.parametrize('kind', [SemanticCalibration, AttentionLinks])
def test_layers_that_are_attended_to_are_maps_on_both_sides(kind):
    seen = inputs({'f': STUDENT, 'v': np.ones((B, 3))}, WIDER)
    with pytest.raises(UsageError, match=r"tap 'v' must be a map \(B, H, W, C\), got \(6, 3\)"):
        kind(students=('v',), teachers=('f',)).init(jax.random.key(0), seen)
    with pytest.raises(UsageError, match='needs taps on both sides'):
        kind(students=())


# ---- vectors


def test_prime_aware_differences_are_a_likelihood():
    student, teacher = RNG.normal(size=(B, 3)), RNG.normal(size=(B, 5))
    layers = {
        name: {'kernel': RNG.normal(size=(3, 5)), 'bias': RNG.normal(size=5)} for name in ('variance', 'projection')
    }
    log_variance, guess = (student @ layer['kernel'] + layer['bias'] for layer in layers.values())
    want = ((teacher - guess) ** 2 / (0.1 + np.exp(log_variance)) + log_variance).mean(axis=1)
    close(values(PrimeAware(layer='f', eps=0.1), inputs(student, teacher), layers), want)


@pytest.mark.parametrize('size', [-200.0, 200.0])
def test_prime_aware_variances_may_overflow(size):
    features = jnp.asarray(RNG.normal(size=(B, 3)), jnp.float32)
    term, seen = PrimeAware(layer='f', projected=False), single(inputs(features, features + 1))
    params = single({'projection': {}, 'variance': {'kernel': jnp.zeros((3, 3)), 'bias': jnp.full(3, size)}})
    loss = lambda params: jnp.sum(ask(term, seen, params, jax.random.key(0)))  # noqa: E731
    assert finite(jax.value_and_grad(loss)(params))


@pytest.mark.parametrize('power', [1.0, 4.0])
def test_a_log_power_sum_is_of_the_whole_batch(power):
    student, teacher = RNG.normal(size=(2, B, 5))
    want = np.log((np.abs(student - teacher)[LIVE] ** power).sum())
    term = LogPowerSum(layer='f', projected=False, power=power)
    close(values(term, inputs(student, teacher, MASK)), np.full(B, want))


def test_a_log_power_sum_normalises_what_it_projects():
    student, teacher, kernel = RNG.normal(size=(B, 3)), RNG.normal(size=(B, 5)), RNG.normal(size=(3, 5))
    gap = (normalised(student @ kernel, LIVE) - normalised(teacher, LIVE))[LIVE]
    got = values(LogPowerSum(layer='f'), inputs(student, teacher, MASK), {'Dense_0': {'kernel': kernel}})
    close(got, np.full(B, np.log((gap**4).sum())))


@pytest.mark.parametrize('scale', [0.0, 1e-12, 1e12])
def test_a_log_power_sum_neither_overflows_nor_divides_by_zero(scale):
    features = RNG.normal(size=(B, 5))
    seen = single(inputs(scale * features, 0 * features))
    assert finite(answers(LogPowerSum(layer='f', projected=False), seen))


# ---- knowledge adaptation


@pytest.mark.parametrize('form', Translation.FORMS)
@pytest.mark.parametrize(('p', 'q'), [(1, 2), (2, 1), (3, 3)])
def test_translation(form, p, q):
    left, right = (x.reshape(B, -1) / np.linalg.norm(x.reshape(B, -1), q, axis=1)[:, None] for x in (STUDENT, TEACHER))
    want = np.linalg.norm(left - right, p, axis=1) / (left.shape[1] if form == 'torchdistill' and p == 1 else 1)
    close(values(Translation(layer='f', projected=False, p=p, q=q, form=form), inputs(STUDENT, TEACHER)), want)


@pytest.mark.parametrize('form', Affinity.FORMS)
def test_affinity(form):
    if form == 'paper':
        cosines = [np.einsum('bic,bjc->bij', x, x) for x in (unit(positions(y), 2) for y in (STUDENT, TEACHER))]
        want = (((cosines[0] - cosines[1]) / 16) ** 2).sum(axis=(1, 2))
    else:
        outer = [np.einsum('bic,bjc->bcij', x, x) for x in (unit(positions(y), 1) for y in (STUDENT, TEACHER))]
        want = np.linalg.norm((outer[0] - outer[1]) / 16, axis=(2, 3)).sum(axis=1)
    close(values(Affinity(layer='f', projected=False, form=form), inputs(STUDENT, TEACHER)), want)


@pytest.mark.parametrize(('order', 'wanted'), [(0, '>= 1'), (1.5, 'an integer')])
def test_orders_of_norms_are_positive_integers(order, wanted):
    with pytest.raises(UsageError, match=f'q of Translation must be {wanted}, got {order}'):
        Translation(q=order)


# ---- attention guided


@pytest.mark.parametrize('form', AttentionGuided.FORMS)
def test_attention_guided_distances(form):
    """Adaptations at 0 guess 0: left are norms of the teacher's own, whose relation with parameters 0 is its map."""
    term = AttentionGuided(
        layer='f', feature=1.0, channel=10.0, spatial=100.0, relation=1e3, temperature=0.5, form=form
    )
    seen = inputs(STUDENT, WIDER, MASK)
    attention = [16 * softmax(np.abs(positions(x)).mean(axis=2) / 0.5, 1) for x in (STUDENT, WIDER)]
    mask = (attention[0] + attention[1]).reshape(B, 4, 4, 1) / 2
    parts = [np.sqrt(mask) * WIDER, WIDER.mean(axis=(1, 2)), WIDER.mean(axis=3), WIDER]
    axis = None if form == 'code' else 1
    norms = [np.linalg.norm((x[LIVE] if form == 'code' else x).reshape(-1 if axis is None else (B, -1)), axis=axis)
             for x in parts]  # fmt: skip
    want = np.broadcast_to(sum(w * n for w, n in zip((1, 10, 100, 1e3), norms, strict=True)), (B,))
    got = values(term, seen, jax.tree.map(jnp.zeros_like, fresh(term, seen)))
    close(got[LIVE], want[LIVE])


def test_relations_read_all_positions_by_dot_product():
    term = AttentionGuided(layer='f')
    seen = inputs(STUDENT, WIDER)
    params = fresh(term, seen)
    own, x = params['teacher_relation'], positions(WIDER)
    query, key, value = (x @ own[name]['kernel'] + own[name]['bias'] for name in ('query', 'key', 'value'))
    read = np.einsum('bik,bjk,bjv->biv', query, key, value) / 16
    want = x + read @ own['out']['kernel'] + own['out']['bias']
    close(positions(np.asarray(term.compared(params, seen).relation[1])), want, rtol=1e-6)


# ---- what all share

PAIRS = [
    ReusedClassifier(layer='f'),
    ChannelDistribution(layer='f'),
    *(ChannelCorrelation(layer='f', form=form) for form in ChannelCorrelation.FORMS),
    *(PearsonFeatures(layer='f', form=form) for form in PearsonFeatures.FORMS),
    MaskedGeneration(layer='f'),
    AttentiveFeatures(layer='f'),
    *(Translation(layer='f', form=form) for form in Translation.FORMS),
    *(Affinity(layer='f', form=form) for form in Affinity.FORMS),
    *(AttentionGuided(layer='f', form=form) for form in AttentionGuided.FORMS),
    Review(layers=('f',)),
    SemanticCalibration(students=('f',), teachers=('f',)),
    AttentionLinks(students=('f',), teachers=('f',)),
    PrimeAware(layer='f'),
    LogPowerSum(layer='f'),
]
every_term = pytest.mark.parametrize(
    'term', PAIRS, ids=lambda term: f'{type(term).__name__}-{getattr(term, "form", "")}'
)


@every_term
@pytest.mark.parametrize('case', ['one', 'masked', 'zero', 'constant', 'large'])
def test_values_and_gradients_are_finite(term, case):
    """One example, none, maps of zeros or of one value, and features of size 60, in float32."""
    student, teacher, mask = STUDENT, WIDER, np.ones(B)
    if case == 'one':
        student, teacher, mask = student[:1], teacher[:1], mask[:1]
    if case == 'masked':
        mask = 0 * mask
    factor = {'zero': 0.0, 'large': 60.0}.get(case, 1.0)
    student, teacher = factor * student, factor * teacher
    if case == 'constant':
        student, teacher = np.full_like(student, 3.7), np.full_like(teacher, -2.3)
    assert finite(answers(term, single(inputs(student, teacher, mask))))


@pytest.mark.parametrize('term', PAIRS[:12], ids=lambda term: f'{type(term).__name__}-{getattr(term, "form", "")}')
def test_a_vector_is_no_map(term):
    seen = inputs(np.ones((B, 3)), np.ones((B, 5)))
    with pytest.raises(UsageError, match=r'maps \(B, H, W, C\) on both sides, got \(6, 3\) and \(6, 5\)'):
        term.init(jax.random.key(0), seen)


@pytest.mark.parametrize('kind', [ChannelDistribution, ChannelCorrelation, PearsonFeatures, Translation, Affinity])
def test_channels_that_differ_need_a_projection(kind):
    with pytest.raises(UsageError, match='differ in channels; set projected=True'):
        values(kind(layer='f', projected=False), inputs(STUDENT, WIDER))


@pytest.mark.parametrize('term', [PrimeAware(layer='f', projected=False), LogPowerSum(layer='f', projected=False)])
def test_widths_that_differ_need_a_projection(term):
    with pytest.raises(UsageError, match='differ in width; set projected=True'):
        term.init(jax.random.key(0), inputs(STUDENT, WIDER))


@pytest.mark.parametrize(
    ('arguments', 'match'),
    [
        ({'width': 0}, 'width of Review must be >= 1, got 0'),
        ({'levels': (2, 0)}, r'levels of Review must be positive integers, got \(2, 0\)'),
    ],
)
def test_a_review_needs_sizes(arguments, match):
    with pytest.raises(UsageError, match=match):
        Review(**arguments)


def test_a_review_without_fusions_needs_one_shape():
    with pytest.raises(UsageError, match='differ; set fused=True'):
        values(Review(layers=('f',), fused=False), inputs(STUDENT, WIDER))
