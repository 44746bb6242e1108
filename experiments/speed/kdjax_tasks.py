"""kdjax's own training steps of recommendation and of speech, as a run has them; see tasks.py, which starts it:

python kdjax_tasks.py STEP STUDENTS FILE
"""

import functools
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

import jax
import jax.numpy as jnp
import numpy as np

from experiments.speed import worker
from kdjax import trees
from kdjax.cpu import allocator
from kdjax.data import audio, augment, augment_audio, citeulike
from kdjax.data.feed import Feed, feed
from kdjax.data.order import Stream
from kdjax.dataset import Shared
from kdjax.nets import conv_bilstm, depthwise, factorization, tcresnet
from kdjax.tasks.base import Task
from kdjax.tasks.keywords import Keywords
from kdjax.tasks.recommendation import Recommendation
from kdjax.tasks.transcription import Transcription
from kdjax.techniques.bpr import PairwiseRanking
from kdjax.techniques.cross_entropy import CrossEntropy
from kdjax.techniques.ctc import Ctc
from kdjax.techniques.ctc_frames import FrameDivergence
from kdjax.techniques.hinton import SoftTargets
from kdjax.train import grid, layout, optim, parallel, teachers
from kdjax.train.objective import Objective
from kdjax.train.step import init_state, init_student, train_step
from kdjax.types import Net

THREADS = 2
USERS, ITEMS = 5219, 25181  # of CiteULike
MELS = 40
MEL = {'window': 240, 'hop': 160, 'fft': 256}
AUGMENT = (augment_audio.shift(samples=800), augment_audio.noise(level=0.1), augment_audio.spec_augment())
SYMBOLS = ('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine')


class Step(NamedTuple):
    """What is trained, and how."""

    says: str
    loop: str  # that of PyTorch
    student: Net
    objective: Objective
    optim: Mapping[str, Any]
    rates: Mapping[str, float]
    batch: int
    chunk: int  # steps of a dispatch
    task: Task
    views: int = 1
    teacher: Net | None = None  # that is asked; looked up, or none, if left out
    told: Mapping[str, Any] = {}  # to the loop of PyTorch
    clips: tuple[int, int] = (0, 0)  # how many, and samples of the longest


STUDENTS: Mapping[str, dict[str, Any]] = {
    'keywords': {'first': 12, 'widths': (16, 16, 16), 'strides': (2, 1, 2)},
    'ctc': {'first': 24, 'widths': (32, 40, 40, 40), 'strides': (2, 1, 1, 1)},
}
TEACHERS: Mapping[str, dict[str, Any]] = {
    'keywords': {'widths': (24, 36, 48, 72), 'strides': (1, 2, 2), 'size': 9},
    'ctc': {'width': 80, 'size': 5, 'strides': (1, 2), 'units': 96},
}


def step(name: str) -> Step:
    """The step of that name: 'bpr', 'keywords', 'ctc', or one of these two ending in ' asked'."""
    kind, _, asked = name.partition(' ')
    if kind == 'bpr':
        return Step(
            'an epoch of BPR', 'torch_recommender.py', factorization.factorization(users=USERS, items=ITEMS, width=20),
            Objective((('bpr', PairwiseRanking()),)), {'name': 'adam_l2', 'eps': 1e-8 / 1024},
            {'learning_rate': 1e-3, 'weight_decay': 1e-3 / 1024}, 1024, 28, Recommendation(), 1000,
            told={'rates': {'lr': 1e-3, 'weight_decay': 1e-3}, 'users': USERS, 'items': ITEMS},
        )  # fmt: skip
    says = f'{kind}, teacher {"asked" if asked else "looked up"}'
    own, other = STUDENTS[kind], TEACHERS[kind]
    if kind == 'keywords':
        rate, classes, of = 8e-3, 10, tcresnet.tcresnet
        parts = (
            'torch_keywords.py', depthwise.keyword(classes=classes, stride=1, **own),
            Objective((('hard', CrossEntropy(weight=0.1)), ('soft', SoftTargets(weight=0.9, temperature=4.0)))),
            {'name': 'adamw'}, {'learning_rate': rate, 'weight_decay': 1e-2}, 64, 20, Keywords(), 8,
        )  # fmt: skip
        clips = (512, 8000)
    else:
        rate, classes, of = 1e-2, 11, conv_bilstm.transcriber
        parts = (
            'torch_transcriber.py', depthwise.transcriber(classes=classes, stride=1, **own),
            Objective((('ctc', Ctc(weight=0.5)), ('frames', FrameDivergence(weight=5.0)))),
            {'name': 'adamw', 'clip': 5.0}, {'learning_rate': rate, 'weight_decay': 1e-2}, 32, 10,
            Transcription(symbols=SYMBOLS), 4,
        )  # fmt: skip
        clips = (256, 19200)
    told = {'rates': {'lr': rate, 'weight_decay': 1e-2}, 'mel': MEL, 'views': parts[-1],
            'student': {'classes': classes, 'mels': MELS, 'size': 9, **own},
            'teacher': {'classes': classes, 'mels': MELS, **other}}  # fmt: skip
    return Step(says, *parts, of(classes=classes, **other) if asked else None, told, clips)


