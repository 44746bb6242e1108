"""Texts that are written inside of a step: what networks and terms then see, and that all else is as without them."""

import functools
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import trees
from kdjax.data.feed import Feed
from kdjax.decoding.base import BEGIN, END
from kdjax.errors import Interrupted, UsageError
from kdjax.tasks.classification import Classification
from kdjax.tasks.language_model import LanguageModel
from kdjax.tasks.next_token import NLL
from kdjax.tasks.translation import Translation
from kdjax.techniques.cross_entropy import CrossEntropy
from kdjax.techniques.gkd import GeneralizedJSD
from kdjax.techniques.minillm import SequenceReverseKL
from kdjax.techniques.word_level import WordLevel
from kdjax.train import grid, loop, optim, parallel, teachers, texts, timing
from kdjax.train.checkpoint import Checkpoints
from kdjax.train.ledger import Ledger
from kdjax.train.objective import Objective
from kdjax.train.step import gradients, init_state, train_step
from kdjax.types import Cache, Generator, Net, Outputs, State

K, B, N, STEPS, PROMPT = 9, 8, 10, 4, 3
RANDOM = np.random.default_rng(0)
TASKS = {'model': LanguageModel(end=END), 'translation': Translation(beam=0, score='nll')}


def said(variables, inputs, *, train, key):
    text = inputs['target'] if isinstance(inputs, dict) else inputs
    table = variables['params']['table']
    # What follows a token depends on it and, of a translation, on the first of the source.
    logits = table[text] + (table[inputs['source'][:, :1]] if isinstance(inputs, dict) else 0)
    return Outputs(logits, {}), variables['stats']


def start(variables, source, length, width=1):
    return Cache((), jnp.repeat(source[:, 0] if source.shape[1] < N else jnp.full(len(source), -1), width))


def extend(variables, cache, token, t):
    table = variables['params']['table']
    return table[token] + jnp.where(cache.rest[:, None] >= 0, table[jnp.maximum(cache.rest, 0)], 0), cache


NET = Net(lambda key, inputs: {'params': {'table': jax.random.normal(key, (K, K))}, 'stats': {}}, said, (),
          generator=Generator(start, extend))  # fmt: skip
TEACHER = {'params': {'table': jnp.asarray(RANDOM.normal(size=(K, K)), jnp.float32)}, 'stats': {}}
DIVERGENCE = Objective((('hard', CrossEntropy(weight=0.5)), ('soft', GeneralizedJSD())))


def batches(name):
    """Prepared, of which some texts are short."""
    lengths = RANDOM.integers(PROMPT + 1, N + 1, (STEPS, B, 1))
    places = np.arange(N)
    text = np.where(places < lengths, RANDOM.integers(4, K, (STEPS, B, N)), 0).astype(np.int32)
    labels = np.roll(text, -1, axis=-1)
    labels[..., -1] = END
    labels = np.where(places < lengths, np.where(labels == 0, END, labels), 0).astype(np.int32)
    inputs = text
    if name == 'translation':
        text[..., 0] = BEGIN
        inputs = {'source': RANDOM.integers(4, K, (STEPS, B, 5)).astype(np.int32), 'target': text}
    whole = {
        'inputs': inputs, 'labels': labels, 'mask': np.ones((STEPS, B), np.float32),
        'id': np.arange(STEPS * B, dtype=np.int32).reshape(STEPS, B), 'view': np.zeros((STEPS, B), np.int32),
    }  # fmt: skip
    return jax.vmap(TASKS[name].prepare)(whole)


BATCHES = {name: batches(name) for name in TASKS}


def writes(name, kind, **more):
    return texts.build({'kind': kind, **more}, TASKS[name], NET, NET, STEPS)


def knobs(objective=DIVERGENCE, on_policy=0.5, temperature=1.0, seed=1):
    rates = {'learning_rate': 0.1, 'weight_decay': 1e-2}
    row = {'terms': objective.knobs(), 'optim': {'student': rates, 'terms': rates},
           'texts': {'on_policy': on_policy, 'temperature': temperature}}  # fmt: skip
    return {**jax.tree.map(jnp.float32, row), 'seed': jnp.uint32(seed)}


def parts(writes=None, objective=DIVERGENCE):
    tx = optim.build('adamw', steps=STEPS)
    return {'net': NET, 'teacher': teachers.frozen(NET), 'objective': objective, 'tx': tx, 'writes': writes}


def begun(given, knobs, name):
    student = NET.init(jax.random.key(7), None)
    return init_state(knobs, TEACHER, trees.take(BATCHES[name], 0), student, **given)


def trained(given, knobs, name):
    step = functools.partial(train_step, **given)
    run = jax.jit(lambda state: jax.lax.scan(lambda s, b: step(s, TEACHER, b, knobs), state, BATCHES[name]))
    return jax.device_get(run(begun(given, knobs, name)))


