"""Feature maps, first half: values against numpy written from the papers, their limits, and what is refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.errors import UsageError
from kdjax.techniques.ab import ActivationBoundary
from kdjax.techniques.fsp import Flow
from kdjax.techniques.ft import Factor, Paraphrase
from kdjax.techniques.gradient_attention import GradientAttention
from kdjax.techniques.jacobian import JacobianMatching
from kdjax.techniques.kdsvd import SingularVectors, right_vectors
from kdjax.techniques.nst import NeuronSelectivity, TokenSelectivity
from kdjax.techniques.ofd import Overhaul, normal_margin
from kdjax.techniques.sobolev import Sobolev
from kdjax.techniques.vid import VariationalInformation
from kdjax.types import Outputs, TermInputs

pytestmark = pytest.mark.rotating(0, 2)  # half of the families have their turn each day

B, K = 6, 10
RNG = np.random.default_rng(7)
STUDENT, TEACHER = RNG.normal(size=(B, 4, 4, 3)), RNG.normal(size=(B, 4, 4, 5))
MASK = np.array([1, 1, 0, 1, 0, 1.0])


@pytest.fixture(autouse=True)
def _double():
    # Standard promotion: flax starts running statistics in float32.
    with jax.enable_x64(True), jax.numpy_dtype_promotion('standard'):
        yield


def inputs(student=None, teacher=None, mask=None, logits=None, **batch):
    """Inputs with taps by name, where an array alone is the tap 'f'."""
    taps = [x if isinstance(x, dict) else {} if x is None else {'f': x} for x in (student, teacher)]
    size = len(next(iter((*taps[0].values(), *taps[1].values()))))
    logits = np.zeros((2, size, K)) if logits is None else logits
    sides = [Outputs(jnp.asarray(z), jax.tree.map(jnp.asarray, tap)) for z, tap in zip(logits, taps, strict=True)]
    batch = {'mask': np.ones(size) if mask is None else mask, **batch}
    return TermInputs(*sides, jax.tree.map(jnp.asarray, batch))


@functools.partial(jax.jit, static_argnums=0)
def ask_with(term, knobs, seen, params):
    return term(params, {}, seen, knobs, step=jnp.int32(0), key=jax.random.key(0)).values


def ask(term, seen, params):
    return ask_with(term, term.knobs(), seen, params)  # traced: equal terms may differ in knobs


def values(term, seen, params=None):
    return np.asarray(ask(term, seen, params or {}))


def gradient(term, seen, params=None):
    """Of the sum of values with respect to the student's features."""
    wrt = lambda features: jnp.sum(ask(term, seen._replace(student=Outputs(None, features)), params or {}))  # noqa: E731
    return jax.grad(wrt)(seen.student.features)


def close(got, want, rtol=1e-9):
    np.testing.assert_allclose(got, want, rtol=rtol, atol=1e-12)


def finite(*trees):
    return all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(trees))


def rejected(term, seen, match):
    with pytest.raises(UsageError, match=match):
        values(term, seen, term.init(jax.random.key(0), seen)[0])


# ---- neuron selectivity


def kernel_of(kind, x, y, spread):
    gap = ((x - y) ** 2).sum()
    return {'linear': x @ y, 'polynomial': (x @ y) ** 2, 'gaussian': np.exp(-gap / (2 * spread))}[kind]


def discrepancy(kind, student, teacher):
    """Of one example, pair by pair (eq. 5 of Huang, Wang)."""
    s, t = (x.reshape(-1, x.shape[-1]).T / np.linalg.norm(x.reshape(-1, x.shape[-1]), axis=0)[:, None] for x in
            (student, teacher))  # fmt: skip
    spread = np.mean([((x - y) ** 2).sum() for x in s for y in t])
    tt, ss, st = (np.mean([kernel_of(kind, x, y, spread) for x in a for y in b]) for a, b in ((t, t), (s, s), (s, t)))
    return tt + ss - 2 * st


@pytest.mark.parametrize('kernel', ['linear', 'polynomial', 'gaussian'])
def test_neuron_selectivity(kernel):
    want = [discrepancy(kernel, s, t) for s, t in zip(STUDENT, TEACHER, strict=True)]
    close(values(NeuronSelectivity(layers=('f',), kernel=kernel), inputs(STUDENT, TEACHER)), want)


def test_neuron_selectivity_of_maps_with_fewer_positions_than_channels():
    student, teacher = RNG.normal(size=(B, 2, 2, 7)), RNG.normal(size=(B, 2, 2, 9))
    want = [discrepancy('polynomial', s, t) for s, t in zip(student, teacher, strict=True)]
    close(values(NeuronSelectivity(layers=('f',)), inputs(student, teacher)), want)


@pytest.mark.parametrize('kernel', ['linear', 'polynomial', 'gaussian'])
def test_neuron_selectivity_knows_neither_scale_nor_order_nor_number_of_channels(kernel):
    twice = np.concatenate([STUDENT[..., ::-1], 3 * STUDENT], axis=-1)
    close(values(NeuronSelectivity(layers=('f',), kernel=kernel), inputs(STUDENT, twice)), np.zeros(B))


