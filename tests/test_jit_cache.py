"""Equal structure, one object: what JAX knows a program by."""

import functools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import digits
from kdjax import jit_cache
from kdjax.jit_cache import bound, compiled, once
from kdjax.study.recipe import build
from kdjax.study.recipe.resolve import resolve
from kdjax.techniques.hinton import SoftTargets
from kdjax.techniques.rkd import DistanceRelations
from kdjax.train import teachers


def plus(left, right):
    return left + right


def test_a_bound_function_is_one_for_equal_arguments_and_another_for_others():
    assert bound(plus, right=1) is bound(plus, right=1)
    assert bound(plus, right=1) is not bound(plus, right=2)
    assert bound(plus, right=1)(2) == 3


def test_a_function_is_compiled_once():
    assert compiled(plus) is compiled(plus)
    assert compiled(bound(plus, right=1)) is compiled(bound(plus, right=1))
    assert compiled(plus)(jnp.float32(1), jnp.float32(2)) == 3


def test_what_runs_once_is_what_it_is_compiled_and_runs_nothing_that_is_not_needed():
    def unneeded(like):
        raise AssertionError('was run')

    def drawn(seed, like, count=3):
        keys = jax.random.split(jax.random.key(seed), count)
        jax.pure_callback(unneeded, like, like)
        return {'same': [jax.random.normal(key, like.shape) for key in keys], 'given': like, 'constant': jnp.ones(3)}

    like = np.eye(4, dtype=np.float32)
    alone = functools.partial(drawn, count=1)  # no two parts of which are alike
    for function in (drawn, alone):
        found, wanted = once(function)(np.uint32(3), like), jax.jit(function)(np.uint32(3), like)
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), found, wanted)
    assert once(drawn) is once(drawn)


CROWDED = """
import jax.numpy as jnp
from kdjax import jit_cache

def times(row, by):
    return jnp.sin(row) * by

def counted():
    return jit_cache.MAPPINGS.read_bytes().count(b'\\n')

before = counted()
for by in range(30):
    jit_cache.compiled(jit_cache.bound(times, by=by))(jnp.ones(by + 1))
after = counted()
print(jit_cache.let_go(), jit_cache.let_go(share=0.0), after - before, after - counted())
print(jit_cache.compiled(jit_cache.bound(times, by=0))(jnp.ones(1)))
"""


@pytest.mark.skipif(not jit_cache.MOST_MAPPINGS.exists(), reason='this kernel does not say how many mappings there are')
def test_programs_are_let_go_where_they_crowd_the_process():
    done = subprocess.run([sys.executable, '-c', CROWDED], capture_output=True, text=True, check=True)
    few, crowded, brought, gone, again = done.stdout.split()
    assert (few, crowded, again) == ('False', 'True', '[0.]')
    assert int(brought) > 2 * 30
    assert int(gone) > int(brought) / 2  # the others are the compiler's own


def test_a_kernel_that_does_not_count_mappings_lets_nothing_go(monkeypatch, tmp_path):
    monkeypatch.setattr(jit_cache, 'MOST_MAPPINGS', tmp_path / 'none')
    assert not jit_cache.let_go(share=0.0)


def test_terms_that_differ_in_knobs_alone_are_equal():
    assert SoftTargets(temperature=2.0, weight=0.5) == SoftTargets(temperature=4.0)
    assert hash(SoftTargets(temperature=2.0)) == hash(SoftTargets(temperature=4.0))
    warm = SoftTargets(schedules=(('weight', 0.0, 1.0, 10),))
    assert warm != SoftTargets() != DistanceRelations()


@pytest.mark.parametrize('field', ['net', 'augment', 'preprocess', 'optimiser', 'step', 'teacher'])
def test_what_a_config_says_twice_is_one_object(field):
    first, second = (made(digits.get_config()) for _ in range(2))
    assert first[field] is second[field]


def test_other_configs_are_other_objects():
    first, second = made(digits.get_config()), made(digits.get_config('student=tiny'))
    assert first['net'] is not second['net']
    changed = digits.get_config()
    changed.fits.combined.steps += 1
    assert first['optimiser'] is not made(changed)['optimiser']


def made(config):
    recipe = resolve(config)
    fit, net = recipe.fits['combined'], build.net(recipe.student, {'classes': 10}, recipe.precision, None)
    return {
        'net': net,
        'augment': build.augment(recipe.teachers['teacher'].augment),
        'preprocess': build.preprocess(recipe.data),
        'optimiser': build.optimiser(fit.spec.optim, fit.steps),
        'step': build.step_of(fit),
        'teacher': teachers.frozen(net),
    }
