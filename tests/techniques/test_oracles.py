"""Values against numpy written from the papers, and the limits and invariances that follow from their formulas."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.techniques.attention import AttentionTransfer
from kdjax.techniques.cross_entropy import CrossEntropy
from kdjax.techniques.fitnets import Hint
from kdjax.techniques.hinton import SoftTargets
from kdjax.techniques.residual import ResidualHint
from kdjax.techniques.similarity import SimilarityPreserving
from kdjax.types import Outputs, TermInputs

B, K = 6, 10
RNG = np.random.default_rng(5)
STUDENT_BK, TEACHER_BK = RNG.normal(0, 2, (2, B, K))
LABELS_B = RNG.integers(0, K, B)


def inputs(student=None, teacher=None, logits=(STUDENT_BK, TEACHER_BK), labels=LABELS_B, mask=None):
    """Inputs with the given taps and logits, in the precision in use."""
    student, teacher = (
        Outputs(jnp.asarray(z), {tap: jnp.asarray(feature) for tap, feature in (features or {}).items()})
        for z, features in zip(logits, (student, teacher), strict=True)
    )
    mask = np.ones(len(labels)) if mask is None else mask
    return TermInputs(student, teacher, {'labels': jnp.asarray(labels), 'mask': jnp.asarray(mask)})


@pytest.fixture(autouse=True)
def _double():
    # Standard promotion: flax starts running statistics in float32.
    with jax.enable_x64(True), jax.numpy_dtype_promotion('standard'):
        yield


def values(term, seen, params=None):
    return np.asarray(ask(term, seen, params or {}))


@functools.partial(jax.jit, static_argnums=0)
def ask_with(term, knobs, seen, params):
    return term(params, {}, seen, knobs, step=jnp.int32(0), key=jax.random.key(0)).values


def ask(term, seen, params):
    return ask_with(term, term.knobs(), seen, params)  # traced: equal terms may differ in knobs


def softmax(logits, temperature=1.0):
    exponential = np.exp(logits / temperature - np.max(logits / temperature, axis=-1, keepdims=True))
    return exponential / exponential.sum(axis=-1, keepdims=True)


def close(got, want, rtol=1e-10):
    np.testing.assert_allclose(got, want, rtol=rtol, atol=1e-13)


# ---- cross-entropy


@pytest.mark.parametrize('smoothing', [0.0, 0.1])
def test_cross_entropy(smoothing):
    target = (1 - smoothing) * np.eye(K)[LABELS_B] + smoothing / K
    want = -(target * np.log(softmax(STUDENT_BK))).sum(axis=1)
    close(values(CrossEntropy(smoothing=smoothing), inputs()), want)


@pytest.mark.parametrize('smoothing', [0.0, 0.1])
def test_cross_entropy_of_mixed_examples_is_that_with_mixed_targets(smoothing):
    """Zhang et al. 2018, eq. 1: the target is mixed as the input is."""
    others, share = RNG.integers(0, K, B), RNG.uniform(0, 1, B)[:, None]
    seen = inputs()
    mixed = {'labels_mixed': np.stack([LABELS_B, others], axis=1), 'mix': np.concatenate([share, 1 - share], axis=1)}
    seen = seen._replace(batch={'mask': seen.batch['mask'], **mixed})
    target = share * np.eye(K)[LABELS_B] + (1 - share) * np.eye(K)[others]
    want = -(((1 - smoothing) * target + smoothing / K) * np.log(softmax(STUDENT_BK))).sum(axis=1)
    close(values(CrossEntropy(smoothing=smoothing), seen), want)


def test_cross_entropy_of_tokens():
    logits, labels = RNG.normal(size=(2, 3, K)), RNG.integers(0, K, (2, 3))
    want = [[-np.log(softmax(logits[b, n])[labels[b, n]]) for n in range(3)] for b in range(2)]
    close(values(CrossEntropy(), inputs(logits=(logits, logits), labels=labels)), want)


def test_cross_entropy_of_a_label_of_no_class_is_nan():
    labels = np.array([0, K - 1, K, -1] + [0] * (B - 4))
    assert np.flatnonzero(np.isnan(values(CrossEntropy(), inputs(labels=labels)))).tolist() == [2, 3]


# ---- soft targets


def soft(form, temperature, student=STUDENT_BK, teacher=TEACHER_BK):
    """By the table of SoftTargets, each row written out."""
    p, q = softmax(teacher, temperature), softmax(student, temperature)
    divergence, cross = (p * np.log(p / q)).sum(axis=-1), -(p * np.log(q)).sum(axis=-1)
    return {
        'kl': temperature**2 * divergence,
        'paper': temperature**2 * cross,
        'kl_unscaled': divergence,
        'paper_unscaled': cross,
        'kl_mean': temperature**2 * divergence / student.shape[-1],
        'tinybert': cross / student.shape[-1],
        'lopez_paz': -(p * np.log(softmax(student))).sum(axis=-1),
        'lopez_paz_code': -(temperature**2) * (p * np.log(softmax(student))).sum(axis=-1),
    }[form]


@pytest.mark.parametrize('form', SoftTargets.FORMS)
@pytest.mark.parametrize('temperature', [0.7, 4.0])
def test_soft_targets(form, temperature):
    close(values(SoftTargets(temperature=temperature, form=form), inputs()), soft(form, temperature))


def test_soft_targets_of_tokens():
    student, teacher = RNG.normal(0, 2, (2, 2, 3, K))
    close(values(SoftTargets(), inputs(logits=(student, teacher))), soft('kl', 4.0, student, teacher))


def test_a_class_that_both_rule_out_counts_nothing():
    shut = np.zeros(K, bool)
    shut[3] = True
    student, teacher = (np.where(shut, -np.inf, logits) for logits in (STUDENT_BK, TEACHER_BK))
    close(values(SoftTargets(), inputs(logits=(student, teacher))),
          soft('kl', 4.0, STUDENT_BK[:, ~shut], TEACHER_BK[:, ~shut]))  # fmt: skip


def gradient(term, seen, params=None):
    """Of the sum of values with respect to the student's outputs."""
    return jax.grad(lambda student: jnp.sum(ask(term, seen._replace(student=student), params or {})))(seen.student)


