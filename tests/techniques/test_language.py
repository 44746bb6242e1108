"""Losses of tokens against numpy written from the papers, their limits, and what padding must not do."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rotation
from scipy.optimize import linear_sum_assignment

from kdjax.errors import UsageError
from kdjax.techniques.distillm import SkewKL, SkewReverseKL
from kdjax.techniques.f_distill import JensenShannon, SymmetricKL, TotalVariation
from kdjax.techniques.gkd import GeneralizedJSD
from kdjax.techniques.gold import MatchedTokens
from kdjax.techniques.minillm import ReverseKL, SequenceReverseKL
from kdjax.techniques.ranking import GapRanking, LogisticRanking, MarginRanking
from kdjax.techniques.sparse import DIVERGENCES, SparseTargets
from kdjax.techniques.uld import UniversalLogits
from kdjax.techniques.word_level import WordLevel
from kdjax.testing import world
from kdjax.types import Outputs, TermInputs

pytestmark = pytest.mark.rotating(0, 2)  # half of the families have their turn each day

B, N, K = 8, 5, 7  # examples, tokens, vocabulary
RNG = np.random.default_rng(11)
STUDENT, TEACHER = RNG.normal(0, 2, (2, B, N, K))
# Uneven: over 4 devices the third has no real token, and one example has none.
RAGGED = np.arange(N) < np.array([5, 2, 0, 1, 0, 0, 3, 4])[:, None]
T = 1.7


def inputs(student=STUDENT, teacher=TEACHER, mask=None, **taps):
    """Inputs with logits, a teacher's taps, and a mask per example or token."""
    size = student.shape[0]
    batch = {'mask': np.ones(student.shape[:-1]) if mask is None else np.asarray(mask, float), 'id': np.arange(size)}
    return TermInputs(Outputs(student, {}), Outputs(teacher, taps), batch)


def single(seen):
    return jax.tree.map(
        lambda leaf: jnp.asarray(leaf, jnp.float32 if np.issubdtype(leaf.dtype, np.floating) else jnp.int32), seen
    )


def double(function):
    """Runs in float64."""

    @functools.wraps(function)
    def run(*args, **kwargs):
        with jax.enable_x64(True), jax.numpy_dtype_promotion('standard'):
            return jax.tree.map(np.asarray, function(*args, **kwargs))

    return run


@functools.partial(jax.jit, static_argnums=0)
def ask_with(term, knobs, seen):
    return term({}, {}, seen, knobs, step=jnp.int32(0), key=jax.random.key(0)).values


def ask(term, seen):
    return ask_with(term, term.knobs(), seen)  # traced: equal terms may differ in knobs


@double
def values(term, seen):
    return ask(term, seen)


@double
def gradient(term, seen):
    """Of the sum of values with respect to the student's logits."""
    return jax.grad(lambda logits: jnp.sum(ask(term, seen._replace(student=Outputs(logits, {})))))(seen.student.logits)


def softmax(logits, temperature=1.0):
    exponential = np.exp(logits / temperature - np.max(logits / temperature, axis=-1, keepdims=True))
    return exponential / exponential.sum(axis=-1, keepdims=True)


def kl(p, q):
    return (p * np.log(p / q)).sum(axis=-1)


def entropy(p):
    return -(p * np.log(p)).sum(axis=-1)


def js(p, q, share):
    mixed = share * p + (1 - share) * q
    return share * kl(p, mixed) + (1 - share) * kl(q, mixed)


def tvd(p, q):
    return np.abs(p - q).sum(axis=-1) / 2


def close(got, want, rtol=1e-10):
    np.testing.assert_allclose(got, want, rtol=rtol, atol=1e-13)


# ---- what is written


DRAWN = np.where(RAGGED, RNG.integers(1, K, (B, N)), 0)