@pytest.mark.parametrize('kernel', ['linear', 'polynomial', 'gaussian'])
def test_dead_channels_are_finite(kernel):
    dead = STUDENT * [0, 1, 0]
    term, seen = NeuronSelectivity(layers=('f',), kernel=kernel), inputs(dead, np.zeros_like(TEACHER))
    assert finite(values(term, seen), gradient(term, seen))
    close(values(term, inputs(dead, 2 * dead)), np.zeros(B))


def token_gap(student, teacher, lengths):
    """Squared differences of the products of the first `lengths` tokens, by example."""
    return [
        ((s[0, :n] @ s[1, :n].T / s.shape[-1] - t[0, :n] @ t[1, :n].T / t.shape[-1]) ** 2)
        for s, t, n in zip(student, teacher, lengths, strict=True)
    ]


@pytest.mark.parametrize('form', TokenSelectivity.FORMS)
def test_token_selectivity(form):
    student, teacher, lengths = RNG.normal(size=(B, 2, 5, 3)), RNG.normal(size=(B, 2, 5, 7)), [1, 5, 2, 4, 3, 5]
    seen = inputs(*({'a': x[:, 0], 'b': x[:, 1]} for x in (student, teacher)), MASK,
                token_mask=(np.arange(5) < np.array(lengths)[:, None]).astype(float))  # fmt: skip
    gaps = [gap for gap, real in zip(token_gap(student, teacher, lengths), MASK, strict=True) if real]
    got = values(TokenSelectivity(layers=('a', 'b'), form=form), seen)[MASK > 0]
    if form == 'example':
        close(got, [gap.mean() for gap in gaps])
    else:
        close(got.mean(), np.concatenate([gap.ravel() for gap in gaps]).mean())


def test_token_selectivity_is_the_polynomial_kernel_of_unit_channels():
    """||S S^T / C_s - T T^T / C_t||^2 is the mean of (x'y)^2 over pairs of channels."""
    student, teacher = (x.reshape(B, 16, -1) for x in (STUDENT, TEACHER))
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (student, teacher)]
    got = values(TokenSelectivity(layers=('f', 'f')), inputs(*unit)) * 16**2
    close(got, values(NeuronSelectivity(layers=('f',)), inputs(STUDENT, TEACHER)))


@pytest.mark.parametrize('form', TokenSelectivity.FORMS)
def test_no_real_token_counts_nothing(form):
    tokens = RNG.normal(size=(2, B, 5, 3))
    seen = inputs(*tokens, np.zeros(B), token_mask=np.zeros((B, 5)))
    term = TokenSelectivity(layers=('f', 'f'), form=form)
    close(values(term, seen), np.zeros(B))
    assert finite(gradient(term, seen))


def test_selectivity_refuses_other_shapes():
    rejected(NeuronSelectivity(layers=('f',)), inputs(STUDENT[:, 0], TEACHER), r'maps .*\(6, 4, 3\) and \(6, 4, 4, 5\)')
    rejected(TokenSelectivity(layers=('f', 'f')), inputs(STUDENT, TEACHER), 'tokens')
    with pytest.raises(UsageError, match=r"unknown kernel 'cubic'.*'linear'"):
        NeuronSelectivity(kernel='cubic')
    with pytest.raises(UsageError, match='two layers'):
        TokenSelectivity(layers=('f',))


# ---- flow