@pytest.mark.parametrize('form', ['kl', 'paper'])
def test_the_gradient_of_soft_targets_is_t_times_the_gap_of_probabilities(form):
    got = gradient(SoftTargets(temperature=3.0, form=form), inputs()).logits
    close(got, 3 * (softmax(STUDENT_BK, 3.0) - softmax(TEACHER_BK, 3.0)))


def test_at_high_temperature_soft_targets_match_logits():
    """T^2 KL -> 1/(2K) ||centred difference of logits||^2 (Hinton et al., sec. 2.1)."""
    gap = STUDENT_BK - TEACHER_BK
    limit = ((gap - gap.mean(axis=1, keepdims=True)) ** 2).sum(axis=1) / (2 * K)
    close(values(SoftTargets(temperature=1e5), inputs()), limit, rtol=1e-3)


def test_the_size_of_the_gradient_hardly_depends_on_temperature():
    small = inputs(logits=(STUDENT_BK / 4, TEACHER_BK / 4))
    four, eight = (np.linalg.norm(gradient(SoftTargets(temperature=t), small).logits) for t in (4.0, 8.0))
    assert four == pytest.approx(eight, rel=0.05)


# ---- hints


@pytest.mark.parametrize(('form', 'unit_length'), [('paper', False), ('mean', True), ('absolute', False)])
def test_a_hint_between_vectors(form, unit_length):
    student, teacher = RNG.normal(size=(B, 5)), RNG.normal(size=(B, 7))
    kernel, bias = RNG.normal(size=(5, 7)), RNG.normal(size=7)
    guess = student @ kernel + bias
    if unit_length:
        guess, teacher = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (guess, teacher))
    gap = guess - teacher
    want = {'paper': (gap**2).sum(axis=1) / 2, 'mean': (gap**2).mean(axis=1), 'absolute': np.abs(gap).mean(axis=1)}
    term = Hint(layer='f', form=form, unit_length=unit_length)
    close(
        values(term, inputs({'f': student}, {'f': teacher}), {'Dense_0': {'kernel': kernel, 'bias': bias}}), want[form]
    )


def test_a_hint_between_maps_is_a_convolution_without_padding():
    """The kernel takes up the difference of the two maps (Romero et al., sec. 2.2)."""
    student, teacher = RNG.normal(size=(B, 4, 5, 2)), RNG.normal(size=(B, 3, 3, 4))
    kernel = RNG.normal(size=(2, 3, 2, 4))
    guess = np.zeros_like(teacher)
    for i in range(3):
        for j in range(3):
            guess[:, i, j] = np.einsum('bhwc,hwcd->bd', student[:, i : i + 2, j : j + 3], kernel)
    params = {'Conv_0': {'kernel': kernel, 'bias': np.zeros(4)}}
    want = ((guess - teacher) ** 2).sum(axis=(1, 2, 3)) / 2
    close(values(Hint(layer='f'), inputs({'f': student}, {'f': teacher}), params), want)


def test_the_batch_norm_of_a_hint_sees_real_examples_only():
    student, teacher, mask = RNG.normal(size=(B, 5)), RNG.normal(size=(B, 5)), np.array([1, 1, 0, 1, 0, 1.0])
    live = student[mask > 0]
    guess = np.maximum((student - live.mean(axis=0)) / np.sqrt(live.var(axis=0) + 1e-5), 0)
    params = {'Dense_0': {'kernel': np.eye(5), 'bias': np.zeros(5)},
              'BatchNorm_0': {'scale': np.ones(5), 'bias': np.zeros(5)}}  # fmt: skip
    got = values(Hint(layer='f', form='repdistiller'), inputs({'f': student}, {'f': teacher}, mask=mask), params)
    close(got[mask > 0], ((guess - teacher) ** 2).mean(axis=1)[mask > 0])


