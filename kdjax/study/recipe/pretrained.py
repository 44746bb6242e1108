"""Weights that are there before a run: a file of PyTorch weights, or the folder of an exported student."""

from pathlib import Path

import jax
import numpy as np

from kdjax.dataset import Dataset
from kdjax.errors import UsageError
from kdjax.export import bundle
from kdjax.nets import torch_weights
from kdjax.types import Names, Tree

VOCABULARIES = ('fingerprint', 'source_fingerprint')  # facts: hashes of the pieces of targets, and of sources


def load(path: str, like: Tree, names: Names | None) -> Tree:
    """Variables of a network of the structure and shapes of `like`, all of them from what lies at `path`.

    Raises:
      UsageError: nothing that is read lies there, or weights of another network.
    """
    return _exported(path, like) if Path(path).is_dir() else torch_weights.load(path, like, names)


def start(path: str, initial: Tree, names: Names | None) -> Tree:
    """Likewise, where a file may leave the head as it is; an exported student has its own, and must be of this task."""
    return _exported(path, initial) if Path(path).is_dir() else torch_weights.start(path, initial, names)


def check_vocabulary(path: str, dataset: Dataset) -> None:
    """Raises UsageError where an exported student has other sub-words than the data: ids then mean something else."""
    if not Path(path).is_dir():
        return
    known = bundle.about_of(Path(path)).get('facts', {})
    for name in VOCABULARIES:
        theirs, ours = known.get(name), dataset.facts.get(name)
        if theirs and ours and theirs != ours:
            raise UsageError(
                f'{path}: its student has other sub-words than the data of this run, of the hashes {theirs} and {ours} '
                f'({name}): as many pieces are not the same pieces'
            )


def _exported(path: str, like: Tree) -> Tree:
    found, wanted = bundle.variables(Path(path)), {name: like[name] for name in ('params', 'stats')}
    shapes = [_shapes(tree) for tree in (found, wanted)]
    differing = sorted(shapes[0].items() ^ shapes[1].items())
    if differing:
        told = '; '.join(f'{name} {shape}' for name, shape in differing[:3])
        raise UsageError(f'{path}: its student is another network than the one of the config; they differ in {told}')
    return jax.tree.map(lambda leaf, other: np.asarray(leaf, other.dtype), found, wanted)


def _shapes(tree: Tree) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(keys, simple=True, separator='/'): leaf.shape for keys, leaf in leaves}