def halved(x, reduce):
    """A map of even sides by cells of 2 x 2."""
    return reduce(x.reshape(len(x), x.shape[1] // 2, 2, x.shape[2] // 2, 2, -1), axis=(2, 4))


def flow(left, right):
    """Of one example, position by position (eq. 1 of Yim et al.)."""
    (height, width), total = left.shape[:2], np.zeros((left.shape[-1], right.shape[-1]))
    for h in range(height):
        for w in range(width):
            total += np.outer(left[h, w], right[h, w])
    return total / (height * width)


@pytest.mark.parametrize('form', Flow.FORMS)
@pytest.mark.parametrize('widened', [False, True])
def test_flow(form, widened):
    students, teachers = ([RNG.normal(size=(B, 4, 4, 3)), RNG.normal(size=(B, 2, 2, 5))] for _ in range(2))
    kernels = [RNG.normal(size=(3, 3)), RNG.normal(size=(5, 5))]
    seen = inputs(*(dict(zip('ab', side, strict=True)) for side in (students, teachers)))
    params = {f'Dense_{k}': {'kernel': kernel} for k, kernel in enumerate(kernels)} if widened else {}
    if widened:
        students = [x @ kernel for x, kernel in zip(students, kernels, strict=True)]
    reduce = np.max if form == 'torchdistill' else np.mean
    gaps = [flow(halved(s1, reduce)[0], s2[0]) - flow(halved(t1, reduce)[0], t2[0])
            for s1, s2, t1, t2 in zip(*(np.split(x, B) for x in (*students, *teachers)), strict=True)]  # fmt: skip
    square = np.square(gaps)
    want = {'paper': square.sum(axis=(1, 2)), 'mean': square.mean(axis=(1, 2)),
            'torchdistill': np.sqrt(square.sum(axis=1)).sum(axis=1)}  # fmt: skip
    close(values(Flow(layers=('a', 'b'), widened=widened, form=form), seen, params), want[form])


def test_flow_of_tokens_sees_real_tokens_only():
    student, teacher, lengths = RNG.normal(size=(B, 5, 3)), RNG.normal(size=(B, 5, 3)), [1, 5, 2, 4, 3, 0]
    mask = (np.arange(5) < np.array(lengths)[:, None]).astype(float)
    want = [((s[:n].T @ s[:n] - t[:n].T @ t[:n]) ** 2).sum() / max(n, 1) ** 2
            for s, t, n in zip(student, teacher, lengths, strict=True)]  # fmt: skip
    term, seen = Flow(layers=('f', 'f')), inputs(student, teacher, token_mask=mask)
    close(values(term, seen), want)
    assert finite(gradient(term, seen))


def test_flow_sums_consecutive_pairs():
    sides = [{tap: RNG.normal(size=(B, 4, 4, 3)) for tap in 'abc'} for _ in range(2)]
    apart = [values(Flow(layers=layers), inputs(*sides)) for layers in (('a', 'b'), ('b', 'c'))]
    close(values(Flow(layers=('a', 'b', 'c')), inputs(*sides)), sum(apart))


def test_flow_refuses_other_shapes():
    rejected(Flow(layers=('f', 'f')), inputs(STUDENT, TEACHER), '3 and 5 channels differ; set widened=True')
    rejected(Flow(layers=('f', 'f')), inputs(STUDENT[:, 0, 0], STUDENT[:, 0, 0]), r'maps .* got \[\(6, 3\)')
    with pytest.raises(UsageError, match='two or more layers'):
        Flow(layers=('stage1',))


# ---- variational information


def vid_params(student, teacher, width, variance):
    sizes = [(student, width), (width, width), (width, teacher)]
    return {'mean': {f'Dense_{k}': {'kernel': RNG.normal(size=size)} for k, size in enumerate(sizes)},
            'variance': variance}  # fmt: skip


@pytest.mark.parametrize('form', VariationalInformation.FORMS)
def test_variational_information_is_the_likelihood_of_a_gaussian(form):
    student, teacher, spread = RNG.normal(size=(B, 4)), RNG.normal(size=(B, 5)), RNG.uniform(0.1, 2, 5)
    params = vid_params(4, 5, 7, np.log(np.expm1(spread - 0.01)))
    mean = student
    for k in range(3):
        mean = (mean if k == 0 else np.maximum(mean, 0)) @ params['mean'][f'Dense_{k}']['kernel']
    want = ((teacher - mean) ** 2 / spread + np.log(spread)) / 2
    want = want.sum(axis=1) if form == 'paper' else want.mean(axis=1)
    term = VariationalInformation(layer='f', width=7, floor=0.01, form=form)
    close(values(term, inputs({'f': student}, {'f': teacher}), params), want)


def test_variational_information_of_maps_is_that_of_their_positions():
    term = VariationalInformation(layer='f', width=3)
    params = vid_params(3, 5, 3, np.zeros(5))
    apart = [values(term, inputs(STUDENT[:, h, w], TEACHER[:, h, w]), params) for h in range(4) for w in range(4)]
    close(values(term, inputs(STUDENT, TEACHER), params), sum(apart))


@pytest.mark.parametrize('start', [5.0, 0.1, 1e4])
def test_the_variance_starts_where_it_is_told(start):
    params, _ = VariationalInformation(layer='f', start=start).init(jax.random.key(0), inputs(STUDENT, TEACHER))
    close(1e-5 + np.logaddexp(0, params['variance']), np.full(5, start))


def test_the_best_variance_is_the_mean_squared_error():
    """At v = mean (t - mu)^2 the gradient with respect to the variance is 0."""
    term, seen = VariationalInformation(layer='f', floor=1e-9), inputs(STUDENT, TEACHER)
    params = vid_params(3, 5, 5, np.zeros(5))
    params['mean']['Dense_2']['kernel'] = np.zeros((5, 5))
    best = np.mean(TEACHER**2, axis=(0, 1, 2))
    params['variance'] = np.log(np.expm1(best - 1e-9))
    slope = jax.grad(lambda a: jnp.sum(ask(term, seen, {**params, 'variance': a})))(jnp.asarray(params['variance']))
    np.testing.assert_allclose(slope, np.zeros(5), atol=1e-9)


@pytest.mark.parametrize('logit', [-1e4, 1e4])
def test_extreme_variances_stay_finite(logit):
    with jax.enable_x64(False):
        params = jax.tree.map(jnp.float32, vid_params(3, 5, 5, np.full(5, logit)))
        seen = jax.tree.map(jnp.float32, inputs(STUDENT, TEACHER))
        term = VariationalInformation(layer='f')
        assert finite(values(term, seen, params), gradient(term, seen, params))


def test_variational_information_refuses():
    rejected(VariationalInformation(layer='f'), inputs(STUDENT, TEACHER[:, 0, 0]), r'vectors \(B, D\), got')
    with pytest.raises(UsageError, match='needs 0 < floor < start, got floor 1e-05 and start 1e-06'):
        VariationalInformation(start=1e-6)
    with pytest.raises(UsageError, match=r'width of VariationalInformation must be .* -1'):
        VariationalInformation(width=-1)


# ---- activation boundaries


def normalised(x, mask=None):
    """Batch normalisation of the channels of the real examples."""
    real = x[np.ones(len(x), bool) if mask is None else mask > 0].reshape(-1, x.shape[-1])
    return (x - real.mean(axis=0)) / np.sqrt(real.var(axis=0) + 1e-5)


def crossed(student, teacher, margin):
    """(s + m)^2 or (s - m)^2 where the student is on the wrong side of the margin, by example."""
    low = (student + margin) ** 2 * (student > -margin) * (teacher <= 0)
    high = (student - margin) ** 2 * (student < margin) * (teacher > 0)
    return (low + high).reshape(len(student), -1)


@pytest.mark.parametrize('form', ActivationBoundary.FORMS)
def test_activation_boundaries(form):
    layers = [RNG.normal(size=(2, B, 4, 4, 3)), RNG.normal(size=(2, B, 2, 2, 5))]
    seen = inputs(*({'a': layers[0][side], 'b': layers[1][side]} for side in (0, 1)))
    shallow, deep = (crossed(*layer, 0.7) for layer in layers)
    want = {'paper': shallow.sum(axis=1) + deep.sum(axis=1), 'halving': shallow.sum(axis=1) / 2 + deep.sum(axis=1),
            'mean': shallow.mean(axis=1) + deep.mean(axis=1)}  # fmt: skip
    close(values(ActivationBoundary(layers=('a', 'b'), connector=False, margin=0.7, form=form), seen), want[form])


def test_the_connector_of_boundaries_normalises_real_examples():
    kernel, scale, bias = RNG.normal(size=(3, 5)), RNG.normal(size=5), RNG.normal(size=5)
    params = {'Dense_0': {'kernel': kernel}, 'BatchNorm_0': {'scale': scale, 'bias': bias}}
    want = crossed(normalised(STUDENT @ kernel, MASK) * scale + bias, TEACHER, 1.0).sum(axis=1)
    got = values(ActivationBoundary(layers=('f',)), inputs(STUDENT, TEACHER, MASK), params)
    close(got[MASK > 0], want[MASK > 0])


def test_the_connector_doubles_a_map_half_as_large():
    """Each pixel is laid down as its 4x4 kernel, two apart, and the border of one pixel is cut off."""
    student, kernel = RNG.normal(size=(B, 2, 2, 3)), RNG.normal(size=(4, 4, 5, 3))
    laid = np.zeros((B, 6, 6, 5))
    for row, column in np.ndindex(2, 2):
        laid[:, 2 * row : 2 * row + 4, 2 * column : 2 * column + 4] += np.einsum(
            'bi,hwoi->bhwo', student[:, row, column], kernel
        )
    doubled = laid[:, 1:5, 1:5]
    norm = {'scale': np.ones(5), 'bias': np.zeros(5)}
    params = {name: own for k in '01' for name, own in
              ((f'ConvTranspose_{k}', {'kernel': kernel}), (f'BatchNorm_{k}', norm))}  # fmt: skip
    want = 2 * crossed(normalised(doubled, np.ones(B)), TEACHER, 1.0).sum(axis=1)
    close(values(ActivationBoundary(layers=('f', 'f')), inputs(student, TEACHER), params), want)


def test_boundaries_know_only_the_sign_of_the_teacher_and_are_met_beyond_the_margin():
    term, beyond = ActivationBoundary(layers=('f',), connector=False), TEACHER + 1.001 * np.sign(TEACHER)
    close(values(term, inputs(beyond, TEACHER)), np.zeros(B))
    close(values(term, inputs(TEACHER, beyond)), values(term, inputs(TEACHER, 100 * beyond)))


def test_boundaries_refuse_other_shapes():
    rejected(ActivationBoundary(layers=('f',), connector=False), inputs(STUDENT, TEACHER), 'set connector=True')
    rejected(ActivationBoundary(layers=('f',)), inputs(STUDENT[:, :2], TEACHER), 'only channels may differ')


def test_one_example_is_finite_behind_a_connector():
    term, seen = ActivationBoundary(layers=('f',)), inputs(STUDENT[:1, 0, 0], TEACHER[:1, 0, 0])
    params, _ = term.init(jax.random.key(0), seen)
    assert finite(values(term, seen, params), gradient(term, seen, params))


# ---- factors


@pytest.mark.parametrize('form', Factor.FORMS)
@pytest.mark.parametrize('power', [1, 2, 3])
def test_factor(form, power):
    student, teacher = RNG.normal(size=(2, B, 4, 4, 3))
    if form == 'repdistiller':
        student_f, teacher_f = ((x**2).mean(axis=-1) for x in (student, teacher))
    else:
        student_f, teacher_f = student, teacher
    s, t = (x.reshape(B, -1) / np.linalg.norm(x.reshape(B, -1), axis=1)[:, None] for x in (student_f, teacher_f))
    want = {'paper': np.linalg.norm(s - t, ord=power, axis=1), 'mean': (np.abs(s - t) ** power).mean(axis=1),
            'repdistiller': (np.abs(s - t) if power == 1 else (s - t) ** power).mean(axis=1)}  # fmt: skip
    close(values(Factor(layer='f', translator=False, power=power, form=form), inputs(student, teacher)), want[form])


@pytest.mark.parametrize('form', Factor.FORMS)
def test_factors_have_no_scale(form):
    term, other = Factor(layer='f', translator=False, form=form), STUDENT[::-1]
    close(values(term, inputs(3 * STUDENT, 0.1 * other)), values(term, inputs(STUDENT, other)))


@pytest.mark.parametrize('power', [1, 2, 3])
@pytest.mark.parametrize('form', Factor.FORMS)
def test_a_dead_map_has_finite_factors(form, power):
    term = Factor(layer='f', translator=False, power=power, form=form)
    for seen in (inputs(0 * STUDENT, STUDENT), inputs(0 * STUDENT, 0 * STUDENT), inputs(STUDENT, STUDENT)):
        assert finite(values(term, seen), gradient(term, seen))


def convolved(x, layer):
    """A padded 3x3 convolution and leaky ReLU."""
    padded, out = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), layer['bias']
    for i in range(3):
        for j in range(3):
            out = out + padded[:, i : i + x.shape[1], j : j + x.shape[2]] @ np.asarray(layer['kernel'])[i, j]
    return np.maximum(out, 0.1 * out)


@pytest.mark.parametrize('form', Paraphrase.FORMS)
def test_paraphrase(form):
    term, seen = Paraphrase(layer='f', rate=0.4, form=form), inputs(STUDENT, TEACHER)
    params, _ = term.init(jax.random.key(0), seen)
    params = jax.tree.map(lambda leaf: RNG.normal(size=leaf.shape), params)
    factor = guess = TEACHER
    for k in range(3):
        factor = guess = convolved(factor, params['encoder'][f'Conv_{k}'])
    for k in range(3):
        # A transposed convolution is one with its kernel turned round, and in and out exchanged.
        layer = params['decoder'][f'ConvTranspose_{k}']
        guess = convolved(guess, {**layer, 'kernel': layer['kernel'][::-1, ::-1].swapaxes(2, 3)})
    assert factor.shape[-1] == 2
    square = ((guess - TEACHER) ** 2).reshape(B, -1)
    close(values(term, seen, params), square.mean(axis=1) if form == 'mean' else square.sum(axis=1))


def test_a_translator_matches_the_factors_of_the_paraphraser_that_was_learned_before():
    seen, term = inputs(STUDENT, TEACHER), Factor(layer='f', paraphraser='words', batch_norm=False)
    learned, _ = Paraphrase(layer='f').init(jax.random.key(7), seen)
    params = term.adopt(term.init(jax.random.key(0), seen)[0], {'words': learned}, {})
    factors = [STUDENT, TEACHER]
    for side, layers in enumerate((params['translator'], learned['encoder'])):
        for k in range(3):
            factors[side] = convolved(factors[side], layers[f'Conv_{k}'])
    s, t = (x.reshape(B, -1) / np.linalg.norm(x.reshape(B, -1), axis=1)[:, None] for x in factors)
    close(values(term, seen, params), np.abs(s - t).sum(axis=1), rtol=1e-5)  # flax draws in float32
    slope = jax.grad(lambda own: jnp.sum(ask(term, seen, own)))(params)
    assert all(np.any(leaf) for leaf in jax.tree.leaves(slope['translator']))
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(slope['paraphraser']))


