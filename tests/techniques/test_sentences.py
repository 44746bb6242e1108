"""Losses of conditional random fields against sums over all sequences of tags, written from the papers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chains import log_sum, probabilities, score, sequences

from kdjax.errors import UsageError
from kdjax.techniques.crf import CrfLikelihood
from kdjax.techniques.hinton import SoftTargets
from kdjax.techniques.structural import Posterior, TopSequences
from kdjax.techniques.structural_kl import SequenceDivergence
from kdjax.testing import world
from kdjax.types import Outputs, TermInputs

K, N, LENGTHS, T = 3, 4, (4, 1, 3), 1.7
B = len(LENGTHS)
RANDOM = np.random.default_rng(8)
REAL = (np.arange(N) < np.array(LENGTHS)[:, None]).astype(float)
TAGS = RANDOM.integers(0, K, (B, N))
SCORES = [(RANDOM.normal(0, 1.5, (B, N, K)), RANDOM.normal(0, 1.5, (B, K + 2, K))) for _ in range(2)]
LOGITS = RANDOM.normal(0, 1.5, (2, B, N, K))


def inputs(mask=REAL, tags=TAGS, scores=SCORES, logits=LOGITS):
    """Both sides, and a mask per sentence (B,) or per token (B, N)."""
    sides = [Outputs(own, {'emissions': e, 'transitions': t}) for own, (e, t) in zip(logits, scores, strict=True)]
    return TermInputs(*sides, {'mask': mask, 'token_mask': REAL, 'labels': tags, 'id': np.arange(B)})


@functools.partial(jax.jit, static_argnums=0)
def asked(term, knobs, seen):
    return term({}, {}, seen, knobs, step=jnp.int32(0), key=jax.random.key(0)).values


def values(term, seen=None):
    with jax.enable_x64(True), jax.numpy_dtype_promotion('standard'):
        return np.asarray(asked(term, term.knobs(), seen or inputs()))


def close(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-13)


def every(side, crf=True, temperature=1.0):
    """All sequences of each sentence and their scores, of a CRF or of logits alone."""
    emissions, transitions = SCORES[side] if crf else (LOGITS[side], np.zeros((B, K + 2, K)))
    return [
        sequences(emissions[b] / temperature, transitions[b] / temperature, count) for b, count in enumerate(LENGTHS)
    ]


def marginals(side, crf=True):
    found = np.full((B, N, K), 1 / K)
    for b, (paths, scores) in enumerate(every(side, crf)):
        hot = np.eye(K)[paths]  # (P, n, K)
        found[b, : LENGTHS[b]] = np.einsum('p,pnk->nk', probabilities(scores), hot)
    return found


def softened(p):
    p = p ** (1 / T)
    return p / p.sum(axis=-1, keepdims=True)


def spread(sentences):
    """Each token's share, (B, N)."""
    return np.array(sentences)[:, None] / np.array(LENGTHS)[:, None] * REAL


SURPRISE = [log_sum(s) - score(*(x[b] for x in SCORES[0]), TAGS[b, :n]) for b, (n, (_, s)) in
            enumerate(zip(LENGTHS, every(0), strict=True))]  # fmt: skip


def test_the_likelihood_of_a_sentence_and_its_tokens():
    close(values(CrfLikelihood()), SURPRISE)
    close(values(CrfLikelihood(per='token')), spread(SURPRISE))
    close(values(CrfLikelihood(per='token'), inputs(mask=np.ones(B))), np.array(SURPRISE) / LENGTHS)


@pytest.mark.parametrize('column', ['labels', 'tags'])
def test_what_is_not_known_of_a_sentence_may_be_anything(column):
    """Of 'labels' the mask says what is known, as the objective shows it; of another column a negative tag does."""
    known = REAL * np.array([[1, 0, 1, 1], [0, 1, 1, 1], [1, 1, 0, 1]])
    seen = inputs(mask=known)
    if column == 'tags':
        seen = inputs()
        seen.batch['tags'] = np.where(known > 0, TAGS, -1)
    want = []
    for b, (paths, scores) in enumerate(every(0)):
        fits = np.all((paths == TAGS[b, : LENGTHS[b]]) | (known[b, : LENGTHS[b]] == 0), axis=1)
        want.append(log_sum(scores) - log_sum(scores[fits]))
    close(values(CrfLikelihood(labels=column), seen), want)


@pytest.mark.parametrize('crf', TopSequences.SIDES)
@pytest.mark.parametrize(('form', 'keep'), [('weighted', 5), ('uniform', 5), ('weighted', 1), ('uniform', 100)])
def test_the_sequences_that_the_teacher_likes_best(form, keep, crf):
    want = []
    for (_, student), (_, teacher) in zip(every(0, crf != 'teacher'), every(1, crf != 'student'), strict=True):
        best = np.argsort(-teacher)[:keep]  # of one token there are three alone
        weights = probabilities(teacher[best]) if form == 'weighted' else np.full(len(best), 1 / len(best))
        want.append(np.sum(weights * (log_sum(student) - student[best])))
    close(values(TopSequences(form=form, keep=keep, crf=crf)), want)
    close(values(TopSequences(form=form, keep=keep, crf=crf, per='token')), spread(want))


