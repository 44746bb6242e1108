"""What must not get lost: ratios of times, measured in turns, under bounds that a noisy machine keeps."""

import functools
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import trees
from kdjax.cpu.convolution import ORDER, convolved
from kdjax.nets.mlp import mlp
from kdjax.techniques.cross_entropy import CrossEntropy
from kdjax.techniques.hinton import SoftTargets
from kdjax.train import grid, optim, parallel, teachers
from kdjax.train.objective import Objective
from kdjax.train.step import init_state, init_student, train_step

CELLS, BATCH, ROUNDS = 16, 32, 7
# As programs of a user are compiled, where tests have them optimised less.
FULL = {
    'xla_backend_optimization_level': 3,
    'xla_llvm_disable_expensive_passes': False,
    'xla_cpu_use_fusion_emitters': True,
}
STUDENT, TEACHER = mlp(classes=10, widths=(16,)), mlp(classes=10, widths=(512, 512, 512))
OBJECTIVE = Objective((('hard', CrossEntropy()), ('soft', SoftTargets())))


def step_of(teacher):
    parts = {'net': STUDENT, 'teacher': teacher, 'objective': OBJECTIVE, 'tx': optim.build('adamw', steps=100)}
    return functools.partial(train_step, **parts), functools.partial(init_state, **parts)


@pytest.fixture(scope='module')
def world():
    """A batch with what a cache says of it, variables of the teacher, and knobs of a grid over temperature."""
    random = np.random.default_rng(0)
    batch = {
        'inputs': random.normal(size=(BATCH, 8, 8)).astype(np.float32),
        'labels': random.integers(0, 10, BATCH).astype(np.int32),
        'mask': np.ones(BATCH, np.float32), 'id': np.arange(BATCH, dtype=np.int32), 'view': np.zeros(BATCH, np.int32),
    }  # fmt: skip
    variables = jax.jit(TEACHER.init)(jax.random.key(0), batch['inputs'])
    batch['teacher/logits'] = teachers.frozen(TEACHER)(variables, batch).logits
    rates = {'learning_rate': 1e-2, 'weight_decay': 0.0}
    row = {'terms': OBJECTIVE.knobs(), 'optim': dict.fromkeys(optim.GROUPS, rates)}
    knobs = jax.tree.map(lambda value: jnp.full((CELLS,), value, jnp.float32), row)
    knobs['seed'] = jnp.arange(CELLS, dtype=jnp.uint32)
    return jax.device_put(batch), variables, knobs


def runner(world, teacher, cells):
    """A compiled grid of so many cells, and a call of it that goes on from where the last one ended."""
    batch, variables, knobs = world
    step, init = step_of(teacher)
    own = trees.take(knobs, slice(0, cells))
    students = jax.vmap(lambda seed: init_student(seed, batch['inputs'], STUDENT))(own['seed'])
    state = jax.jit(jax.vmap(init, in_axes=(0, None, None, 0)))(own, variables, batch, students)
    program = parallel.wrap(grid.gridded(step, 'vmap', own_batches=False), 'single', jax.devices()[:1])
    held = [state]

    def call(steps, temperature=4.0):
        changed = jax.tree.map(jnp.copy, own)
        changed['terms']['soft']['temperature'] = jnp.full((cells,), temperature, jnp.float32)
        for _ in range(steps):
            held[0], _ = program(held[0], variables, batch, changed)
        jax.block_until_ready(held[0])

    return program, call


def ratio(slow, fast):
    """How many times faster `fast` is: the median over turns of one after the other."""
    found = []
    for call in (slow, fast):
        call()
    for _ in range(ROUNDS):
        seconds = []
        for call in (slow, fast):
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
        found.append(seconds[0] / seconds[1])
    return statistics.median(found)


def test_a_grid_is_faster_than_its_cells_one_by_one(world):
    _, together = runner(world, teachers.cached(), CELLS)
    _, alone = runner(world, teachers.cached(), 1)
    assert ratio(lambda: alone(5 * CELLS), lambda: together(5)) > 1.5


def test_looking_a_large_teacher_up_is_faster_than_asking_it(world):
    _, asked = runner(world, teachers.frozen(TEACHER), 1)
    _, looked_up = runner(world, teachers.cached(), 1)
    assert ratio(lambda: asked(20), lambda: looked_up(20)) > 1.3


def test_one_program_serves_all_temperatures(world):
    program, call = runner(world, teachers.cached(), CELLS)
    for temperature in (1.0, 2.0, 4.0, 8.0):
        call(1, temperature)
    assert program._cache_size() == 1


def test_batched_convolutions_are_faster_than_as_one_of_groups():
    maps, kernels = jnp.ones((64, 16, 16, 16)), jnp.ones((8, 3, 3, 16, 16))

    def gradient(convolution):
        def loss(kernel):
            x = maps
            for _ in range(3):
                x = convolution(x, kernel, (1, 1), 'SAME', dimension_numbers=ORDER)
            return jnp.mean(x)

        program = jax.jit(jax.vmap(jax.grad(loss))).lower(kernels).compile(FULL)
        return lambda: jax.block_until_ready(program(kernels))

    assert ratio(gradient(jax.lax.conv_general_dilated), gradient(convolved)) > 1.1
