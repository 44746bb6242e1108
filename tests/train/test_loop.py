"""The loop: resuming is exact, checkpoints of other runs are refused, cells that diverge stop alone."""

import functools
import json
import shutil
import signal
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import trees
from kdjax.data.augment import shift
from kdjax.data.feed import Feed, feed
from kdjax.data.order import Stream
from kdjax.dataset import Split
from kdjax.errors import Interrupted, UsageError
from kdjax.nets import team
from kdjax.nets.mlp import mlp
from kdjax.tasks.classification import Classification
from kdjax.tasks.evaluation import evaluator
from kdjax.techniques.cross_entropy import CrossEntropy
from kdjax.techniques.hinton import SoftTargets
from kdjax.techniques.residual import ResidualHint
from kdjax.train import anatomy, grid, loop, optim, pace, parallel, teachers
from kdjax.train.checkpoint import Checkpoints, load_variables, save_variables
from kdjax.train.ledger import Ledger, plain, read
from kdjax.train.objective import Objective
from kdjax.train.step import init_state, init_student, train_step

CELLS, STEPS = 3, 24


class Job(NamedTuple):
    run: Any
    begin: Any
    teacher_vars: Any
    knobs: Any
    batches: Any
    validate: Any
    look: Any


@pytest.fixture(scope='module')
def job():
    """A grid with own batches, augmentation, dropout, momentum, a trained head and a moving average."""
    random = np.random.default_rng(0)
    images, labels = random.normal(size=(40, 4, 4)).astype(np.float32), random.integers(0, 3, 40).astype(np.int32)
    net, teacher = mlp(classes=3, widths=(8,), dropout=0.2), mlp(classes=3, widths=(16,))
    objective = Objective(
        (('hard', CrossEntropy()), ('soft', SoftTargets()), ('head', ResidualHint(layer='hidden1', width=4)))
    )
    seen = {'net': net, 'teacher': teachers.frozen(teacher), 'objective': objective}
    parts = {**seen, 'tx': optim.build('adamw', steps=STEPS, schedule='cosine', ema=0.9)}
    rates = {'learning_rate': 0.05, 'weight_decay': 1e-3}
    row = {'terms': objective.knobs(), 'optim': {'student': rates, 'terms': rates}}
    knobs = jax.tree.map(lambda value: jnp.full((CELLS,), value, jnp.float32), row)
    knobs['seed'] = jnp.arange(CELLS, dtype=jnp.uint32)
    streams = [Stream(np.arange(40), seed) for seed in range(CELLS)]
    batches = feed(streams, 8, {'inputs': images, 'labels': labels}, shift(pixels=1), 0, 5)
    step = grid.gridded(functools.partial(train_step, **parts), 'vmap', own_batches=True, many=True)
    teacher_vars = teacher.init(jax.random.key(5), images[:1])

    @jax.jit
    def begin(knobs, batch):
        students = jax.vmap(lambda seed: init_student(seed, images[:1], net))(knobs['seed'])
        return jax.vmap(lambda k, b, s: init_state(k, teacher_vars, b, s, **parts))(knobs, batch, students)

    run = parallel.wrap(step, 'single', jax.devices()[:1], batch_axis=2, cell_axis=1)
    look = grid.gridded(functools.partial(anatomy.look, **seen), 'vmap', own_batches=True)
    look = parallel.wrap(look, 'single', jax.devices()[:1], batch_axis=1, cell_axis=0)
    first, validate = trees.take(batches(0, 1), 0), evaluator(Classification(), net, Split(images, labels))
    return Job(run, lambda knobs: begin(knobs, first), teacher_vars, knobs, batches, validate, look)


def fit(job, folder, *, knobs=None, identity='this', stop_after=None, save_every=6, **anatomy):
    """Runs the job, asking for a stop after a step; returns what `loop.fit` does."""
    knobs = job.knobs if knobs is None else knobs
    stop = loop.StopSignals()

    def run(*arguments):
        state, logs = job.run(*arguments)
        if stop_after is not None and state.step[0] >= stop_after:
            stop.asked = signal.SIGTERM
        return state, logs

    with Ledger(folder) as ledger:
        return loop.fit(
            run, job.begin(knobs), job.teacher_vars, knobs, job.batches, job.validate, steps=STEPS, chunk=3,
            validate_every=6, save_every=save_every, folder=folder / 'checkpoints', identity=identity, ledger=ledger,
            progress=lambda done, loss, validated: None, stop=stop, score=Classification().judged, **anatomy,
        )  # fmt: skip


def final_state(job, folder):
    state = job.begin(job.knobs)
    like = {'state': state, 'best': loop.Best(jnp.zeros(CELLS), loop.student(state))}
    with Checkpoints(folder / 'checkpoints', 'this') as checkpoints:
        return checkpoints.restore(like)[0]


