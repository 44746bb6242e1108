"""The algebra of conditional random fields equals brute force over all sequences of tags, and pytorch-crf.

techniques/golden/pytorch_crf.npz has what pytorch-crf 0.7.2 with torch 2.13.0 answers in float64: of a
`CRF(5, batch_first=True)` whose parameters and emissions (4, 7, 5) are standard normal of numpy.random.default_rng(5),
drawn in the order of the keys of the file, with random tags and lengths 7, 4, 1, 6: `-crf(emissions, tags, mask,
reduction='none')`, the same with 'token_mean', and `crf.decode(emissions, mask)`, filled up with 0.
"""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chains import log_sum, probabilities, score, sequences

from kdjax import crf

K, N, LENGTHS = 3, 4, (4, 2, 1, 0)
RANDOM = np.random.default_rng(3)
EMISSIONS, TRANSITIONS = RANDOM.normal(0, 2, (len(LENGTHS), N, K)), RANDOM.normal(0, 2, (len(LENGTHS), K + 2, K))
MASK = (np.arange(N) < np.array(LENGTHS)[:, None]).astype(float)
TAGS = RANDOM.integers(0, K, (len(LENGTHS), N))
EVERY = [sequences(*scores, count) for *scores, count in zip(EMISSIONS, TRANSITIONS, LENGTHS, strict=True)]


@functools.partial(jax.jit, static_argnums=(0, 5))
def compiled(function, emissions, transitions, mask, more, count):
    return getattr(crf, function)(emissions, transitions, mask, *more, *([count] if count else []))


def ask(function, emissions=EMISSIONS, transitions=TRANSITIONS, mask=MASK, *more, count=0):
    with jax.enable_x64(True):
        return jax.device_get(compiled(function, emissions, transitions, mask, more, count))


def close(got, want, tolerance=1e-12):
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


def test_the_partition_is_the_sum_over_all_sequences():
    close(ask('log_partition'), [log_sum(scores) for _, scores in EVERY])


def test_marginals_and_expectations_are_sums_of_probabilities():
    tags, moves = np.zeros((len(LENGTHS), N, K)), np.zeros((len(LENGTHS), K + 2, K))
    for example, (paths, scores) in enumerate(EVERY):
        for path, probability in zip(paths, probabilities(scores), strict=True):
            tags[example, np.arange(len(path)), path] += probability
            np.add.at(moves[example], (path[:-1], path[1:]), probability)
            if len(path):
                moves[example, K, path[0]] += probability
                moves[example, K + 1, path[-1]] += probability
    found = ask('expectations')
    close(found[0], tags)
    close(found[1], moves)
    close(np.exp(ask('log_marginals')) * MASK[..., None], tags)
    assert not np.any(ask('log_marginals')[MASK == 0])


@pytest.mark.parametrize('known', ['all', 'some', 'none'])
def test_the_likelihood_of_what_is_known_is_the_sum_over_the_sequences_that_have_it(known):
    tags = TAGS.copy()
    if known == 'some':
        tags[0, [0, 2]] = tags[1, 1] = -1
    elif known == 'none':
        tags[:] = -1
    want = []
    for own, (paths, scores) in zip(tags, EVERY, strict=True):
        fits = np.all((paths == own[: paths.shape[1]]) | (own[: paths.shape[1]] < 0), axis=1)
        want.append(log_sum(scores[fits]) - log_sum(scores))
    close(ask('log_likelihood', EMISSIONS, TRANSITIONS, MASK, tags), want)


def test_the_score_of_a_path():
    paths = np.random.default_rng(1).integers(0, K, (len(LENGTHS), 2, N))
    want = [[score(EMISSIONS[b], TRANSITIONS[b], path[:count]) for path in paths[b]] for b, count in enumerate(LENGTHS)]
    close(ask('path_scores', EMISSIONS, TRANSITIONS, MASK, paths), want)


