"""A trace is written of the dispatches that were asked for, and what they compute stays the same."""

import jax
import jax.numpy as jnp

from kdjax.train.profile import WARM, profiled


def test_dispatches_after_the_first_are_traced_and_nothing_changes(tmp_path):
    step = jax.jit(lambda state, teacher, batch, knobs: (state + batch, {'loss': state}))
    traced, state, started = profiled(step, tmp_path / 'profile', 2), jnp.zeros(()), []
    for _ in range(WARM + 3):
        state, logs = traced(state, {}, 1.0, {})
        started.append((tmp_path / 'profile').exists())
    assert state == WARM + 3
    assert logs['loss'] == WARM + 2
    assert started[:WARM] == [False] * WARM, 'what compiles is traced too'
    assert list((tmp_path / 'profile').rglob('*.xplane.pb'))