@pytest.mark.parametrize('crf', Posterior.SIDES)
@pytest.mark.parametrize('form', Posterior.FORMS)
def test_the_divergence_of_marginals(form, crf):
    q, p = (softened(marginals(side, crf in ('both', own))) for side, own in enumerate(('student', 'teacher')))
    want = T**2 * np.sum(p * ((np.log(p) if form == 'kl' else 0) - np.log(q)), axis=-1) * REAL
    close(values(Posterior(form=form, temperature=T, crf=crf)), want)
    over = values(Posterior(form=form, temperature=T, crf=crf), inputs(mask=np.ones(B)))
    close(over, want.sum(axis=1) / LENGTHS)


def test_soft_targets_of_log_marginals_are_the_divergence_of_marginals():
    """The logits of a network with a CRF on top are its log-marginals."""
    logits = np.log(np.stack([marginals(side) for side in range(2)]))
    close(values(SoftTargets(temperature=T), inputs(logits=logits)) * REAL, values(Posterior(temperature=T)))


@pytest.mark.parametrize('crf', SequenceDivergence.SIDES)
@pytest.mark.parametrize('form', SequenceDivergence.FORMS)
def test_the_divergence_of_all_sequences(form, crf):
    want = []
    for (_, student), (_, teacher) in zip(every(0, crf != 'teacher', T), every(1, crf != 'student', T), strict=True):
        p, log_q = probabilities(teacher), student - log_sum(student)
        want.append(T**2 * np.sum(p * ((np.log(p) if form == 'kl' else 0) - log_q)))
    close(values(SequenceDivergence(form=form, temperature=T, crf=crf)), want)
    close(values(SequenceDivergence(form=form, temperature=T, crf=crf, per='token')), spread(want))


def test_of_independent_tags_the_divergence_of_sequences_is_the_sum_over_tokens():
    """Two taggers without transitions: exactly soft targets."""
    scores = [(logits, np.zeros((B, K + 2, K))) for logits in LOGITS]
    tokens = values(SoftTargets(temperature=T)) * REAL
    close(values(SequenceDivergence(temperature=T), inputs(scores=scores)), tokens.sum(axis=1))


def test_all_sequences_of_the_teacher_are_the_whole_cross_entropy():
    close(values(TopSequences(keep=K**N)), values(SequenceDivergence(form='paper')))


@pytest.mark.parametrize('term', [CrfLikelihood(), TopSequences(keep=2), SequenceDivergence(), Posterior()], ids=repr)
def test_the_objective_weighs_sentences_or_tokens(term):
    """As a batch of the tagging task has it: a mask per token."""
    mask = np.where(np.array([[1], [0], [1]]), REAL, 0)
    seen = jax.tree.map(lambda x: x.astype(np.float32 if x.dtype == float else np.int32), inputs(mask=mask))
    subject, found = world.placed({'term': term}, seen), values(term, inputs(mask=mask))
    weights = mask if found.ndim == 2 else mask.max(axis=1)
    loss = np.sum(found * weights) / np.sum(weights)
    assert world.compiled(*subject).loss == pytest.approx(loss, rel=1e-5)
    if hasattr(term, 'per'):
        tokens = world.compiled(*world.placed({'term': type(term)(per='token')}, seen)).loss
        whole = values(type(term)(), inputs(mask=mask))
        assert tokens == pytest.approx(np.sum(whole * mask.max(axis=1)) / np.sum(mask), rel=1e-5)


def flawed(side=0, **changed):
    seen = inputs()
    own = seen[side]
    return seen._replace(**{('student', 'teacher')[side]: own._replace(features={**own.features, **changed})})


@pytest.mark.parametrize(
    ('term', 'seen', 'message'),
    [
        (CrfLikelihood(), flawed(transitions=np.zeros((B, K, K))), r'\(3, 3, 3\) must be \(B, N, K\) and \(B, K'),
        (CrfLikelihood(), inputs(tags=TAGS[:, 0]), r'tags \(3,\) do not fit emissions \(3, 4, 3\)'),
        (Posterior(), flawed(1, emissions=LOGITS[0, ..., :2], transitions=np.zeros((B, 4, 2))),
         r'of the student \(3, 4, 3\) and of the teacher \(3, 4, 2\) must have one shape'),
        (SequenceDivergence(crf='student'), inputs(logits=LOGITS[:, :, 0]), r'needs logits \(B, N, K\), got \(3, 3\)'),
    ],
)  # fmt: skip
def test_scores_that_do_not_fit_are_refused(term, seen, message):
    with pytest.raises(UsageError, match=message):
        values(term, seen)


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda: CrfLikelihood(per='word'), r"unknown per 'word' of CrfLikelihood.*'token'"),
        (lambda: Posterior(crf='none'), r"unknown crf 'none' of Posterior.*'both'"),
        (lambda: TopSequences(keep=0), r'keep of TopSequences must be >= 1, got 0'),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()
