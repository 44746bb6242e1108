"""A training step of a detector (GFL): ours beside our own plain PyTorch loop of the same step.

Both assign 16 pictures' boxes to cells by centre sampling, and train a residual network with one map of stride 8 by
quality focal, distribution focal and GIoU loss with AdamW. The loop is as users write it, in the usual layout and in
the one in which convolutions are fast on a CPU. Both start with the same weights, and their first losses agree. Rounds
take turns, so that drift of the machine meets all; what is shown are medians of the milliseconds of a step.

Command: python experiments/speed/detector.py   (extra bench: PyTorch)
Cost:    about two minutes on 2 CPU cores
"""

import functools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

import jax
import jax.numpy as jnp
import numpy as np

from experiments.speed import torch_detector
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
CHUNK, ROUNDS = 4, 9
RATES = {'learning_rate': 2e-3, 'weight_decay': 1e-2}
NETS = {  # of configs/bccd.py
    'teacher': {'widths': (16, 48, 96), 'counts': (0, 1, 2), 'neck': 64},
    'student': {'widths': (4, 12, 24), 'counts': (0, 1, 2), 'neck': 16},
}
TERMS = {'qfl': QualityFocal(), 'dfl': DistributionFocal(weight=0.25), 'giou': GeneralizedIoU(weight=2.0)}
CLOSE = 0.02  # of the losses of both
Train = Callable[[], list[float]]  # CHUNK steps; their losses


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


def ours(arguments: Mapping[str, Any], batch: Mapping[str, np.ndarray]) -> tuple[Train, Any]:
    """What trains CHUNK steps, and the variables that it starts with."""
    net = gfl.detector(classes=CLASSES, strides=(8,), bins=BINS, **arguments)
    task = Detection(classes=tuple(map(str, range(CLASSES))), strides=(8,), bins=BINS)
    objective = Objective(tuple(TERMS.items()))
    parts: dict[str, Any] = {'net': net, 'teacher': teachers.none(), 'objective': objective,
                             'tx': optim.build(name='adamw', schedule='constant', steps=10**6)}  # fmt: skip
    knobs = jax.tree.map(jnp.float32, {'terms': objective.knobs(), 'optim': {'student': RATES, 'terms': RATES}})
    knobs['seed'] = jnp.uint32(0)
    size = len(batch['inputs'])
    seen = jax.device_put({**batch, 'mask': np.ones(size, np.float32), 'id': np.arange(size, dtype=np.int32),
                           'view': np.zeros(size, np.int32)})  # fmt: skip
    variables = jax.device_get(jax.jit(functools.partial(init_student, net=net))(knobs['seed'], seen['inputs']))

    @jax.jit
    def begin(variables: Any) -> Any:
        return init_state(knobs, {}, task.prepare(seen), variables, **parts)

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state: Any, batch: Any) -> Any:
        return train_step(state, {}, task.prepare(batch), knobs, **parts)

    held = [begin(variables)]

    def train() -> list[float]:
        losses = []
        for _ in range(CHUNK):
            held[0], logs = step(held[0], seen)
            losses.append(logs['loss'])
        return [float(loss) for loss in jax.device_get(losses)]

    return train, variables


def contenders(name: str) -> dict[str, Train]:
    """Who takes part, all from the same weights."""
    batch = drawn()
    train, variables = ours(NETS[name], batch)
    loop = functools.partial(
        torch_detector.loop, variables, batch, bins=BINS, steps=CHUNK, counts=NETS[name]['counts'], **RATES
    )
    return {'kdjax': train, 'torch plain': loop(), 'torch channels_last': loop(channels_last=True)}


def measured(name: str) -> dict[str, Any]:
    """Milliseconds of a step by contender, and how many times faster ours is, the median over turns."""
    taking = contenders(name)
    first = {who: train() for who, train in taking.items()}  # which compiles
    for who, losses in first.items():
        if not np.allclose(losses, first['kdjax'], rtol=CLOSE):
            raise SystemExit(f'{name}: losses of {who} are {losses}, ours {first["kdjax"]}: not the same step')
    seconds: dict[str, list[float]] = {who: [] for who in taking}
    for turn in range(ROUNDS + 1):  # the first warms up
        for who, train in taking.items():
            start = time.perf_counter()
            train()
            if turn:
                seconds[who].append((time.perf_counter() - start) / CHUNK)
    ratios = {
        who: statistics.median(own / our for own, our in zip(of, seconds['kdjax'], strict=True))
        for who, of in seconds.items()
    }
    return {'ms': {who: 1e3 * statistics.median(of) for who, of in seconds.items()}, 'ratios': ratios, 'losses': first}


def table(found: Mapping[str, Any]) -> str:
    """The Markdown of the page, from what detector.json holds."""
    heads = ('network', 'kdjax (ms)', 'torch plain (ms)', 'channels_last (ms)', 'ratio', 'to channels_last')
    lines = [f'| {" | ".join(heads)} |', f'| --- |{" ---: |" * (len(heads) - 1)}']
    for name, row in found['networks'].items():
        numbers = [f'{row["ms"][who]:.0f}' for who in row['ms']]
        numbers += [f'{row["ratios"][who]:.2f}' for who in ('torch plain', 'torch channels_last')]
        lines.append(f'| {" | ".join((name, *numbers))} |')
    made = f'{found["machine"]["processor"]}, {found["machine"]["cores"]} cores; JAX {found["versions"]["jax"]}, '
    where = f'PyTorch {found["versions"]["torch"]}; convolutions of kdjax: {found["convolutions"]}; {found["load"]}.'
    return '\n'.join(lines) + f'\n\n{made}{where}'


def filled(text: str, content: str) -> str:
    """`text` with `content` between the marks."""
    before, _, rest = text.partition(BEGIN)
    return f'{before}{BEGIN}\n\n{content}\n\n{END}{rest.partition(END)[2]}'


def main() -> None:
    """Measures both networks, and writes the page with the numbers and what they were made by."""
    load = os.getloadavg()[0]
    versions = {**ledger.versions(), 'torch': torch_detector.VERSION}
    found = ledger.plain({
        'networks': {name: measured(name) for name in NETS},
        'load': f'{load:.1f} other processes were running' if load >= 0.5 else 'nothing else was running',
        'convolutions': onednn.by()['float32'],
        'versions': versions,
        'machine': ledger.machine(),
    })  # fmt: skip
    RESULTS.write_text(json.dumps(found, indent=1) + '\n')
    PAGE.write_text(filled(PAGE.read_text(), table(found)))


if __name__ == '__main__':
    allocator.keep_buffers(os.environ)
    main()