@pytest.mark.parametrize('count', [1, 5])
def test_the_best_paths_are_the_first_of_all_in_order(count):
    paths, scores = ask('best_paths', count=count)
    assert paths.shape == (len(LENGTHS), count, N)
    for example, (every, own) in enumerate(EVERY):
        order = np.argsort(-own)[:count]
        close(scores[example, : len(order)], own[order])
        np.testing.assert_array_equal(paths[example, : len(order), : LENGTHS[example]], every[order])
        assert np.all(scores[example, len(order) :] < crf.LOWEST / 2)  # a short sentence has fewer
        assert not np.any(paths[example, :, LENGTHS[example] :])


ANSWERS = ('log_partition', 'log_marginals', 'expectations', 'log_likelihood', 'path_scores', 'best_paths')


@pytest.mark.parametrize('function', ANSWERS)
def test_what_is_at_padding_and_how_much_of_it_there_is_changes_nothing(function):
    more = {'log_likelihood': (TAGS,), 'path_scores': (TAGS[:, None],)}.get(function, ())
    wider = [np.concatenate([x, np.full_like(x[..., :2], 1)], axis=-1) for x in more]
    dirty = np.where(MASK[..., None] > 0, EMISSIONS, np.nan)
    dirty = np.concatenate([dirty, np.full((len(LENGTHS), 2, K), 1e30)], axis=1)
    empty = np.array(LENGTHS)[:, None, None] == 0
    longer = dirty, np.where(empty, np.inf, TRANSITIONS), np.pad(MASK, ((0, 0), (0, 2)))
    found = ask(function, *longer, *wider), ask(function, EMISSIONS, TRANSITIONS, MASK, *more)
    for got, want in zip(*map(jax.tree.leaves, found), strict=True):
        cut = tuple(slice(size) for size in want.shape)
        close(got[cut], want)
        assert not np.any(np.delete(got, np.s_[: want.shape[-1]], axis=-1))


def test_no_gradient_comes_from_padding():
    def total(emissions, transitions):
        likelihood = crf.log_likelihood(emissions, transitions, MASK, TAGS)
        return jnp.sum(likelihood) + jnp.sum(crf.log_marginals(emissions, transitions, MASK)[..., 0])

    with jax.enable_x64(True):
        dirty = np.where(MASK[..., None] > 0, EMISSIONS, np.nan)
        emissions, transitions = jax.device_get(jax.jit(jax.grad(total, (0, 1)))(dirty, TRANSITIONS))
    assert np.array_equal(np.any(emissions != 0, axis=-1), MASK > 0)
    assert np.array_equal(np.any(transitions != 0, axis=(1, 2)), np.array(LENGTHS) > 0)


def test_an_improbable_tag_keeps_its_logarithm_in_single_precision():
    emissions = np.zeros((1, 3, K), np.float32)
    emissions[0, 1, 2] = -300
    found = crf.log_marginals(emissions.astype(jnp.bfloat16), np.zeros((1, K + 2, K), np.float32), np.ones((1, 3)))
    assert found.dtype == jnp.float32
    assert found[0, 1, 2] == pytest.approx(-300 - np.log(2), rel=1e-2)
    np.testing.assert_allclose(found[0, 0], -np.log(3), rtol=1e-5)


def test_it_is_what_pytorch_crf_computes():
    with np.load(pathlib.Path(__file__).parent / 'techniques' / 'golden' / 'pytorch_crf.npz') as file:
        x = dict(file)
    rows = np.concatenate([x['transitions'], x['start'][None], x['end'][None]])
    transitions = np.broadcast_to(rows, (len(x['mask']), *rows.shape))
    nll = -ask('log_likelihood', x['emissions'], transitions, x['mask'], x['tags'])
    close(nll, x['nll'])
    close(nll.sum() / x['mask'].sum(), x['token_mean'])
    np.testing.assert_array_equal(ask('best_paths', x['emissions'], transitions, x['mask'])[0][:, 0], x['decoded'])