@pytest.mark.parametrize('share', [0.0, 0.3, 1.0])
def test_the_reverse_kl_of_texts(share):
    """Value and gradient token by token, as MiniLLM has them (eqs. 5 to 7, and its clipping)."""
    seen, term = inputs(), SequenceReverseKL(clip=0.1)
    seen = seen._replace(batch={**seen.batch, 'written': DRAWN, 'teacher_share': np.full(B, share)})
    p, q = softmax(TEACHER), softmax(STUDENT)
    want, slope = np.zeros((B, N)), np.zeros((B, N, K))
    for row, t in np.argwhere(DRAWN > 0):
        token = DRAWN[row, t]
        rewards = [np.log(p[row, s, DRAWN[row, s]] / q[row, s, DRAWN[row, s]]) for s in range(t + 1, RAGGED[row].sum())]
        later = np.mean(rewards) if rewards else 0
        ratio = q[row, t, token] / (share * p[row, t, token] + (1 - share) * q[row, t, token])
        want[row, t] = ratio * kl(q[row, t], p[row, t])
        slope[row, t] = ratio * q[row, t] * (np.log(q[row, t] / p[row, t]) - kl(q[row, t], p[row, t]))
        if ratio * later <= np.clip(ratio, 0.9, 1.1) * later:
            slope[row, t] -= ratio * later * ((np.arange(K) == token) - q[row, t])
    close(values(term, seen), want, rtol=1e-8)
    np.testing.assert_allclose(gradient(term, seen), slope, atol=1e-10)
    np.testing.assert_array_equal(term.divisor(seen.batch), DRAWN > 0)


def test_over_all_texts_it_is_the_gradient_of_their_divergence():
    """Of texts of two tokens, whose rewards the mean leaves as they are: each as often as the student writes it."""
    first, second = RNG.normal(size=(2, K)), RNG.normal(size=(2, K, K))
    pairs = np.array(list(itertools.product(range(1, K), repeat=2)))

    def texts(one, two):  # id 0 is never written
        ruled_out = jnp.where(jnp.arange(K) == 0, -1e30, 0.0)
        return jnp.stack([jnp.broadcast_to(one, (len(pairs), K)), two[pairs[:, 0]]], axis=1) + ruled_out

    def likely(one, two):
        logs = jax.nn.log_softmax(texts(one, two), axis=-1)
        return jnp.sum(jnp.take_along_axis(logs, pairs[..., None], axis=-1)[..., 0], axis=1)

    def whole(one, two):
        ours, theirs = likely(one, two), likely(first[1], second[1])
        return jnp.sum(jnp.exp(ours) * (ours - theirs))

    def drawn(one, two):
        batch = {'mask': jnp.ones(pairs.shape), 'written': pairs, 'teacher_share': jnp.zeros(len(pairs))}
        seen = TermInputs(Outputs(texts(one, two), {}), Outputs(texts(first[1], second[1]), {}), batch)
        often = jax.lax.stop_gradient(jnp.exp(likely(one, two)))
        return jnp.sum(often[:, None] * SequenceReverseKL().values(seen, {}))

    @double
    def both(one, two):
        return jax.value_and_grad(whole, (0, 1))(one, two), jax.value_and_grad(drawn, (0, 1))(one, two)

    (value, want), (same, found) = both(first[0], second[0])
    assert value == pytest.approx(same)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-10), found, want)


# ---- divergences at every token


DENSE = [
    (WordLevel(temperature=T), lambda p, q: T**2 * (kl(p, q) + entropy(p))),
    (WordLevel(temperature=T, form='kl'), lambda p, q: T**2 * kl(p, q)),
    (ReverseKL(temperature=T), lambda p, q: T**2 * kl(q, p)),
    (TotalVariation(temperature=T), lambda p, q: T**2 * tvd(p, q)),
    (JensenShannon(temperature=T, share=0.3), lambda p, q: T**2 * js(p, q, 0.3)),
    (SymmetricKL(temperature=T, share=0.3), lambda p, q: T**2 * (0.3 * kl(p, q) + 0.7 * kl(q, p))),
    (SymmetricKL(temperature=T, share=0.3, form='distillm'),
     lambda p, q: T**2 * (0.3 * (kl(p, q) + entropy(p)) + 0.7 * kl(q, p))),
    (SkewKL(temperature=T, skew=0.2), lambda p, q: T**2 * kl(p, 0.2 * p + 0.8 * q)),
    (SkewKL(temperature=T, skew=0.2, form='distillm'), lambda p, q: T**2 * (kl(p, 0.2 * p + 0.8 * q) + entropy(p))),
    (SkewReverseKL(temperature=T, skew=0.2), lambda p, q: T**2 * kl(q, 0.2 * q + 0.8 * p)),
    *((GeneralizedJSD(temperature=T, beta=0.3, form=form), lambda p, q: js(p, q, 0.3)) for form in ('paper', 'trl')),
    (GeneralizedJSD(temperature=T, beta=0.3, form='scaled'), lambda p, q: js(p, q, 0.3) / 0.21),
    *((GeneralizedJSD(temperature=T, beta=0.0, form=form), kl) for form in ('trl', 'scaled')),
    *((GeneralizedJSD(temperature=T, beta=1.0, form=form), lambda p, q: kl(q, p)) for form in ('trl', 'scaled')),
]  # fmt: skip
NAMES = [f'{type(term).__name__}{world.described(term)}' for term, _ in DENSE]
every_dense = pytest.mark.parametrize(('term', 'oracle'), DENSE, ids=NAMES)


