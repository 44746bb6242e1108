"""Decoding tables of log-probabilities by hand, and a network: the best is found, and in any batch."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.decoding import highest
from kdjax.decoding.base import ENDLESS, LOWEST, Limits, generator_of
from kdjax.decoding.beam import Beam, search
from kdjax.decoding.greedy import greedy
from kdjax.decoding.lengths import RULES
from kdjax.decoding.sampling import sample, truncated
from kdjax.errors import UsageError
from kdjax.nets import encoder_decoder
from kdjax.types import Cache, Generator, Net

ROWS, LONGEST, IDS, END = 6, 4, 4, 3
LIMITS = Limits(LONGEST, END, ())
RANDOM = np.random.default_rng(0)
# Of each source, place and last token, what follows: likely ends, so that lengths differ
TABLES = RANDOM.normal(0, 2, (ROWS, LONGEST, IDS, IDS)).astype(np.float32)
TABLES[:3, :, :, END] -= 2
LOGS = TABLES - np.log(np.exp(TABLES).sum(axis=-1, keepdims=True))
SOURCE, PROMPT = np.arange(ROWS), np.full((ROWS, 1), 2, np.int32)
# A text is what follows by a table alone.
TABLE = Generator(
    start=lambda variables, source, length, width=1: Cache((), jnp.repeat(jnp.asarray(source), width)),
    extend=lambda variables, cache, token, t: (variables[cache.rest, t, token], cache),
)


def texts():
    """All that can be written, and whether each has its end."""
    for count in range(1, LONGEST + 1):
        for text in itertools.product(range(IDS), repeat=count):
            if END not in text[:-1] and (text[-1] == END or count == LONGEST):
                yield text


def log_probability(row, text, first=2):
    places = zip((first, *text), text, strict=False)
    return sum(float(LOGS[row, t, last, token]) for t, (last, token) in enumerate(places))


def length_penalty(rule, alpha, count):
    return ((5 + count) / 6) ** alpha if rule == 'gnmt' else count**alpha


@functools.cache
def searched(beam, rows=ROWS, prompt=1):
    given = PROMPT[:rows] if prompt == 1 else np.tile(np.int32([[2, 1]]), (rows, 1))
    run = jax.jit(lambda tables: search(TABLE, tables, SOURCE[:rows], given, LIMITS, beam))
    return jax.device_get(run(TABLES))


@pytest.mark.parametrize(('rule', 'alpha'), [('gnmt', 0.6), pytest.param('mean', 1.0, marks=pytest.mark.slow)])
def test_a_search_for_all_texts_finds_what_brute_force_finds(rule, alpha):
    found = searched(Beam(IDS**LONGEST, rule, alpha))
    for row in range(ROWS):

        def score(text, row=row):
            return log_probability(row, text) / length_penalty(rule, alpha, len(text))

        wanted = sorted(texts(), key=lambda text: (text[-1] != END, -score(text)))[:64]
        for place in (0, 1, 5, 30, 45):
            text = tuple(found.tokens[row, place][: found.lengths[row, place]].tolist())
            assert text == wanted[place]
            assert found.scores[row, place] == pytest.approx(score(text), abs=1e-5)
            assert found.log_probabilities[row, place] == pytest.approx(log_probability(row, text), abs=1e-5)
            assert found.ended[row, place] == (text[-1] == END)


def by_hand(row, beam):
    """The search in plain Python."""
    alive, finished = [((), 0.0)], []
    for _ in range(LONGEST):
        more = [((*text, token), log_probability(row, (*text, token))) for text, _ in alive for token in range(IDS)]
        best = sorted(more, key=lambda pair: -pair[1])[: 2 * beam.width]
        finished += [(text, logs / length_penalty(beam.rule, beam.alpha, len(text))) for text, logs in
                     best[: beam.width] if text[-1] == END]  # fmt: skip
        finished = sorted(finished, key=lambda pair: -pair[1])[: beam.width]
        alive = [pair for pair in best if pair[0][-1] != END][: beam.width]
        if beam.stop == 'full' and len(finished) == beam.width:
            break
    rest = [(text, logs / length_penalty(beam.rule, beam.alpha, len(text))) for text, logs in alive]
    return (finished + rest)[: beam.width]


@pytest.mark.parametrize(
    'beam', [pytest.param(Beam(3, 'gnmt', 1.0), marks=pytest.mark.slow), Beam(2, 'mean', 1.0, 'full')]
)
def test_a_narrow_search_is_that_of_plain_python(beam):
    found = searched(beam)
    for row in range(ROWS):
        for place, (text, score) in enumerate(by_hand(row, beam)):
            assert tuple(found.tokens[row, place][: found.lengths[row, place]].tolist()) == text
            assert found.scores[row, place] == pytest.approx(score, abs=1e-5)


def test_what_ends_early_does_not_know_of_those_that_go_on():
    alone, together = searched(Beam(2, 'mean', 1.0, 'full'), rows=1), searched(Beam(2, 'mean', 1.0, 'full'))
    assert len(set(together.lengths[:, 0].tolist())) > 1
    for one, all_ in zip(alone, together, strict=True):
        np.testing.assert_allclose(one[0], all_[0], rtol=1e-6)


def test_one_text_at_a_time_is_greedy_and_a_prompt_is_kept():
    one = searched(Beam(1, 'gnmt', 0.6, 'full'))
    prompts = PROMPT, np.tile(np.int32([[2, 1]]), (ROWS, 1))
    run = jax.jit(lambda tables: [greedy(TABLE, tables, SOURCE, prompt, LIMITS) for prompt in prompts])
    found, begun = jax.device_get(run(TABLES))
    for row in range(ROWS):
        text, last = [], 2
        while len(text) < LONGEST and END not in text:
            last = int(np.argmax(TABLES[row, len(text), last]))
            text.append(last)
        assert found.tokens[row, : len(text)].tolist() == text
        assert found.lengths[row] == len(text)
        assert found.ended[row] == (text[-1] == END)
        assert found.log_probabilities[row] == pytest.approx(log_probability(row, text), abs=1e-5)
    np.testing.assert_array_equal(one.tokens[:, 0], found.tokens)
    np.testing.assert_allclose(one.log_probabilities[:, 0], found.log_probabilities, atol=1e-5)
    np.testing.assert_array_equal(begun.tokens[:, 0], 1)
    np.testing.assert_array_equal(searched(Beam(2), prompt=2).tokens[:, 0, 0], 1)
    mask = np.arange(LONGEST) < found.lengths[:, None]
    assert not found.tokens[~mask].any()
    np.testing.assert_array_equal(found.mask, mask)


def test_draws_are_those_of_the_network_and_of_each_text_alone():
    keys = jax.random.split(jax.random.key(0), 2000)
    source, prompt = np.zeros(2000, np.int32), np.full((2000, 1), 2, np.int32)

    @jax.jit
    def run(tables, temperature):
        whole = sample(TABLE, tables, source, prompt, LIMITS, keys, temperature=temperature)
        few = sample(TABLE, tables, source[:3], prompt[:3], LIMITS, keys[:3], temperature=temperature)
        return whole, few, sample(TABLE, tables, source, prompt, LIMITS, keys, top_k=2)

    found, few, top = jax.device_get(run(TABLES, 1.5))
    np.testing.assert_array_equal(few.tokens, found.tokens[:3])
    drawn = np.bincount(found.tokens[:, 0], minlength=IDS) / len(keys)
    wanted = np.exp(LOGS[0, 0, 2] / 1.5)
    np.testing.assert_allclose(drawn, wanted / wanted.sum(), atol=0.04)
    for row in (0, 1, 2):
        text = found.tokens[row][: found.lengths[row]].tolist()
        assert found.log_probabilities[row] == pytest.approx(log_probability(0, text), abs=1e-5)
    assert set(top.tokens[:, 0].tolist()) == set(np.argsort(TABLES[0, 0, 2])[-2:].tolist())


def test_the_highest_are_those_of_a_sort_and_of_equals_the_first():
    x = np.random.default_rng(2).integers(0, 40, (3, 2, 400)).astype(np.float32)  # many are equal
    add = np.float32([[[0], [3]], [[-50], [0]], [[1], [1]]])

    @jax.jit
    def run(x):
        return highest.highest(x, add, 6), highest.highest(x[..., :397], add, 6), highest.first(x[:, 0])

    wide, narrow, one = run(x)
    for (values, places), given in ((wide, x), (narrow, x[..., :397])):
        flat = (given + add).reshape(3, -1)
        order = np.argsort(-flat, axis=1, kind='stable')[:, :6]
        np.testing.assert_array_equal(places, order)
        np.testing.assert_array_equal(values, np.take_along_axis(flat, order, axis=1))
    np.testing.assert_array_equal(one, x[:, 0].argmax(axis=1))


def test_what_is_drawn_from():
    logits = jnp.log(jnp.asarray([0.5, 0.1, 0.3, 0.1]))
    kept = {(0, 0.45): {0}, (0, 0.55): {0, 2}, (0, 0.85): {0, 1, 2, 3}, (2, 1.0): {0, 2}, (2, 0.6): {0},
            (0, 1.0): {0, 1, 2, 3}}  # fmt: skip
    for (top_k, top_p), wanted in kept.items():
        assert set(np.flatnonzero(np.asarray(truncated(logits, top_k, top_p)) > LOWEST).tolist()) == wanted


def test_texts_without_an_end_fill_their_length_and_forbidden_tokens_are_not_written():
    limits = Limits(LONGEST, ENDLESS, (0, END))
    found = jax.jit(lambda tables: greedy(TABLE, tables, SOURCE, PROMPT, limits))(TABLES)
    assert set(np.unique(found.tokens)) <= {1, 2}
    np.testing.assert_array_equal(found.lengths, LONGEST)
    assert not found.ended.any()


def test_each_text_has_a_limit_of_its_own():
    limits = Limits(LONGEST, ENDLESS, (0, END), np.arange(ROWS) % 3 + 1)

    @jax.jit
    def run(tables):
        return greedy(TABLE, tables, SOURCE, PROMPT, limits), search(TABLE, tables, SOURCE, PROMPT, limits, Beam(2))

    found, best = run(TABLES)
    np.testing.assert_array_equal(found.lengths, limits.each)
    np.testing.assert_array_equal(best.lengths[:, 0], limits.each)
    assert not best.ended.any()
    np.testing.assert_array_equal(found.mask, found.tokens > 0)


@functools.cache
def translated():
    """Of a network: greedy and searched, and what it says of its translations as whole texts."""
    net = encoder_decoder.transformer(vocabulary=9, width=8, depth=1, heads=2, inner=8, scanned=True)
    source = np.int32([[4, 5, 6, 0], [7, 8, 0, 0], [8, 8, 4, 5]])
    begin, limits = np.full((3, 1), 2, np.int32), Limits(6)

    @jax.jit
    def run():
        variables = net.init(jax.random.key(3), {'source': source, 'target': source})
        variables = jax.tree.map(lambda leaf: 3 * leaf, variables)  # not all alike
        said = greedy(net.generator, variables, source, begin, limits)
        found = search(net.generator, variables, source, begin, limits, Beam(3))
        logs = []
        for tokens in (said.tokens, found.tokens[:, 0], found.tokens[:, 2]):
            given = {'source': source, 'target': jnp.concatenate([begin, tokens[:, :-1]], axis=1)}
            whole = jax.nn.log_softmax(net.apply(variables, given, train=False, key=None)[0].logits)
            own = jnp.take_along_axis(whole, tokens[..., None], axis=-1)[..., 0]
            logs.append(jnp.sum(jnp.where(tokens > 0, own, 0), axis=1))
        return said, found, logs

    return jax.device_get(run())


def test_what_is_written_has_the_probability_that_the_network_gives_it():
    said, found, (greedily, first, third) = translated()
    np.testing.assert_allclose(said.log_probabilities, greedily, atol=1e-4)
    np.testing.assert_allclose(found.log_probabilities[:, 0], first, atol=1e-4)
    np.testing.assert_allclose(found.log_probabilities[:, 2], third, atol=1e-4)
    assert not np.isin(found.tokens[:, 0][:, 0], (0, 2)).any()


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: Beam(rule='long').checked(), "unknown length rule 'long' of a beam search; there is: "),
        (lambda: Beam(stop='never').checked(), "unknown stop rule 'never' of a beam search; there is: "),
        (lambda: Beam(width=0).checked(), 'width >= 1 and an alpha >= 0, got 0 and 0.6'),
        (lambda: greedy(TABLE, TABLES, SOURCE, np.zeros((ROWS, 9), int), LIMITS), r'got \(6, 9\) for length 4'),
        (lambda: sample(TABLE, TABLES, SOURCE, PROMPT, LIMITS, None, top_p=0.0), r'top_p in \(0, 1\], got 0 and 0.0'),
        (lambda: generator_of(Net(None, None, ())), 'decoding needs a network that has a generator'),
    ],
)
def test_what_cannot_be_decoded_is_said(call, message):
    with pytest.raises(UsageError, match=message):
        call()


def test_length_rules():
    assert {name: round(float(rule(jnp.int32(7), 0.5)), 4) for name, rule in RULES.items()} == {
        'gnmt': round(2**0.5, 4), 'mean': round(7**0.5, 4)}  # fmt: skip