@pytest.mark.parametrize('mask', [[1, 1, 1, 1, 1, 1], [1, 0, 1, 1, 0, 1]])
def test_a_distance_is_one_norm_over_the_batch(mask):
    student, teacher, mask = RNG.normal(size=(B, 5)), RNG.normal(size=(B, 5)), np.asarray(mask, float)
    want = np.linalg.norm((student - teacher)[mask > 0])
    term = Hint(layer='f', form='distance', regressor=False)
    close(values(term, inputs({'f': student}, {'f': teacher}, mask=mask)), np.full(B, want))


@pytest.mark.parametrize('form', ResidualHint.FORMS)
def test_residual_hint(form):
    """Both forms have one value; only 'joint' moves the student's logits."""
    student = RNG.normal(size=(B, 5))
    first, second = RNG.normal(size=(5, 3)), RNG.normal(size=(3, K))
    guess = np.maximum(student @ first, 0) @ second
    params = {'Dense_0': {'kernel': first, 'bias': np.zeros(3)}, 'Dense_1': {'kernel': second, 'bias': np.zeros(K)}}
    term, seen = ResidualHint(layer='f', width=3, form=form), inputs({'f': student}, {'f': student})
    gap = guess - (TEACHER_BK - STUDENT_BK)
    close(values(term, seen, params), (gap**2).mean(axis=1))
    close(gradient(term, seen, params).logits, (2 / K if form == 'joint' else 0.0) * gap)


# ---- attention


def pooled(x, height, width):
    """Adaptive average pooling as torch defines it: cell k covers floor(k L / S) to ceil((k + 1) L / S)."""
    spans = [
        [slice(k * length // cells, -(-(k + 1) * length // cells)) for k in range(cells)]
        for length, cells in zip(x.shape[1:3], (height, width), strict=True)
    ]
    return np.stack([np.stack([x[:, h, w].mean(axis=(1, 2)) for w in spans[1]], axis=1) for h in spans[0]], axis=1)


def attention(feature, power=2, floor=0.0):
    vector = (np.abs(feature) ** power).sum(axis=3).reshape(len(feature), -1)
    return vector / (np.linalg.norm(vector, axis=1, keepdims=True) + floor)


@pytest.mark.parametrize('form', AttentionTransfer.FORMS)
@pytest.mark.parametrize('power', [1, 2])
def test_attention_transfer(form, power):
    student, teacher = RNG.normal(size=(B, 5, 4, 3)), RNG.normal(size=(B, 3, 7, 6))
    floor = 1e-6 if form == 'kdzoo' else 0.0
    gap = attention(pooled(student, 3, 4), power, floor) - attention(pooled(teacher, 3, 4), power, floor)
    distance = np.linalg.norm(gap, axis=1)
    want = {'paper': distance / 2, 'torchdistill': distance}.get(form, (gap**2).mean(axis=1))
    close(
        values(AttentionTransfer(layers=('f',), power=power, form=form), inputs({'f': student}, {'f': teacher})), want
    )


def test_attention_transfer_sums_layers():
    maps = [{tap: RNG.normal(size=(B, 4, 4, 3)) for tap in 'abc'} for _ in range(2)]
    apart = [values(AttentionTransfer(layers=(layers,)), inputs(*maps)) for layers in ('a', 'b:c')]
    close(values(AttentionTransfer(layers=('a', 'b:c')), inputs(*maps)), sum(apart))


@pytest.mark.parametrize('form', ['paper', 'code', 'torchdistill'])
def test_attention_transfer_ignores_the_scale_of_a_map(form):
    student, teacher = RNG.normal(size=(2, B, 4, 4, 3))
    term = AttentionTransfer(layers=('f',), form=form)
    scaled = inputs({'f': 7 * student}, {'f': 0.01 * teacher})
    close(values(term, scaled), values(term, inputs({'f': student}, {'f': teacher})))


# ---- similarities


def similarity(feature, norm):
    matrix = feature.reshape(len(feature), -1)
    gram = matrix @ matrix.T
    return gram / np.linalg.norm(gram, ord=norm, axis=1, keepdims=True)


@pytest.mark.parametrize(('form', 'norm'), [('paper', 2), ('torchdistill', 1)])
def test_similarity_preserving(form, norm):
    """The mean over examples is 1/b^2 ||G_s - G_t||_F^2 (eq. 4), b and G being of the real examples."""
    student, teacher, mask = RNG.normal(size=(B, 2, 2, 3)), RNG.normal(size=(B, 5)), np.array([1, 1, 0, 1, 1, 0.0])
    live = mask > 0
    want = ((similarity(student[live], norm) - similarity(teacher[live], norm)) ** 2).sum() / live.sum() ** 2
    got = values(SimilarityPreserving(layers=('f',), form=form), inputs({'f': student}, {'f': teacher}, mask=mask))
    close(got[live].mean(), want)


@pytest.mark.parametrize('form', SimilarityPreserving.FORMS)
def test_similarity_preserving_ignores_rotations_and_reflections(form):
    student, teacher = RNG.normal(size=(B, 4)), RNG.normal(size=(B, 5))
    turn, _ = np.linalg.qr(RNG.normal(size=(4, 4)))
    term = SimilarityPreserving(layers=('f',), form=form)
    close(
        values(term, inputs({'f': student @ turn}, {'f': teacher})),
        values(term, inputs({'f': student}, {'f': teacher})),
    )