@every_dense
def test_a_divergence_of_tokens(term, oracle):
    want = oracle(softmax(TEACHER, T), softmax(STUDENT, T))
    close(values(term, inputs()), want)
    close(values(term, inputs(STUDENT[:, 0], TEACHER[:, 0])), want[:, 0])


@every_dense
def test_classes_that_both_rule_out_do_not_count(term, oracle):
    """As those that only fill a vocabulary up: -inf in both, and neither the value nor the gradient knows of them."""
    filled = [np.concatenate([logits, np.full((B, N, 3), -np.inf)], axis=-1) for logits in (STUDENT, TEACHER)]
    close(values(term, inputs(*filled)), oracle(softmax(TEACHER, T), softmax(STUDENT, T)))
    got = gradient(term, inputs(*filled))
    close(got[..., :K], gradient(term, inputs()), rtol=1e-9)
    assert not np.any(got[..., K:])


@every_dense
@pytest.mark.parametrize('ruled_out', ['student', 'teacher'])
def test_a_class_that_one_side_rules_out_leaves_value_and_gradient_finite(term, oracle, ruled_out):
    sides = {'student': STUDENT.copy(), 'teacher': TEACHER.copy()}
    sides[ruled_out][..., 2] = -np.inf
    assert np.all(np.isfinite(values(term, inputs(**sides))))
    assert np.all(np.isfinite(gradient(term, inputs(**sides))))


@pytest.mark.parametrize('dtype', ['float16', 'bfloat16'])
@every_dense
def test_logits_in_half_precision_are_computed_with_in_single(term, oracle, dtype):
    seen = world.cast(single(inputs()), dtype)
    got = ask(term, seen)
    assert got.dtype == jnp.float32
    rounded = [np.asarray(side.logits, np.float64) for side in seen[:2]]
    np.testing.assert_allclose(got, values(term, inputs(*rounded)), rtol=1e-3, atol=1e-5)


def test_all_divergences_reach_a_student_60_apart_in_single_precision():
    far = 60 * np.sign(STUDENT).astype(np.float32)
    for term, _ in DENSE:
        answer = world.compiled(*world.placed({'term': term}, single(inputs(far, -far))))
        assert np.isfinite(answer.loss)
        assert np.all(np.isfinite(answer.student.logits))


# ---- generalised JSD and skew: limits


@pytest.mark.parametrize(('beta', 'limit'), [(1e-6, lambda p, q: kl(p, q)), (1 - 1e-6, lambda p, q: kl(q, p))])
def test_the_scaled_form_reaches_its_ends_and_the_others_vanish_there(beta, limit):
    want = limit(softmax(TEACHER), softmax(STUDENT))
    close(values(GeneralizedJSD(beta=beta, form='scaled'), inputs()), want, rtol=1e-4)
    for form in ('paper', 'trl'):
        close(values(GeneralizedJSD(beta=beta, form=form), inputs()), 1e-6 * want, rtol=1e-4)


def test_the_generalised_jsd_of_swapped_sides_has_the_other_beta():
    ours = values(GeneralizedJSD(beta=0.2), inputs())
    close(values(GeneralizedJSD(beta=0.8), inputs(TEACHER, STUDENT)), ours)


def test_a_jensen_shannon_divergence_is_at_most_the_entropy_of_its_share():
    far = 1e3 * np.eye(K)[np.arange(B * N) % K].reshape(B, N, K)
    close(values(JensenShannon(share=0.3), inputs(far, np.roll(far, 1, axis=-1))),
          -(0.3 * np.log(0.3) + 0.7 * np.log(0.7)) * np.ones((B, N)))  # fmt: skip


def test_without_skew_the_skew_divergences_are_the_two_kl():
    p, q = softmax(TEACHER), softmax(STUDENT)
    close(values(SkewKL(skew=1e-9), inputs()), kl(p, q), rtol=1e-5)
    close(values(SkewReverseKL(skew=1e-9), inputs()), kl(q, p), rtol=1e-5)