@pytest.fixture(scope='module')
def unbroken(job, tmp_path_factory):
    folder = tmp_path_factory.mktemp('unbroken')
    return folder, fit(job, folder)


@pytest.mark.parametrize('stop_after', [3, 12, 21])
def test_a_stopped_and_resumed_run_equals_an_unbroken_one_in_every_bit(job, unbroken, tmp_path, stop_after):
    with pytest.raises(Interrupted, match=f'stopped by SIGTERM after step {stop_after} of 24, which is saved'):
        fit(job, tmp_path, stop_after=stop_after)
    with Checkpoints(tmp_path / 'checkpoints', 'this') as checkpoints:
        assert checkpoints.latest_step() == stop_after
    resumed = fit(job, tmp_path)
    assert trees.fingerprint(resumed.variables) == trees.fingerprint(unbroken[1].variables)
    assert trees.fingerprint(final_state(job, tmp_path)) == trees.fingerprint(final_state(job, unbroken[0]))
    assert list(read(tmp_path / 'ledger.jsonl')) == list(read(unbroken[0] / 'ledger.jsonl'))


@pytest.fixture(scope='module')
def looked(job, tmp_path_factory):
    folder = tmp_path_factory.mktemp('looked')
    return folder, fit(job, folder, anatomy=job.look, anatomy_every=8)


def test_looking_at_the_gradients_changes_nothing_else(job, unbroken, looked):
    assert trees.fingerprint(final_state(job, looked[0])) == trees.fingerprint(final_state(job, unbroken[0]))
    lines, plain = (list(read(folder / 'ledger.jsonl')) for folder, _ in (looked, unbroken))
    assert [line for line in lines if line['kind'] != 'anatomy'] == plain
    assert unbroken[1].anatomy == []


def test_looks_are_written_every_so_many_steps_rounded_up_to_chunks_and_at_the_end(looked):
    lines = [line for line in read(looked[0] / 'ledger.jsonl') if line['kind'] == 'anatomy']
    assert [line['step'] for line in lines] == [9, 18, 24]  # of 24, every 8, in chunks of 3
    terms, pairs = ('hard', 'soft', 'head'), ('hard|soft', 'hard|head', 'soft|head')
    names = {'kind', 'step', *(f'norm/{term}' for term in terms), *(f'cosine/{pair}' for pair in pairs)}
    for line, kept in zip(lines, looked[1].anatomy, strict=True):
        assert set(line) == {*kept, 'kind'} == names
        for name in names - {'kind', 'step'}:
            assert len(line[name]) == CELLS
            np.testing.assert_allclose(line[name], kept[name], rtol=1e-6)


def test_a_look_is_at_the_batch_of_the_step_to_come(job, looked):
    state = job.begin(job.knobs)
    for start in (0, 3, 6):
        state, _ = job.run(state, job.teacher_vars, job.batches(start, start + 3), job.knobs)
    state, wrong = job.look(state, job.teacher_vars, trees.take(job.batches(8, 9), 0), job.knobs)
    _, wanted = job.look(state, job.teacher_vars, trees.take(job.batches(9, 10), 0), job.knobs)
    for name, value in wanted.items():
        np.testing.assert_array_equal(looked[1].anatomy[0][name], value)
        assert np.all(value != wrong[name])


@pytest.mark.parametrize('stop_after', [9, 12])
def test_a_resumed_run_looks_at_nothing_twice(job, looked, tmp_path, stop_after):
    with pytest.raises(Interrupted):
        fit(job, tmp_path, stop_after=stop_after, anatomy=job.look, anatomy_every=8)
    resumed = fit(job, tmp_path, anatomy=job.look, anatomy_every=8)
    assert list(read(tmp_path / 'ledger.jsonl')) == list(read(looked[0] / 'ledger.jsonl'))
    assert [line['step'] for line in resumed.anatomy] == [9, 18, 24]


def test_a_finished_run_is_read_not_run(job, unbroken, tmp_path):
    shutil.copytree(unbroken[0], tmp_path, dirs_exist_ok=True)
    again = fit(job._replace(run=None), tmp_path)
    assert trees.fingerprint(again.variables) == trees.fingerprint(unbroken[1].variables)


