"""Measures what it costs a step that the student is made smaller meanwhile.

Command: python experiments/speed/smaller.py [--rounds 21]      writes results/smaller.json

Grids of students, as one program over a chunk of steps, with cached logits: the plain distillation step, and the same
with zeros or rounding. The smallest students of the house (those of configs/compress.py), where a step takes so little
that every operation is a share of it, and convolutional ones. In turns; ratios are of times from the same turn.
"""

import argparse
import functools
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

import jax
import numpy as np

from kdjax.compress import quantized
from kdjax.compress.quantized import Rounding
from kdjax.cpu import allocator
from kdjax.nets import cnn, mlp
from kdjax.study.report import document
from kdjax.techniques.cross_entropy import CrossEntropy
from kdjax.techniques.hinton import SoftTargets
from kdjax.train import grid, layout, ledger, optim, teachers
from kdjax.train.objective import Objective
from kdjax.train.step import init_state, train_step
from kdjax.types import Net, Tree

BATCH = 32  # examples
OBJECTIVE = Objective((('hard', CrossEntropy()), ('soft', SoftTargets())))
PLAIN = 'plain'


class Students(NamedTuple):
    """A grid of them."""

    says: str
    net: Net
    cells: int
    shape: tuple[int, ...]  # of an example
    layout: str
    steps: int  # of a dispatch
    dispatches: int  # of a turn


STUDENTS: Mapping[str, Students] = {
    'mlp': Students('perceptrons of 1.2 k parameters', mlp.mlp(classes=10, widths=(16,)), 20, (8, 8, 1), 'vmap', 50, 8),
    'cnn': Students('convolutional networks of 26 k parameters', cnn.cnn(classes=10, widths=(16, 32, 64)), 4,
                    (28, 28, 4), 'map', 5, 2),  # of four channels, as 2:4 asks
}  # fmt: skip


class Arm(NamedTuple):
    """What is done to the student in every step."""

    says: str
    optim: Mapping[str, Any] = {}
    rounding: Rounding | None = None
    goal: float | None = None  # most that it may cost, over the plain step

    def made(self, net: Net) -> Net:
        """The network that is trained in the place of another."""
        return net if self.rounding is None else quantized.quantized(net, self.rounding)


ARMS: Mapping[str, Arm] = {
    PLAIN: Arm('nothing'),
    'keep': Arm('zeros that are there stay', {'pruning': 'keep'}, goal=1.1),
    '2:4': Arm('of four weights in a row two are zero', {'pruning': '2:4'}, goal=1.1),
    'global': Arm('80 % of all weights become zero', {'pruning': 'global'}, goal=1.1),
    'layer': Arm('80 % of the weights of every layer become zero', {'pruning': 'layer'}, goal=1.1),
    'RigL': Arm('80 % are zero, and connections move', {'pruning': 'layer', 'regrow': 0.3}),
    'QAT': Arm('weights of 4 bits, inputs of 8', rounding=Rounding(), goal=1.3),
    'LSQ': Arm('the same with learned steps', rounding=Rounding('lsq')),
}


def batches(students: Students) -> dict[str, Any]:
    """Those of a dispatch, every cell its own."""
    random = np.random.default_rng(0)
    lead = (students.steps, students.cells, BATCH)
    return {
        'inputs': random.random((*lead, *students.shape)).astype(np.float32),
        'labels': random.integers(0, 10, lead).astype(np.int32),
        'mask': np.ones(lead, np.float32),
        'id': np.zeros(lead, np.int32),
        'teacher/logits': random.normal(size=(*lead, 10)).astype(np.float32),
    }


def knobs(arm: Arm, cells: int) -> dict[str, Any]:
    """The numbers of every cell."""
    student = {'learning_rate': 5e-3, 'weight_decay': 0.0}
    student |= {'sparsity': 0.8} if optim.takes_sparsity(arm.optim) else {}
    terms = {name: {knob: float(value) for knob, value in of.items()} for name, of in OBJECTIVE.knobs().items()}
    told = {'terms': terms, 'optim': {'student': student, 'terms': {'learning_rate': 1e-3, 'weight_decay': 0.0}}}
    each = jax.tree.map(lambda value: np.full(cells, value, np.float32), told)
    return {**each, 'seed': np.arange(cells, dtype=np.uint32)}


def functions(arm: Arm, students: Students) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """What makes the states of a grid, of keys, knobs and the first batch; and its steps of a dispatch."""
    tx = optim.build('adamw', schedule='cosine', steps=students.steps * students.dispatches, **arm.optim)
    net = students.net
    parts: dict[str, Any] = {'net': arm.made(net), 'teacher': teachers.cached(), 'objective': OBJECTIVE, 'tx': tx}

    def begun(key: jax.Array, given: Any, batch: Any) -> Any:
        student = net.init(key, batch['inputs'])
        if arm.rounding is not None:
            student = quantized.begun(net, arm.rounding, student, batch['inputs'], (4.0, 8.0))
        return init_state(given, {}, batch, student, {}, **parts)

    step = grid.gridded(functools.partial(train_step, **parts), students.layout, own_batches=True, many=True)
    return jax.vmap(begun), step