def test_skew_bounds_the_divergence():
    """KL(p || alpha p + ...) <= -log alpha, whatever the two sides are (Ko et al., sec. 3.1)."""
    far = 1e4 * np.sign(STUDENT)
    for kind in (SkewKL, SkewReverseKL):
        assert np.all(values(kind(skew=0.1), inputs(far, -far)) <= -np.log(0.1) + 1e-12)


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda: GeneralizedJSD(beta=1.5), r'beta of GeneralizedJSD must be in \[0, 1\], got 1\.5'),
        (lambda: GeneralizedJSD(beta=0.0), r"is 0 at beta=0; form='trl' or 'scaled'"),
        (lambda: JensenShannon(share=1.0), r'share of JensenShannon must be in \(0, 1\), got 1\.0'),
        (lambda: SymmetricKL(share=1.5), r'share of SymmetricKL must be in \[0, 1\], got 1\.5'),
        (lambda: SkewKL(skew=1.0), r'skew of SkewKL must be in \(0, 1\), got 1\.0'),
        (lambda: SkewReverseKL(skew=0.0), r'skew of SkewReverseKL must be in \(0, 1\), got 0\.0'),
        (lambda: MatchedTokens(beta=2.0), r'beta of MatchedTokens must be in \[0, 1\], got 2\.0'),
        (lambda: SparseTargets(divergence='kld'), r"unknown divergence 'kld'.*'kl'"),
        (lambda: SparseTargets(keep=-1), r'keep of SparseTargets .* got -1'),
        (lambda: GapRanking(keep=1), r'keep of GapRanking must be at least 2 .* got 1'),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()


# ---- padding


LOG_P = np.log(softmax(TEACHER))
IDS = np.argsort(-LOG_P, axis=-1)[..., :3]
TOP = {'top_ids': IDS, 'top_log_probs': np.take_along_axis(LOG_P, IDS, axis=-1)}
MASKED = [
    *{type(term): term for term, _ in DENSE}.values(),
    *(SparseTargets(divergence=name) for name in DIVERGENCES),
    *(kind(form=form) for kind in (LogisticRanking, MarginRanking, GapRanking) for form in kind.FORMS),
    SparseTargets(keep=2, form='zero'),
    UniversalLogits(matched=((1, 2),)),
    MatchedTokens(matched=((1, 2), (3, 4))),
]
every_term = pytest.mark.parametrize('term', MASKED, ids=[f'{type(t).__name__}{world.described(t)}' for t in MASKED])


def placed(term, mask, dirt=0.0):
    """The term on tokens of which `mask` are real; the others' logits and taps are `dirt`, where it is not 0."""
    seen = inputs(mask=mask, **TOP)
    if dirt:
        student, teacher, top = (np.where(mask[..., None], x, dirt) for x in (STUDENT, TEACHER, TOP['top_log_probs']))
        ids = np.where(mask[..., None], IDS, 10**6)
        seen = inputs(student, teacher, mask, top_ids=ids, top_log_probs=top)
    return world.placed({'term': term}, single(seen))


@every_term
def test_the_loss_is_the_mean_over_real_tokens(term):
    subject = placed(term, RAGGED)
    tokens = ask(term, subject.inputs)
    np.testing.assert_allclose(world.compiled(*subject).loss, tokens[RAGGED].mean(), rtol=1e-5)


@every_term
@pytest.mark.parametrize('dirt', [np.nan, -np.inf])
def test_what_stands_at_padding_changes_nothing(term, dirt):
    clean, dirty = (world.compiled(*placed(term, RAGGED, filling)) for filling in (0.0, dirt))
    world.assert_close(dirty.loss, clean.loss)
    world.assert_close(dirty.student.logits, clean.student.logits)
    assert np.array_equal(np.any(clean.student.logits != 0, axis=-1), RAGGED)


@every_term
def test_a_batch_of_padding_alone_has_no_loss_and_no_gradient(term):
    answer = world.compiled(*placed(term, np.zeros((B, N), bool), np.nan))
    assert answer.loss == 0
    assert world.size(answer.student) == 0


ON_DEVICES = [(term, devices) for term in MASKED for devices in (2, 4)]


@pytest.mark.parametrize(('term', 'devices'), rotation.params(ON_DEVICES, [term for term, _ in ON_DEVICES]))
def test_devices_agree_on_tokens(term, devices):
    subject = placed(term, RAGGED)
    world.assert_same_answer(world.spread(*subject, devices), world.compiled(*subject))


