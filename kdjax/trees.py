"""Arithmetic and identity of pytrees."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.types import Array, Tree


def count(tree: Tree) -> int:
    """Number of scalars in `tree`."""
    return sum(int(np.prod(np.shape(leaf))) for leaf in jax.tree.leaves(tree))


def nbytes(tree: Tree) -> int:
    """Bytes that the leaves of `tree` take."""
    return sum(int(np.prod(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def stack(trees: Sequence[Tree]) -> Tree:
    """Trees of one structure as one tree with a new leading axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def take(tree: Tree, index: Any) -> Tree:
    """The entries `index` of every leaf's leading axis."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


def add(left: Tree, right: Tree) -> Tree:
    """Leaf-wise sum."""
    return jax.tree.map(jnp.add, left, right)


def norm(tree: Tree) -> Array:
    """Euclidean norm over all leaves, in float32; 0 for an empty tree."""
    squares = [jnp.sum(jnp.square(leaf.astype(jnp.float32))) for leaf in jax.tree.leaves(tree)]
    return jnp.sqrt(sum(squares, jnp.zeros((), jnp.float32)))


def detached(tree: Tree) -> Tree:
    """A copy on the host that later donation of `tree` cannot overwrite."""
    return jax.tree.map(lambda leaf: np.array(leaf, copy=True), tree)


def fingerprint(tree: Tree) -> str:
    """Hash of structure, dtypes, shapes and every bit of `tree` (16 hex digits)."""
    digest = hashlib.sha256(str(jax.tree.structure(tree)).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(leaf)
        digest.update(f'{jax.tree_util.keystr(path)} {array.dtype} {array.shape}'.encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]


def digest(value: Any) -> str:
    """Hash of a JSON-able value, independent of key order (16 hex digits)."""
    text = json.dumps(value, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f'cannot hash {type(value).__name__}: {value!r}')