def test_factors_refuse():
    term, seen = Factor(layer='f', paraphraser='words'), inputs(STUDENT, TEACHER)
    params, _ = term.init(jax.random.key(0), seen)
    with pytest.raises(UsageError, match=r"unknown term 'words' of the fit before.*'word'"):
        term.adopt(params, {'word': {}}, {})
    learned, _ = Paraphrase(layer='f', rate=1.0).init(jax.random.key(0), seen)
    with pytest.raises(UsageError, match=r"paraphraser 'words' learned .* must agree"):
        term.adopt(params, {'words': learned}, {})
    rejected(Factor(layer='f', translator=False), seen, 'differ in channels; set translator=True')
    rejected(Factor(layer='f'), inputs(STUDENT[:, 0], TEACHER), 'need maps')
    for name in ('power', 'moment', 'rate'):
        with pytest.raises(UsageError, match=f'{name} of Factor must be .* 0'):
            Factor(**{name: 0})


# ---- overhaul


@pytest.mark.parametrize(('scale', 'bias'), [(1.0, 0.0), (-0.5, 0.3), (2.0, -4.0), (0.5, 3.0)])
def test_the_margin_is_the_mean_of_the_negative_part_of_a_normal(scale, bias):
    grid = np.linspace(bias - 12 * abs(scale), 0, 400_001)
    density = np.exp(-((grid - bias) ** 2) / (2 * scale**2))
    want = (grid * density).sum() / density.sum() if bias < 3 * abs(scale) else -3 * abs(scale)
    close(normal_margin(jnp.asarray([scale]), jnp.asarray([bias])), [want], rtol=1e-4)