# ---- sparse teachers


def sparse_oracle(divergence, form, ids, top, student, temperature, generation):
    """By the table of SparseTargets, on k + 1 classes, the last of which stands for all others."""
    power, others = generation / temperature, student.shape[-1] - ids.shape[-1]
    kept, rest = np.exp(top), 1 - np.exp(top).sum(axis=-1, keepdims=True)
    q = softmax(student, temperature)
    q_in = np.take_along_axis(q, ids, axis=-1)
    q_out = 1 - q_in.sum(axis=-1, keepdims=True)
    if form == 'renormalise':
        p, q = kept**power, q_in / q_in.sum(axis=-1, keepdims=True)
    else:
        tail = {'zero': 0 * rest, 'bucket': rest**power, 'uniform': others * (rest / others) ** power}[form]
        p, q = np.concatenate([kept**power, tail], axis=-1), np.concatenate([q_in, q_out], axis=-1)
    p = p / p.sum(axis=-1, keepdims=True)
    mixed = (p + q) / 2
    with np.errstate(divide='ignore', invalid='ignore'):
        parts = {
            'kl': np.where(p > 0, p * np.log(p / q), 0),
            'jsd': (np.where(p > 0, p * np.log(p / mixed), 0) + q * np.log(q / mixed)) / 2,
            'tvd': np.abs(p - q) / 2,
        }
    return temperature**2 * parts[divergence].sum(axis=-1)


@pytest.mark.parametrize('divergence', DIVERGENCES)
@pytest.mark.parametrize('form', SparseTargets.FORMS)
@pytest.mark.parametrize(('temperature', 'generation'), [(1.0, 1.0), (2.0, 1.5)])
def test_sparse_targets(divergence, form, temperature, generation):
    term = SparseTargets(divergence=divergence, form=form, temperature=temperature, generation_temperature=generation)
    want = sparse_oracle(divergence, form, IDS, TOP['top_log_probs'], STUDENT, temperature, generation)
    close(values(term, inputs(**TOP)), want)


@pytest.mark.parametrize('divergence', DIVERGENCES)
@pytest.mark.parametrize('form', SparseTargets.FORMS)
@pytest.mark.parametrize('generation', [1.0, 1.5])
def test_all_classes_kept_is_the_dense_value_in_every_form(divergence, form, generation):
    """Log-probabilities at one temperature, raised to another, are those of the logits there."""
    term = SparseTargets(divergence=divergence, form=form, keep=K, temperature=T, generation_temperature=generation)
    oracle = {'kl': kl, 'jsd': lambda p, q: js(p, q, 0.5), 'tvd': tvd}[divergence]
    close(values(term, inputs()), T**2 * oracle(softmax(TEACHER, T), softmax(STUDENT, T)))


@pytest.mark.parametrize('form', SparseTargets.FORMS)
def test_keeping_classes_of_the_logits_is_reading_them_from_taps(form):
    close(values(SparseTargets(form=form, keep=3), inputs()), values(SparseTargets(form=form), inputs(**TOP)))


@pytest.mark.parametrize('form', ['zero', 'renormalise'])
def test_a_form_without_a_rest_reads_logits_as_well(form):
    logits = {**TOP, 'top_log_probs': TOP['top_log_probs'] + 4.0}
    close(values(SparseTargets(form=form, temperature=T), inputs(**logits)),
          values(SparseTargets(form=form, temperature=T), inputs(**TOP)))  # fmt: skip


@pytest.mark.parametrize('divergence', DIVERGENCES)
def test_the_rest_bounds_what_the_sparse_value_may_be_off_by(divergence):
    """The dense value is between the two bounds, which close in on it as more classes are kept."""
    oracle = {'kl': kl, 'jsd': lambda p, q: js(p, q, 0.5), 'tvd': tvd}[divergence]
    student, teacher = RNG.normal(0, 2, (2, 50, 4, K))
    dense, widths = T**2 * oracle(softmax(teacher, T), softmax(student, T)), []
    for keep in range(1, K + 1):
        term = SparseTargets(divergence=divergence, keep=keep, temperature=T, generation_temperature=T)
        low, high = double(term.dense_range)(inputs(student, teacher), term.knobs())
        assert np.all(low <= dense + 1e-12)
        assert np.all(dense <= high + 1e-12)
        close(values(term, inputs(student, teacher)), low)
        widths.append(np.mean(high - low))
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > 0.1
    assert widths[-1] == 0


