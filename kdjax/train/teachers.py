"""Teachers: anything that gives `Outputs` for a batch. The step does not know which."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp

from kdjax.compress import masks
from kdjax.jit_cache import shared
from kdjax.train import optim
from kdjax.types import Batch, Net, Outputs, State, Teacher, Tree

PREFIX, ALIGNED = 'teacher/', 'aligned'


@shared
def none() -> Teacher:
    """No teacher: what a network trained on hard labels alone has."""
    return lambda variables, batch: Outputs(None, {})  # type: ignore[arg-type]


@shared
def frozen(net: Net) -> Teacher:
    """A network in inference mode; `variables` are its own. It sees what the student sees, or 'teacher_inputs'."""

    def teach(variables: Tree, batch: Batch) -> Outputs:
        seen = batch['teacher_inputs'] if 'teacher_inputs' in batch else batch['inputs']
        return net.apply(variables, seen, train=False, key=None)[0]

    return teach


@shared
def aligned(teacher: Teacher) -> Teacher:
    """What a teacher of other words says at the tokens of its students: its logits (B, M, L) at the places 'aligned'
    (B, N) of a batch, (B, N, L). Where there is none, -1, terms read nothing."""

    def teach(variables: Tree, batch: Batch) -> Outputs:
        logits, places = teacher(variables, batch).logits, jnp.maximum(batch[ALIGNED], 0)
        return Outputs(jnp.take_along_axis(logits, places[..., None], axis=1), {})

    return teach


@shared
def cached() -> Teacher:
    """Outputs that the batch brings along: 'teacher/logits' and 'teacher/<tap>'. `variables` are not read."""

    def teach(variables: Tree, batch: Batch) -> Outputs:
        features = {name.removeprefix(PREFIX): leaf for name, leaf in batch.items() if name.startswith(PREFIX)}
        return Outputs(features.pop('logits', None), features)

    return teach


# (state, variables given to the step, knobs) -> variables of the teacher
Source = Callable[[State, Tree, Mapping[str, Any]], Tree]
START = 'before'  # the knob that has the students as they were, or as they were dense


def given(state: State, variables: Tree, knobs: Mapping[str, Any]) -> Tree:
    """The teacher's variables are those that the step is given."""
    return variables


def average(state: State, variables: Tree, knobs: Mapping[str, Any]) -> Tree:
    """The teacher is the moving average of the student (`ema` of the optimiser).

    Reference: Tarvainen, Valpola, Mean teachers are better role models, NIPS 2017, sec. 2.
    """
    return {'params': optim.averaged(state.params, state.opt)['student'], 'stats': state.stats}


def start(state: State, variables: Tree, knobs: Mapping[str, Any]) -> Tree:
    """The teacher is the student as it was before it was changed, of each cell its own."""
    return knobs[START]


def dense(state: State, variables: Tree, knobs: Mapping[str, Any]) -> Tree:
    """The teacher is the student with its weights that are gone put back, and with nothing rounded.

    It has the student's weights as they are now, those that are gone as they last were, and the statistics of the
    student when it was dense.

    Reference: Kim, Chang, Kwak, PQK: Model Compression via Pruning, Quantization, and Knowledge Distillation,
    Interspeech 2021, phase 2.
    """
    live = {name: node for name, node in state.params['student'].items() if name in knobs[START]['params']}
    return {**knobs[START], 'params': masks.refilled(live, knobs[START]['params'])}