def test_margins_of_dead_or_saturated_channels_are_finite():
    scale, bias = np.meshgrid([0, 1e-8, 1, 60, -1e4], [-1e4, -60, 0, 60, 1e4])
    with jax.enable_x64(False):
        margin = normal_margin(jnp.asarray(scale, jnp.float32), jnp.asarray(bias, jnp.float32))
    assert finite(margin)
    assert np.all(margin <= 0)


def partial(student, teacher, margin):
    """By the three regions of fig. 3 of Heo et al.: a target above 0, below it with the student above, or neither."""
    target = np.maximum(teacher, margin)
    return np.where((target <= 0) & (student <= target), 0, (student - target) ** 2).reshape(len(student), -1)


@pytest.mark.parametrize('form', Overhaul.FORMS)
def test_overhaul(form):
    layers, margins = (
        [RNG.normal(size=(2, B, 4, 4, 3)), RNG.normal(size=(2, B, 2, 2, 5))],
        [-RNG.random(3), -RNG.random(5)],
    )
    seen = inputs(*({'a': layers[0][side], 'b': layers[1][side]} for side in (0, 1)))
    shallow, deep = (partial(*layer, margin) for layer, margin in zip(layers, margins, strict=True))
    want = {'paper': shallow.sum(axis=1) + deep.sum(axis=1), 'halving': shallow.sum(axis=1) / 2 + deep.sum(axis=1),
            'mean': shallow.mean(axis=1) + deep.mean(axis=1)}  # fmt: skip
    term = Overhaul(layers=('a', 'b'), norms=('a', 'b'), connector=False, form=form)
    close(values(term, seen, {'margins': margins}), want[form])


