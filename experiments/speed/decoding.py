"""Measures how fast a translator writes: greedily and by a beam search, beside plain PyTorch loops with a cache.

Command: python experiments/speed/decoding.py [--rounds 5]      writes results/decoding.json

Both sides have the same weights, the same sentences and the same search, and what they write is compared. The loops of
PyTorch are those of torch_decoding.py. In turns, in one process. XLA computes products of so few rows with one thread:
kdjax writes with one device, and with one for each thread that PyTorch has, which share the sentences.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.decoding.base import BEGIN, Limits
from kdjax.decoding.beam import Beam, search
from kdjax.decoding.greedy import greedy
from kdjax.nets import encoder_decoder
from kdjax.study.report import document
from kdjax.train import ledger

# The teacher of configs/multi30k.py:full; sentences and texts of usual lengths.
NET = {'vocabulary': 4000, 'width': 128, 'depth': 4, 'heads': 4, 'inner': 256, 'dropout': 0.0}
SOURCE, LENGTH, SEED = 16, 24, 0
BATCHES, WIDTHS, ALPHA = (64,), (1, 5), 0.6
GOAL = 2.0  # how many times faster
ONE = 'kdjax, one device'


def made(**changes: Any) -> tuple[Any, Any]:
    """The network and its weights: new ones, whose table is larger, so that texts differ and end."""
    net = encoder_decoder.transformer(**{**NET, **changes})
    ids = jnp.ones((1, 2), jnp.int32)
    variables = net.init(jax.random.key(SEED), {'source': ids, 'target': ids})
    random = np.random.default_rng(SEED)
    params = jax.tree.map(np.asarray, variables['params'])
    table = params['words']['table']
    params['words'] = {**params['words'], 'table': 4 * random.normal(size=table.shape, scale=table.shape[1] ** -0.5)}
    params['words']['table'] = params['words']['table'].astype(np.float32)
    return net, {**variables, 'params': params}


def sentences(count: int, vocabulary: int) -> np.ndarray:
    """(count, SOURCE) ids, of half to all of the length."""
    random = np.random.default_rng(SEED)
    lengths = random.integers(SOURCE // 2, SOURCE + 1, count)
    ids = random.integers(4, vocabulary, (count, SOURCE))
    return np.where(np.arange(SOURCE) < lengths[:, None], ids, 0).astype(np.int32)


def writers(net: Any, variables: Any, width: int, heads: int) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """What writes (B, T) of sources (B, M), by side; `kdjax` with all devices."""
    import torch

    from experiments.speed import torch_decoding

    limits, devices = Limits(LENGTH), jax.local_devices()
    given = [jax.device_put(variables, device) for device in devices]

    @jax.jit
    def written(given: Any, source: jax.Array) -> jax.Array:
        prompt = jnp.full((len(source), 1), BEGIN, jnp.int32)
        if width == 1:
            return greedy(net.generator, given, source, prompt, limits).tokens
        return search(net.generator, given, source, prompt, limits, Beam(width, 'gnmt', ALPHA)).tokens[:, 0]

    plain = torch_decoding.Translator(variables['params'], heads, LENGTH)

    def apart(count: int) -> Callable[[np.ndarray], np.ndarray]:
        """By so many devices at the same time, each of which has its part of the sentences and waits for none."""

        def write(source: np.ndarray) -> np.ndarray:
            parts = zip(given[:count], devices, np.array_split(source, count), strict=False)
            begun = [written(own, jax.device_put(part, device)) for own, device, part in parts]
            return np.concatenate(jax.device_get(begun))

        return write

    def loop(source: np.ndarray) -> np.ndarray:
        ids = torch.tensor(source, dtype=torch.long)
        if width == 1:
            return torch_decoding.greedy(plain, ids, LENGTH).numpy()
        return torch_decoding.beam_search(plain, ids, LENGTH, width, ALPHA).numpy()

    return {'torch': loop, ONE: apart(1), 'kdjax': apart(len(devices))}


def measured(width: int, batch: int, rounds: int) -> dict[str, Any]:
    """Milliseconds by side, wall and of processors, and the share of sentences that both write alike."""
    net, variables = made()
    sides, source = writers(net, variables, width, NET['heads']), sentences(batch, NET['vocabulary'])
    texts = {side: write(source) for side, write in sides.items()}  # and compiles
    wall: dict[str, list[float]] = {side: [] for side in sides}
    cpu: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side, write in sides.items():
            start, begun = time.perf_counter(), time.process_time()
            write(source)
            wall[side].append(1e3 * (time.perf_counter() - start))
            cpu[side].append(1e3 * (time.process_time() - begun))
    return {
        'width': width, 'batch': batch,
        'alike': float(np.mean(np.all(texts['torch'] == texts['kdjax'], axis=1))),
        'steps': float(np.max(np.sum(texts['kdjax'] > 0, axis=1))),
        'wall_ms': {side: statistics.median(each) for side, each in wall.items()},
        'cpu_ms': {side: statistics.median(each) for side, each in cpu.items()},
        'ratio': statistics.median(a / b for a, b in zip(wall['torch'], wall['kdjax'], strict=True)),
        'cpu_ratio': statistics.median(a / b for a, b in zip(cpu['torch'], cpu['kdjax'], strict=True)),
    }  # fmt: skip


def table(found: Mapping[str, Any]) -> document.Table:
    """How fast translations are written, beside the loops of PyTorch."""
    sides = {'torch': 'PyTorch with a cache', ONE: ONE, 'kdjax': 'kdjax'}
    taken = [side for side in sides if side in found['rows'][0]['wall_ms']]
    rows = tuple(
        (
            'greedy' if row['width'] == 1 else f'beam {row["width"]}', str(row['batch']),
            *(f'{row["wall_ms"][side]:.0f}' for side in taken), f'{row["ratio"]:.2f}',
            f'{GOAL:.1f}, {"met" if row["ratio"] >= GOAL else "not met"}', f'{row["cpu_ratio"]:.2f}',
            f'{100 * row["alike"]:.0f}',
        )
        for row in found['rows']
    )  # fmt: skip
    net, machine, versions = found['net'], found['machine'], found['versions']
    says = (
        f'A translator of {net["depth"]} + {net["depth"]} layers of {net["width"]} and {net["vocabulary"]} sub-words '
        f'writes texts of at most {found["length"]}: how many times faster; {machine["processor"]}, {machine["cores"]} '
        f'cores, JAX {versions["jax"]}, PyTorch {versions["torch"]}, {found["rounds"]} rounds (decoding.py)'
    )
    header = ('search', 'sentences', *(f'{sides[side]} (ms)' for side in taken), 'ratio', 'goal', 'of processor time',
              'written alike (%)')  # fmt: skip
    return document.Table(says, f'lr{"r" * len(taken)}rlrr', header, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--threads', type=int, default=2)
    given = parser.parse_args()
    import torch

    torch.set_num_threads(given.threads)
    jax.config.update('jax_num_cpu_devices', given.threads)  # before the first is used
    rows = [measured(width, batch, given.rounds) for width in WIDTHS for batch in BATCHES]
    found = {
        'rows': rows, 'rounds': given.rounds, 'threads': given.threads, 'net': NET, 'source': SOURCE, 'length': LENGTH,
        'versions': {**ledger.versions(), 'torch': metadata.version('torch')}, 'machine': ledger.machine(),
        'git_commit': ledger.git_commit(), 'load': os.getloadavg()[0],
    }  # fmt: skip
    (HERE / 'results').mkdir(exist_ok=True)
    (HERE / 'results' / 'decoding.json').write_text(json.dumps(ledger.plain(found), indent=1) + '\n')


if __name__ == '__main__':
    main()