def program(arm: Arm, students: Students, examples: Tree) -> tuple[Tree, Callable[[Tree], Tree]]:
    """The state that an arm begins with, and a dispatch of it, compiled."""
    (begin, step), own = functions(arm, students), jax.device_put(knobs(arm, students.cells))
    first = jax.tree.map(lambda leaf: leaf[0], examples)
    state = jax.jit(begin)(jax.random.split(jax.random.key(0), students.cells), own, first)
    compiled = jax.jit(step, donate_argnums=0).lower(state, {}, examples, own).compile()
    return state, lambda state: jax.block_until_ready(compiled(state, {}, examples, own)[0])


def measured(students: Students, rounds: int, names: Sequence[str] = tuple(ARMS)) -> dict[str, dict[str, Any]]:
    """Of every arm seconds and processor seconds of a step by round, and medians of their ratios to the first arm's.

    In a round all take turns after each dispatch, so that what else the machine does is shared by all.
    """
    examples = jax.device_put(batches(students))
    programs = {name: program(ARMS[name], students, examples) for name in names}
    samples: dict[str, list[np.ndarray]] = {name: [] for name in programs}
    for number in range(rounds + 1):
        states = {name: layout.copied(state) for name, (state, _) in programs.items()}
        taken = {name: np.zeros(2) for name in programs}
        for _ in range(students.dispatches):
            for name, (_, dispatch) in programs.items():
                before = np.array([time.perf_counter(), time.process_time()])
                states[name] = dispatch(states[name])
                taken[name] += np.array([time.perf_counter(), time.process_time()]) - before
        for name in programs if number else ():  # the first warms up
            samples[name].append(taken[name] / students.steps / students.dispatches)
    said = {name: {'says': ARMS[name].says, 'goal': ARMS[name].goal} for name in names}
    return {name: {**said[name], **_summary(of, samples[names[0]])} for name, of in samples.items()}


def _summary(own: Sequence[np.ndarray], plain: Sequence[np.ndarray]) -> dict[str, Any]:
    (seconds, processor), (ratios, of_processor) = np.stack(own).T, (np.stack(own) / np.stack(plain)).T
    return {
        'seconds': seconds, 'cpu_seconds': processor, 'median': np.median(seconds), 'ratio': np.median(ratios),
        'cpu_ratio': np.median(of_processor), 'quartiles': np.quantile(ratios, (0.25, 0.75)),
    }  # fmt: skip


def table(found: Mapping[str, Any]) -> document.Table:
    """What is done to students in every step, and what it costs, by the clock and in processor time."""
    machine, versions, rows = found['machine'], found['versions'], []
    for students, of in found['students'].items():
        for name, each in of['arms'].items():
            ratio, (low, high) = each['ratio'], each['quartiles']
            met = '' if each['goal'] is None else f'{each["goal"]:.1f}, {"met" if ratio <= each["goal"] else "not met"}'
            rows.append((students, name, each['says'], f'{1e6 * each["median"]:.0f}', f'{ratio:.2f}',
                         f'{low:.2f} to {high:.2f}', met, f'{each["cpu_ratio"]:.2f}'))  # fmt: skip
    header = ('', '', 'in every step', 'step (us)', 'ratio', 'middle half', 'goal, at most', 'of processor time')
    who = '; '.join(f'{name}: {of["cells"]} {of["says"]} as one grid ({of["layout"]})'
                    for name, of in found['students'].items())  # fmt: skip
    says = (
        f'{who}. Batches of {found["batch"]}, cached logits; medians of {found["rounds"]} turns, over the plain '
        f'step of the same turn; {machine["processor"]}, {machine["cores"]} cores, JAX {versions["jax"]} (smaller.py)'
    )
    return document.Table(says, 'lllrrrlr', header, tuple(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('--rounds', type=int, default=21)
    parser.add_argument('--arms', default=','.join(ARMS), help='to look at, the first for comparison; writes no file')
    given = parser.parse_args()
    allocator.keep_buffers({})
    names, kept = given.arms.split(','), {}
    for called, students in STUDENTS.items():
        found = measured(students, given.rounds, names)
        kept[called] = {'says': students.says, 'cells': students.cells, 'layout': students.layout, 'arms': found}
        for name, row in found.items():
            low, high = row['quartiles']
            print(f'{called} {name:8s} {1e6 * row["median"]:7.1f} us  {row["ratio"]:.3f} [{low:.3f}, {high:.3f}]  '
                  f'cpu {row["cpu_ratio"]:.3f}')  # fmt: skip
    if names == list(ARMS):
        told = {
            'students': kept, 'rounds': given.rounds, 'batch': BATCH, 'versions': ledger.versions(),
            'machine': ledger.machine(), 'git_commit': ledger.git_commit(),
        }  # fmt: skip
        (HERE / 'results' / 'smaller.json').write_text(json.dumps(ledger.plain(told), indent=1) + '\n')


if __name__ == '__main__':
    main()