def test_tokens_are_independent_so_that_chunks_of_a_sequence_are_parts_of_it():
    whole = values(SparseTargets(), inputs(**TOP))
    parts = [inputs(STUDENT[:, part], TEACHER[:, part], **{tap: x[:, part] for tap, x in TOP.items()})
             for part in (slice(0, 2), slice(2, None))]  # fmt: skip
    close(np.concatenate([values(SparseTargets(), part) for part in parts], axis=1), whole)


def test_a_teacher_that_kept_nothing_back_is_dense():
    """Stored probabilities that sum to 1 leave no rest, although rounding makes them miss it by a little."""
    top = TOP['top_log_probs'] - np.log(np.exp(TOP['top_log_probs']).sum(axis=-1, keepdims=True))
    seen = inputs(top_ids=IDS, top_log_probs=top.astype(np.float32).astype(float))
    p = np.zeros((B, N, K))
    np.put_along_axis(p, IDS, np.exp(top), axis=-1)
    close(values(SparseTargets(divergence='tvd'), seen), tvd(p, softmax(STUDENT)), rtol=1e-5)
    assert np.all(np.isfinite(gradient(SparseTargets(divergence='kl'), seen)))


def test_classes_that_the_student_rules_out_leave_sparse_values_finite():
    student = STUDENT.copy()
    student[..., 3:] = -np.inf
    for term in (SparseTargets(divergence=name, form=form) for name in DIVERGENCES for form in SparseTargets.FORMS):
        assert np.all(np.isfinite(values(term, inputs(student, **TOP))))
        assert np.all(np.isfinite(gradient(term, inputs(student, **TOP))))


@pytest.mark.parametrize(
    ('term', 'taps', 'message'),
    [
        (SparseTargets(keep=K + 1), {}, f'cannot keep {K + 1} of {K} classes'),
        (SparseTargets(), {**TOP, 'top_ids': IDS[:, :2]}, r"'top_ids' .*'top_log_probs' .* at most 7"),
    ],
)
def test_a_sparse_teacher_that_does_not_fit_is_refused(term, taps, message):
    with pytest.raises(UsageError, match=message):
        values(term, inputs(**taps))


def test_no_range_is_given_where_it_is_not_known():
    term = SparseTargets(temperature=2.0)
    with pytest.raises(UsageError, match='not at 2 after 1'):
        term.dense_range(inputs(**TOP), term.knobs())


# ---- rankings


def pair_losses(kind, margin=0.25):
    """Losses of each token's pairs, as lists. (B, N)"""
    found = np.empty((B, N), object)
    q = softmax(STUDENT)
    for b, n in np.ndindex(B, N):
        ids, p = IDS[b, n], np.exp(TOP['top_log_probs'][b, n])
        found[b, n] = []
        for (i, p_i), (j, p_j) in itertools.permutations(zip(ids, p, strict=True), 2):
            if p_i > p_j:
                gap = q[b, n, i] - q[b, n, j]
                logistic = np.log1p(np.exp(STUDENT[b, n, j] - STUDENT[b, n, i]))
                losses = {LogisticRanking: logistic, MarginRanking: max(0, margin - gap),
                          GapRanking: max(0, p_i - p_j - gap)}  # fmt: skip
                found[b, n].append(losses[kind])
    return found


@pytest.mark.parametrize('kind', [LogisticRanking, MarginRanking, GapRanking])
def test_rankings(kind):
    want = np.vectorize(np.mean)(pair_losses(kind))
    close(values(kind(), inputs(**TOP)), want)
    close(values(kind(keep=3), inputs()), want)


@pytest.mark.parametrize('kind', [LogisticRanking, MarginRanking, GapRanking])
def test_a_ranking_as_distillkit_has_it_is_the_mean_over_all_pairs(kind):
    """Two of one token's classes are equally probable, so that it has fewer pairs, and counts less."""
    tied = {**TOP, 'top_log_probs': TOP['top_log_probs'].copy()}
    tied['top_log_probs'][0, 0, 1] = tied['top_log_probs'][0, 0, 2]
    by_token = values(kind(), inputs(**tied))
    pairs = np.full((B, N), 3.0)
    pairs[0, 0] = 2
    got = values(kind(form='distillkit'), inputs(mask=RAGGED, **tied))
    close(got[RAGGED].mean(), (by_token * pairs)[RAGGED].sum() / pairs[RAGGED].sum())


