"""The machine's limit: how fast it multiplies large matrices.

Command: python experiments/speed/limit.py torch|jax [--threads 2] [--precision float32]     prints {"gflops": ...}
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from typing import Any

SIZE, LARGE, TRIES = 2048, 8192, 12  # LARGE on an accelerator


def best(multiply: Callable[[], Any], size: int) -> float:
    """GFLOP/s of the fastest of several products of two (size, size) matrices."""
    multiply()
    seconds = []
    for _ in range(TRIES):
        start = time.perf_counter()
        multiply()
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds) / 1e9


def in_torch(threads: int, precision: str) -> float:
    """Where the loops of PyTorch run (torch_loop.DEVICE)."""
    import torch

    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision('high')
    cuda = torch.cuda.is_available()
    how = {'dtype': getattr(torch, precision), 'device': 'cuda' if cuda else 'cpu'}
    size = LARGE if cuda else SIZE
    left, right, out = torch.randn(size, size, **how), torch.randn(size, size, **how), torch.empty(size, size, **how)

    def multiply() -> None:
        torch.mm(left, right, out=out)
        if cuda:
            torch.cuda.synchronize()

    return best(multiply, size)


def in_jax(threads: int, precision: str) -> float:
    os.environ['NPROC'] = str(threads)  # read when JAX starts
    import jax

    size = SIZE if jax.default_backend() == 'cpu' else LARGE
    left, right = (jax.random.normal(jax.random.key(seed), (size, size), precision) for seed in (0, 1))
    multiply = jax.jit(lambda left, right: left @ right)
    return best(lambda: multiply(left, right).block_until_ready(), size)


LIMITS = {'torch': in_torch, 'jax': in_jax}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('library', choices=LIMITS)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--precision', default='float32')
    given = parser.parse_args()
    print(json.dumps({'gflops': LIMITS[given.library](given.threads, given.precision)}))


if __name__ == '__main__':
    main()
