"""One step, many runners: the same parameters on 1, 2 and 4 devices, alone or in a grid, with everything in play."""

import dataclasses
import functools
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rotation

from kdjax import trees
from kdjax.errors import UsageError
from kdjax.nets.cnn import cnn
from kdjax.nets.mlp import mlp
from kdjax.techniques.algebra import example_mask
from kdjax.techniques.base import Paper, Taps, Term
from kdjax.techniques.cross_entropy import CrossEntropy
from kdjax.techniques.fitnets import Hint
from kdjax.techniques.hinton import SoftTargets
from kdjax.techniques.similarity import SimilarityPreserving
from kdjax.train import grid, optim, parallel, teachers
from kdjax.train.objective import Objective
from kdjax.train.step import init_state, init_student, train_step
from kdjax.types import TermOut

BATCH, STEPS, CLOSE = 8, 2, {'rtol': 2e-5, 'atol': 2e-6}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Centre(Term):
    """A term that remembers: the squared distance of a feature to the moving mean of the teacher's logits."""

    PAPER: ClassVar[Paper] = Paper('nobody', 'A memory for tests', 'nowhere', 2026)

    @property
    def scope(self):
        return 'batch'

    def taps(self):
        return Taps(('penult',))

    def init(self, key, inputs):
        return {}, {'centre': jnp.zeros(inputs.teacher.logits.shape[-1])}

    def __call__(self, params, memory, inputs, knobs, *, step, key):
        mask = example_mask(inputs)[:, None]
        mean = jnp.sum(inputs.teacher.logits * mask, axis=0) / jnp.sum(mask)
        centre = 0.9 * memory['centre'] + 0.1 * mean
        distance = jnp.mean(jnp.square(inputs.student.logits - centre), axis=1)
        return TermOut(distance, {'centre': centre}, {'centre': jnp.sum(centre)})


class Setting(NamedTuple):
    parts: dict[str, Any]
    teacher_vars: Any
    batches: dict[str, jax.Array]
    knobs: Any


def setting(axis: str | None = None, terms: tuple = (), student: Any = None) -> Setting:
    """Batch statistics, uneven masks, a regressor with its own, a relation, a memory, clipping and an average."""
    student = student or cnn(classes=5, widths=(4, 6), axis=axis)
    teacher = cnn(classes=5, widths=(4, 8))
    objective = Objective(
        terms
        or (
            ('hard', CrossEntropy(smoothing=0.1)),
            ('soft', SoftTargets(temperature=3.0)),
            ('hint', Hint(form='repdistiller', weight=0.5)),
            ('alike', SimilarityPreserving(layers=('stage1', 'stage2'), weight=10.0)),
            ('centre', Centre(weight=0.1)),
        )
    )
    random = np.random.default_rng(0)
    shape = (STEPS, BATCH)
    batches = {
        'inputs': jnp.asarray(random.normal(size=(*shape, 6, 6)), jnp.float32),
        'labels': jnp.asarray(random.integers(0, 5, shape), jnp.int32),
        # Over 4 devices the first has no real example, the last has two.
        'mask': jnp.asarray(np.tile([0, 0, 1, 0, 0, 1, 1, 1], (STEPS, 1)), jnp.float32),
        'id': jnp.asarray(random.permutation(np.prod(shape)).reshape(shape), jnp.int32),
        'view': jnp.zeros(shape, jnp.int32),
    }
    rates = {'learning_rate': 0.1, 'weight_decay': 1e-3}
    knobs = {'terms': objective.knobs(), 'optim': {'student': rates, 'terms': rates}}
    knobs = {**jax.tree.map(jnp.float32, knobs), 'seed': jnp.uint32(3)}
    parts = {
        'net': student,
        'teacher': teachers.frozen(teacher),
        'objective': objective,
        'tx': optim.build('sgd', steps=STEPS, schedule='cosine', nesterov=True, clip=5.0, ema=0.9),
    }
    return Setting(parts, teacher.init(jax.random.key(7), batches['inputs'][0]), batches, knobs)


def begin(given: Setting) -> Any:
    return starter(given)(given.knobs, given.teacher_vars, trees.take(given.batches, 0))


def starter(given: Setting) -> Any:
    def start(knobs, teacher_vars, batch):
        student = init_student(knobs['seed'], batch['inputs'], given.parts['net'])
        return init_state(knobs, teacher_vars, batch, student, **given.parts)

    return jax.jit(start)


