"""A training step of a detector (GFL): ours beside our own plain PyTorch loop of the same step.

Both assign 16 pictures' boxes to cells by centre sampling, and train a residual network with one map of stride 8 by
quality focal, distribution focal and GIoU loss with AdamW. The loop is as users write it. Both start with the same
weights, and their first losses agree. Each is a process of its own; they take turns, and what is shown are medians of
the milliseconds of a step.

Command: python experiments/speed/detector.py   (extra bench: PyTorch)
Cost:    about two minutes on 2 CPU cores
"""

import functools
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

import jax
import jax.numpy as jnp
import numpy as np

from experiments import pages
from experiments.speed import cases, measure, worker
from kdjax.cpu import allocator, onednn
from kdjax.nets import gfl
from kdjax.tasks.detection import Detection
from kdjax.techniques.gfl import DistributionFocal, QualityFocal
from kdjax.techniques.giou import GeneralizedIoU
from kdjax.train import ledger, optim, teachers
from kdjax.train.objective import Objective
from kdjax.train.step import init_state, init_student, train_step

RESULTS, PAGE = HERE / 'results' / 'detector.json', HERE / 'README.md'
BEGIN, END = '<!-- detector: written by experiments/speed/detector.py -->', '<!-- end of detector -->'
PICTURES, HEIGHT, WIDTH, CLASSES, BOXES, BINS = 16, 120, 160, 3, 32, 12
STEPS, ROUNDS, THREADS = 4, 9, 2
RATES = {'learning_rate': 2e-3, 'weight_decay': 1e-2}
NETS = {  # of configs/bccd.py
    'teacher': {'widths': (16, 48, 96), 'counts': (0, 1, 2), 'neck': 64},
    'student': {'widths': (4, 12, 24), 'counts': (0, 1, 2), 'neck': 16},
}
TERMS = {'qfl': QualityFocal(), 'dfl': DistributionFocal(weight=0.25), 'giou': GeneralizedIoU(weight=2.0)}
CLOSE = 0.02  # of the losses of both


def drawn() -> dict[str, np.ndarray]:
    """Pictures, each with a dozen boxes of the sizes of cells of blood, and padding."""
    random = np.random.default_rng(0)
    centre, side = random.uniform(0.1, 0.9, (PICTURES, BOXES, 2)), random.uniform(0.06, 0.3, (PICTURES, BOXES, 2))
    boxes = np.concatenate([centre - side / 2, centre + side / 2], axis=-1).clip(0, 1)
    real = np.arange(BOXES) < random.integers(8, 18, (PICTURES, 1))
    return {
        'inputs': random.normal(size=(PICTURES, HEIGHT, WIDTH, 3)).astype(np.float32),
        'boxes': np.where(real[..., None], boxes, 0).astype(np.float32),
        'labels': np.where(real, random.integers(0, CLASSES, real.shape), -1).astype(np.int32),
    }


class Loop:
    """Our step, from new weights on."""

    def __init__(self, name: str, batch: Mapping[str, np.ndarray]) -> None:
        net = gfl.detector(classes=CLASSES, strides=(8,), bins=BINS, **NETS[name])
        task = Detection(classes=tuple(map(str, range(CLASSES))), strides=(8,), bins=BINS)
        objective = Objective(tuple(TERMS.items()))
        parts: dict[str, Any] = {'net': net, 'teacher': teachers.none(), 'objective': objective,
                                 'tx': optim.build(name='adamw', schedule='constant', steps=10**6)}  # fmt: skip
        knobs = jax.tree.map(jnp.float32, {'terms': objective.knobs(), 'optim': {'student': RATES, 'terms': RATES}})
        knobs['seed'] = jnp.uint32(0)
        size = len(batch['inputs'])
        more = {'id': np.arange(size, dtype=np.int32), 'view': np.zeros(size, np.int32)}
        self.seen = jax.device_put({**batch, **more, 'mask': np.ones(size, np.float32)})
        self.variables = jax.jit(functools.partial(init_student, net=net))(knobs['seed'], self.seen['inputs'])

        @jax.jit
        def begin(variables: Any) -> Any:
            return init_state(knobs, {}, task.prepare(self.seen), variables, **parts)

        @functools.partial(jax.jit, donate_argnums=0)
        def step(state: Any, batch: Any) -> Any:
            return train_step(state, {}, task.prepare(batch), knobs, **parts)

        self.state, self.step = begin(self.variables), step

    def round(self, steps: int) -> list[float]:
        """So many steps; their losses."""
        losses = []
        for _ in range(steps):
            self.state, logs = self.step(self.state, self.seen)
            losses.append(logs['loss'])
        return [float(loss) for loss in jax.device_get(losses)]


