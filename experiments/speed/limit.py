"""The machine's limit: how fast it multiplies large matrices in float32.

Command: python experiments/speed/limit.py torch|jax [--threads 2]      prints {"gflops": ...}
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from typing import Any

SIZE, TRIES = 2048, 12


def best(multiply: Callable[[], Any]) -> float:
    """GFLOP/s of the fastest of several products of two (SIZE, SIZE) matrices."""
    multiply()
    seconds = []
    for _ in range(TRIES):
        start = time.perf_counter()
        multiply()
        seconds.append(time.perf_counter() - start)
    return 2 * SIZE**3 / min(seconds) / 1e9


def in_torch(threads: int) -> float:
    import torch

    torch.set_num_threads(threads)
    left, right, out = torch.randn(SIZE, SIZE), torch.randn(SIZE, SIZE), torch.empty(SIZE, SIZE)
    return best(lambda: torch.mm(left, right, out=out))


def in_jax(threads: int) -> float:
    os.environ['NPROC'] = str(threads)  # read when JAX starts
    import jax

    left, right = (jax.random.normal(jax.random.key(seed), (SIZE, SIZE)) for seed in (0, 1))
    multiply = jax.jit(lambda left, right: left @ right)
    return best(lambda: multiply(left, right).block_until_ready())


LIMITS = {'torch': in_torch, 'jax': in_jax}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('library', choices=LIMITS)
    parser.add_argument('--threads', type=int, default=2)
    given = parser.parse_args()
    print(json.dumps({'gflops': LIMITS[given.library](given.threads)}))


if __name__ == '__main__':
    main()