def single(given: Setting) -> Any:
    """The reference: jitted single steps on one device; a function of knobs and batches, compiled once."""
    step, start = jax.jit(functools.partial(train_step, **given.parts)), starter(given)

    def run(knobs: Any, batches: Any, count: int = STEPS) -> tuple[Any, list[Any]]:
        state, logs = start(knobs, given.teacher_vars, trees.take(batches, 0)), []
        for k in range(count):
            state, log = step(state, given.teacher_vars, trees.take(batches, k), knobs)
            logs.append(log)
        return jax.device_get(state), jax.device_get(logs)

    return run


@pytest.fixture(scope='module')
def run_single():
    return single(setting())


@pytest.fixture(scope='module')
def reference(run_single):
    given = setting()
    return run_single(given.knobs, given.batches)


def assert_same(state: Any, wanted: Any) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **CLOSE), jax.device_get(state), wanted)


def test_the_reference_moves_everything(reference):
    begun = jax.device_get(begin(setting()))
    state, logs = reference
    for name in ('student', 'terms'):
        moved = jax.tree.map(lambda new, old: bool(np.any(new != old)), state.params[name], begun.params[name])
        assert all(jax.tree.leaves(moved)), moved
    assert np.any(state.memory['centre']['centre'])
    assert all(np.isfinite(value) for log in logs for value in log.values())
    assert set(logs[0]) == {
        'loss', 'grad_norm', 'centre/centre', *(f'term/{name}' for name in ('hard', 'soft', 'hint', 'alike', 'centre'))
    }  # fmt: skip


RUNNERS = [(runner, devices) for runner in ('single', 'pmap', 'sharded', 'shard_map') for devices in (1, 2, 4)]


@pytest.mark.parametrize(('runner', 'devices'), rotation.params(RUNNERS, [runner for runner, _ in RUNNERS]))
def test_runners_agree(runner, devices, reference):
    given = setting(parallel.axis_of(runner))
    step = functools.partial(train_step, **given.parts, axis=parallel.axis_of(runner))
    run = parallel.wrap(step, runner, jax.devices()[:devices])
    state = begin(given)
    for k in range(STEPS):
        state, logs = run(state, given.teacher_vars, trees.take(given.batches, k), given.knobs)
        jax.block_until_ready(state)
        for name, value in logs.items():
            np.testing.assert_allclose(value, reference[1][k][name], err_msg=name, **CLOSE)
    assert_same(state, reference[0])


def dropping(runner: str) -> Setting:
    """A network whose units are dropped; see tests/nets/test_dropout.py for all that drop some."""
    axis = parallel.axis_of(runner)
    net = mlp(classes=5, widths=(16, 16), dropout=0.5, input_dropout=0.2, axis=axis)
    return setting(axis, (('hard', CrossEntropy()), ('soft', SoftTargets())), net)


@pytest.fixture(scope='module')
def dropped():
    given = dropping('single')
    return single(given)(given.knobs, given.batches)[0]


SPLIT = [(runner, devices) for runner in ('pmap', 'sharded', 'shard_map') for devices in (2, 4)]


@pytest.mark.parametrize(('runner', 'devices'), rotation.params(SPLIT, [runner for runner, _ in SPLIT]))
def test_dropped_units_do_not_depend_on_the_devices(runner, devices, dropped):
    given = dropping(runner)
    step = functools.partial(train_step, **given.parts, axis=parallel.axis_of(runner))
    run = parallel.wrap(step, runner, jax.devices()[:devices])
    state = begin(given)
    for k in range(STEPS):
        state, _ = run(state, given.teacher_vars, trees.take(given.batches, k), given.knobs)
        jax.block_until_ready(state)
    assert_same(state, dropped)


@pytest.mark.parametrize('runner', ['single', 'pmap', 'shard_map'])
def test_scanned_steps_agree(runner, reference):
    given = setting(parallel.axis_of(runner))
    step = grid.scanned(functools.partial(train_step, **given.parts, axis=parallel.axis_of(runner)))
    run = parallel.wrap(step, runner, jax.devices()[:2], batch_axis=1)
    state, logs = run(begin(given), given.teacher_vars, given.batches, given.knobs)
    assert_same(state, reference[0])
    np.testing.assert_allclose(logs['loss'], [log['loss'] for log in reference[1]], **CLOSE)


