"""Zeros: which weights go, when, and that they stay away.

No mask is kept beside the weights: a weight that is zero is gone. So what was pruned in one fit stays pruned in all
that follow, and a file of weights says all.

Reference: Han, Pool, Tran, Dally, Learning both Weights and Connections for Efficient Neural Networks, NIPS 2015 (by
magnitude); Zhu, Gupta, To Prune, or Not to Prune, 2017 (the schedule); Mishra et al., Accelerating Sparse Deep Neural
Networks, 2021 (N of M); Evci, Gale, Menick, Castro, Elsen, Rigging the Lottery, ICML 2020 (regrowth).
"""

import fnmatch
import functools
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from kdjax.compress.quantized import ROUNDING
from kdjax.compress.selection import as_bits, smallest, smallest_of_bits
from kdjax.errors import UsageError, unknown
from kdjax.types import Array, Tree

SCOPES = ('layer', 'global', 'N:M', 'keep')
# Parameters of two axes and more that no product has as its weights: vectors of words and places, biases.
NO_KERNELS = ('bias', 'scale', 'table', 'embedding', 'positions', 'types', 'pos_embed', 'class_token', 'cls_token',
              'dist_token')  # fmt: skip


class Pruning(NamedTuple):
    """State of `pruned`: updates so far, and the share of zeros at the start: () of all, or (kernels,) of each."""

    step: Array
    start: Array


class Regrowth(NamedTuple):
    """State of `regrown`: that of the optimiser within, updates so far, which weights of each kernel are there."""

    inner: Tree
    step: Array
    present: tuple[Array, ...]


def cubic(step: Array, target: Array | float, begin: float, end: float, start: Array | float = 0.0) -> Array:
    """Sparsity at a step: s_f + (s_i - s_f) (1 - (t - t_0) / (t_1 - t_0))^3 (Zhu, Gupta, eq. 1).

    Args:
      step: t, in steps as `begin` and `end` are.
      target: s_f, share of zeros at and after `end`.
      begin, end: t_0 and t_1; where they are one, it is a single jump.
      start: s_i, share of zeros up to `begin`.
    """
    left = 1 - jnp.clip((jnp.asarray(step).astype(float) - begin) / max(end - begin, 1e-9), 0, 1)
    return target + (start - target) * left**3


def magnitude(kernels: Sequence[Array], sparsity: Array | float, scope: str) -> list[Array]:
    """Which weights stay where a share of them goes, those of the smallest size.

    Args:
      kernels: of a network.
      sparsity: () share that goes, or of 'layer' (kernels,) of each; rounded to whole weights, half to even.
      scope: 'layer', that share of every kernel, or 'global', of all together.
    """
    sizes = [jnp.abs(kernel) for kernel in kernels]
    parts = [sizes] if scope == 'global' else [[size] for size in sizes]
    shares = jnp.broadcast_to(jnp.asarray(sparsity, jnp.float32), (len(parts),))
    gone = [mask for part, share in zip(parts, shares, strict=True)
            for mask in smallest(part, _count(share, sum(size.size for size in part)))]  # fmt: skip
    return [~mask for mask in gone]


def _count(share: Array | float, size: int) -> Array:
    return jnp.round(jnp.asarray(share, jnp.float32) * size).astype(jnp.int32)


def n_of_m(kernel: Array, n: int | Array, m: int) -> Array:
    """Which weights stay where of every M in a row, along the inputs, the N largest do.

    Args:
      kernel: (..., I, O); M divides I.
      n: () how many stay.
      m: of how many.
    """
    blocks = jnp.abs(jnp.moveaxis(kernel, -2, -1))
    blocks = blocks.reshape(*blocks.shape[:-1], -1, m)
    one, other = blocks[..., :, None], blocks[..., None, :]
    first = jnp.tril(jnp.ones((m, m), bool), -1)  # of equal ones the first is the larger
    rank = jnp.sum((other > one) | ((other == one) & first), axis=-1)
    return jnp.moveaxis((rank < n).reshape(*blocks.shape[:-2], -1), -1, -2)


