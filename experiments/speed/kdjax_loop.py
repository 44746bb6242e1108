"""kdjax's own training step on the same case: a grid of students as one program, with one teacher for all of them.

Variants:
  plain             float32, the teacher evaluated once per batch
  without oneDNN    the same by XLA alone: whoever starts it says so in the environment (kdjax.cpu.onednn.OPT_OUT)
  bfloat16 teacher  the teacher's activations in bfloat16
  bfloat16          the student's too
  cached            the teacher's logits are computed once for the whole pool, before the first step
  bfloat16 cached   the student's activations in bfloat16, the teacher's logits cached
  vmap, unroll, map, bfloat16 vmap, ...      a grid in this layout rather than in the fastest
"""

import functools
import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.speed import cases
from kdjax import jit_cache, trees
from kdjax.cpu import allocator
from kdjax.nets import torch_weights
from kdjax.resolve import construct
from kdjax.train import grid, layout, optim, parallel, teachers
from kdjax.train.objective import Objective
from kdjax.train.step import init_state, init_student, train_step
from kdjax.types import Batch, Net, State, Tree

STEPS = 1000  # of the run that the layout of a grid is chosen for


class Variant(NamedTuple):
    """How the teacher teaches, and in what numbers."""

    cached: bool = False
    teacher: str = 'float32'  # precision
    student: str = 'float32'
    layout: str = ''  # the fastest, if left out


VARIANTS = {
    'plain': Variant(), cases.WITHOUT: Variant(), 'bfloat16 teacher': Variant(teacher='bfloat16'),
    'bfloat16': Variant(teacher='bfloat16', student='bfloat16'), 'cached': Variant(cached=True),
    'bfloat16 cached': Variant(cached=True, student='bfloat16'),
    **{layout: Variant(layout=layout) for layout in cases.LAYOUTS},
    **{f'bfloat16 {layout}': Variant(False, 'bfloat16', 'bfloat16', layout) for layout in cases.LAYOUTS},
}  # fmt: skip


class Loop:
    """Teacher, students and data of a case."""

    def __init__(self, step: Any, state: State, teacher: Tree, batches: list[Batch], knobs: Any) -> None:
        self.step, self.state, self.teacher, self.batches, self.knobs = step, state, teacher, batches, knobs
        self.done = 0

    def round(self, steps: int) -> list[float]:
        """So many steps of all students, from where the last round ended; the losses, means over students."""
        losses = []
        for number in range(self.done, self.done + steps):
            batch = self.batches[number % len(self.batches)]
            self.state, logs = self.step(self.state, self.teacher, batch, self.knobs)
            losses.append(logs['loss'])
        self.done += steps
        return [float(np.mean(loss)) for loss in jax.device_get(losses)]


def build(case: cases.Case, variant: str, weights: str | Path | None = None) -> Loop:
    """The loop of a case, before its first step.

    Args:
      case: what is trained.
      variant: of VARIANTS.
      weights: file of `torch_nets.save` with which the teacher and all students start.

    Raises:
      UsageError: unknown variant, or a cache of logits for a term that reads more.
    """
    how = cases.variant(case, variant, VARIANTS, 'kdjax')
    allocator.keep_buffers(os.environ)
    student, teacher = _net(case.student, case, how.student), _net(case.teacher, case, how.teacher)
    objective = Objective(tuple((term.kind, _term(term)) for term in cases.objective(case, 0)))
    tx = optim.build('sgd', momentum=cases.MOMENTUM, steps=STEPS)
    variables, students = _variables(case, teacher, student, weights)
    batches = _batches(case)
    if how.cached:
        batches = _answered(teacher, variables, batches)
    source = teachers.cached() if how.cached else teachers.frozen(teacher)
    parts: dict[str, Any] = {'net': student, 'teacher': source, 'objective': objective, 'tx': tx}
    knobs = _knobs(case)
    state = jax.jit(jax.vmap(functools.partial(init_state, **parts), in_axes=(0, None, None, 0)))(
        knobs, variables, batches[0], students
    )
    state = _known(state, case)
    program = functools.partial(_program, functools.partial(train_step, **parts))
    chosen = how.layout or _fastest(case, program, state, variables, batches[0], knobs)
    return Loop(program(chosen), state, variables, batches, knobs)