def commands(name: str, scratch: Path, batch: Mapping[str, np.ndarray]) -> dict[str, Sequence[str]]:
    """What starts each contender, all with the same weights and pictures, which lie in `scratch`."""
    net = gfl.detector(classes=CLASSES, strides=(8,), bins=BINS, **NETS[name])
    variables = jax.jit(functools.partial(init_student, net=net))(jnp.uint32(0), batch['inputs'])
    flat = jax.tree_util.tree_leaves_with_path(variables['params'])
    params = {f'params/{"/".join(key.key for key in path)}': np.asarray(leaf) for path, leaf in flat}
    there = scratch / f'{name}.npz'
    options: dict[str, Any] = {**params, **{f'batch/{column}': leaf for column, leaf in batch.items()}}
    np.savez(there, **options)
    counts = ','.join(map(str, NETS[name]['counts']))
    loop = (sys.executable, str(HERE / 'torch_detector.py'), str(there), counts, str(BINS), str(THREADS))
    loop = (*loop, *map(str, RATES.values()))
    own = (sys.executable, str(HERE / 'detector.py'), name, str(there))
    return {'torch plain': loop, 'kdjax': own}


def measured(name: str) -> dict[str, Any]:
    """Milliseconds of a step by contender, and how many times faster than the plain loop, medians over turns."""
    network = cases.Network('gfl.detector', NETS[name])
    case = cases.Case(f'detector:{name}', network, network, CLASSES, (HEIGHT, WIDTH, 3), PICTURES, 'kd')
    with tempfile.TemporaryDirectory() as scratch:
        starting = {who: functools.partial(measure.Worker, command)
                    for who, command in commands(name, Path(scratch), drawn()).items()}  # fmt: skip
        found = measure.interleaved(case, starting, ROUNDS, STEPS)
    first = found['torch plain']['losses'][:STEPS]
    for who, each in found.items():
        if not np.allclose(each['losses'][:STEPS], first, rtol=CLOSE):
            raise SystemExit(f'{name}: losses of {who} are {each["losses"][:STEPS]}, not {first}: another step')
    return found


def table(found: Mapping[str, Any]) -> str:
    """The Markdown of the page, from what detector.json holds."""
    heads = ('network', 'kdjax (ms)', 'torch plain (ms)', 'ratio')
    lines = [f'| {" | ".join(heads)} |', f'| --- |{" ---: |" * (len(heads) - 1)}']
    for name, row in found['networks'].items():
        ours, plain = row['kdjax'], row['torch plain']
        lines.append(f'| {name} | {1e3 * ours["median"]:.0f} | {1e3 * plain["median"]:.0f} | {ours["ratio"]:.2f} |')
    made = f'{found["machine"]["processor"]}, {found["machine"]["cores"]} cores; JAX {found["versions"]["jax"]}, '
    where = f'PyTorch {found["versions"]["torch"]}; convolutions of kdjax: {found["convolutions"]}.'
    return '\n'.join(lines) + f'\n\n{made}{where}'


def main() -> None:
    """Measures both networks, and writes the page with the numbers and what they were made by."""
    versions = {**ledger.versions(), 'torch': metadata.version('torch')}
    found = ledger.plain({
        'networks': {name: measured(name) for name in NETS},
        'convolutions': onednn.by()['float32'],
        'versions': versions,
        'machine': ledger.machine(),
    })  # fmt: skip
    RESULTS.write_text(json.dumps(found, indent=1) + '\n')
    PAGE.write_text(pages.filled(PAGE.read_text(), BEGIN, table(found), END))


def serve(name: str, path: str) -> None:
    """Our side of a measurement, in a process of its own."""
    allocator.keep_buffers(os.environ)
    with np.load(path) as file:
        batch = {column.removeprefix('batch/'): file[column] for column in file if column.startswith('batch/')}
    worker.serve(lambda: Loop(name, batch), sys.stdin, sys.stdout)


if __name__ == '__main__':
    serve(*sys.argv[1:]) if sys.argv[1:] else main()