@functools.cache
def written(name, kind, on_policy=1.0, by='examples', temperature=1.0, prompt=PROMPT):
    """The first batch, with texts in the place of some of its examples, and what is remembered."""
    how, given = writes(name, kind, by=by, prompt=prompt), knobs(on_policy=on_policy, temperature=temperature)
    state = begun(parts(how), given, name)
    ask = jax.jit(lambda state: how(state, TEACHER, trees.take(BATCHES[name], 0), given['texts'],
                                    key=jax.random.key(3), axis=None))  # fmt: skip
    return jax.device_get(ask(state)[0])


def text_of(batch):
    return batch['inputs']['target'] if isinstance(batch['inputs'], dict) else batch['inputs']


@pytest.mark.parametrize('name', TASKS)
@pytest.mark.parametrize('kind', ['student', pytest.param('teacher', marks=pytest.mark.slow), 'mixed'])
def test_what_is_written_is_masked_outside_of_what_was_drawn(name, kind):
    before, after = trees.take(BATCHES[name], 0), written(name, kind)
    text, drawn, old = text_of(after), after['written'], text_of(before)
    np.testing.assert_array_equal(text[:, :PROMPT], old[:, :PROMPT])
    np.testing.assert_array_equal(after['mask'], drawn > 0)
    np.testing.assert_array_equal(after['token_mask'], text > 0)
    assert np.all(after['labels'] == -1)
    assert not np.any(after['mask'][:, : PROMPT - 1]), 'what is given is not learned'
    assert np.all(after['teacher_share'] == np.float32({'student': 0, 'teacher': 1, 'mixed': 0.2}[kind]))
    for row in range(B):
        ends = np.flatnonzero(drawn[row] == END)
        last = ends[0] if len(ends) else N - 1
        assert np.all(drawn[row, PROMPT - 1 : last + 1] > 0)
        assert not np.any(drawn[row, last + 1 :]), 'nothing counts after the end, which does'
        assert not np.any(text[row, last + 1 :])
        np.testing.assert_array_equal(text[row, PROMPT : last + 1], drawn[row, PROMPT - 1 : last])
    if name == 'translation':
        np.testing.assert_array_equal(after['inputs']['source'], before['inputs']['source'])


def test_a_text_has_the_student_s_draws_and_the_temperature_of_its_own():
    cold = written('model', 'student', temperature=1e-4)
    table = np.asarray(NET.init(jax.random.key(7), None)['params']['table']).copy()
    table[:, :2] = -np.inf
    rows, places = np.nonzero(cold['written'])
    np.testing.assert_array_equal(cold['written'][rows, places], table[cold['inputs'][rows, places]].argmax(axis=1))
    assert np.any(written('model', 'student')['written'] != cold['written'])
    assert np.any(written('model', 'teacher', temperature=1e-4)['written'] != cold['written'])


@pytest.mark.parametrize('by', texts.BY)
def test_a_share_of_the_examples_is_written(by):
    before = trees.take(BATCHES['model'], 0)
    none, all_of_them = (written('model', 'student', share, by) for share in (0.0, 1.0))
    for name, column in before.items():
        np.testing.assert_array_equal(none[name], column)
    assert not np.any(none['written'])
    half = written('model', 'student', 0.5, by)
    own = half['labels'][:, 0] == -1
    assert 0 < own.sum() < B if by == 'examples' else own.sum() in (0, B)
    for name in ('inputs', 'labels', 'mask', 'written'):
        np.testing.assert_array_equal(half[name][own], all_of_them[name][own])
        np.testing.assert_array_equal(half[name][~own], none[name][~own])


@pytest.mark.parametrize('name', ['model', pytest.param('translation', marks=pytest.mark.slow)])
def test_without_any_the_step_is_that_of_the_data_in_every_bit(name):
    own = trained(parts(writes(name, 'student')), knobs(on_policy=0.0), name)
    assert trees.fingerprint(own) == trees.fingerprint(trained(parts(), knobs(), name))


def test_no_gradient_comes_through_what_is_written():
    """The step is that of a batch of data with the same texts."""
    how, given = writes('model', 'student', prompt=PROMPT), knobs()
    state, batch = begun(parts(how), given, 'model'), trees.take(BATCHES['model'], 0)
    seen = {name: value for name, value in parts().items() if name not in ('tx', 'writes')}

    @jax.jit
    def both(state):
        key = texts.key_of(jax.random.fold_in(jax.random.key(given['seed']), state.step))
        told, _ = how(state, TEACHER, batch, given['texts'], key=key, axis=None)
        ask = functools.partial(gradients, state, TEACHER, knobs=given, losses=lambda shares: shares.loss, **seen)
        return ask(batch=batch, writes=how).grads, ask(batch=jax.lax.stop_gradient(told)).grads, told['labels']

    ours, plain, labels = both(state)
    assert 0 < np.sum(labels[:, 0] == -1) < B
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), ours, plain)
    assert np.any(ours['student']['table'])