def test_each_device_keeps_a_part_of_a_wide_network():
    wide, tx = mlp(classes=5, widths=(64, 50)), optim.build('adamw', steps=STEPS, clip=5.0, ema=0.9)
    given = setting(None, (('hard', CrossEntropy()), ('soft', SoftTargets())), wide)
    teacher = mlp(classes=5, widths=(128,))
    parts = {**given.parts, 'tx': tx, 'teacher': teachers.frozen(teacher)}
    given = Setting(parts, teacher.init(jax.random.key(7), given.batches['inputs'][0]), given.batches, given.knobs)
    knobs, devices = cells(given, 2), jax.devices()[:4]
    step = grid.gridded(functools.partial(train_step, **given.parts), 'vmap', own_batches=False, many=True)
    begun = begin_grid(given, knobs)
    wanted, _ = jax.jit(step)(begun, given.teacher_vars, given.batches, knobs)
    placed = parallel.placed(given.teacher_vars, 'fsdp', devices)
    states, logs = parallel.wrap(step, 'fsdp', devices, batch_axis=1)(begun, placed, given.batches, knobs)
    assert_same(states, jax.device_get(wanted))
    assert logs['loss'].shape == (STEPS, 2)

    def shapes(tree):
        return {leaf.shape: leaf.addressable_shards[0].data.shape for leaf in jax.tree.leaves(tree)}

    # An axis that counts cells is never cut, nor one that does not divide, nor what is small.
    known = {(2, 36, 64): (2, 36, 16), (2, 64, 50): (2, 16, 50), (2, 50, 5): (2, 50, 5), (2, 64): (2, 64)}
    assert known.items() <= shapes(states.params).items()
    assert known.items() <= shapes(states.opt).items()  # moments and averages lie as their weights do
    assert shapes(placed)[36, 128] == (36, 32)
    one = trees.take(wanted, 0)
    held = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(states)) / 2
    assert parallel.kept_bytes(one, 'fsdp', devices) == held < 0.4 * parallel.kept_bytes(one, 'single', devices)


def cells(given: Setting, count: int = 4) -> Any:
    """Knobs of a grid whose cell k has seed k and its own temperature, weights and learning rate."""
    grown = jax.tree.map(lambda leaf: jnp.stack([leaf * jnp.float32(1 + 0.2 * k) for k in range(count)]),
                         {name: given.knobs[name] for name in ('terms', 'optim')})  # fmt: skip
    return {**grown, 'seed': jnp.arange(count, dtype=jnp.uint32)}


def begin_grid(given: Setting, knobs: Any) -> Any:
    start, first = starter(given), trees.take(given.batches, 0)
    return trees.stack([start(trees.take(knobs, k), given.teacher_vars, first) for k in range(len(knobs['seed']))])


@pytest.fixture(scope='module')
def reference_cells(run_single):
    given = setting()
    return [run_single(trees.take(cells(given), k), given.batches)[0] for k in range(4)]


LAYOUTS = [
    # layout, runner, devices
    ('vmap', 'single', 1),
    ('map', 'single', 1),
    ('unroll', 'single', 1),
    ('vmap', 'pmap', 2),
    ('map', 'cells', 2),
    ('vmap', 'cells', 4),
]


@pytest.mark.parametrize(('layout', 'runner', 'devices'), rotation.params(LAYOUTS, (0, 1, 2, 0, 1, 2)))
def test_cell_k_of_a_grid_is_single_run_k(layout, runner, devices, reference_cells):
    axis = parallel.axis_of(runner)
    given = setting(axis)
    step = grid.gridded(functools.partial(train_step, **given.parts, axis=axis), layout, own_batches=False, many=True)
    run = parallel.wrap(step, runner, jax.devices()[:devices], batch_axis=1)
    knobs = cells(given)
    states, logs = run(begin_grid(given, knobs), given.teacher_vars, given.batches, knobs)
    assert logs['loss'].shape == (STEPS, 4)
    for k, wanted in enumerate(reference_cells):
        assert_same(trees.take(states, k), wanted)


OWN = [('vmap', 'single', 1), ('unroll', 'single', 1), ('map', 'cells', 2), ('vmap', 'shard_map', 2)]


@pytest.mark.parametrize(('layout', 'runner', 'devices'), rotation.params(OWN, (0, 1, 1, 0)))
def test_cells_with_batches_of_their_own(layout, runner, devices, run_single):
    axis = parallel.axis_of(runner)
    given = setting(axis)
    knobs = cells(given, 2)
    own = [given.batches, jax.tree.map(lambda leaf: leaf[::-1], given.batches)]
    batches = jax.tree.map(lambda *leaves: jnp.stack(leaves, axis=1), *own)
    step = grid.gridded(functools.partial(train_step, **given.parts, axis=axis), layout, own_batches=True, many=True)
    run = parallel.wrap(step, runner, jax.devices()[:devices], batch_axis=2, cell_axis=1)
    states, _ = run(begin_grid(given, knobs), given.teacher_vars, batches, knobs)
    for k in range(2):
        assert_same(trees.take(states, k), run_single(trees.take(knobs, k), own[k])[0])