def fed(of: Step, arrays: Mapping[str, np.ndarray], students: int) -> tuple[Feed, list[Stream]]:
    """The batches of a step, each student's own, and in which order they have the examples."""
    tables = {}
    if 'taken' in arrays:
        user, item = np.ascontiguousarray(arrays['taken'].T)
        known = np.zeros((USERS, ITEMS), bool)
        known[user, item] = True
        columns: dict[str, Any] = {'inputs': {'user': user}, 'labels': item,
                                   'seen': Shared(user, citeulike.packed(known))}  # fmt: skip
        shown: dict[str, Any] = {}
    else:
        columns = {'inputs': _part(arrays, 'clips/'), **_part(arrays, 'columns/')}
        tables = {f'{teachers.PREFIX}logits': arrays['answers']} if of.teacher is None else {}
        shown = {'preprocess': audio.log_mel(**MEL)}
    views = augment.chain(AUGMENT) if shown else augment.identity()
    streams = [Stream(np.arange(len(columns['labels'])), seed) for seed in range(students)]
    return feed(streams, of.batch, columns, views, 0, of.views, tables, task=of.task, **shown), streams


def _part(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


class Loop:
    """Our steps, from new weights on, as a run has them: dispatches of `chunk` steps, whose batches are made on the
    device."""

    def __init__(self, name: str, students: int, arrays: Mapping[str, np.ndarray]) -> None:
        of, own = step(name), students > 1
        self.chunk, self.done, (self.feed, _) = of.chunk, 0, fed(of, arrays, students)
        first = trees.take(self.feed(0, 1), 0)
        source = teachers.cached() if 'answers' in arrays else teachers.none()
        if of.teacher is not None:
            source = teachers.frozen(of.teacher)
        parts: dict[str, Any] = {'net': of.student, 'teacher': source, 'objective': of.objective,
                                 'tx': optim.build(schedule='constant', steps=10**6, **of.optim)}  # fmt: skip
        self.teacher, variables = variables_of(of, trees.take(first, 0) if own else first)
        knobs = {'terms': of.objective.knobs(), 'optim': dict.fromkeys(optim.GROUPS, of.rates)}
        self.knobs: Any = jax.tree.map(lambda value: jnp.full(students, value, jnp.float32), knobs)
        self.knobs['seed'] = jnp.arange(students, dtype=jnp.uint32)
        begin = jax.vmap(functools.partial(init_state, **parts), in_axes=(0, None, 0 if own else None, 0))
        self.state = jax.jit(begin)(self.knobs, self.teacher, first, trees.stack([variables] * students))
        train = functools.partial(train_step, **parts)
        # The layout of configs, which was the fastest of all three when they were tried for BPR and keywords.
        steps = grid.gridded(train, 'vmap' if own else 'unroll', own, many=True)
        self.run = parallel.wrap(steps, 'single', jax.devices()[:1])
        # What is compiled for whole dispatches is so before the first step.
        self.run(layout.copied(self.state), self.teacher, self.feed(0, self.chunk), self.knobs)

    def round(self, steps: int) -> list[float]:
        """So many steps of all students; the losses, means over students."""
        losses, end = [], self.done + steps
        while self.done < end:
            stop = self.done + (self.chunk if end - self.done >= self.chunk else 1)
            self.state, logs = self.run(self.state, self.teacher, self.feed(self.done, stop), self.knobs)
            losses.append(logs['loss'])
            self.done = stop
        return [float(np.mean(loss)) for chunk in jax.device_get(losses) for loss in chunk]


def variables_of(of: Step, batch: Mapping[str, Any]) -> tuple[Any, Any]:
    """The weights that teacher and student start with, the same in every process."""
    init = jax.jit(functools.partial(init_student, net=of.student))
    if of.teacher is None:
        return {}, init(jnp.uint32(0), batch['inputs'])
    return jax.jit(of.teacher.init)(jax.random.key(1), batch['inputs']), init(jnp.uint32(0), batch['inputs'])


def serve(name: str, students: str, path: str) -> None:
    """Our side of a measurement, in a process of its own."""
    os.environ['NPROC'] = str(THREADS)
    allocator.keep_buffers(os.environ)
    with np.load(path) as file:
        arrays = {column: file[column] for column in file if not column.startswith(('params/', 'teacher/'))}
    worker.serve(lambda: Loop(name, int(students), arrays), sys.stdin, sys.stdout)


if __name__ == '__main__':
    serve(*sys.argv[1:])