def _known(state: State, case: cases.Case) -> State:
    """A term that contrasts with examples that had a label so far has seen the whole training set."""
    known = np.broadcast_to(cases.pool(case).known.astype(np.int32), (case.students, cases.EXAMPLES))
    memory = {
        name: {**own, 'labels': jnp.asarray(known)} if 'labels' in own else own for name, own in state.memory.items()
    }
    return state._replace(memory=memory)


def _fastest(case: cases.Case, program: Any, state: State, teacher: Tree, batch: Batch, knobs: Any) -> str:
    return layout.fastest(
        program, lambda _: (layout.copied(state), teacher, batch, knobs), cells=case.students, steps=STEPS, chunk=1,
        key=f'speed {case.name}',
    )  # fmt: skip


def _program(step: grid.Step, chosen: str) -> grid.Step:
    return parallel.wrap(grid.gridded(step, chosen, own_batches=False), 'single', jax.devices()[:1])


def _net(network: cases.Network, case: cases.Case, precision: str) -> Net:
    arguments = {**network.args, 'classes': case.classes, 'precision': precision}
    return construct('kdjax.nets', network.net, arguments, 'network')


def _term(term: cases.Term) -> Any:
    return construct('kdjax.techniques', term.kind, term.args, 'term')


def _variables(case: cases.Case, teacher: Net, student: Net, weights: str | Path | None) -> tuple[Tree, Tree]:
    """Those of the teacher, and those of all students, stacked."""
    example = jnp.zeros((1, *case.shape), jnp.float32)
    if weights is not None:
        return _read(weights, 'teacher.', teacher, example), trees.stack(
            [_read(weights, 'student.', student, example)] * case.students
        )
    drawn = [
        jit_cache.once(jit_cache.bound(init_student, net=student))(np.uint32(seed), example)
        for seed in range(case.students)
    ]
    return jit_cache.once(teacher.init)(jax.random.key(cases.SEED), example), trees.stack(drawn)


def _read(weights: str | Path, side: str, net: Net, example: jax.Array) -> Tree:
    """The variables of one side, from what `torch_nets.save` wrote."""
    own = {
        name.removeprefix(side): value
        for name, value in torch_weights.state_dict(weights).items()
        if name.startswith(side)
    }
    like = jax.eval_shape(net.init, jax.random.key(0), example)
    return jax.tree.map(jnp.asarray, torch_weights.variables(own, like))


def _batches(case: cases.Case) -> list[Batch]:
    pool = cases.pool(case)
    return [
        jax.device_put({
            'inputs': pool.images[place], 'labels': pool.labels[place].astype(np.int32),
            'id': pool.ids[place].astype(np.int32), 'view': np.zeros(case.batch, np.int32),
            'mask': np.ones(case.batch, np.float32),
        })
        for place in cases.batches(case)
    ]  # fmt: skip


def _answered(teacher: Net, variables: Tree, batches: list[Batch]) -> list[Batch]:
    answer = jax.jit(lambda inputs: teacher.apply(variables, inputs, train=False, key=None)[0].logits)
    return [{**batch, f'{teachers.PREFIX}logits': answer(batch['inputs'])} for batch in batches]


def _knobs(case: cases.Case) -> Any:
    """Weights, temperatures and rates of all students, each () by student."""
    rates = {'learning_rate': cases.LEARNING_RATE, 'weight_decay': cases.WEIGHT_DECAY}
    rows = []
    for student in range(case.students):
        terms = {
            term.kind: {**Objective(((term.kind, _term(term)),)).knobs()[term.kind], 'weight': term.weight}
            for term in cases.objective(case, student)
        }
        rows.append({'terms': terms, 'optim': dict.fromkeys(optim.GROUPS, rates)})
    stacked = jax.tree.map(lambda *leaves: jnp.asarray(leaves, jnp.float32), *rows)
    return {**stacked, 'seed': jnp.arange(case.students, dtype=jnp.uint32)}