def test_where_the_teacher_prefers_nothing_there_is_nothing_to_learn():
    even = {**TOP, 'top_log_probs': np.full((B, N, 3), np.log(0.2))}
    for term in (kind(form=form) for kind in (LogisticRanking, MarginRanking, GapRanking) for form in kind.FORMS):
        assert not np.any(values(term, inputs(**even)))
        assert not np.any(gradient(term, inputs(**even)))


def test_a_ranking_of_classes_that_the_student_rules_out_is_finite():
    student = STUDENT.copy()
    student[..., :4] = -np.inf
    for kind in (LogisticRanking, MarginRanking, GapRanking):
        assert np.all(np.isfinite(values(kind(), inputs(student, **TOP))))
        assert np.all(np.isfinite(gradient(kind(), inputs(student, **TOP))))


# ---- other vocabularies


WIDE = RNG.normal(0, 2, (B, N, K + 3))


def transport(p, q):
    """The least sum of |p_i - q_j| over all ways to match ids, the smaller vocabulary filled up with 0."""
    size = max(len(p), len(q))
    p, q = (np.pad(x, (0, size - len(x))) for x in (p, q))
    cost = np.abs(p[:, None] - q[None, :])
    return cost[linear_sum_assignment(cost)].sum()


@pytest.mark.parametrize(('student', 'teacher'), [(STUDENT, WIDE), (WIDE, TEACHER)])
def test_uld_is_the_cheapest_matching_of_two_vocabularies(student, teacher):
    want = [[transport(softmax(t, T), softmax(s, T)) for s, t in zip(*rows, strict=True)]
            for rows in zip(student, teacher, strict=True)]  # fmt: skip
    close(values(UniversalLogits(temperature=T), inputs(student, teacher)), want)


def test_uld_does_not_know_the_names_of_tokens():
    order = RNG.permutation(K + 3)
    close(
        values(UniversalLogits(), inputs(STUDENT, WIDE[..., order])), values(UniversalLogits(), inputs(STUDENT, WIDE))
    )


def test_matched_and_unmatched_tokens_are_compared_apart():
    matched = ((0, 3), (5, 1))
    p, q = softmax(WIDE, T), softmax(STUDENT, T)
    students, teachers = (np.array(ids) for ids in zip(*matched, strict=True))
    close(values(MatchedTokens(matched=matched, beta=0.3, temperature=T), inputs(STUDENT, WIDE)),
          js(p[..., teachers], q[..., students], 0.3))  # fmt: skip
    rest_p, rest_q = np.delete(p, teachers, axis=-1), np.delete(q, students, axis=-1)
    want = [[transport(rest_p[b, n], rest_q[b, n]) for n in range(N)] for b in range(B)]
    close(values(UniversalLogits(matched=matched, temperature=T), inputs(STUDENT, WIDE)), want)


@pytest.mark.parametrize('beta', [0.0, 0.3, 1.0])
def test_where_all_tokens_match_gold_is_gkd(beta):
    close(values(MatchedTokens(beta=beta), inputs()), values(GeneralizedJSD(beta=beta, form='trl'), inputs()))


@pytest.mark.parametrize(
    ('term', 'sides', 'message'),
    [
        (UniversalLogits(), (STUDENT, WIDE[:, :2]), 'align the tokens first'),
        (UniversalLogits(matched=((K, 0),)), (STUDENT, WIDE), rf'matched ids \[{K}\] .* of the student, 0 to {K - 1}'),
        (MatchedTokens(matched=((0, 1), (2, 1))), (STUDENT, WIDE), r'matched ids \[1, 1\] .* of the teacher'),
        (UniversalLogits(matched=tuple((i, i) for i in range(K))), (STUDENT, WIDE), 'all 7 ids .* leave it out'),
    ],
)
def test_vocabularies_that_do_not_fit_are_refused(term, sides, message):
    with pytest.raises(UsageError, match=message):
        values(term, inputs(*sides))


def test_a_token_without_probability_costs_no_more_than_the_floor():
    far = 1e4 * np.sign(STUDENT)
    for beta in (0.0, 0.5, 1.0):
        assert np.all(np.isfinite(values(MatchedTokens(beta=beta), inputs(far, -far))))
        assert np.all(np.isfinite(gradient(MatchedTokens(beta=beta), inputs(far, -far))))