def test_margins_of_the_batch_and_the_connector_see_real_examples_only():
    kernel, scale, bias = RNG.normal(size=(1, 1, 3, 5)), RNG.normal(size=5), RNG.normal(size=5)
    params = {'Conv_0': {'kernel': kernel}, 'BatchNorm_0': {'scale': scale, 'bias': bias}}
    real = TEACHER[MASK > 0].reshape(-1, 5)
    margin = [channel[channel < 0].mean() for channel in real.T]
    want = partial(normalised(STUDENT @ kernel[0, 0], MASK) * scale + bias, TEACHER, margin).sum(axis=1)
    got = values(Overhaul(layers=('f',), floor=0.0), inputs(STUDENT, TEACHER, MASK), {'connector': params})
    close(got[MASK > 0], want[MASK > 0])


def test_margins_come_from_the_norms_of_the_teacher():
    term, seen = Overhaul(layers=('f',), norms=('block/norm',)), inputs(STUDENT, TEACHER)
    params, _ = term.init(jax.random.key(0), seen)
    norm = {'scale': jnp.asarray(RNG.normal(size=5)), 'bias': jnp.asarray(RNG.normal(size=5))}
    (margin,) = term.adopt(params, {}, {'params': {'block': {'norm': norm}}, 'stats': {}})['margins']
    close(margin, normal_margin(norm['scale'], norm['bias']))
    short = {name: leaf[1:] for name, leaf in norm.items()}
    for teacher, match in [
        ({}, 'no teacher weights to take margins from'),
        ({'params': {'blok': {}}}, "unknown layer 'block/norm'.*'blok'"),
        ({'params': {'block': {'norm': {}}}}, 'no batch normalisation'),
        ({'params': {'block': {'norm': short}}}, r'\(4,\)'),
    ]:
        with pytest.raises(UsageError, match=match):
            term.adopt(params, {}, teacher)


@pytest.mark.parametrize('sign', [1, -1])
def test_channels_all_of_one_sign_are_finite(sign):
    term, seen = Overhaul(layers=('f',), floor=0.0), inputs(STUDENT, sign * np.abs(TEACHER))
    params, _ = term.init(jax.random.key(0), seen)
    assert finite(values(term, seen, params), gradient(term, seen, params))


