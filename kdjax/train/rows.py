"""Tables of narrow rows, such as those of a recommender, as processors go over them fast: end to end.

XLA's programs for CPUs go over an array by its dimensions. A last one of a few numbers becomes a loop that is written
out and not vectorised; where an array is also changed in its place, as parameters and moments are from step to step, an
update takes up to three times as long. So such tables are carried end to end, and changed so.
"""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

import jax
import optax
from flax import struct

from kdjax.types import Array, Tree

NARROW, LARGE = 32, 2**14  # numbers of a row, below, and of a table, at least

_laid = contextvars.ContextVar('tables end to end', default=False)


@struct.dataclass
class Rows:
    """A table end to end, (1, N), and the shape that it has."""

    flat: Array
    shape: tuple[int, ...] = struct.field(pytree_node=False)


def laid(tree: Tree) -> Tree:
    """`tree` with narrow tables as `Rows`, on a CPU; as it is elsewhere."""
    if jax.default_backend() != 'cpu':
        return tree
    return jax.tree.map(lambda leaf: Rows(_end_to_end(leaf), leaf.shape) if _narrow(leaf) else leaf, tree)


def whole(tree: Tree) -> Tree:
    """The tree of which `laid` has made this."""

    def of(node: Any) -> Any:
        return node.flat.reshape(node.shape) if isinstance(node, Rows) else node

    return jax.tree.map(of, tree, is_leaf=lambda node: isinstance(node, Rows))


@contextlib.contextmanager
def carried() -> Iterator[None]:
    """In it states are carried as `laid` makes them: what is `by_element` changes them so."""
    token = _laid.set(jax.default_backend() == 'cpu')
    try:
        yield
    finally:
        _laid.reset(token)


def by_element(inner: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """`inner`, which changes each number by itself and reads no shapes but how many dimensions there are.

    Anywhere but on tables that are carried end to end, that form is the slower one.
    """

    transformation = optax.with_extra_args_support(inner)

    def update(updates: Tree, state: Tree, params: Tree = None, **extra: Any) -> tuple[Tree, Tree]:
        if not _laid.get():
            return transformation.update(updates, state, params, **extra)
        flat = [jax.tree.map(_end_to_end_if_narrow, tree) for tree in (updates, state, params)]
        moved, after = transformation.update(*flat, **extra)
        return _shaped(moved, params), _shaped(after, state)

    return optax.GradientTransformationExtraArgs(inner.init, update)


def _narrow(leaf: Any) -> bool:
    return leaf.ndim > 1 and leaf.shape[-1] < NARROW and leaf.size >= LARGE


def _end_to_end(leaf: Array) -> Array:
    return leaf.reshape(1, -1)  # two dimensions still: with one it would be taken for a bias


def _end_to_end_if_narrow(leaf: Array) -> Array:
    return _end_to_end(leaf) if _narrow(leaf) else leaf


def _shaped(tree: Tree, like: Tree) -> Tree:
    return jax.tree.map(lambda leaf, old: leaf.reshape(old.shape), tree, like)
