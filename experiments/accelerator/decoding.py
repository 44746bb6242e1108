"""Measures how fast a translator writes, greedily and by a beam search, and whether it writes what a CPU writes.

Command: python experiments/accelerator/decoding.py [--out results/decoding.json] [--tiny]

The translator, its weights and the sentences are those of experiments/speed/decoding.py. A text is alike where all of
its tokens are: rounding may turn one, after which the rest follows, so a tenth of them may differ.
"""

import argparse
import json
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
import numpy as np

from experiments.speed import decoding
from kdjax.decoding.base import BEGIN, Limits
from kdjax.decoding.beam import Beam, search
from kdjax.decoding.greedy import greedy
from kdjax.train import ledger

BATCHES, COMPARED = (64, 1024), 64  # sentences; those that a CPU writes too
ALIKE = 0.9  # share of these texts that are to be the same


def writer(net: Any, width: int, alpha: float = decoding.ALPHA) -> Callable[..., jax.Array]:
    """(variables, source (B, M)) -> what is written, (B, T)."""

    def written(variables: Any, source: jax.Array) -> jax.Array:
        prompt, limits = jnp.full((len(source), 1), BEGIN, jnp.int32), Limits(decoding.LENGTH)
        if width == 1:
            return greedy(net.generator, variables, source, prompt, limits).tokens
        return search(net.generator, variables, source, prompt, limits, Beam(width, 'gnmt', alpha)).tokens[:, 0]

    return jax.jit(written)


def measured(width: int, batch: int, rounds: int, small: dict[str, Any]) -> dict[str, Any]:
    """Of a beam of so many, 1 being greedy: seconds, tokens a second, and the share that a CPU writes alike."""
    made, variables = decoding.made(**small)
    source = decoding.sentences(batch, {**decoding.NET, **small}['vocabulary'])
    write, seconds = writer(made, width), []
    with jax.default_matmul_precision('highest'):
        start = time.perf_counter()
        texts = jax.device_get(write(variables, source))
        first = time.perf_counter() - start
        for _ in range(rounds):
            start = time.perf_counter()
            jax.block_until_ready(write(variables, source))
            seconds.append(time.perf_counter() - start)
        with jax.default_device(jax.devices('cpu')[0]):
            host = jax.device_put((variables, source[:COMPARED]), jax.devices('cpu')[0])
            wanted = jax.device_get(write(*host))
    alike = float(np.mean(np.all(texts[:COMPARED] == wanted, axis=1)))
    took, tokens = statistics.median(seconds), int(np.sum(texts > 0))
    row = {'width': width, 'batch': batch, 'first': first, 'seconds': seconds, 'sentences_per_s': batch / took,
           'tokens_per_s': tokens / took, 'alike': alike, 'holds': alike >= ALIKE}  # fmt: skip
    print(f'width {width}, {batch:5} sentences: {row["sentences_per_s"]:.0f} sentences/s, '
          f'{row["tokens_per_s"]:.0f} tokens/s, {alike:.0%} as on a CPU', flush=True)  # fmt: skip
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('--out', type=Path, default=HERE / 'results' / 'decoding.json')
    parser.add_argument('--tiny', action='store_true', help='a small translator, few sentences')
    given = parser.parse_args()
    small = {'vocabulary': 50, 'width': 16, 'depth': 1, 'heads': 2, 'inner': 32} if given.tiny else {}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for batch in (8,) if given.tiny else BATCHES:
        for width in decoding.WIDTHS:
            rows.append(measured(width, batch, 1 if given.tiny else 5, small))
            found = {'device': jax.devices()[0].device_kind, 'net': {**decoding.NET, **small}, 'rows': rows,
                     'versions': ledger.versions(), 'machine': ledger.machine()}  # fmt: skip
            ledger.replace(given.out, json.dumps(ledger.plain(found), indent=1) + '\n')
    sys.exit(0 if all(row['holds'] for row in rows) else 1)


if __name__ == '__main__':
    main()