def test_overhaul_refuses():
    rejected(Overhaul(layers=('f',), connector=False), inputs(STUDENT, TEACHER), 'set connector=True')
    rejected(Overhaul(layers=('f',)), inputs(STUDENT[:, 0], TEACHER), 'maps')
    for bad in ({'norms': ('stage1_norm',)}, {'kernel_size': 2}, {'floor': -1.0}):
        with pytest.raises(UsageError, match=f'{next(iter(bad))}.*got'):
            Overhaul(**bad)


# ---- singular vectors


def principal(matrix, count):
    """Leading eigenvectors of X'X, and the square roots of their eigenvalues."""
    squares, vectors = np.linalg.eigh(matrix.T @ matrix)
    return np.sqrt(squares[::-1][:count]), vectors[:, ::-1][:, :count]


def aligned(student, teacher, count):
    """Of one example and layer, vector by vector."""
    weights, theirs = principal(teacher, count)
    _, ours = principal(student, count + 3)
    pairs = []
    for k in range(count):
        chosen = theirs[:, k] * np.sign(theirs[np.argmax(np.abs(theirs[:, k])), k])
        cosine = ours.T @ chosen
        best = np.argmax(np.abs(cosine))
        share = weights[k] / np.linalg.norm(weights)
        pairs.append((ours[:, best] * np.sign(cosine[best]) * share, chosen * share))
    return pairs


@pytest.mark.parametrize('form', SingularVectors.FORMS)
@pytest.mark.parametrize('count', [1, 2])
def test_singular_vectors(form, count):
    sides = [{'a': RNG.normal(size=(B, 4, 4, 5)), 'b': RNG.normal(size=(B, 3, 5, 6))} for _ in range(2)]
    order = (0, 3, 1, 2) if form == 'mdistiller' else (0, 1, 2, 3)
    want = np.zeros(B)
    for b in range(B):
        matrices = [[side[tap].transpose(order)[b] for side in sides] for tap in 'ab']
        low, high = (aligned(*(m.reshape(-1, m.shape[-1]) for m in layer), count) for layer in matrices)
        for (s0, t0), (s1, t1) in zip(low, high, strict=True):
            for v0, w0 in zip(s0, t0, strict=True):
                want[b] += ((np.exp(-((s1 - v0) ** 2) / 8) - np.exp(-((t1 - w0) ** 2) / 8)) ** 2).sum()
    close(values(SingularVectors(layers=('a', 'b'), count=count, form=form), inputs(*sides)), want)


@pytest.mark.parametrize('shape', [(7, 4), (4, 4), (3, 6)])
def test_the_slope_of_singular_vectors_is_that_of_their_projector(shape):
    """v v' has no sign to be arbitrary, so that differences of it can be taken."""
    x, dx = RNG.normal(size=(2, *shape))

    def projector(x):
        values, right = right_vectors(x)
        return right[:, :2] * values[:2] @ right[:, :2].T

    _, slope = jax.jvp(projector, (x,), (dx,))
    close(slope, (projector(x + 1e-6 * dx) - projector(x - 1e-6 * dx)) / 2e-6, rtol=1e-5)


@pytest.mark.parametrize('layer', [np.zeros((B, 4, 4, 5)), np.ones((B, 4, 4, 5)), np.tile(np.eye(4), (B, 4, 1, 1))])
def test_equal_singular_values_are_finite(layer):
    term, seen = SingularVectors(layers=('f', 'f')), inputs(layer, RNG.normal(size=layer.shape))
    assert finite(values(term, seen), gradient(term, seen))
    assert finite(values(term, inputs(RNG.normal(size=layer.shape), layer)))


def test_singular_vectors_ignore_the_scale_of_a_layer_and_the_order_of_positions():
    term, other = SingularVectors(layers=('f', 'f')), STUDENT[::-1]
    moved = inputs(3 * STUDENT[:, ::-1].swapaxes(1, 2), 0.1 * other)
    close(values(term, moved), values(term, inputs(STUDENT, other)))


def test_singular_vectors_refuse_other_shapes():
    rejected(SingularVectors(layers=('f', 'f')), inputs(STUDENT, TEACHER), 'channels 3 and 5 differ')
    rejected(SingularVectors(layers=('f', 'f'), form='mdistiller'), inputs(STUDENT[:, :, :2], TEACHER), 'width 2 and 4')
    rejected(SingularVectors(layers=('f', 'f')), inputs(STUDENT[:, 0], TEACHER), 'maps')
    for bad in ({'layers': ('stage1',)}, {'count': 0}):
        with pytest.raises(UsageError, match=r'SingularVectors .*got'):
            SingularVectors(**bad)


# ---- derivatives by the inputs, of nets z = W tanh(U x)

WEIGHTS = [(RNG.normal(size=(K, 6)), RNG.normal(size=(6, 4))) for _ in range(2)]
INPUTS, LABELS = RNG.normal(size=(B, 4)), RNG.integers(0, K, B)
DIRECTIONS = 2 * np.eye(4)  # of unit covariance: their mean outer product is 1