def channels(kernel: Array, share: Array | float) -> Array:
    """Which output channels (last axis) stay where the share of the smallest Euclidean norms goes. As the kernel."""
    norms = jnp.sqrt(jnp.sum(jnp.square(kernel), axis=tuple(range(kernel.ndim - 1))))
    (gone,) = smallest([norms], _count(share, norms.size))
    return jnp.broadcast_to(~gone, kernel.shape)


def kernel_places(params: Tree, dense: Sequence[str] = (), within: str = '') -> list[int]:
    """Positions among the leaves of `params` of the kernels that are pruned.

    Args:
      params: of a network.
      dense: layers that keep all their weights, by path ('head', 'layer1_0/conv1') or pattern ('*/downsample_0').
      within: the part of `params` that is the network, by name; all of it if left out.

    Raises:
      UsageError: there is no such layer.
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    paths = [jax.tree_util.keystr(path, simple=True, separator='/') for path, _ in leaves]
    start = f'{within}/' if within else ''
    numbered = enumerate(zip(paths, leaves, strict=True))
    kernels = {path.removeprefix(start): place for place, (path, (_, leaf)) in numbered
               if path.startswith(start) and leaf.ndim >= 2 and path.rpartition('/')[2] not in NO_KERNELS
               and not path.startswith(f'{start}{ROUNDING}/')}  # fmt: skip
    for name in dense:
        if not any(_names(name, path) for path in kernels):
            raise unknown('layer', name, [path.rpartition('/')[0] or path for path in kernels], ' to stay dense')
    return [place for path, place in kernels.items() if not any(_names(name, path) for name in dense)]


def _names(name: str, path: str) -> bool:
    return fnmatch.fnmatchcase(path, name) or fnmatch.fnmatchcase(path, f'{name}/*')


def n_and_m(scope: str) -> tuple[int, int] | None:
    """N and M of a scope such as '2:4'; None of another.

    Raises:
      UsageError: it is no scope.
    """
    found = re.fullmatch(r'(\d+):(\d+)', scope)
    if found and 1 <= int(found[1]) < int(found[2]):
        return int(found[1]), int(found[2])
    if found or scope not in SCOPES or scope == 'N:M':
        raise UsageError(
            f"pruning must be 'layer', 'global', 'keep', or N:M with 1 <= N < M such as '2:4', got {scope!r}"
        )
    return None


def present(kernel: Array) -> Array:
    """Which weights are there: those that are not zero. A kernel of zeros alone has not begun yet, and is dense."""
    there = kernel != 0
    return there | ~jnp.any(there)


def _gone(kernels: Sequence[Array], scope: str) -> Array:
    """The share of weights that are not there: of every kernel where they are pruned by 'layer', else of all."""
    gone = jnp.asarray([jnp.sum(~present(kernel), dtype=jnp.float32) for kernel in kernels], jnp.float32)
    sizes = jnp.asarray([kernel.size for kernel in kernels], jnp.float32)
    return gone / sizes if scope == 'layer' else jnp.sum(gone) / jnp.maximum(jnp.sum(sizes), 1)


def refilled(params: Tree, dense: Tree) -> Tree:
    """Parameters with those of `dense` where weights of kernels are zero."""
    leaves, others, structure = _flat(params, dense)
    for place in kernel_places(params):
        leaves[place] = jnp.where(leaves[place] == 0, others[place], leaves[place])
    return jax.tree.unflatten(structure, leaves)


def pruned(
    scope: str, *, steps: int, begin: float = 0.0, end: float = 0.6, every: int = 10, dense: Sequence[str] = ()
) -> optax.GradientTransformationExtraArgs:
    """Changes updates so that after them weights are zero, those that were smallest before, and stay it.

    It is the last of a chain. Gradients and moments stay dense. Zeros at the start stay zeros, and their share is where
    the schedule starts. `update` takes `sparsity`, a traced share.

    Args:
      scope: 'layer' or 'global' (`magnitude`), '2:4' and the like (`n_of_m`, drawn once, at `begin`), or 'keep': no
        weight goes that is not gone.
      steps: length of the run.
      begin, end: of the schedule (`cubic`), as shares of the run.
      every: steps between draws of the mask; it is drawn in the last step too.
      dense: layers that keep all their weights (`kernel_places`).

    Raises:
      UsageError: an unknown scope or layer, or M that does not divide the inputs of a kernel.
    """
    blocks, first, last = n_and_m(scope), begin * steps, end * steps

    def init(params: Tree) -> Pruning:
        leaves = jax.tree.leaves(params)
        kernels = [leaves[place] for place in kernel_places(params, dense)]
        _check_blocks(params, kernels, blocks)
        return Pruning(jnp.zeros((), jnp.int32), _gone(kernels, scope))

    def drawn(kernels: Sequence[Array], due: Array, share: Array) -> list[Array]:
        """Which weights stay: all where it is not time."""
        if blocks:
            draw = functools.partial(lambda kernels: [n_of_m(kernel, *blocks) for kernel in kernels], kernels)
        else:
            draw = functools.partial(magnitude, kernels, share, scope)
        return jax.lax.cond(due, draw, lambda: [jnp.ones(kernel.shape, bool) for kernel in kernels])

    def update(
        updates: Tree, state: Pruning, params: Tree = None, *, sparsity: Array | None = None, **_: Any
    ) -> tuple[Tree, Pruning]:
        places, (old, moves, structure) = kernel_places(params, dense), _flat(params, updates)
        there = [present(old[place]) for place in places]
        kept = there
        if scope != 'keep' and places:
            now = state.step - round(first)
            due = now == 0 if blocks else (now >= 0) & ((now % every == 0) | (state.step == steps - 1))
            share = cubic(state.step, 0.0 if sparsity is None else sparsity, first, last, state.start)
            # Of the weights as the step finds them, which are in memory anyhow: it costs a third less.
            stay = drawn([old[place] for place in places], _together(due), share)
            kept = [a & b for a, b in zip(there, stay, strict=True)]
        for place, mask in zip(places, kept, strict=True):
            moves[place] = jnp.where(mask, moves[place], -old[place])
        return jax.tree.unflatten(structure, moves), Pruning(state.step + 1, state.start)

    return optax.GradientTransformationExtraArgs(init, update)


def regrown(
    inner: optax.GradientTransformationExtraArgs,
    *,
    steps: int,
    until: float = 0.75,
    every: int = 100,
    exchanged: float = 0.3,
    dense: Sequence[str] = (),
    within: str = '',
) -> optax.GradientTransformationExtraArgs:
    """`inner`, of a network that is sparse from the first step on, and whose connections move.

    In the first step every kernel loses its smallest weights, to the share `sparsity`, a traced argument of `update`.
    Every so often the smallest of those that are there go, and as many come back, as zeros, where the gradient is
    largest (RigL, Alg. 1; a step that does so does nothing else).

    Args:
      inner: whose updates are changed; it is given the gradients.
      steps: length of the run.
      until: share of the run after which connections stay.
      every: steps between exchanges, Delta T.
      exchanged: alpha, the share that is exchanged at first; it falls to 0 as a cosine.
      dense, within: layers that keep all their weights, and what the network is of all parameters (`kernel_places`).
    """
    stop = until * steps

    def init(params: Tree) -> Regrowth:
        leaves = jax.tree.leaves(params)
        there = tuple(present(leaves[place]) for place in kernel_places(params, dense, within))
        return Regrowth(inner.init(params), jnp.zeros((), jnp.int32), there)

    def update(
        updates: Tree, state: Regrowth, params: Tree = None, *, sparsity: Array, **extra: Any
    ) -> tuple[Tree, Regrowth]:
        gradients = jax.tree.leaves(updates)
        updates, after = inner.update(updates, state.inner, params, sparsity=sparsity, **extra)
        places, (old, moves, structure) = kernel_places(params, dense, within), _flat(params, updates)
        begins = state.step == 0
        due = _together(~begins & (state.step % every == 0) & (state.step.astype(jnp.float32) < stop))
        begins = _together(begins)
        moves = [jnp.where(due, jnp.zeros_like(move), move) for move in moves]
        share = 0.5 * exchanged * (1 + jnp.cos(jnp.pi * state.step.astype(jnp.float32) / max(stop, 1.0)))
        found = []
        for place, there in zip(places, state.present, strict=True):
            chosen = jax.lax.cond(
                due,
                functools.partial(_exchanged, jnp.abs(old[place]), jnp.abs(gradients[place]), there, share),
                functools.partial(_begun, old[place], there, begins, sparsity),
            )
            stays = there & chosen
            moves[place] = jnp.where(stays, moves[place], -old[place])
            found.append(chosen)
        return jax.tree.unflatten(structure, moves), Regrowth(after, state.step + 1, tuple(found))

    return optax.GradientTransformationExtraArgs(init, update)


@jax.custom_batching.custom_vmap
def _together(due: Array) -> Array:
    """Whether masks are drawn, which all cells of a grid do at once: they are at the same step.

    So a branch stays a branch under `vmap`. As a choice of every cell by itself it would be taken in every step.
    """
    return due


@_together.def_vmap
def _one_for_all(axis_size: int, in_batched: list[bool], due: Array) -> tuple[Array, bool]:
    del axis_size
    return (due[0] if in_batched[0] else due), False


def _begun(kernel: Array, there: Array, begins: Array, sparsity: Array) -> Array:
    return jax.lax.cond(begins, lambda: there & magnitude([kernel], sparsity, 'layer')[0], lambda: there)


def _exchanged(sizes: Array, gradient: Array, there: Array, share: Array) -> Array:
    """Which weights are there after the smallest went, and as many came whose gradient is largest. As `sizes`."""
    count = jnp.round(share * jnp.sum(there).astype(jnp.float32)).astype(jnp.int32)
    count = jnp.minimum(count, jnp.sum(~there).astype(jnp.int32))
    width = jnp.finfo(sizes.dtype).bits
    absent = jnp.full(sizes.shape, jnp.iinfo(f'int{width}').max, f'int{width}')
    (gone,) = smallest_of_bits([jnp.where(there, as_bits(sizes), absent)], count, width - 1)
    left = there & ~gone
    # The largest are those that are not among the smallest; who stays is smaller than all.
    keys = jnp.where(left, jnp.zeros_like(absent), as_bits(gradient) + 1)
    (others,) = smallest_of_bits([keys], keys.size - count, width - 1)
    return left | ~others


def _flat(params: Tree, updates: Tree) -> tuple[list[Array], list[Array], Any]:
    leaves, structure = jax.tree.flatten(params)
    return leaves, jax.tree.leaves(updates), structure


def _check_blocks(params: Tree, kernels: Sequence[Array], blocks: tuple[int, int] | None) -> None:
    """M must divide the inputs of every kernel, or what hardware multiplies would not be what was trained."""
    for kernel in kernels:
        if blocks and kernel.shape[-2] % blocks[1]:
            path = next(jax.tree_util.keystr(path, simple=True, separator='/')
                        for path, leaf in jax.tree_util.tree_leaves_with_path(params) if leaf is kernel)  # fmt: skip
            raise UsageError(
                f'pruning {blocks[0]}:{blocks[1]} needs inputs of every kernel to be a multiple of {blocks[1]}, and '
                f'{path} is {kernel.shape}: name its layer in dense'
            )
