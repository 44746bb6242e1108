"""Transcription: decoding and edits against what is written out by hand, error rates over a whole split, guards."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import ctc
from kdjax.data import audio, fsdd
from kdjax.dataset import SPLITS, Dataset, Split
from kdjax.errors import UsageError
from kdjax.tasks.evaluation import evaluator, examiner
from kdjax.tasks.transcription import Transcription
from kdjax.techniques.ctc_sequences import HypothesisCtc
from kdjax.types import Net, Outputs, TermInputs

RANDOM = np.random.default_rng(0)
SYMBOLS = ('one', 'two')
EXAMPLES, FRAMES = 7, 4
LOGITS = RANDOM.normal(0, 2, (EXAMPLES, FRAMES, 3)).astype(np.float32)
COUNTS = np.asarray([4, 3, 4, 2, 1, 4, 4], np.int32)
LABELS = np.asarray([[0, 1, 0], [1, 1, 0], [0, 0, 0], [1, 0, 0], [0, 1, 1], [0, 0, 0], [1, 0, 1]], np.int32)
LENGTHS = np.asarray([3, 2, 2, 1, 3, 0, 3], np.int32)  # the fifth has more symbols than frames


def collapsed(path, blank=2):
    return tuple(label for label, _ in itertools.groupby(path) if label != blank)


def by_paths(logits):
    """The probability of every string, by all its alignments."""
    p = np.exp(logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)).astype(np.float64)
    found = {}
    for path in itertools.product(range(logits.shape[-1]), repeat=len(logits)):
        string = collapsed(path)
        found[string] = found.get(string, 0) + np.prod(p[np.arange(len(logits)), path])
    return found


def edits_by_hand(a, b):
    @functools.cache
    def least(i, j):
        if not i or not j:
            return i + j
        return min(least(i - 1, j) + 1, least(i, j - 1) + 1, least(i - 1, j - 1) + (a[i - 1] != b[j - 1]))

    return least(len(a), len(b))


def test_the_loss_is_that_of_all_paths_and_its_guards_hold():
    def loss(logits):
        found = ctc.surprise(logits, COUNTS, LABELS, LENGTHS)
        return jnp.sum(found.loss), found

    (_, found), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(LOGITS)
    for place, (count, length) in enumerate(zip(COUNTS, LENGTHS, strict=True)):
        string = tuple(LABELS[place, :length].tolist())
        p = by_paths(LOGITS[place, :count]).get(string, 0)
        assert found.possible[place] == (p > 0)
        np.testing.assert_allclose(found.loss[place], -np.log(p) if p else 0, rtol=1e-4)
        assert not gradient[place, count:].any()
        assert gradient[place].any() == (p > 0)
    sure = jnp.where(jax.nn.one_hot(jnp.asarray([[0, 2, 1, 2]]), 3) > 0, 30.0, 0.0)
    assert 0 <= ctc.surprise(sure, jnp.asarray([4]), jnp.asarray([[0, 1]]), jnp.asarray([2])).loss[0] < 1e-5


def test_decoding_finds_the_best_path_and_the_best_string():
    symbols, said = jax.jit(ctc.greedy)(LOGITS, COUNTS)
    better = 0
    for place, count in enumerate(COUNTS):
        logits = LOGITS[place, :count]
        wanted = collapsed(logits.argmax(axis=-1))
        assert tuple(np.asarray(symbols)[place, : said[place]]) == wanted
        assert not np.asarray(symbols)[place, said[place] :].any()
        strings = by_paths(logits)
        logs = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
        found = ctc.beam_search(logs, 100)
        assert len({one.labels for one in found}) == len(found) == len(strings)
        for one in found:
            np.testing.assert_allclose(one.score, np.log(strings[one.labels]), rtol=1e-4)
        assert found[0].labels == max(strings, key=strings.get)
        assert len(ctc.beam_search(logs, 2)) <= 2
        better += found[0].labels != wanted
    assert better, 'nothing shows that a beam sees more than the best path'


def test_edits_are_the_fewest():
    words = ['', 'a', 'ab', 'kitten', 'sitting', 'saturday', 'sunday', 'bbbbb']
    pairs = list(itertools.product(words, words))
    got = ctc.edits([a for a, _ in pairs], [b for _, b in pairs])
    assert got.tolist() == [edits_by_hand(a, b) for a, b in pairs]
    assert ctc.edits([], []).tolist() == []


NET = Net(
    init=lambda key, inputs: {'params': {}, 'stats': {}},
    apply=lambda variables, inputs, *, train, key: (
        Outputs(inputs['logits'] + variables['params'], {}, {'logits': (inputs['real'],)}), variables['stats'],
    ),
    taps=(),
)  # fmt: skip
SPLIT = Split(
    {'logits': LOGITS, 'real': (np.arange(FRAMES) < COUNTS[:, None]).astype(np.float32)},
    LABELS,
    {'label_length': LENGTHS},
)
CELLS = {'params': np.zeros((1, 1), np.float32), 'stats': {}}


def test_rates_are_of_the_whole_split_however_it_is_cut():
    task = Transcription(symbols=SYMBOLS, beam=4)
    found = evaluator(task, NET, SPLIT, LOGITS[::-1].copy(), batch_size=3)(CELLS)
    truth = [LABELS[place, :length].tolist() for place, length in enumerate(LENGTHS)]
    greedy = [collapsed(LOGITS[place, :count].argmax(axis=-1)) for place, count in enumerate(COUNTS)]
    best = [
        max(strings, key=strings.get) for strings in map(by_paths, (x[:n] for x, n in zip(LOGITS, COUNTS, strict=True)))
    ]
    for name, strings in (('', greedy), ('_beam', best)):
        edits = sum(edits_by_hand(tuple(a), tuple(b)) for a, b in zip(strings, truth, strict=True))
        np.testing.assert_allclose(found[f'wer{name}'][0], edits / LENGTHS.sum(), rtol=1e-6)
        texts = [[' '.join(SYMBOLS[k] for k in one) for one in side] for side in (strings, truth)]
        edits = sum(edits_by_hand(a, b) for a, b in zip(*texts, strict=True))
        np.testing.assert_allclose(found[f'cer{name}'][0], edits / sum(map(len, texts[1])), rtol=1e-6)
    np.testing.assert_allclose(found['exact'][0], np.mean([a == tuple(b) for a, b in zip(greedy, truth, strict=True)]))
    surprises = [-np.log(by_paths(LOGITS[k, :n]).get(tuple(truth[k]), 1)) for k, n in enumerate(COUNTS)]
    np.testing.assert_allclose(found['nll'][0], sum(surprises) / (LENGTHS.sum() - LENGTHS[4]), rtol=1e-4)
    np.testing.assert_allclose(found['impossible'][0], 1 / 7, rtol=1e-5)
    assert set(found) == {metric.name for metric in task.metrics}
    predictions = jax.tree.map(lambda leaf: leaf[0], examiner(task, NET, SPLIT)(CELLS)[1])
    for score in ('wer', 'cer', 'exact', 'wer_beam'):
        judged = Transcription(symbols=SYMBOLS, beam=4, score=score)
        rate = judged.score_of(judged.statistics(predictions, SPLIT).sum(axis=0))
        np.testing.assert_allclose(rate, found[score][0], rtol=1e-6)
    assert not Transcription(symbols=SYMBOLS, score='nll').has_statistics


def spoken(labels=LABELS, lengths=LENGTHS, symbols=SYMBOLS):
    inputs = audio.clips([np.ones(9, np.int16)] * EXAMPLES, 9)
    return Dataset(dict.fromkeys(SPLITS, Split(inputs, labels, {'label_length': lengths})), symbols)


def test_the_best_strings_are_those_of_all_paths_by_what_they_weigh():
    logs = np.log(np.exp(LOGITS) / np.exp(LOGITS).sum(axis=-1, keepdims=True))
    found = ctc.n_best(logs, COUNTS, 3, width=1000)
    for example, count in enumerate(COUNTS):
        paths = by_paths(LOGITS[example, :count])
        ranked = sorted(paths, key=paths.get, reverse=True)[:3]
        for place, string in enumerate(ranked):
            length = found['hypothesis_lengths'][example, place]
            assert tuple(found['hypotheses'][example, place, :length]) == string
        total = sum(paths[string] for string in ranked)
        weights = [paths[string] / total for string in ranked] + [0] * (3 - len(ranked))
        np.testing.assert_allclose(found['hypothesis_weights'][example], weights, rtol=1e-5, atol=1e-7)
    with pytest.raises(UsageError, match='needs 1 <= count <= width, got 4 and 2'):
        ctc.n_best(logs, COUNTS, 4, width=2)


def test_strings_of_a_table_are_those_of_columns():
    logs = jnp.asarray(LOGITS)
    strings = {name: jnp.asarray(array) for name, array in ctc.n_best(LOGITS, COUNTS, 2).items()}
    batch = {'token_mask': jnp.asarray(SPLIT.inputs['real']), 'mask': jnp.ones(EXAMPLES)}
    of_columns = TermInputs(Outputs(logs, {}), Outputs(logs, {}), {**batch, **strings})
    of_teacher = TermInputs(Outputs(logs, {}), Outputs(None, strings), batch)
    given, plain = HypothesisCtc(given=True), HypothesisCtc()
    assert given.taps().teacher == tuple(strings)
    np.testing.assert_array_equal(given.losses(of_teacher)[0], plain.losses(of_columns)[0])


def test_what_cannot_be_searched_or_said_is_refused():
    with pytest.raises(UsageError, match=r'needs width >= 1 and log-probabilities \(T, K\), got 0 and \(3, 2\)'):
        ctc.beam_search(np.zeros((3, 2)), 0)
    with pytest.raises(UsageError, match=r'got 1 and \(1, 3, 2\)'):
        ctc.beam_search(np.zeros((1, 3, 2)), 1)
    with pytest.raises(UsageError, match=r'symbols of Transcription must be those of the data'):
        Transcription(symbols=())


def test_strings_and_symbols_are_counted():
    task, data = Transcription(symbols=SYMBOLS), spoken()
    task.check(data)
    assert task.net_arguments(data) == {'classes': 3}
    assert task.balance(data) == {'one': 6, 'two': 8}
    assert task.written((0, 1)) == 'one two'
    assert Transcription(symbols=('a', ' '), joiner='').written((0, 1, 0)) == 'a a'


@pytest.mark.parametrize(
    ('data', 'message'),
    [
        (spoken(symbols=('a', 'b')), 'task.symbols must be the classes of the data'),
        (spoken(labels=LABELS[:, 0]), r"integer labels \(N, L\) and 'label_length'"),
        (spoken(lengths=LENGTHS + 1), 'label_length of split .train. must be in 0 to 3, got 1 to 4'),
        (spoken(labels=np.where(LABELS == 0, -1, LABELS)), 'strings of which a symbol is not known'),
    ],
)
def test_data_without_strings_are_refused(data, message):
    with pytest.raises(UsageError, match=message):
        Transcription(symbols=SYMBOLS).check(data)


def test_strings_of_spoken_digits_are_functions_of_their_number(restored):
    folder = str(restored('fsdd'))
    data = fsdd.strings(folder=folder, fold=4, sizes=(12, 4, 4))
    found = fsdd.recordings(folder)
    more = fsdd.strings(folder=folder, fold=4, sizes=(15, 4, 4)).splits['train']
    train = data.splits['train']
    np.testing.assert_array_equal(more.inputs['audio'][:12], train.inputs['audio'])
    assert {*data.splits['test'].more['groups'].tolist()} == {4}
    for place in range(12):
        audible = train.inputs['audio'][place][: train.inputs['samples'][place]]
        assert len(audible) <= 2.4 * 8000
        digits = train.labels[place, : train.more['label_length'][place]]
        first = [k for k, samples in enumerate(found.samples)
                 if found.digits[k] == digits[0] and found.speakers[k] == train.more['groups'][place]
                 and np.array_equal(samples, audible[: len(samples)])]  # fmt: skip
        assert len(first) == 1
