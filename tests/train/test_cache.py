"""Cached teaching is the teacher's own: by example and view, under an address that refuses any other."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

from kdjax import trees
from kdjax.data.augment import shift, views
from kdjax.data.feed import feed
from kdjax.data.lazy import Lazy
from kdjax.data.order import Stream
from kdjax.data.preprocess import normalise
from kdjax.errors import UsageError
from kdjax.nets import team
from kdjax.nets.mlp import mlp
from kdjax.techniques.cross_entropy import CrossEntropy
from kdjax.techniques.hinton import SoftTargets
from kdjax.train import cache, optim, teachers
from kdjax.train.objective import Objective
from kdjax.train.step import init_state, init_student, train_step

EXAMPLES, VIEWS, CLASSES, STEPS = 10, 3, 4, 8
IMAGES = np.random.default_rng(0).normal(size=(EXAMPLES, 4, 4)).astype(np.float32)
LABELS = np.arange(EXAMPLES, dtype=np.int32) % CLASSES
AUGMENT, SEED = shift(pixels=1), 7
ADDRESS = cache.Address('fingerprint', 'checksum', 'unit', 'shift(1)', SEED, VIEWS)
NET = mlp(classes=CLASSES, widths=(6,))


@functools.cache
def teacher_variables(seed=0):
    return jax.jit(NET.init)(jax.random.key(seed), IMAGES)


def tables(teacher=None, variables=None, **options):
    options = {'taps': ('hidden1',), 'batch_size': 4, **options}
    teacher, variables = teacher or teachers.frozen(NET), variables or teacher_variables()
    return cache.compute(teacher, variables, {'inputs': IMAGES}, AUGMENT, SEED, VIEWS, **options)


@pytest.fixture(scope='module')
def table():
    return tables()


def test_inputs_are_read_a_batch_at_a_time(table):
    sizes = []

    class Inputs(Lazy):
        def __getitem__(self, key):
            found = super().__getitem__(key)
            sizes.append(len(found))
            return found

    made = cache.compute(teachers.frozen(NET), teacher_variables(), {'inputs': Inputs(IMAGES)}, AUGMENT, SEED, VIEWS,
                         ('hidden1',), batch_size=4)  # fmt: skip
    assert trees.fingerprint(made) == trees.fingerprint(table)
    assert sizes == [4, 4, 2] * VIEWS


@jax.jit
def answers(variables, images, ids, numbers):
    """What the teacher says of the given views, in whatever order they come."""
    return NET.apply(
        variables, views(AUGMENT, SEED, {'inputs': images}, ids, numbers)['inputs'], train=False, key=None
    )[0]


def test_the_table_has_what_the_teacher_says_of_each_example_and_view(table):
    random = np.random.default_rng(3)
    ids = random.permutation(np.repeat(np.arange(EXAMPLES, dtype=np.int32), VIEWS))
    numbers = random.integers(0, VIEWS, len(ids)).astype(np.int32)
    outputs = answers(teacher_variables(), IMAGES[ids], ids, numbers)
    np.testing.assert_allclose(table['teacher/logits'][ids, numbers], outputs.logits, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        table['teacher/hidden1'][ids, numbers], outputs.features['hidden1'], rtol=1e-5, atol=1e-6
    )


def test_views_have_answers_of_their_own(table):
    first, second, third = np.moveaxis(table['teacher/logits'], 1, 0)
    assert not np.allclose(first, second)
    assert not np.allclose(second, third)


@pytest.mark.parametrize('batch_size', [1, 7])
def test_the_table_does_not_depend_on_the_batches_it_was_made_in(table, batch_size):
    again = tables(batch_size=batch_size)
    assert set(again) == set(table) == {'teacher/logits', 'teacher/hidden1'}
    for name, leaf in again.items():
        np.testing.assert_allclose(leaf, table[name], rtol=1e-5, atol=1e-6)


def test_progress_counts_views():
    told = []
    tables(taps=(), batch_size=EXAMPLES, progress=told.append)
    assert told == [1, 2, 3]


def test_a_tap_that_the_teacher_lacks_is_answered_with_those_it_has():
    with pytest.raises(UsageError, match="unknown tap 'hidden2' of the teacher, to be cached; there is: 'hidden1'"):
        tables(taps=('hidden2',))


def test_what_is_stored_as_bytes_is_shown_to_the_teacher_as_it_would_be_online():
    stored, look = np.round(np.clip(IMAGES * 50 + 128, 0, 255)).astype(np.uint8), normalise(mean=(0.5,), std=(0.2,))
    teacher, variables = teachers.frozen(NET), teacher_variables()
    made = cache.compute(teacher, variables, {'inputs': stored}, AUGMENT, SEED, VIEWS, batch_size=4, preprocess=look)
    columns, stream = {'inputs': stored, 'labels': LABELS}, [Stream(np.arange(EXAMPLES), 0)]
    for consistent in (True, False):
        online, cached = (
            feed(stream, 4, columns, AUGMENT, SEED, VIEWS, own, preprocess=look, consistent=consistent)(0, STEPS)
            for own in (None, made)
        )
        said = jax.jit(teacher)(variables, {name: leaf.reshape(-1, *leaf.shape[2:]) for name, leaf in online.items()})
        np.testing.assert_allclose(cached['teacher/logits'].reshape(-1, CLASSES), said.logits, rtol=1e-4, atol=1e-5)


def test_a_saved_table_is_loaded_bit_by_bit(table, tmp_path):
    cache.save(tmp_path / 'cache', table, ADDRESS)
    assert trees.fingerprint(cache.load(tmp_path / 'cache', ADDRESS)) == trees.fingerprint(table)


def test_what_a_teacher_says_in_half_precision_is_kept_as_float32(table, tmp_path):
    said = table['teacher/logits'].astype(jnp.bfloat16)
    cache.save(tmp_path / 'cache', {'teacher/logits': said}, ADDRESS)
    loaded = cache.load(tmp_path / 'cache', ADDRESS)['teacher/logits']
    assert loaded.dtype == np.float32
    np.testing.assert_array_equal(loaded, said.astype(np.float32))


def test_saving_leaves_nothing_of_an_earlier_table(table, tmp_path):
    cache.save(tmp_path / 'cache', table, ADDRESS)
    cache.save(tmp_path / 'cache', {'teacher/logits': table['teacher/logits']}, ADDRESS)
    assert set(cache.load(tmp_path / 'cache', ADDRESS)) == {'teacher/logits'}


@pytest.mark.parametrize('field', cache.Address._fields)
def test_a_table_under_another_address_is_stale(table, tmp_path, field):
    cache.save(tmp_path / 'cache', table, ADDRESS)
    kept = getattr(ADDRESS, field)
    other = kept + 1 if isinstance(kept, int) else f'{kept} of another'
    message = f'stale teacher cache {tmp_path / "cache"}: {field} {kept!r}, wanted {other!r}; delete it'
    with pytest.raises(UsageError, match=re.escape(message)):
        cache.load(tmp_path / 'cache', ADDRESS._replace(**{field: other}))


def test_a_table_without_an_address_is_incomplete(table, tmp_path):
    with pytest.raises(UsageError, match=f'no complete teacher cache in {tmp_path}'):
        cache.load(tmp_path, ADDRESS)
    cache.save(tmp_path / 'cache', table, ADDRESS)
    (tmp_path / 'cache' / cache.ADDRESS).unlink()
    with pytest.raises(UsageError, match='no complete teacher cache'):
        cache.load(tmp_path / 'cache', ADDRESS)


def test_a_save_cut_short_leaves_no_table_that_would_be_believed(table, tmp_path, monkeypatch):
    cache.save(tmp_path / 'cache', table, ADDRESS)
    monkeypatch.setattr(np, 'save', lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cache.save(tmp_path / 'cache', table, ADDRESS)
    with pytest.raises(UsageError, match='no complete teacher cache'):
        cache.load(tmp_path / 'cache', ADDRESS)


def test_an_ensembles_table_is_the_mean_of_the_members_probabilities():
    members, whole = [teacher_variables(seed) for seed in (1, 2)], {'taps': (), 'batch_size': EXAMPLES}
    variables = {part: [member[part] for member in members] for part in ('params', 'stats')}
    made = tables(teachers.frozen(team.ensemble([NET, NET])), variables, **whole)['teacher/logits']
    alone = [tables(variables=member, **whole)['teacher/logits'] for member in members]
    mean = np.mean([softmax(logits, axis=-1) for logits in alone], axis=0)
    np.testing.assert_allclose(np.exp(made), mean, rtol=1e-5, atol=1e-6)


@functools.cache
def fit(teacher):
    """A compiled run over batches, from its first batch on: (teacher's variables, batches) -> state, logs."""
    objective = Objective((('hard', CrossEntropy()), ('soft', SoftTargets())))
    parts = {'net': NET, 'teacher': teacher, 'objective': objective, 'tx': optim.build(steps=STEPS)}
    rates = {'learning_rate': 0.1, 'weight_decay': 0.0}
    knobs = jax.tree.map(jnp.float32, {'terms': objective.knobs(), 'optim': {'student': rates, 'terms': rates}})
    knobs['seed'] = jnp.uint32(0)

    @jax.jit
    def run(variables, batches):
        first = trees.take(batches, 0)
        state = init_state(knobs, variables, first, init_student(knobs['seed'], first['inputs'], NET), **parts)
        return jax.lax.scan(lambda state, batch: train_step(state, variables, batch, knobs, **parts), state, batches)

    return run


def trained(teacher, table=None):
    """Parameters and logs after steps on batches of several views, taught as `teacher` says."""
    columns = {'inputs': IMAGES, 'labels': LABELS}
    batches = feed([Stream(np.arange(EXAMPLES), 0)], 4, columns, AUGMENT, SEED, VIEWS, table)(0, STEPS)
    assert set(np.asarray(batches['view']).ravel()) == set(range(VIEWS))
    state, logs = fit(teacher)(teacher_variables(), batches)
    return state.params, logs


def test_a_cached_teacher_teaches_what_the_teacher_would_have_taught(table):
    cached = teachers.cached()
    wanted, found = trained(teachers.frozen(NET)), trained(cached, table)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), found, wanted)
    swapped, _ = trained(cached, {name: np.roll(leaf, 1, axis=0) for name, leaf in table.items()})
    assert not np.allclose(swapped['student']['head']['kernel'], wanted[0]['student']['head']['kernel'], rtol=1e-2)
