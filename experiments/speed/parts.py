"""Measures what four parts of kdjax are worth on this machine.

Command: python experiments/speed/parts.py [--rounds 5]      writes results/parts.json

Gradients of three 3x3 convolutions by XLA alone, at the top of a program and inside `lax.scan`, as `lax` writes them
and as `kdjax/cpu/convolution.py` does, in turns; likewise those of max-pooling (`kdjax/cpu/pooling.py`); a pass of
every teacher with normalisation folded into convolutions and with both apart, with the library if it is there; and a
step of resnet56 to resnet20 with and without `kdjax/cpu/allocator.py`.
"""

import argparse
import functools
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

import jax
import jax.numpy as jnp
from flax import linen as nn

from experiments.speed import cases, measure, worker
from kdjax import jit_cache
from kdjax.cpu import allocator, onednn
from kdjax.cpu.convolution import ORDER, convolved
from kdjax.cpu.pooling import max_pool
from kdjax.nets.layers import Layers
from kdjax.resolve import construct
from kdjax.study.report import document, formatting
from kdjax.train import ledger
from kdjax.types import Net, Tree

SMALL, LARGE, STEPS = (64, 16, 16, 32), (64, 32, 32, 64), 2  # maps; in a loop
POOLED = {  # maps, side of windows, strides, zeros around
    'vgg8, its first': ((64, 32, 32, 64), 2, 2, 0),
    'resnet18 for ImageNet': ((8, 112, 112, 64), 3, 2, 1),
    'maxout.teacher, its first': ((128, 21, 21, 48), 4, 2, 1),
}
PASSES = 5  # of a teacher, in a round
CASE = 'resnet56-resnet20:kd'


def gradient(convolution: Callable[..., jax.Array], kernels: jax.Array, x: jax.Array) -> jax.Array:
    def loss(kernels: jax.Array) -> jax.Array:
        y = x
        for kernel in kernels:
            y = jax.nn.relu(convolution(y, kernel, (1, 1), 'SAME', dimension_numbers=ORDER))
        return jnp.mean(jnp.square(y))

    return kernels - jax.grad(loss)(kernels)


def gradients(rounds: int) -> dict[str, dict[str, list[float]]]:
    """Seconds of a step of convolutions and of max-pooling, by what it is of, who writes it and round."""
    allocator.keep_buffers({})
    os.environ[onednn.OPT_OUT] = 'xla'  # before the first convolution asks
    return {
        'small': convolutions(SMALL, rounds, loops=('lax', 'kdjax')),
        'large': convolutions(LARGE, rounds, loops=('kdjax',)),  # as `lax` has it in a loop it takes minutes
        **{name: pooling(*windows, rounds) for name, windows in POOLED.items()},
    }


def convolutions(shape: tuple[int, ...], rounds: int, loops: Sequence[str]) -> dict[str, list[float]]:
    """Seconds of a step of three convolutions, by who writes it and round."""
    x = jax.random.normal(jax.random.key(0), shape)
    kernels = 0.05 * jax.random.normal(jax.random.key(1), (3, 3, 3, shape[-1], shape[-1]))

    def looped(step: Callable[..., jax.Array], kernels: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda kernels, _: (step(kernels, x), None), kernels, None, STEPS)[0]

    programs: dict[str, Any] = {}
    for name, convolution in (('lax', jax.lax.conv_general_dilated), ('kdjax', convolved)):
        step = functools.partial(gradient, convolution)
        programs[f'{name}, at the top'] = (jax.jit(lambda kernels, step=step: step(kernels, x)), 1)
        if name in loops:
            programs[f'{name}, in a loop'] = (jax.jit(functools.partial(looped, step)), STEPS)
    return timed({name: functools.partial(program, kernels) for name, (program, _) in programs.items()}, rounds,
                 {name: steps for name, (_, steps) in programs.items()})  # fmt: skip


