"""Measures what two parts of kdjax are worth on this machine: gradients of convolutions in loops, and kept buffers.

Command: python experiments/speed/parts.py [--rounds 5]      writes results/parts.json

Gradients of three 3x3 convolutions by XLA alone, at the top of a program and inside `lax.scan`, as `lax` writes them
and as `kdjax/convolution.py` does, in turns; and a step of resnet56 to resnet20 with and without
`kdjax/train/allocator.py`.
"""

import argparse
import functools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

import jax
import jax.numpy as jnp

from experiments.speed import measure, worker
from kdjax import onednn
from kdjax.convolution import ORDER, convolved
from kdjax.train import allocator, ledger

SHAPE, STEPS = (64, 16, 16, 32), 2  # of the maps; in a loop
CASE = 'resnet56-resnet20:kd'


def gradient(convolution: Callable[..., jax.Array], kernels: jax.Array, x: jax.Array) -> jax.Array:
    def loss(kernels: jax.Array) -> jax.Array:
        y = x
        for kernel in kernels:
            y = jax.nn.relu(convolution(y, kernel, (1, 1), 'SAME', dimension_numbers=ORDER))
        return jnp.mean(jnp.square(y))

    return kernels - jax.grad(loss)(kernels)


def convolutions(rounds: int) -> dict[str, list[float]]:
    """Seconds of a step, by round."""
    allocator.keep_buffers({})
    os.environ[onednn.OPT_OUT] = 'xla'  # before the first convolution asks
    x = jax.random.normal(jax.random.key(0), SHAPE)
    kernels = 0.05 * jax.random.normal(jax.random.key(1), (3, 3, 3, SHAPE[-1], SHAPE[-1]))

    def looped(step: Callable[..., jax.Array], kernels: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda kernels, _: (step(kernels, x), None), kernels, None, STEPS)[0]

    programs: dict[str, Any] = {}
    for name, convolution in (('lax', jax.lax.conv_general_dilated), ('kdjax', convolved)):
        step = functools.partial(gradient, convolution)
        programs[f'{name}, at the top'] = (jax.jit(lambda kernels, step=step: step(kernels, x)), 1)
        programs[f'{name}, in a loop'] = (jax.jit(functools.partial(looped, step)), STEPS)
    for program, _ in programs.values():
        jax.block_until_ready(program(kernels))
    found: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(rounds):
        for name, (program, steps) in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(program(kernels))
            found[name].append((time.perf_counter() - start) / steps)
    return found


def buffers(rounds: int) -> dict[str, Any]:
    """A step with kept buffers, and with the allocator as the system has it."""
    words = [sys.executable, worker.__file__, 'kdjax', CASE, 'plain']
    contenders = {
        'kept': lambda: measure.Worker(words),
        'system': lambda: measure.Worker(['env', f'{allocator.OPT_OUT}=system', *words]),
    }
    return measure.interleaved(worker.found(CASE), contenders, rounds, measure.steps_of(worker.found(CASE)))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('--rounds', type=int, default=5)
    given = parser.parse_args()
    kept = buffers(given.rounds)
    seconds = convolutions(given.rounds)
    found = {
        'convolutions': {name: statistics.median(each) for name, each in seconds.items()}, 'buffers': kept,
        'samples': seconds, 'versions': ledger.versions(), 'machine': ledger.machine(),
        'git_commit': ledger.git_commit(),
    }  # fmt: skip
    (HERE / 'results').mkdir(exist_ok=True)
    (HERE / 'results' / 'parts.json').write_text(json.dumps(ledger.plain(found), indent=1) + '\n')


if __name__ == '__main__':
    main()