def test_leaving_a_relation_per_device_would_change_the_result():
    """The failure that the share rule prevents, so that the tests above are known to notice it."""
    given = setting(terms=(('alike', SimilarityPreserving(layers=('stage2',), weight=10.0)),))
    run = single(given)
    parts = [
        {name: leaf[:, part] for name, leaf in given.batches.items()} for part in (slice(8), slice(4), slice(4, 8))
    ]
    whole, *halves = (run(given.knobs, part, count=1)[0] for part in parts)
    kernels = [tree.params['student']['stage1_conv']['kernel'] for tree in (whole, *halves)]
    assert np.max(np.abs(kernels[0] - (kernels[1] + kernels[2]) / 2)) > 1e-5


@pytest.mark.parametrize('runner', ['single', 'shard_map'])
def test_accumulated_gradients_have_the_whole_batch_as_denominator(runner):
    from kdjax.nets.mlp import mlp  # no batch statistics: micro-batches would have their own

    axis = parallel.axis_of(runner)
    given = setting(terms=(('hard', CrossEntropy()), ('soft', SoftTargets())))
    given = given._replace(parts={**given.parts, 'net': mlp(classes=5, widths=(7,))})
    wanted, logs = single(given)(given.knobs, given.batches)
    step = functools.partial(train_step, **given.parts, axis=axis, accumulate=2)
    run, state = parallel.wrap(step, runner, jax.devices()[:2]), begin(given)
    for k in range(STEPS):
        state, log = run(state, given.teacher_vars, trees.take(given.batches, k), given.knobs)
        np.testing.assert_allclose(log['loss'], logs[k]['loss'], **CLOSE)
    assert_same(state, wanted)


def test_accumulation_refuses_relations_and_sizes_that_do_not_divide():
    given = setting()
    batch = trees.take(given.batches, 0)
    with pytest.raises(UsageError, match=r"'alike'.*relate the examples"):
        train_step(begin(given), given.teacher_vars, batch, given.knobs, **given.parts, accumulate=2)
    with pytest.raises(UsageError, match=r'divisor of the batch of 8.*got 3'):
        train_step(begin(given), given.teacher_vars, batch, given.knobs, **given.parts, accumulate=3)


def test_the_teacher_is_not_changed_and_not_learned_from():
    given = setting(terms=(('soft', SoftTargets()), ('alike', SimilarityPreserving())))
    before, state = trees.fingerprint(given.teacher_vars), begin(given)
    single(given)(given.knobs, given.batches)
    assert trees.fingerprint(given.teacher_vars) == before

    def loss(teacher_vars):
        step = functools.partial(train_step, **given.parts)
        return step(state, teacher_vars, trees.take(given.batches, 0), given.knobs)[1]['loss']

    slopes = jax.jit(jax.grad(loss))(given.teacher_vars)['params']
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(slopes))


def test_a_second_call_with_other_knobs_does_not_trace_again():
    given, traced = setting(), []

    def step(*arguments):
        traced.append(1)
        return train_step(*arguments, **given.parts)

    run = parallel.wrap(step, 'single', jax.devices()[:1])
    state = begin(given)
    for k in range(STEPS):
        knobs = trees.take(cells(given), k)
        state, _ = run(state, given.teacher_vars, trees.take(given.batches, k), knobs)
    assert len(traced) == 1


def test_wrong_runner_layout_and_sizes_are_named():
    devices = jax.devices()
    with pytest.raises(UsageError, match="unknown runner 'pmpa'; there is: 'pmap'"):
        parallel.wrap(lambda *a: a, 'pmpa', devices)
    with pytest.raises(UsageError, match="unknown grid layout 'vamp'; there is: 'vmap'"):
        grid.gridded(lambda *a: a, 'vamp', own_batches=False)
    given = setting('data')
    step = functools.partial(train_step, **given.parts, axis='data')
    odd = jax.tree.map(lambda leaf: leaf[0, :6], given.batches)
    for runner in ('pmap', 'shard_map'):
        with pytest.raises(UsageError, match='batch of 6 does not divide over 4'):
            parallel.wrap(step, runner, devices)(begin(setting()), given.teacher_vars, odd, given.knobs)


def test_too_few_threads_for_host_devices_is_an_error_not_a_deadlock():
    with pytest.raises(UsageError, match='4 host devices need the environment variable NPROC >= 8'):
        parallel.check_host_devices(jax.devices(), {'NPROC': '4'})
    parallel.check_host_devices(jax.devices(), {'NPROC': '8'})
    parallel.check_host_devices(jax.devices()[:1], {})
