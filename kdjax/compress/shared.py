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
import numpy as np

from kdjax.compress import masks
from kdjax.errors import UsageError, unknown
from kdjax.types import Array, Generator, Net, Outputs, Tree

SHARED = 'shared'  # what the statistics have the codes under
Bits = int | Mapping[str, int]  # of the codes of every kernel; or by path of those that are shared


def clustered(values: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """k-means of numbers: rounds of assigning each to the nearest centre and moving centres to their means.

    Centres begin evenly between the smallest and the largest number (sec. 3.2, 'linear': the few large weights, which
    matter, keep centres of their own). A centre that nothing is nearest to stays. Halfway, the larger one is nearer.

    Args:
      values: (N,) floats; centres of none are zero.
      count: of centres.

    Returns:
      Centres (count,), ascending, and of every value the position (N,) of the nearest.
    """
    if not values.size:
        return np.zeros(count), np.zeros(0, int)
    ordered = np.sort(values.astype(np.float64))
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    centres, before = np.linspace(ordered[0], ordered[-1], count), np.full(count + 1, -1)
    while not np.array_equal(borders := _borders(ordered, centres), before):
        sizes, before = np.diff(borders), borders
        centres = np.where(sizes > 0, np.diff(sums[borders]) / np.maximum(sizes, 1), centres)
    return centres, np.searchsorted(_halfway(centres), values, side='right')


def _borders(ordered: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Where the numbers of each centre begin and end."""
    return np.concatenate([[0], np.searchsorted(ordered, _halfway(centres)), [ordered.size]])


def _halfway(centres: np.ndarray) -> np.ndarray:
    return (centres[1:] + centres[:-1]) / 2


def check(bits: Bits) -> None:
    """Raises UsageError where a kernel cannot have such codes."""
    for number in bits.values() if isinstance(bits, Mapping) else [bits]:
        if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= 8:
            raise UsageError(f'bits of shared weights must be a whole number from 1 to 8, got {number!r}')


def with_codebooks(variables: Tree, bits: Bits) -> Tree:
    """Variables of a network as those of `shared`: codebooks stand where kernels stood.

    Args:
      variables: of one network, on the host.
      bits: of codes; of all kernels that pruning would prune, or by path ('dense1/kernel').

    Raises:
      UsageError: no such kernel, none at all, or no such number of bits; variables are no dictionaries.
    """
    if not isinstance(variables['stats'], Mapping) or not isinstance(variables['params'], Mapping):
        raise UsageError('weights are shared of a network whose params and stats are dictionaries')
    kernels = dict(_leaves(variables['params']))
    chosen = _chosen(variables['params'], bits).items()
    return _replaced(variables, {path: _coded(np.asarray(kernels[path]), number) for path, number in chosen})


def _chosen(params: Tree, bits: Bits) -> Mapping[str, int]:
    """The bits of every kernel that is shared, by path."""
    check(bits)
    leaves = _leaves(params)
    kernels = [leaves[place][0] for place in masks.kernel_places(params)]
    chosen = bits if isinstance(bits, Mapping) else dict.fromkeys(kernels, bits)
    if not chosen:
        raise UsageError('there is nothing to share: the network has no kernel')
    for path in chosen:
        if path not in kernels:
            raise unknown('kernel', path, kernels, ' whose weights can be shared')
    return chosen


def _coded(kernel: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """A codebook, and the codes of a kernel."""
    there, codes = kernel != 0, np.zeros(kernel.shape, np.float32)
    centres, codes[there] = clustered(kernel[there], 2**bits - 1)
    codes[there] += 1
    return centres.astype(kernel.dtype), codes


def _replaced(variables: Tree, coded: Mapping[str, tuple[Any, Any]]) -> Tree:
    """Variables with codebooks among the parameters and codes among the statistics, by path."""
    params = variables['params']
    leaves = [coded[path][0] if path in coded else leaf for path, leaf in _leaves(params)]
    stats = {**variables['stats'], SHARED: {_key(path): codes for path, (_, codes) in coded.items()}}
    return {**variables, 'params': jax.tree.unflatten(jax.tree.structure(params), leaves), 'stats': stats}


def kernel(codebook: Array, codes: Array) -> Array:
    """The weights that codes stand for. In the shape of the codes."""
    places = codes.astype(jnp.int32)
    return jnp.where(places > 0, codebook[jnp.maximum(places - 1, 0)], jnp.zeros((), codebook.dtype))


def shared(net: Net, bits: Bits) -> Net:
    """`net` with shared weights; its variables are `with_codebooks`."""

    def init(key: Array, inputs: Tree) -> Tree:
        whole = net.init(key, inputs)
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), whole)
        kernels, chosen = dict(_leaves(shapes['params'])), _chosen(whole['params'], bits)
        books = {path: jax.ShapeDtypeStruct((2**number - 1,), kernels[path].dtype) for path, number in chosen.items()}
        codes = {path: jax.ShapeDtypeStruct(kernels[path].shape, np.float32) for path in chosen}
        result = _replaced(shapes, {path: (books[path], codes[path]) for path in chosen})
        return jax.pure_callback(functools.partial(with_codebooks, bits=bits), result, whole, vmap_method='sequential')

    def apply(variables: Tree, inputs: Tree, *, train: bool, key: Array | None) -> tuple[Outputs, Tree]:
        outputs, stats = net.apply(plain(variables), inputs, train=train, key=key)
        return outputs, {**stats, SHARED: variables['stats'][SHARED]}

    return Net(init, apply, net.taps, net.names, _writing(net))


def _writing(net: Net) -> Generator | None:
    """How the network writes, with the kernels that codes stand for."""
    if net.generator is None:
        return None
    start, extend = net.generator
    return Generator(
        lambda variables, source, length, width=1: start(plain(variables), source, length, width),
        lambda variables, cache, token, t: extend(plain(variables), cache, token, t),
    )


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
    keys = [_key(path) for path, _ in _leaves(params)]
    return {place: codes[key] for place, key in enumerate(keys) if key in codes}


def bits_of(count: int) -> int:
    """Bits of the codes of a codebook of so many numbers."""
    return math.ceil(math.log2(count + 1))


def _leaves(tree: Tree) -> list[tuple[str, Any]]:
    return [(_path(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]


def _path(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator='/')


def _key(path: str) -> str:
    return path.replace('/', '.')
