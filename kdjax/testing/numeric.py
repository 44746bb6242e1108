"""Laws of numbers: gradients, devices, precision. Each needs programs of its own."""

import functools
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.testing import world
from kdjax.testing.world import Answer, Subject
from kdjax.types import Tree


def half_precision_in_single_precision_out(subject: Subject) -> None:
    """From the same rounded inputs: what is left is the technique's own arithmetic."""
    half = world.cast(subject.inputs, jnp.bfloat16)._replace(batch=subject.inputs.batch)
    rough = jax.jit(world.values, static_argnums=0)(*subject._replace(inputs=half))[subject.name]
    exact = world.compiled(*subject._replace(inputs=world.cast(half, jnp.float32))).values[subject.name]
    assert rough.dtype == jnp.float32, f'values of bfloat16 inputs are {rough.dtype}, not float32'
    world.assert_close(rough, exact, 1e-2)


def compiling_changes_nothing_and_happens_once(subject: Subject) -> None:
    """A second call with other knobs is the same program, and says what the operations say one by one."""
    answer = world.compiled(*subject)
    traced = world.TRACES[subject.objective]
    turned = subject.turned(**dict.fromkeys(subject.knobs[subject.name], 0.5))
    world.compiled(*turned)
    assert world.TRACES[subject.objective] == traced, 'a second call with other knobs compiled again'
    world.assert_close(world.values(*subject._replace(inputs=jax.tree.map(jnp.asarray, subject.inputs))), answer.values)


def two_devices_agree_with_one(subject: Subject) -> None:
    """Whichever examples lie on which."""
    world.assert_same_answer(world.spread(*subject, 2), world.compiled(*subject))


def four_devices_agree_with_one(subject: Subject) -> None:
    """Also where one of them has nothing but padding."""
    world.assert_same_answer(world.spread(*subject, 4), world.compiled(*subject))


def gradients_are_those_of_the_value(subject: Subject) -> None:
    """Where what stop_gradient holds constant is held constant in the value too."""
    # What is read behind a stop_gradient stays where it is; that too much is behind one is another law.
    free = [world.size(leaf) > 0 for leaf in jax.tree.leaves(_gradients(world.compiled(*subject)))]
    with jax.enable_x64(True), jax.numpy_dtype_promotion('standard'):
        precise = Subject(subject.objective, *world.cast(tuple(subject[1:]), np.float64))
        leaves, structure = jax.tree.flatten((precise.params, precise.inputs.student))
        rng = np.random.default_rng(0)
        direction = [rng.normal(size=leaf.shape) * moves for leaf, moves in zip(leaves, free, strict=True)]
        compiled = _constants_held(precise)

        def ask(distance: float) -> Answer:
            moved = [leaf + distance * step for leaf, step in zip(leaves, direction, strict=True)]
            params, student = jax.tree.unflatten(structure, moved)
            beside = precise._replace(params=params, inputs=precise.inputs._replace(student=student))
            return jax.device_get(compiled(*beside))

        # One program gives the value and what is claimed to be its gradient.
        claimed = sum(np.sum(a * b) for a, b in zip(jax.tree.leaves(_gradients(ask(0.0))), direction, strict=True))
        slope = (ask(1e-6).loss - ask(-1e-6).loss) / 2e-6
        assert abs(slope - claimed) <= max(1e-6, 1e-6 * abs(claimed)), f'slope {slope}, gradient {claimed}'


def _constants_held(subject: Subject) -> Callable[..., Answer]:
    """`world.ask`, compiled, in which stop_gradient answers with what it was given at `subject`."""
    noted: list[Any] = []

    def note(x: Any) -> Any:
        noted.append(x)
        return x

    with mock.patch.object(jax.lax, 'stop_gradient', note):
        objective, params, memory, inputs, knobs = subject

        @jax.jit
        def held(params: Tree, memory: Tree, inputs: Any, knobs: Tree) -> list[Any]:
            noted.clear()
            objective.shares(params, memory, inputs, knobs, step=jnp.int32(0), key=world.KEY)
            return list(noted)

        constants = held(params, memory, inputs, knobs)
    if not constants:
        return world.compiled

    @functools.partial(jax.jit, static_argnums=0)
    def ask(*subject: Any) -> Answer:
        with mock.patch.object(jax.lax, 'stop_gradient', side_effect=constants):
            return world.ask(*subject)

    return ask


def _gradients(answer: Answer) -> tuple[Tree, Tree]:
    return answer.params, answer.student
