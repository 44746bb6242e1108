"""Arithmetic and identity of pytrees."""

import fnmatch
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.types import Array, Tree

PART = 2**24  # bytes that are hashed at once


def count(tree: Tree) -> int:
    """Number of scalars in `tree`."""
    return sum(math.prod(np.shape(leaf)) for leaf in jax.tree.leaves(tree))


def nbytes(tree: Tree) -> int:
    """Bytes that the leaves of `tree` take."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


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


def equal(left: Tree, right: Tree) -> bool:
    """Whether two trees of one structure hold the same numbers; not where any is nan."""
    return all(map(np.array_equal, jax.tree.leaves(left), jax.tree.leaves(right)))


def path(keys: Sequence[Any]) -> str:
    """The way to a leaf, as 'layer1/dense/kernel'."""
    return jax.tree_util.keystr(tuple(keys), simple=True, separator='/')


def under(tree: Tree, names: Sequence[str]) -> Tree:
    """Of every leaf whether it is one of `names`, or lies in one: paths ('head') or patterns ('layer4_*')."""

    def named(keys: Sequence[Any], _: Any) -> bool:
        way = path(keys)
        return any(fnmatch.fnmatchcase(way, name) or fnmatch.fnmatchcase(way, f'{name}/*') for name in names)

    return jax.tree_util.tree_map_with_path(named, tree)


def detached(tree: Tree) -> Tree:
    """A copy on the host that later donation of `tree` cannot overwrite."""
    return jax.tree.map(lambda leaf: np.array(leaf, copy=True), tree)


def fingerprint(tree: Tree) -> str:
    """Hash of structure, dtypes, shapes and every bit of `tree` (16 hex digits); of what has one, its `identity`."""
    digest = hashlib.sha256(str(jax.tree.structure(tree)).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        # What is no array, but can be asked for its parts, may be larger than memory.
        column = leaf if hasattr(leaf, 'shape') and not isinstance(leaf, jax.Array) else np.asarray(leaf)
        digest.update(f'{jax.tree_util.keystr(path)} {column.dtype} {column.shape}'.encode())
        identity = getattr(column, 'identity', None)  # of what takes long to read, and may be read in several ways
        for part in _parts(column) if identity is None else (identity.encode(),):
            digest.update(part)
    return digest.hexdigest()[:16]


def _parts(column: Any) -> Iterator[bytes]:
    """The bytes of an array, in parts of at most PART where it has several rows: it may be mapped from a file."""
    if not column.shape or not column.shape[0]:
        yield np.asarray(column).tobytes()
        return
    rows = max(1, PART // max(1, column[:1].nbytes))
    for start in range(0, column.shape[0], rows):
        yield np.asarray(column[start : start + rows]).tobytes()


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
