"""Language modelling and translation: metrics of the whole split by hand, and the laws of a task."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from kdjax.dataset import Dataset, Split
from kdjax.decoding.base import BEGIN, END
from kdjax.decoding.bleu import SIGNATURES, bleu, counts
from kdjax.errors import UsageError
from kdjax.tasks.evaluation import evaluator, examiner
from kdjax.tasks.language_model import LanguageModel
from kdjax.tasks.own_text import distinct
from kdjax.tasks.translation import Translation
from kdjax.types import Cache, Generator, Net, Outputs

CELLS, EXAMPLES, LONGEST, K = 2, 9, 5, 8
RANDOM = np.random.default_rng(7)
LENGTHS = RANDOM.integers(2, LONGEST + 1, EXAMPLES).astype(np.int32)
LENGTHS[0] = LONGEST
REAL = np.arange(LONGEST) < LENGTHS[:, None]
TEXT = np.where(REAL, RANDOM.integers(2, K, REAL.shape), 0).astype(np.int32)
NEXT = np.where(REAL, RANDOM.integers(2, K, REAL.shape), 0).astype(np.int32)
TEACHER = RANDOM.normal(size=(EXAMPLES, LONGEST, K)).astype(np.float32)
TABLES = RANDOM.normal(0, 2, (CELLS, K, K)).astype(np.float32)
TABLES[1, :, END] -= 9  # hardly ends
PIECES = ('<pad>', '<unk>', '<s>', '</s>', '▁a', '▁dog', 's', '▁Runs')
REFERENCES = ('a dog Runs a dog', 'a dogs Runs', 'a dog a dog a dog', 'Runs', 'dogs', 'a a a a', 'a dog', 'Runs a', 'a')


def said(variables, inputs, *, train, key):
    text = inputs['target'] if isinstance(inputs, dict) else inputs
    return Outputs(variables['params'][text], {}), variables['stats']


# What follows a token is in a table, whatever was before it.
TABLE = Net(
    init=lambda key, inputs: {'params': TABLES[0], 'stats': {}},
    apply=said,
    taps=(),
    generator=Generator(
        start=lambda variables, source, length, width=1: Cache((), None),
        extend=lambda variables, cache, token, t: (variables['params'][token], cache),
    ),
)
VARIABLES = {'params': TABLES, 'stats': {}}


def model(order=slice(None), wider=0):
    text, following = (np.pad(x[order], [(0, 0), (0, wider)]) for x in (TEXT, NEXT))
    return Split(text, following, {'length': LENGTHS[order]})


def pairs(order=slice(None), wider=0):
    split = model(order, wider)
    rows = [list(text.encode()) for text in REFERENCES]
    reference = np.asarray([row + [0] * (20 - len(row)) for row in rows], np.uint8)[order]
    target = np.where(split.labels > 0, np.roll(split.labels, 1, axis=1), 0)
    target[:, 0] = BEGIN
    return Split({'source': split.inputs, 'target': target}, split.labels, {**split.more, 'reference': reference})


def dataset(split):
    return Dataset(dict.fromkeys(('train', 'validation', 'test'), split), (), {'vocabulary': K, 'pieces': PIECES},
                   ('inputs', 'labels'))  # fmt: skip


TASKS = {
    'model': (LanguageModel(), model, TEACHER),
    'translation': (Translation(pieces=PIECES), pairs, TEACHER.argmax(axis=-1).astype(np.int32)),
}
every_task = pytest.mark.parametrize('name', TASKS)
SACREBLEU = 'translation'


def made(name):
    if name == SACREBLEU:
        pytest.importorskip('sacrebleu')
    return TASKS[name]


@functools.cache
def measured(name):
    task, split, teacher = made(name)
    return evaluator(task, TABLE, split(), teacher)(VARIABLES)


def text_of(split):
    return split.inputs['target'] if isinstance(split.inputs, dict) else split.inputs


@every_task
def test_tokens_are_counted_over_the_whole_split(name):
    task, make, _ = made(name)
    found, split = measured(name), make()
    for cell in range(CELLS):
        student = log_softmax(np.float64(TABLES[cell][text_of(split)[REAL]]), axis=1)
        teacher = log_softmax(np.float64(TEACHER[REAL]), axis=1)
        nll = -student[np.arange(REAL.sum()), NEXT[REAL]].mean()
        want = {
            'nll': nll, 'bits': nll / np.log(2), 'perplexity': np.exp(nll),
            'accuracy': np.mean(student.argmax(axis=1) == NEXT[REAL]),
            'agreement': np.mean(student.argmax(axis=1) == teacher.argmax(axis=1)),
            'kl': np.mean(np.sum(np.exp(teacher) * (teacher - student), axis=1)),
            'acceptance': 1 - np.mean(np.abs(np.exp(teacher) - np.exp(student)).sum(axis=1)) / 2,
        }  # fmt: skip
        for metric in {*task.by_name} & {*want}:
            assert found[metric][cell] == pytest.approx(want[metric], rel=1e-5), metric
    assert set(found) == set(task.by_name)


@every_task
def test_padding_batches_and_the_order_of_examples_change_nothing(name):
    task, make, teacher = made(name)
    order = np.random.default_rng(0).permutation(EXAMPLES)
    told = teacher[order]
    wide = np.pad(told, [(0, 0), (0, 3), *[(0, 0)] * (told.ndim - 2)])
    options = {'padded': ('inputs', 'labels'), 'buckets': (3,), 'batch_size': 4}
    other = evaluator(task, TABLE, make(order, 3), wide, **options)(VARIABLES)
    for metric, values in measured(name).items():
        np.testing.assert_allclose(other[metric], values, rtol=1e-5, err_msg=metric)


@every_task
def test_a_batch_of_padding_alone_adds_nothing(name):
    task, make, teacher = made(name)
    split = make()
    batch = task.prepare({'inputs': split.inputs, 'labels': split.labels, 'mask': np.zeros(EXAMPLES, np.float32)})
    meters = task.sums(Outputs(jnp.asarray(TEACHER), {}), batch, jnp.asarray(teacher))
    assert all(np.all(np.asarray(leaf) == 0) for leaf in jax.tree.leaves(meters))
    same = task.sums(Outputs(jnp.asarray(TEACHER), {}), task.prepare({**batch, 'mask': np.ones(EXAMPLES, np.float32)}),
                     jnp.asarray(teacher))  # fmt: skip
    assert float(same['agreement'].compute()) == 1
    assert float(same['kl'].compute() if 'kl' in same else 0) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ('name', 'score'),
    [('model', 'nll'), ('model', 'bits'), ('model', 'perplexity'), ('model', 'accuracy'), ('translation', 'bleu'),
     ('translation', 'bleu_lower'), ('translation', 'nll')],
)  # fmt: skip
def test_what_examples_add_to_the_score_adds_up_to_it(name, score):
    task, make, _ = made(name)
    task, split = dataclasses.replace(task, score=score), make()
    predictions = examiner(task, TABLE, split)(VARIABLES)[1]
    for cell in range(CELLS):
        statistics = task.statistics({key: leaf[cell] for key, leaf in predictions.items()}, split)
        assert len(statistics) == EXAMPLES
        assert float(task.score_of(statistics.sum(axis=0))) == pytest.approx(
            float(measured(name)[score][cell]), rel=1e-4
        )


def test_bleu_is_that_of_sacrebleu_on_what_is_written():
    sacrebleu = pytest.importorskip('sacrebleu')
    task, split = TASKS['translation'][0], pairs()
    written = examiner(task, TABLE, split)(VARIABLES)[1]['written']
    for cell in range(CELLS):
        texts = []
        for length in LENGTHS:
            ids, last = [], BEGIN
            while last != END and len(ids) < 2 * length + 8:
                allowed = np.where(np.isin(np.arange(K), (0, BEGIN)), -np.inf, TABLES[cell][last])
                last = int(allowed.argmax())
                ids.append(last)
            strings = ''.join(' ⁇ ' if token == 1 else PIECES[token] for token in ids if token not in (0, 2, END))
            texts.append(strings.replace('▁', ' ').strip())
        assert task.read(written[cell]) == texts
        for name, lower in (('bleu', False), ('bleu_lower', True)):
            want = sacrebleu.metrics.BLEU(lowercase=lower).corpus_score(texts, [list(REFERENCES)])
            assert measured('translation')[name][cell] == pytest.approx(want.score, abs=1e-6)
        assert measured('translation')['length_ratio'][cell] == pytest.approx(want.ratio)


def test_counts_add_up_to_bleu_by_the_signatures():
    sacrebleu = pytest.importorskip('sacrebleu')
    ours = ['A dog runs in the grass .', 'two men', 'a b c d', 'The man is here now']
    theirs = ['A dog runs on the grass .', 'Two men sit', 'x y z w', 'the man is here now']
    for lower in (False, True):
        measure = sacrebleu.metrics.BLEU(lowercase=lower)
        for end in (1, 3, 4):
            want = measure.corpus_score(ours[:end], [theirs[:end]]).score
            assert bleu(counts(ours[:end], theirs[:end], lower).sum(axis=0)) == pytest.approx(want)
        signature = str(measure.get_signature()).rpartition('|version')[0]
        assert signature == SIGNATURES['bleu_lower' if lower else 'bleu']
    assert bleu(counts(['q'], ['a b']).sum(axis=0)) == 0
    chrf = sacrebleu.metrics.CHRF()
    chrf.corpus_score(ours, [theirs])
    assert str(chrf.get_signature()).rpartition('|version')[0] == SIGNATURES['chrf']


def test_own_texts_are_judged_by_the_teacher():
    task, split = LanguageModel(own=5, prompt=2, end=END), model()
    other = {'params': jnp.asarray(TABLES[1]), 'stats': {}}
    judge = task.own_texts(TABLE, TABLE, split)
    found = judge(jax.tree.map(jnp.asarray, VARIABLES), other)
    assert set(found) == {'own_kl', 'own_nll', 'own_distinct', 'own_acceptance'} < set(task.by_name)
    assert found['own_kl'][1] == pytest.approx(0, abs=1e-6)
    assert found['own_acceptance'][1] == pytest.approx(1, abs=1e-6)
    # Of tables alone, what is written after the tokens that were drawn is known in its mean.
    logs = [log_softmax(np.float64(table), axis=1) for table in TABLES]
    kl = np.sum(np.exp(logs[0]) * (logs[0] - logs[1]), axis=1)
    overlap = np.minimum(np.exp(logs[0]), np.exp(logs[1])).sum(axis=1)
    assert kl[2:].min() <= found['own_kl'][0] <= kl[2:].max()
    assert overlap[2:].min() <= found['own_acceptance'][0] <= overlap[2:].max()
    for name, values in judge(jax.tree.map(jnp.asarray, VARIABLES), other).items():
        np.testing.assert_array_equal(values, found[name])  # the draws are always the same
    assert task.own_texts(TABLE._replace(generator=None), TABLE, split) is None
    assert LanguageModel().own_texts(TABLE, TABLE, split) is None
    with pytest.raises(UsageError, match='prompt must be below the 5 tokens of a text, got 5'):
        LanguageModel(own=5, prompt=5).own_texts(TABLE, TABLE, split)


def test_n_grams_that_are_different():
    texts = np.asarray([[0, 2, 3, 2, 3, 2], [0, 0, 2, 3, 2, 0]])
    assert distinct(texts, 2) == pytest.approx(2 / 6)
    assert distinct(texts, 5) == 1
    assert np.isnan(distinct(texts[1:], 4))
    assert np.isnan(distinct(texts, 7))


def test_a_search_needs_what_writes_and_may_be_left_out():
    task, split = Translation(beam=0, score='nll'), pairs()
    assert not task.predicts
    assert set(task.by_name) == {'nll', 'bits', 'perplexity', 'accuracy', 'agreement'}
    with pytest.raises(UsageError, match='decoding needs a network that has a generator'):
        examiner(Translation(pieces=PIECES), TABLE._replace(generator=None), split)(VARIABLES)
    found = examiner(Translation(beam=2, pieces=PIECES), TABLE, split)(VARIABLES)[1]
    assert found['written'].shape == found['searched'].shape == (CELLS, EXAMPLES, 2 * LONGEST + 8)


def test_what_the_data_must_have():
    TASKS['model'][0].check(dataset(model()))
    TASKS['translation'][0].check(dataset(pairs()))
    assert Translation().informed(dataset(pairs())).pieces == PIECES
    whole = dataset(pairs())
    wrong = {
        "needs inputs 'source' and 'target', split 'train' has an array": dataset(model()),
        "unknown column 'reference' of the data": dataset(pairs()._replace(more={'length': LENGTHS})),
        "needs the fact 'pieces', the string of each of the 8 ids": whole._replace(facts={'vocabulary': K}),
        r'labels of split .train. must be in 0 to 4, got 0 to 7': whole._replace(facts={'vocabulary': 5}),
        "needs padded columns 'inputs' and 'labels'": whole._replace(padded=('inputs',)),
        "needs the fact 'vocabulary'": whole._replace(facts={}),
    }
    for message, data in wrong.items():
        with pytest.raises(UsageError, match=message):
            Translation().check(data)