def test_what_was_written_is_kept_and_read_again():
    """As a loop over steps in numpy has it."""
    how = writes('model', 'replay', prompt=PROMPT, capacity=10)
    given = knobs(on_policy=0.8)
    state = begun(parts(how), given, 'model')
    ask = jax.jit(lambda state, batch, key: how(state, TEACHER, batch, given['texts'], key=key, axis=None))
    kept, count, again = np.zeros((10, N), int), 0, 0
    for step in range(STEPS):
        batch, key = trees.take(BATCHES['model'], step), jax.random.key(step)
        r = np.asarray(how.drawn(batch, key))
        told, memory = jax.device_get(ask(state, batch, key))
        fresh = (r < np.float32(0.8) * (1 - step / STEPS)) | ((r < np.float32(0.8)) & (count < 10))
        replayed = (r < np.float32(0.8)) & ~fresh
        for row in np.flatnonzero(replayed):
            assert any(np.array_equal(told['written'][row], one) for one in kept[: min(count, 10)])
        again += replayed.sum()
        np.testing.assert_array_equal(told['labels'][:, 0] == -1, fresh | replayed)
        np.testing.assert_array_equal(told['mask'][fresh | replayed], told['written'][fresh | replayed] > 0)
        for row in np.flatnonzero(fresh):
            kept[count % 10] = told['written'][row]
            count += 1
        np.testing.assert_array_equal(memory['kept']['written'], kept)
        assert memory['count'] == count
        state = state._replace(step=state.step + 1, memory={texts.MEMORY: memory})
    assert again > 3


def test_the_share_grows_where_validation_gets_worse():
    how = writes('model', 'replay', tolerance=0.1, capacity=16)
    given = knobs(on_policy=0.95)
    state = jax.tree.map(lambda leaf: leaf[None], begun(parts(how), given, 'model'))
    shares = []
    for nll in (2.0, 2.05, 1.0, 2.2, 2.25, 2.4):
        state = how.observed(state, jnp.asarray([nll]))
        shares.append(round(float(state.memory[texts.MEMORY]['share'][0]), 4))
    assert shares == [0.95, 0.95, 0.95, 1.0, 1.0, 1.0]
    assert state.memory[texts.MEMORY]['nll'][0] == np.float32(2.4)


RUNNERS = [('shard_map', None), ('pmap', None), ('sharded', None), ('single', 'vmap'), ('single', 'map'),
           ('cells', 'vmap')]  # fmt: skip


@pytest.mark.parametrize(
    ('kind', 'runners'),
    [('replay', RUNNERS[:1]), *(pytest.param(kind, RUNNERS, marks=pytest.mark.slow) for kind in ('replay', 'mixed'))],
)
def test_all_runners_agree(kind, runners):
    """Alone and in a grid, on one device and on two; of 'replay' what is kept too."""
    objective = Objective((('soft', WordLevel(form='kl')),))
    more = {'capacity': 12} if kind == 'replay' else {}
    how, given = writes('model', kind, prompt=PROMPT, **more), knobs(objective, on_policy=0.7)
    alone = trained(parts(how, objective), given, 'model')[0]
    for runner, layout in runners:
        step = functools.partial(train_step, **parts(how, objective), axis=parallel.axis_of(runner))
        state = begun(parts(how, objective), given, 'model')
        if layout:
            step = grid.gridded(step, layout, own_batches=False, many=True)
            state, numbers = (jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), tree) for tree in (state, given))
        else:
            numbers, step = given, grid.scanned(step)
        run = parallel.wrap(step, runner, jax.devices()[:2], batch_axis=1)
        found = jax.device_get(run(state, TEACHER, BATCHES['model'], numbers)[0])
        found = trees.take(found, 1) if layout else found
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6), found, alone)