def test_the_best_is_where_validation_was_highest(unbroken):
    _, fitted = unbroken
    scores = np.array([line['accuracy'] for line in fitted.history])
    assert scores.shape == (STEPS // 6, CELLS)
    last_is_best = scores[-1] > scores[:-1].max(axis=0)
    for cell in range(CELLS):
        same = trees.fingerprint(trees.take(fitted.best, cell)) == trees.fingerprint(trees.take(fitted.variables, cell))
        assert same == bool(last_is_best[cell])


def test_a_checkpoint_of_another_run_is_refused(job, unbroken, tmp_path):
    shutil.copytree(unbroken[0], tmp_path, dirs_exist_ok=True)
    with pytest.raises(UsageError, match="belongs to run 'this', not to 'other'; give this run another workdir"):
        fit(job, tmp_path, identity='other')


def test_a_corrupt_checkpoint_is_named_and_an_earlier_one_still_serves(job, unbroken, tmp_path):
    shutil.copytree(unbroken[0], tmp_path, dirs_exist_ok=True)
    newest = tmp_path / 'checkpoints' / 'latest' / str(STEPS)
    for file in (path for path in (newest / 'state').rglob('*') if path.is_file()):
        file.write_bytes(b'spoiled')
    with pytest.raises(UsageError, match=f'checkpoint {newest} cannot be read .*; delete that folder to resume'):
        fit(job, tmp_path)
    shutil.rmtree(newest)
    resumed = fit(job, tmp_path)
    assert trees.fingerprint(resumed.variables) == trees.fingerprint(unbroken[1].variables)


@pytest.mark.parametrize('damage', [lambda path: path.unlink(), lambda path: path.write_bytes(b''),
                                    lambda path: path.write_bytes(path.read_bytes()[:-300])])  # fmt: skip
@pytest.mark.parametrize('stop_after', [12, 24])
def test_what_was_measured_is_in_the_checkpoint_so_a_lost_ledger_changes_nothing(
    job, unbroken, tmp_path, stop_after, damage
):
    if stop_after < STEPS:
        with pytest.raises(Interrupted):
            fit(job, tmp_path, stop_after=stop_after)
    else:
        shutil.copytree(unbroken[0], tmp_path, dirs_exist_ok=True)
    damage(tmp_path / 'ledger.jsonl')
    resumed = fit(job, tmp_path)
    assert plain(resumed.history) == plain(unbroken[1].history)
    assert trees.fingerprint(resumed.variables) == trees.fingerprint(unbroken[1].variables)


def test_a_checkpoint_that_holds_something_else_than_was_written_is_refused(job, unbroken, tmp_path):
    """Whatever holds it: here what was written is replaced by what another run wrote."""
    other = tmp_path / 'other'
    fit(job, other, knobs=with_rates(job, [0.2] * CELLS))
    shutil.copytree(unbroken[0], tmp_path / 'mixed')
    newest = tmp_path / 'mixed' / 'checkpoints' / 'latest' / str(STEPS)
    shutil.rmtree(newest / 'state')
    shutil.copytree(other / 'checkpoints' / 'latest' / str(STEPS) / 'state', newest / 'state')
    with pytest.raises(UsageError, match=f'^checkpoint {newest} is not as it was written; delete that folder'):
        fit(job, tmp_path / 'mixed')


def test_a_checkpoint_whose_folder_says_another_step_is_refused(job, tmp_path):
    with pytest.raises(Interrupted):
        fit(job, tmp_path, stop_after=12)
    held, said = (tmp_path / 'checkpoints' / 'latest' / step for step in ('12', '20'))
    held.rename(said)
    with pytest.raises(UsageError, match=f'checkpoint {said} holds step 12: delete that folder to resume'):
        fit(job, tmp_path)


def with_rates(job, rates):
    knobs = jax.tree.map(jnp.copy, job.knobs)
    knobs['optim']['student']['learning_rate'] = jnp.asarray(rates, jnp.float32)
    return knobs


def test_a_cell_that_diverges_stops_alone(job, unbroken, tmp_path):
    fitted = fit(job, tmp_path, knobs=with_rates(job, [0.05, np.inf, 0.05]))
    assert set(fitted.failures) == {1}
    assert fitted.failures[1]['step'] == 2  # the first update ruins the parameters, the second step shows it
    assert 'hard' in fitted.failures[1]['term']
    for cell in (0, 2):
        wanted = trees.fingerprint(trees.take(unbroken[1].variables, cell))
        assert trees.fingerprint(trees.take(fitted.variables, cell)) == wanted
    assert [line['cell'] for line in read(tmp_path / 'ledger.jsonl') if line['kind'] == 'diverged'] == [1]


def test_when_all_diverge_the_step_the_term_and_the_last_good_checkpoint_are_named(job, tmp_path):
    with pytest.raises(Interrupted):
        fit(job, tmp_path, stop_after=6)
    with pytest.raises(
        UsageError, match=r'hard, head, soft is not finite at step 8 .the last good checkpoint is step 6.'
    ):
        fit(job, tmp_path, knobs=with_rates(job, [np.inf] * CELLS))


def test_logs_are_read_one_chunk_late_and_no_data_are_sent_to_the_device(job, unbroken, tmp_path, monkeypatch):
    """The device has its data, and its next chunk before the host asks for the logs of this one."""
    events, device_get = [], jax.device_get

    def guarded(called, function):
        def call(*arguments):
            events.append(called)
            with jax.transfer_guard_host_to_device('disallow'):
                return function(*arguments)

        return call

    def noted(tree):
        events.extend(['read'] if 'loss' in tree else [])
        return device_get(tree)

    monkeypatch.setattr(loop.jax, 'device_get', noted)
    fed = job._replace(run=guarded('run', job.run), batches=Feed(guarded('feed', job.batches.make)))
    fitted = fit(fed, tmp_path, save_every=12)
    chunks = [event for event in events if event != 'feed']
    # Chunks of 3 steps; after every 6 steps validation waits for all of them.
    assert chunks == ['run', 'run', 'read', 'read'] * (STEPS // 6)
    assert trees.fingerprint(fitted.variables) == trees.fingerprint(unbroken[1].variables)


def test_exported_variables_are_the_students_alone(unbroken, tmp_path):
    variables = unbroken[1].variables
    assert set(variables) == {'params', 'stats'}
    assert set(variables['params']) == {'dense1', 'head'}
    save_variables(tmp_path / 'variables', variables)
    assert trees.fingerprint(load_variables(tmp_path / 'variables')) == trees.fingerprint(jax.device_get(variables))


def test_what_is_exported_is_the_moving_average(job, unbroken):
    state = loop.State(*final_state(job, unbroken[0])['state'])
    average = optim.averaged(state.params, state.opt)['student']
    assert trees.fingerprint(unbroken[1].variables['params']) == trees.fingerprint(average)
    assert trees.fingerprint(average) != trees.fingerprint(state.params['student'])


def test_a_student_may_answer_with_the_head_that_corrects_it(unbroken):
    fitted, term, net = unbroken[1], ResidualHint(layer='hidden1', width=4), mlp(classes=3, widths=(8,), dropout=0.2)
    variables, head = trees.take(fitted.variables, 0), trees.take(fitted.terms['head'], 0)
    inputs, corrected = np.random.default_rng(1).normal(size=(5, 4, 4)).astype(np.float32), team.answered(net, term)
    both = {'params': {'student': variables['params'], 'head': head}, 'stats': {'student': {}, 'head': {}}}
    alone, answered = (
        one.apply(given, inputs, train=False, key=None)[0] for one, given in ((net, variables), (corrected, both))
    )
    hidden = np.asarray(alone.features['hidden1'])
    for name, last in (('Dense_0', False), ('Dense_1', True)):
        hidden = hidden @ np.asarray(head[name]['kernel']) + np.asarray(head[name]['bias'])
        hidden = hidden if last else np.maximum(hidden, 0)
    np.testing.assert_allclose(answered.logits, alone.logits + hidden, rtol=1e-5, atol=1e-6)
    with pytest.raises(UsageError, match='trained beside it'):
        corrected.init(jax.random.key(0), inputs)


def test_variables_that_are_not_there_are_an_error(tmp_path):
    with pytest.raises(UsageError, match=f'no readable variables in {tmp_path / "nothing"}'):
        load_variables(tmp_path / 'nothing')


def test_the_ledger_has_every_step_once(unbroken):
    lines = [json.loads(line) for line in (unbroken[0] / 'ledger.jsonl').read_text().splitlines()]
    steps = [line['step'] for line in lines if line['kind'] == 'train']
    assert steps == list(range(1, STEPS + 1))
    assert all(len(line['loss']) == CELLS for line in lines if line['kind'] == 'train')


def test_signals_are_heard_and_handed_back():
    before = signal.getsignal(signal.SIGTERM)
    with loop.StopSignals() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.asked == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before


def test_slow_steps_go_in_shorter_dispatches_with_the_same_bits(job, unbroken, tmp_path, monkeypatch):
    monkeypatch.setattr(pace, 'LONGEST', 1e-9)
    lengths = []
    slow = job._replace(run=lambda *arguments: lengths.append(len(arguments[2]['id'])) or job.run(*arguments))
    fitted = fit(slow, tmp_path)
    assert lengths[0] == 3
    assert lengths[-1] == 1
    assert sum(lengths) == STEPS
    for one, other in zip(jax.tree.leaves(unbroken[1][:3]), jax.tree.leaves(fitted[:3]), strict=True):
        np.testing.assert_array_equal(one, other)
    assert plain(unbroken[1].history) == plain(fitted.history)


def test_a_run_of_steps_that_are_known_to_be_slow_begins_with_a_short_dispatch(job, unbroken, tmp_path):
    lengths = []
    counted = job._replace(run=lambda *arguments: lengths.append(len(arguments[2]['id'])) or job.run(*arguments))
    fitted = fit(counted, tmp_path, first=2)
    assert lengths == [2, 1] * (STEPS // 3)
    assert trees.fingerprint(fitted.variables) == trees.fingerprint(unbroken[1].variables)
