"""Weight sharing: the weights of a kernel are a few numbers, and which of them each weight is stays.

Weights fall into clusters by k-means, each kernel by itself. Where the kernel stood among the parameters is then a
codebook, which is trained on: the gradient of a number is the sum over the weights of its cluster (eq. 3 of the paper).
Zeros are no cluster, and stay zeros: of 2 ** bits codes the first is zero. Codes are kept among the statistics:
{'shared': {'dense1.kernel': codes}}, as whole floats, which a mean over devices leaves as they are.

Reference: Han, Mao, Dally, Deep Compression: Compressing Deep Neural Networks with Pruning, Trained Quantization and
Huffman Coding, ICLR 2016, sec. 3.
"""

import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from kdjax.compress import masks
from kdjax.errors import UsageError, unknown
from kdjax.types import Array, Net, Outputs, Tree

SHARED = 'shared'  # what the statistics have the codes under
ROUNDS = 1000  # of k-means, at most
Bits = int | Mapping[str, int]  # of the codes of every kernel; or by path of those that are shared


@functools.partial(jax.jit, static_argnames='count')
def clustered(values: Array, there: Array, count: int) -> tuple[Array, Array]:
    """k-means of numbers: rounds of assigning each to the nearest centre and moving centres to their means.

    Centres begin evenly between the smallest and the largest number (sec. 3.2, 'linear': the few large weights, which
    matter, keep centres of their own). A centre that nothing is nearest to stays. Halfway, the larger one is nearer.

    Args:
      values: (N,) floats.
      there: (N,) which of them count.
      count: of centres.

    Returns:
      Centres (count,), ascending, and of every value the position (N,) of the nearest.
    """
    low = jnp.min(jnp.where(there, values, jnp.inf))
    high = jnp.max(jnp.where(there, values, -jnp.inf))
    start = jnp.where(jnp.any(there), jnp.linspace(low, high, count, dtype=values.dtype), jnp.zeros(count))
    weights, parts = there.astype(values.dtype), jnp.where(there, values, jnp.zeros_like(values))

    def nearest(centres: Array) -> Array:
        return jnp.searchsorted((centres[1:] + centres[:-1]) / 2, values, side='right')

    def moved(centres: Array) -> Array:
        codes = nearest(centres)
        sizes, sums = (jax.ops.segment_sum(each, codes, count) for each in (weights, parts))
        return jnp.where(sizes > 0, sums / jnp.maximum(sizes, 1), centres)

    def goes_on(state: tuple[Array, Array, Array]) -> Array:
        before, now, rounds = state
        return jnp.any(before != now) & (rounds < ROUNDS)

    def once(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        _, now, rounds = state
        return now, moved(now), rounds + 1

    _, centres, _ = jax.lax.while_loop(goes_on, once, (start, moved(start), jnp.int32(0)))
    return centres, nearest(centres)


def check(bits: Bits) -> None:
    """Raises UsageError where a kernel cannot have such codes."""
    for number in bits.values() if isinstance(bits, Mapping) else [bits]:
        if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= 8:
            raise UsageError(f'bits of shared weights must be a whole number from 1 to 8, got {number!r}')


def with_codebooks(variables: Tree, bits: Bits) -> Tree:
    """Variables of a network as those of `shared`: codebooks stand where kernels stood.

    Args:
      variables: of one network.
      bits: of codes; of all kernels that pruning would prune, or by path ('dense1/kernel').

    Raises:
      UsageError: no such kernel, none at all, or no such number of bits; variables are no dictionaries.
    """
    if not isinstance(variables['stats'], Mapping) or not isinstance(variables['params'], Mapping):
        raise UsageError('weights are shared of a network whose params and stats are dictionaries')
    check(bits)
    params, named = variables['params'], {}
    leaves = [(_path(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(params)]
    kernels = dict(leaves[place] for place in masks.kernel_places(params))
    chosen = bits if isinstance(bits, Mapping) else dict.fromkeys(kernels, bits)
    if not chosen:
        raise UsageError('there is nothing to share: the network has no kernel')
    codes = {}
    for path, number in chosen.items():
        if path not in kernels:
            raise unknown('kernel', path, kernels, ' whose weights can be shared')
        named[path], codes[_key(path)] = _coded(jnp.asarray(kernels[path]), number)
    structure = jax.tree.structure(params)
    shared_params = jax.tree.unflatten(structure, [named.get(path, leaf) for path, leaf in leaves])
    return {**variables, 'params': shared_params, 'stats': {**variables['stats'], SHARED: codes}}


def _coded(kernel: Array, bits: int) -> tuple[Array, Array]:
    flat = kernel.ravel()
    centres, nearest = clustered(flat, flat != 0, 2**bits - 1)
    codes = jnp.where(flat != 0, nearest + 1, jnp.zeros_like(nearest)).astype(jnp.float32)
    return centres, codes.reshape(kernel.shape)


def kernel(codebook: Array, codes: Array) -> Array:
    """The weights that codes stand for. In the shape of the codes."""
    places = codes.astype(jnp.int32)
    return jnp.where(places > 0, codebook[jnp.maximum(places - 1, 0)], jnp.zeros((), codebook.dtype))


def shared(net: Net, bits: Bits) -> Net:
    """`net` with shared weights; its variables are `with_codebooks`."""

    def init(key: Array, inputs: Tree) -> Tree:
        return with_codebooks(net.init(key, inputs), bits)

    def apply(variables: Tree, inputs: Tree, *, train: bool, key: Array | None) -> tuple[Outputs, Tree]:
        outputs, stats = net.apply(plain(variables), inputs, train=train, key=key)
        return outputs, {**stats, SHARED: variables['stats'][SHARED]}

    return Net(init, apply, net.taps, net.names)


def plain(variables: Tree) -> Tree:
    """Variables of the network itself: with kernels in the place of codebooks."""
    codes = variables['stats'][SHARED]

    def of(path: Any, leaf: Array) -> Array:
        key = _key(_path(path))
        return kernel(leaf, codes[key]) if key in codes else leaf

    stats = {name: leaf for name, leaf in variables['stats'].items() if name != SHARED}
    return {**variables, 'params': jax.tree_util.tree_map_with_path(of, variables['params']), 'stats': stats}


def coded(params: Tree, codes: Mapping[str, Array]) -> dict[int, Array]:
    """Codes by the position of their codebook among the leaves of `params`."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    keys = [_key(_path(path)) for path, _ in leaves]
    return {place: codes[key] for place, key in enumerate(keys) if key in codes}


def bits_of(codebook: Array) -> int:
    """Of the codes of a codebook."""
    return math.ceil(math.log2(len(codebook) + 1))


def _path(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator='/')


def _key(path: str) -> str:
    return path.replace('/', '.')
