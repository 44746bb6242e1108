"""Kernels as products of smaller ones: fewer weights and fewer multiplications where a kernel has few directions.

A dense kernel becomes two (SVD), a convolution a 1x1 one, a core and a 1x1 one (Tucker-2), or a column and a row
(spatial). The network stays as it is written: where its program multiplies with the kernel, it multiplies with the
factors, one after the other.

Reference: Denton, Zaremba, Bruna, LeCun, Fergus, Exploiting Linear Structure Within Convolutional Networks for
Efficient Evaluation, NIPS 2014 (SVD); Kim, Park, Yoo, Choi, Yang, Shin, Compression of Deep Convolutional Neural
Networks for Fast and Low Power Mobile Applications, ICLR 2016 (Tucker-2); Jaderberg, Vedaldi, Zisserman, Speeding up
Convolutional Neural Networks with Low Rank Expansions, BMVC 2014, scheme 2 (spatial).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from kdjax.compress import products
from kdjax.compress.products import CONVOLUTION, DEPTHWISE, DOT, FINISHED, Site
from kdjax.cpu.convolution import ORDER, convolved
from kdjax.errors import UsageError, unknown
from kdjax.types import Array, Net, Outputs, Tree

RANK = 'factored'  # what the statistics have a traced rank under
# By path of a kernel: the rank of a dense or a spatial one; ranks of inputs and of outputs of a Tucker-2.
Ranks = Mapping[str, int | tuple[int, int]]
Factors = Mapping[str, Array]


def svd(kernel: Array, rank: int) -> Factors:
    """The nearest product of (I, r) and (r, O) to a kernel (I, O); both have the roots of the singular values."""
    u, s, v = jnp.linalg.svd(kernel, full_matrices=False)
    root = jnp.sqrt(s[:rank])
    return {'first': u[:, :rank] * root, 'last': root[:, None] * v[:rank]}


def tucker(kernel: Array, ranks: tuple[int, int]) -> Factors:
    """1x1 to r_in channels, a core, 1x1 to the outputs, of a kernel (h, w, I, O): HOSVD of its two channel axes."""
    inputs, outputs = kernel.shape[-2:]
    into = jnp.linalg.svd(jnp.moveaxis(kernel, 2, 0).reshape(inputs, -1), full_matrices=False)[0][:, : ranks[0]]
    out = jnp.linalg.svd(jnp.moveaxis(kernel, 3, 0).reshape(outputs, -1), full_matrices=False)[0][:, : ranks[1]]
    return {'first': into, 'core': jnp.einsum('hwio,ir,os->hwrs', kernel, into, out), 'last': out.T}


def spatial(kernel: Array, rank: int) -> Factors:
    """(h, 1, I, r) and (1, w, r, O) of a kernel (h, w, I, O): the nearest of their kind."""
    height, width, inputs, outputs = kernel.shape
    u, s, v = jnp.linalg.svd(_unfolded(kernel), full_matrices=False)
    root = jnp.sqrt(s[:rank])
    column = (u[:, :rank] * root).reshape(height, 1, inputs, rank)
    return {'first': column, 'last': (root[:, None] * v[:rank]).reshape(1, rank, width, outputs).swapaxes(1, 2)}


def _unfolded(kernel: Array) -> Array:
    """(h I, w O) of a kernel (h, w, I, O)."""
    height, width, inputs, outputs = kernel.shape
    return jnp.transpose(kernel, (0, 2, 1, 3)).reshape(height * inputs, width * outputs)


def composed(factors: Factors) -> Array:
    """The kernel that factors stand for."""
    first, last = factors['first'], factors['last']
    if 'core' in factors:
        return jnp.einsum('hwrs,ir,so->hwio', factors['core'], first, last)
    if first.ndim == 4:
        return jnp.einsum('hir,wro->hwio', first[:, 0], last[0])
    return first @ last


def singular_values(kernel: Array) -> Array:
    """Of a dense kernel, or of a convolution as `spatial` unfolds it, the largest first."""
    return jnp.linalg.svd(kernel if kernel.ndim == 2 else _unfolded(kernel), compute_uv=False)


def rank_of(values: np.ndarray, share: float) -> int:
    """The smallest rank whose squared singular values have at least a share of the sum of all, 0 < share <= 1."""
    if not 0 < share <= 1:
        raise UsageError(f'share of the squared singular values must be in (0, 1], got {share!r}')
    sums = np.cumsum(np.square(np.asarray(values, np.float64)))
    return int(np.searchsorted(sums, share * sums[-1] * (1 - 1e-12)) + 1)


def ranks_of_share(kernels: Mapping[str, Any], share: float, form: str = 'tucker') -> dict[str, int | tuple[int, int]]:
    """Ranks by a share of the squared singular values of every kernel, for kernels that get smaller by it.

    Args:
      kernels: by path, (I, O) or (h, w, I, O).
      share: that the factors keep, of each of the matrices that are cut.
      form: of convolutions, 'tucker' or 'spatial'.
    """
    found: dict[str, int | tuple[int, int]] = {}
    for path, kernel in kernels.items():
        ranks: int | tuple[int, int] = (
            (_cut(kernel, 2, share), _cut(kernel, 3, share)) if _is_tucker(kernel.shape, form)
            else rank_of(np.asarray(singular_values(jnp.asarray(kernel))), share)
        )  # fmt: skip
        if size(kernel.shape, ranks) < math.prod(kernel.shape):
            found[path] = ranks
    return found


def _cut(kernel: Any, axis: int, share: float) -> int:
    matrix = np.moveaxis(np.asarray(kernel), axis, 0).reshape(kernel.shape[axis], -1)
    return rank_of(np.linalg.svd(matrix, compute_uv=False), share)


def _is_tucker(shape: Sequence[int], form: str) -> bool:
    if form not in ('tucker', 'spatial'):
        raise unknown('form', form, ('tucker', 'spatial'), ' of factors')
    return form == 'tucker' and math.prod(shape[:-2]) > 1


def size(shape: Sequence[int], ranks: int | tuple[int, int]) -> int:
    """Weights of the factors of a kernel."""
    if isinstance(ranks, tuple):
        return shape[-2] * ranks[0] + math.prod(shape[:-2]) * ranks[0] * ranks[1] + ranks[1] * shape[-1]
    height, width, inputs, outputs = (1, 1, *shape)[-4:]
    return ranks * (height * inputs + width * outputs)


def ranks_of_budget(kernels: Mapping[str, Any], weights: int) -> dict[str, int | tuple[int, int]]:
    """Ranks of SVD and spatial factors that together have at most so many weights.

    Directions are taken in the order of what they add, squared and as a share of their kernel's, for a weight.

    Raises:
      UsageError: not even one direction of each kernel has room.
    """
    values = {path: np.square(np.asarray(singular_values(jnp.asarray(kernel)))) for path, kernel in kernels.items()}
    cost = {path: size(kernel.shape, 1) for path, kernel in kernels.items()}
    ranks: dict[str, int | tuple[int, int]] = dict.fromkeys(kernels, 1)
    left = weights - sum(cost.values())
    if left < 0:
        raise UsageError(f'a budget of {weights} weights has no room for one direction of each of {list(kernels)}: '
                         f'they need {sum(cost.values())}')  # fmt: skip
    gains = [(-value / max(sum(values[path]), 1e-30) / cost[path], path)
             for path in kernels for value in values[path][1:]]  # fmt: skip
    closed: set[str] = set()
    for _, path in sorted(gains):
        if path not in closed and cost[path] <= left:
            ranks[path] = int(np.add(ranks[path], 1))
            left -= cost[path]
        else:
            closed.add(path)  # later directions are worth less
    return ranks


def with_factors(variables: Tree, ranks: Ranks) -> Tree:
    """Variables of a network as those of `factored`: factors stand where the kernels stood.

    Raises:
      UsageError: no such kernel, or a rank that it cannot have.
    """
    kernels = _kernels(variables['params'], ranks)
    params = replaced(variables['params'], {path: _factors(kernels[path], ranks[path], path) for path in ranks})
    return {**variables, 'params': params}


def _factors(kernel: Array, ranks: int | tuple[int, int], path: str) -> Factors:
    dense, pair = math.prod(kernel.shape[:-2]) == 1, isinstance(ranks, tuple)
    if kernel.ndim not in (2, 4) or (dense and pair):
        raise UsageError(f'{path} of shape {kernel.shape} cannot have the ranks {ranks!r}: a dense kernel has one, a '
                         'convolution of maps one (spatial) or two (Tucker-2)')  # fmt: skip
    height, width, inputs, outputs = (1, 1, *kernel.shape)[-4:]
    most = (inputs, outputs) if pair else min(height * inputs, width * outputs)
    if not all(1 <= rank <= limit for rank, limit in zip(*map(np.atleast_1d, (ranks, most)), strict=True)):
        raise UsageError(f'rank of {path} must be from 1 to {most}, got {ranks!r}')
    if isinstance(ranks, tuple):
        return tucker(kernel, ranks)
    return svd(kernel, ranks) if kernel.ndim == 2 else spatial(kernel, ranks)


def _kernels(params: Tree, paths: Sequence[str] | Ranks) -> dict[str, Array]:
    known = {jax.tree_util.keystr(path, simple=True, separator='/'): leaf
             for path, leaf in jax.tree_util.tree_leaves_with_path(params)}  # fmt: skip
    for path in paths:
        if path not in known:
            raise unknown('kernel', path, [name for name, leaf in known.items() if leaf.ndim >= 2])
    return {path: known[path] for path in paths}


def replaced(tree: Tree, values: Mapping[str, Any], at: str = '') -> Tree:
    """A tree of dictionaries with other values at some paths."""
    if at in values:
        return values[at]
    if not isinstance(tree, Mapping):
        return tree
    return {name: replaced(node, values, f'{at}/{name}' if at else name) for name, node in tree.items()}


def with_rank(variables: Tree, rank: Array | float, ranks: Ranks) -> Tree:
    """Variables of which some factors have at most so many directions, a traced number; the others are unused."""
    own = {key_of(path): jnp.asarray(rank, jnp.float32) for path in ranks}
    return {**variables, 'stats': {**variables['stats'], RANK: {**variables['stats'].get(RANK, {}), **own}}}


def key_of(path: str) -> str:
    """What the rank of a kernel is called."""
    return path.replace('/', '.')


def factored(net: Net, ranks: Ranks) -> Net:
    """`net` with factors for some of its kernels; its variables are `with_factors`; `with_rank` where rank is traced.

    Args:
      net: of any make whose params are dictionaries.
      ranks: by path of a kernel, such as 'dense1/kernel'.

    Raises:
      UsageError: when it is traced: a kernel is used otherwise than as that of a dense layer or a convolution of maps.
    """

    def init(key: Array, inputs: Tree) -> Tree:
        return with_factors(net.init(key, inputs), ranks)

    def own_ranks(variables: Tree) -> dict[str, Array]:
        known = variables['stats'].get(RANK, {})
        return {key_of(path): known[key_of(path)] for path in ranks if key_of(path) in known}

    def used(variables: Tree) -> dict[str, Factors]:
        own = own_ranks(variables)
        return {path: _masked(node, own.get(key_of(path))) for path, node in nodes(variables['params'], ranks).items()}

    def whole(variables: Tree) -> Tree:
        """Variables of the network within."""
        own, kernels = own_ranks(variables), {path: composed(node) for path, node in used(variables).items()}
        stats = {name: leaf for name, leaf in variables['stats'].items() if name != RANK}
        rest = {name: rank for name, rank in variables['stats'].get(RANK, {}).items() if name not in own}
        return {'params': replaced(variables['params'], kernels), 'stats': {**stats, **({RANK: rest} if rest else {})}}

    def rule(variables: Tree) -> products.Rule:
        factors = used(variables)
        kernels = {path: composed(node) for path, node in factors.items()}

        def rule(site: Site, operands: Sequence[Array], product: Callable[..., list[Array]]) -> list[Array]:
            if site.path not in ranks:
                return product(*operands)
            return _through(site, operands, factors[site.path], kernels[site.path])

        return rule

    def apply(variables: Tree, inputs: Tree, *, train: bool, key: Array | None) -> tuple[Outputs, Tree]:
        own = own_ranks(variables)
        outputs, stats = products.applied(net, whole(variables), inputs, rule(variables), train=train, key=key)
        return outputs, {**stats, RANK: {**stats.get(RANK, {}), **own}} if own else stats

    return Net(init, apply, net.taps, net.names, products.writing(net, whole, rule))


def nodes(params: Tree, paths: Ranks) -> dict[str, Factors]:
    """The factors among parameters, by path of the kernel."""
    found: dict[str, Any] = {}
    for path in paths:
        found[path] = params
        for name in path.split('/'):
            found[path] = found[path][name]
    return found


def _masked(factors: Factors, rank: Array | None) -> Factors:
    """Factors without the directions beyond a traced rank."""
    if rank is None:
        return factors
    first, last = factors['first'], factors['last']
    into = (jnp.arange(first.shape[-1], dtype=jnp.float32) < rank).astype(first.dtype)
    out = (jnp.arange(last.shape[-2], dtype=jnp.float32) < rank).astype(last.dtype)
    return {**factors, 'first': first * into, 'last': last * out[:, None]}


def _through(site: Site, operands: Sequence[Array], factors: Factors, kernel: Array) -> list[Array]:
    """What the product of inputs with the kernel is, by way of its factors."""
    x, weight = operands[:2]
    factors = {name: factor.astype(x.dtype) for name, factor in factors.items()}
    if not site.same:
        # Such as with its normalisation folded in: every output channel is larger by a factor.
        leaf = kernel.reshape(weight.shape).astype(weight.dtype)
        gain = jnp.sum(weight * leaf, site.summed) / jnp.maximum(jnp.sum(leaf * leaf, site.summed), 1e-30)
        factors = {**factors, 'last': factors['last'] * gain.astype(x.dtype)}
    if site.kind == DEPTHWISE:
        raise UsageError(f'{site.path} filters each channel by itself: it has no factors')
    if site.kind == DOT:
        return [_dense(site, x, factors)]
    strides, pads, inside = _geometry(site)
    sums = _convolution(x, factors, strides, pads, inside)
    if site.kind != FINISHED:
        return [sums]
    bias, *after = operands[2:]
    found = sum((each.astype(bias.dtype) for each in after), sums.astype(bias.dtype) + bias)
    return [(jax.nn.relu(found) if site.params['relu'] else found).astype(x.dtype)]


def _dense(site: Site, x: Array, factors: Factors) -> Array:
    (axes, _), batch = site.params['dimension_numbers']
    if site.weight != 1 or site.summed != (0,) or any(batch) or len(site.shape) != 2:
        raise UsageError(f'{site.path} is multiplied as a matrix of shape {site.shape} over axes {site.summed}; '
                         'factors are of kernels (inputs, outputs)')  # fmt: skip
    # Of a kernel of one position as a matrix.
    first, last = (factors[part].reshape(factors[part].shape[-2:]) for part in ('first', 'last'))
    inner = lax.dot_general(x, first, ((axes, (0,)), ((), ())))
    return lax.dot_general(inner, last, (((inner.ndim - 1,), (0,)), ((), ())))


def _geometry(site: Site) -> tuple[Any, Any, Any]:
    """Strides, pads and dilation of a convolution."""
    given = site.params
    if site.kind != CONVOLUTION:
        return given['strides'], given['pads'], given.get('inside', (1, 1))
    numbers = given['dimension_numbers']
    if (
        len(site.shape) != 4
        or numbers != lax.conv_dimension_numbers((1, 1, 1, 1), (1, 1, 1, 1), ORDER)
        or (given['feature_group_count'] != 1 or given['batch_group_count'] != 1 or set(given['lhs_dilation']) != {1})
    ):
        raise UsageError(f'{site.path} is no kernel of a convolution of all channels of maps: it has no factors')
    return given['window_strides'], given['padding'], given['rhs_dilation']


def _convolution(x: Array, factors: Factors, strides: Any, pads: Any, inside: Any) -> Array:
    """Stride and padding belong to the core; of a column and a row each has its own side of them."""
    first, last, none = factors['first'], factors['last'], ((0, 0), (0, 0))

    def one(x: Array, kernel: Array, strides: Any, pads: Any, inside: Any) -> Array:
        return convolved(x, kernel, strides, pads, rhs_dilation=inside, dimension_numbers=ORDER)

    if 'core' in factors:
        x = one(x, first[None, None], (1, 1), none, (1, 1))
        x = one(x, factors['core'], strides, pads, inside)
        return one(x, last[None, None], (1, 1), none, (1, 1))
    x = one(x, first, (strides[0], 1), (pads[0], (0, 0)), (inside[0], 1))
    return one(x, last, (1, strides[1]), ((0, 0), pads[1]), (1, inside[1]))