def logits_of(side, x):
    outer, inner = WEIGHTS[side]
    return np.tanh(x @ inner.T) @ outer.T


def jacobian_of(side, x):
    outer, inner = WEIGHTS[side]
    return np.einsum('kh,bh,hd->bkd', outer, 1 - np.tanh(x @ inner.T) ** 2, inner)


def softmax(logits):
    exponential = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponential / exponential.sum(axis=-1, keepdims=True)


def derived(**swap):
    """What terms see of both nets, with 'jacobian' (B, K, D) and 'tangents' (B, M, K)."""
    jacobians = [jacobian_of(side, INPUTS) for side in (0, 1)]
    taps = [{'jacobian': j, 'tangents': np.einsum('bkd,md->bmk', j, DIRECTIONS), **swap} for j in jacobians]
    return inputs(*taps, logits=[logits_of(side, INPUTS) for side in (0, 1)], labels=LABELS)


def slope_of(function, step=1e-6):
    """Central differences of a function of the inputs, (B, ...) to (B, ..., D)."""
    gaps = [function(INPUTS + step * unit) - function(INPUTS - step * unit) for unit in np.eye(4)]
    return np.stack(gaps, axis=-1) / (2 * step)


def test_gradient_attention_is_the_slope_of_cross_entropy():
    slopes = [
        slope_of(lambda x, side=side: -np.log(softmax(logits_of(side, x))[np.arange(B), LABELS])) for side in (0, 1)
    ]
    want = np.linalg.norm(slopes[0] - slopes[1], axis=1) / 2
    close(values(GradientAttention(), derived()), want, rtol=1e-6)


@pytest.mark.parametrize('form', Sobolev.FORMS)
def test_sobolev_is_the_squared_distance_of_jacobians(form):
    last = (lambda z: np.log(softmax(z))) if form == 'log_probabilities' else (lambda z: z)
    slopes = [slope_of(lambda x, side=side: last(logits_of(side, x))) for side in (0, 1)]
    close(values(Sobolev(form=form), derived()), ((slopes[0] - slopes[1]) ** 2).sum(axis=(1, 2)), rtol=1e-6)


def test_jacobian_matching():
    student, teacher = (jacobian_of(side, INPUTS).reshape(B, -1) for side in (0, 1))
    close(values(JacobianMatching(), derived()), ((student - teacher) ** 2).sum(axis=1))
    scaled = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (student, teacher)]
    close(values(JacobianMatching(form='unit'), derived()), ((scaled[0] - scaled[1]) ** 2).sum(axis=1))
    slopes = [slope_of(lambda x: np.log(softmax(logits_of(0, x)))), slope_of(lambda x: softmax(logits_of(1, x)))]
    close(
        values(JacobianMatching(form='cross_entropy'), derived()), -(slopes[0] * slopes[1]).sum(axis=(1, 2)), rtol=1e-6
    )


def test_jacobian_matching_is_the_gain_of_matching_logits_under_noise():
    """E || z_s(x + n) - z_t(x + n) ||^2 of nets linear in x, minus its value at x (prop. 1)."""
    maps, sigma = RNG.normal(size=(2, K, 4)), 0.3
    gap = maps[0] - maps[1]
    noise = sigma * np.concatenate([DIRECTIONS, -DIRECTIONS])  # of variance sigma^2
    gain = np.mean([(((INPUTS + n) @ gap.T) ** 2).sum(axis=1) for n in noise], axis=0)
    gain -= ((INPUTS @ gap.T) ** 2).sum(axis=1)
    tangents = [np.broadcast_to(DIRECTIONS @ m.T, (B, 4, K)) for m in maps]
    seen = inputs(*({'tangents': slopes} for slopes in tangents))
    close(sigma**2 * values(JacobianMatching(), seen), gain)


@pytest.mark.parametrize('term', [GradientAttention(), *map(lambda f: Sobolev(form=f), Sobolev.FORMS),
                                  *map(lambda f: JacobianMatching(form=f), JacobianMatching.FORMS)])  # fmt: skip
def test_flat_nets_and_ruled_out_classes_are_finite(term):
    logits = np.where(np.arange(K) == 3, -np.inf, np.zeros((2, B, K)))
    flat = {'jacobian': np.zeros((B, K, 4)), 'tangents': np.zeros((B, 4, K))}
    seen = inputs(flat, flat, logits=logits, labels=LABELS)
    wrt = lambda student: jnp.sum(ask(term, seen._replace(student=student), {}))  # noqa: E731
    assert finite(values(term, seen), jax.grad(wrt)(seen.student))


def test_derivatives_of_other_shapes_are_refused():
    rejected(GradientAttention(), derived(jacobian=np.zeros((B, 3, 4))), r'\(B, K, ...\) of the logits')
    for term in (Sobolev(), JacobianMatching()):
        rejected(term, derived(tangents=np.zeros((B, K))), r"'tangents' must be \(B, M, K\)")