def pooling(shape: tuple[int, ...], side: int, stride: int, zeros: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of max-pooling and its gradient, by who writes it and round."""
    x = jax.nn.relu(jax.random.normal(jax.random.key(0), shape))

    around = ((zeros, zeros), (zeros, zeros))

    def step(pool: Callable[..., jax.Array], x: jax.Array) -> jax.Array:
        return jax.grad(lambda x: jnp.sum(jnp.square(pool(x, (side, side), (stride, stride), around))))(x)

    programs = {
        name: functools.partial(jax.jit(functools.partial(step, pool)), x)
        for name, pool in (('lax', nn.max_pool), ('kdjax', max_pool))
    }
    return timed(programs, rounds, dict.fromkeys(programs, 1))


def timed(programs: dict[str, Callable[[], Any]], rounds: int, steps: dict[str, int]) -> dict[str, list[float]]:
    """Seconds of programs by round, in turns, divided by what each does at once."""
    for program in programs.values():
        jax.block_until_ready(program())
    found: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(rounds):
        for name, program in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(program())
            found[name].append((time.perf_counter() - start) / steps[name])
    return found


def apart(
    self: Layers,
    x: jax.Array,
    width: int,
    size: int,
    both: tuple[str, str],
    train: bool,
    *,
    after: jax.Array | None = None,
    relu: bool = False,
    **how: Any,
) -> jax.Array:
    """What `Layers.conv_norm` folds, as its parts."""  # fmt: skip
    y = self.norm(self.conv(x, width, size, both[0], **how), both[1], train)
    y = y if after is None else after + y
    return jax.nn.relu(y) if relu else y


def folding(rounds: int) -> dict[str, dict[str, list[float]]]:
    """Seconds of a pass of a teacher over a batch, by pair, way and round."""
    allocator.keep_buffers({})
    ways, found = {'folded': Layers.conv_norm, 'apart': apart}, {}
    for pair, (teacher, _) in cases.PAIRS.items():
        programs: dict[str, Callable[[], Any]] = {}
        for way, conv_norm in ways.items():
            Layers.conv_norm = conv_norm  # type: ignore[method-assign, assignment]
            jax.clear_caches()  # blocks that were traced in the other way
            net = construct('kdjax.nets', teacher.net, {**teacher.args, 'classes': 100}, 'network')
            images = jax.random.normal(jax.random.key(0), (64, 32, 32, 3))
            variables = jit_cache.once(net.init)(jax.random.key(1), images[:1])
            program = jax.jit(functools.partial(_logits, net)).lower(variables, images).compile()
            programs[way] = functools.partial(_passes, functools.partial(program, variables, images))
        Layers.conv_norm = ways['folded']  # type: ignore[method-assign]
        found[pair] = timed(programs, rounds, dict.fromkeys(programs, PASSES))
    return found


def _logits(net: Net, variables: Tree, images: jax.Array) -> jax.Array:
    return net.apply(variables, images, train=False, key=None)[0].logits


def _passes(program: Callable[[], Any]) -> Any:
    return [jax.block_until_ready(program()) for _ in range(PASSES)][-1]


def buffers(rounds: int) -> dict[str, Any]:
    """A step with kept buffers, and with the allocator as the system has it."""
    words = [sys.executable, worker.__file__, 'kdjax', CASE, 'plain']
    contenders = {
        'kept': lambda: measure.Worker(words),
        'system': lambda: measure.Worker(['env', f'{allocator.OPT_OUT}=system', *words]),
    }
    return measure.interleaved(worker.found(CASE), contenders, rounds, measure.steps_of(worker.found(CASE)))


def medians(samples: Mapping[str, Mapping[str, list[float]]]) -> dict[str, dict[str, float]]:
    """Over rounds."""
    return {name: {way: statistics.median(each) for way, each in ways.items()} for name, ways in samples.items()}


def shown(parts: Mapping[str, Any]) -> list[document.Block]:
    """What the page has of results/parts.json."""
    text = document.Text(buffers_text(parts))
    return [folding_table(parts), convolutions_table(parts), pooling_table(parts), text]


def folding_table(parts: Mapping[str, Any]) -> document.Table:
    """Teachers with normalisation in their convolutions, or apart."""
    rows = tuple(
        (pair.partition('-')[0], *(f'{1e3 * of[way]:.0f}' for way in ('apart', 'folded')),
         f'{of["apart"] / of["folded"]:.2f}')
        for pair, of in parts['folding'].items()
    )  # fmt: skip
    says = 'A pass of a teacher over 64 images: normalisation by itself, or in the kernel and bias of its convolution'
    return document.Table(says, 'lrrr', ('teacher', 'apart (ms)', 'folded (ms)', 'ratio'), rows)


def convolutions_table(parts: Mapping[str, Any]) -> document.Table:
    """Gradients of convolutions, by who writes them and where."""
    small, large = (parts['gradients'][size] for size in ('small', 'large'))
    rows = tuple(
        (name, f'{1e3 * seconds:.0f}', f'{1e3 * large[name]:.0f}' if name in large else formatting.NOTHING)
        for name, seconds in small.items()
    )
    says = 'Forward and gradients of three 3x3 convolutions of 64 maps, by XLA alone: ms'
    return document.Table(says, 'lrr', ('written by', '16x16, 32 channels', '32x32, 64 channels'), rows)


def pooling_table(parts: Mapping[str, Any]) -> document.Table:
    """Gradients of max-pooling, by who writes them."""
    rows = []
    for name, ((examples, height, width, channels), side, stride, _) in POOLED.items():
        lax, kdjax = (parts['gradients'][name][who] for who in ('lax', 'kdjax'))
        maps = f'{examples} x {height} x {width} x {channels}'
        taking = (f'{1e3 * lax:.0f}', f'{1e3 * kdjax:.0f}', f'{lax / kdjax:.1f}')
        rows.append((name, maps, f'{side}x{side}', str(stride), *taking))
    header = ('pooling of', 'maps', 'windows', 'strides', 'lax (ms)', 'kdjax (ms)', 'ratio')
    return document.Table('Max-pooling and its gradient', 'llrrrrr', header, tuple(rows))


def buffers_text(parts: Mapping[str, Any]) -> str:
    """What kept buffers are worth."""
    kept, system = parts['buffers']['kept'], parts['buffers']['system']
    return (
        f'With the allocator as the system has it a step of resnet56 to resnet20 takes {1 / system["ratio"]:.2f} times '
        f'as long, {system["cpu_per_step"] / kept["cpu_per_step"]:.2f} times the processor time and '
        f'{system["peak_mb"] / kept["peak_mb"]:.2f} times the memory.'
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('--rounds', type=int, default=5)
    given = parser.parse_args()
    kept = buffers(given.rounds)
    # Whose convolutions a process has is settled by the first one.
    with multiprocessing.get_context('spawn').Pool(1) as process:
        folded = process.apply(folding, (given.rounds,))
    machine = ledger.machine()
    with multiprocessing.get_context('spawn').Pool(1) as process:
        seconds = process.apply(gradients, (given.rounds,))
    found = {
        'gradients': medians(seconds), 'buffers': kept, 'folding': medians(folded),
        'samples': {'gradients': seconds, 'folding': folded}, 'versions': ledger.versions(), 'machine': machine,
        'git_commit': ledger.git_commit(),
    }  # fmt: skip
    (HERE / 'results').mkdir(exist_ok=True)
    (HERE / 'results' / 'parts.json').write_text(json.dumps(ledger.plain(found), indent=1) + '\n')


if __name__ == '__main__':
    main()