def test_a_run_that_is_stopped_and_goes_on_is_one_that_is_not_in_every_bit(tmp_path):
    """With what is kept, and how much of it is read, which validation moves."""
    how, given = writes('model', 'replay', prompt=PROMPT, capacity=12, tolerance=0.0), knobs(on_policy=0.6)
    given = jax.tree.map(lambda leaf: leaf[None], given)
    step = grid.gridded(functools.partial(train_step, **parts(how)), 'vmap', own_batches=False, many=True)
    run = parallel.wrap(step, 'single', jax.devices()[:1], batch_axis=1)
    begin = jax.jit(lambda: jax.tree.map(lambda leaf: leaf[None], begun(parts(how), knobs(on_policy=0.6), 'model')))
    feed = Feed(lambda start, stop, part: jax.tree.map(lambda leaf: leaf[start:stop], BATCHES['model']))

    def validate(variables):
        return {'nll': -np.asarray([np.square(variables['params']['table']).sum()], np.float32)}

    def fit(folder, stop_after=None):
        stop = loop.StopSignals()

        def running(*arguments):
            state, logs = run(*arguments)
            stop.asked = signal.SIGTERM if stop_after and state.step[0] >= stop_after else None
            return state, logs

        with Ledger(folder) as ledger:
            loop.fit(
                running, begin(), TEACHER, given, feed, validate, score=NLL, steps=STEPS, chunk=1, validate_every=1,
                save_every=STEPS, folder=folder / 'checkpoints', identity='this', ledger=ledger, stop=stop,
                progress=lambda done, loss, validated: None, observed=jax.jit(how.observed),
            )  # fmt: skip
        like = {'state': begin(), 'best': loop.unscored(loop.student(begin()), 1)}
        with Checkpoints(folder / 'checkpoints', 'this') as checkpoints:
            return checkpoints.restore(like)[0]

    whole = fit(tmp_path / 'whole')
    with pytest.raises(Interrupted):
        fit(tmp_path / 'stopped', stop_after=2)
    assert trees.fingerprint(fit(tmp_path / 'stopped')) == trees.fingerprint(whole)
    kept = loop.State(*whole['state']).memory[texts.MEMORY]
    assert kept['count'][0] > 5
    assert kept['share'][0] != np.float32(0.6)


def test_a_teacher_that_has_said_nothing_but_translations_is_timed():
    state = State(jnp.int32(3), {}, {}, {}, {})
    assert timing.asked(state, {}, {}, {}, teacher=lambda variables, batch: Outputs(None, {}))[1]['said'] == 3


def test_accumulating_changes_nothing():
    objective, given = Objective((('mini', SequenceReverseKL()), ('hard', CrossEntropy()))), knobs()
    given = {**given, 'terms': jax.tree.map(jnp.float32, objective.knobs())}
    found = []
    for accumulate in (1, 2):
        one = parts(writes('model', 'mixed', prompt=PROMPT), objective)
        step = jax.jit(functools.partial(train_step, **one, accumulate=accumulate))
        found.append(step(begun(one, given, 'model'), TEACHER, trees.take(BATCHES['model'], 0), given)[0].params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), *found)


@pytest.mark.parametrize(
    ('wrong', 'said'),
    [
        (lambda: texts.build({'kind': 'student'}, Classification(), NET, NET, 1),
         'texts are written where the next token is foreseen, .*, and this is Classification: set texts={}'),
        (lambda: texts.build({'kind': 'student'}, TASKS['model'], NET, None, 1),
         "texts of kind 'student' are judged by a teacher, and no term of the fit reads one"),
        (lambda: texts.build({'kind': 'student'}, TASKS['model'], NET._replace(generator=None), NET, 1),
         'decoding needs a network that has a generator'),
        (lambda: texts.build({'kind': 'student', 'share': 0.5}, TASKS['model'], NET, NET, 1),
         "unknown field 'share' of texts of kind 'student'"),
        (lambda: texts.build({'kind': 'mixed', 'share': 1.0}, TASKS['model'], NET, NET, 1),
         r"share of texts must be in \(0, 1\), got 1.0; 0 and 1 are the kinds 'student' and 'teacher'"),
        (lambda: texts.check_batches({'kind': 'student'}, 'teacher', ()),
         "what 'teacher' says of them cannot be looked up: set teacher.mode='online'"),
        (lambda: texts.check_batches({'kind': 'replay'}, '', (8, 16)), r'set data.buckets=\(\), got \(8, 16\)'),
        (lambda: texts.check_terms(DIVERGENCE, writes('model', 'student'), (0.5, 1.0), (1.0,)),
         "term 'hard' reads labels, and with on_policy=1 no example has any"),
        (lambda: texts.check_terms(Objective((('m', SequenceReverseKL()),)), writes('model', 'replay'), (0.5,), (1.0,)),
         "which texts of kind 'replay' do not know: use 'student', 'mixed' or 'teacher'"),
        (lambda: texts.check_terms(Objective((('m', SequenceReverseKL()),)), writes('model', 'mixed'), (0.5,), (0.7,)),
         r'set sampling_temperature=1, got \(0.7,\)'),
        (lambda: written('model', 'student', prompt=N), f'prompt of texts must be below the {N} tokens'),
        (lambda: begun(parts(writes('model', 'replay', capacity=B - 1)), knobs(), 'model'),
         'capacity of texts must be at least a batch, 8, got 7'),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line(wrong, said):
    with pytest.raises(UsageError, match=said) as refused:
        wrong()
    assert '\n' not in str(refused.value)
