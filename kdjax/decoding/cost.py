"""What it costs to write: a sentence at a time, greedily and by a search, and many sentences at once."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from kdjax.metrics import Metric
from kdjax.types import Array, Generator, Net, Tree

COSTS = (
    Metric('decoder_layers', 'layers of the decoder', '', 'lower', 0),
    Metric('decoder_steps', 'steps of the decoder for a sentence', '', 'lower', 0, 'steps'),
    Metric('ms_per_sentence', 'greedy, one sentence', 'ms', 'lower', 2),
    Metric('ms_per_sentence_beam', 'search, one sentence', 'ms', 'lower', 2),
    Metric('written_per_second', 'tokens written, 64 sentences at once', '1/s', 'higher', 0, 'written'),
)
MANY, ROUNDS = 64, 15  # sentences that are written at once, and how often times are taken

Write = Callable[[Net, Tree, Array, int], Array]  # with a search of so many texts, tokens (B, T)


def costs(net: Net, variables: Tree, source: Array, write: Write, width: int) -> dict[str, float]:
    """Columns of COSTS, of a network that has a generator.

    Args:
      net, variables: the network.
      source: of one sentence, (M,).
      write: what it writes of several.
      width: of the search.
    """
    one, many = (np.repeat(np.asarray(source)[None], count, axis=0) for count in (1, MANY))
    greedy, searched = (jax.jit(lambda given, source, width=width: write(net, given, source, width))
                        for width in (1, width))  # fmt: skip
    variables = jax.device_put(variables)
    steps = int(np.sum(np.asarray(greedy(variables, one)) > 0))
    return {
        'decoder_layers': float(_layers(net.generator, variables, one)),
        'decoder_steps': float(steps),
        'ms_per_sentence': _milliseconds(greedy, variables, one),
        'ms_per_sentence_beam': _milliseconds(searched, variables, one),
        'written_per_second': MANY * steps / _milliseconds(greedy, variables, many) * 1e3,
    }


def _layers(generator: Generator | None, variables: Tree, source: Any) -> int:
    assert generator is not None
    return len(jax.eval_shape(lambda given, source: generator.start(given, source, 1), variables, source).rest.past)


def _milliseconds(run: Any, *arguments: Any) -> float:
    """Median wall time of a warm call, host to host."""
    jax.device_get(run(*arguments))
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        jax.device_get(run(*arguments))
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds) * 1e3
