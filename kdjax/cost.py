"""What a network costs in use: parameters, bytes, FLOPs, latency."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import jaxpr_as_fun

from kdjax import trees
from kdjax.compress import products, sizes
from kdjax.errors import UsageError
from kdjax.metrics import Metric
from kdjax.types import Array, Net, Outputs, Tree


class Cost(NamedTuple):
    """Cost of inference on the machine that measured it."""

    params: int
    bytes: int  # of parameters and batch statistics, as held in memory
    flops: int  # of one example's forward pass, as counted on the unoptimised program
    latency_ms: dict[str, float]  # median wall milliseconds of a whole batch, by batch size


FEWEST, ENOUGH = 5, 3.0  # calls that a latency is the median of at least, and seconds after which they are enough
# Of networks that were made smaller. No row of zeros has a latency of its own: nothing here skips them.
COMPRESSION = (
    Metric('nonzeros', 'nonzero parameters', '', 'lower', 0, 'nonzeros'),
    Metric('bits_per_weight', 'bits per weight', '', 'lower', 2, 'bits'),
    Metric('stored_bytes', 'bytes as stored', 'bytes', 'lower', 0, 'stored'),
    Metric('indexed_bytes', 'bytes of nonzeros with their places', 'bytes', 'lower', 0, 'indexed'),
    Metric('deflated_bytes', 'bytes deflated', 'bytes', 'lower', 0, 'deflated'),
    Metric('huffman_bytes', 'bytes of those in Huffman codes', 'bytes', 'lower', 0, 'Huffman'),
    Metric('entropy_bytes', 'bytes at least, by entropy', 'bytes', 'lower', 0, 'entropy'),
    Metric('macs', 'multiplications', '', 'lower', 0, 'MACs'),
    Metric('macs_effective', 'multiplications of nonzeros', '', 'lower', 0, 'nonzero MACs'),
    Metric('bops', 'bit operations', '', 'lower', 0, 'BOPs'),
)


def compression(net: Net, variables: Tree, example: Tree) -> dict[str, float]:
    """What of `COMPRESSION` is known of a network: without multiplications where its products cannot be found."""
    return compressions(net, [variables], example)[0]


def compressions(net: Net, several: Sequence[Tree], example: Tree) -> list[dict[str, float]]:
    """The same of several variables of one network."""
    try:
        sites = products.sites(net, several[0], _copies(example, 1))
    except UsageError:  # such as those of an LSTM, inside of a loop
        sites = []
    found = []
    for variables in several:
        size = sizes.size_of(variables)
        known = {'nonzeros': size.nonzeros, 'bits_per_weight': size.bits_per_weight, 'stored_bytes': size.bytes,
                 'indexed_bytes': size.indexed, 'deflated_bytes': size.deflated, 'huffman_bytes': size.huffman,
                 'entropy_bytes': size.entropy}  # fmt: skip
        known |= sizes.work(sites, variables)._asdict() if sites else {}
        found.append({name: float(value) for name, value in known.items()})
    return found


def cost_of(
    net: Net,
    variables: Tree,
    example: Tree,
    batch_sizes: tuple[int, ...] = (1, 128),
    served: Callable[[Outputs], Array] = lambda outputs: outputs.logits,
) -> Cost:
    """Measures `net` on copies of `example` (without batch axis), up to what is `served` of its outputs."""
    forward = jax.jit(lambda variables, inputs: served(net.apply(variables, inputs, train=False, key=None)[0]))
    return Cost(
        trees.count(variables['params']),
        trees.nbytes(variables),
        flops(forward, variables, _copies(example, 1)),
        {str(size): latency_ms(forward, variables, _copies(example, size)) for size in batch_sizes},
    )


def _copies(example: Tree, size: int) -> Tree:
    """A batch of copies of an example."""
    return jax.tree.map(lambda leaf: np.repeat(np.asarray(leaf)[None], size, axis=0), example)


def flops(forward: Any, variables: Tree, inputs: Tree) -> int:
    """Floating-point operations of a jitted function."""
    return int(counted(forward, variables, inputs)['flops'])


def counted(function: Any, *arguments: Any) -> dict[str, float]:
    """What the program of a jitted function does as it is written: 'flops', 'bytes accessed', ...

    XLA cannot count what a library does for it. The program counted is therefore not the one of a CPU, whose
    convolutions may be oneDNN's. Of a `scan`, as of an LSTM, it counts the body once; here it counts as often as it
    runs.
    """
    traced = function.trace(*arguments)
    total = _analysed(traced)
    for body, length in _scans(traced.jaxpr.jaxpr):
        once = jax.jit(jaxpr_as_fun(body))
        shapes = [jax.ShapeDtypeStruct(each.shape, each.dtype) for each in body.in_avals]
        whole, seen = counted(once, *shapes), _analysed(once.trace(*shapes))
        for name in ('flops', 'bytes accessed'):
            total[name] = total.get(name, 0.0) + length * whole.get(name, 0.0) - seen.get(name, 0.0)
    return total


def _analysed(traced: Any) -> dict[str, float]:
    """What XLA counts."""
    return dict(traced.lower(lowering_platforms=('cuda',)).cost_analysis())


def _scans(jaxpr: Any) -> Iterator[tuple[Any, int]]:
    """Bodies of the outermost scans of a program, and how often each runs."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == 'scan':
            yield equation.params['jaxpr'], equation.params['length']
            continue
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else (value,):
                if hasattr(inner, 'jaxpr'):
                    yield from _scans(inner.jaxpr)
                elif hasattr(inner, 'eqns'):
                    yield from _scans(inner)


def latency_ms(forward: Any, variables: Tree, inputs: Tree, rounds: int = 30) -> float:
    """Median wall time of a warm call, host to host, in milliseconds; of fewer calls where they are slow."""
    variables, inputs = jax.device_put((variables, inputs))
    jax.device_get(forward(variables, inputs))
    seconds: list[float] = []
    while len(seconds) < FEWEST or (len(seconds) < rounds and sum(seconds) < ENOUGH):
        start = time.perf_counter()
        jax.device_get(forward(variables, inputs))
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds) * 1e3


def check_memory(what: str, needed: float, there: int, advice: str) -> None:
    """Raises UsageError where something takes more bytes than there are."""
    if needed > there:
        raise UsageError(f'{what} takes {needed / 1e9:.3g} GB, and there are {there / 1e9:.3g}; {advice}')
