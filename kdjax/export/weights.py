"""The variables of a network as PyTorch would name and lay them out, and back."""

import re
from collections.abc import Mapping

import jax
import numpy as np

from kdjax.nets.torch_weights import LEAVES
from kdjax.types import Names, Tree

# What the published implementations of these families call the head; of others it stays 'head'.
HEADS = {
    'resnet_cifar': 'fc', 'resnet': 'fc', 'wide_resnet': 'fc', 'vgg': 'classifier', 'mobilenetv2': 'classifier',
    'shufflenet': 'fc',
}  # fmt: skip

# Where a module's name has a dot there: before and after a number, and after parts of a transformer.
_DOT = re.compile(r'_(?=\d)|(?<=\d)_|(?<=patch_embed)_|(?<=attn)_|(?<=mlp)_')


def paths(variables: Tree) -> dict[str, np.ndarray]:
    """The leaves of variables by their path, such as 'params/layer1_0/conv1/kernel'."""
    found = jax.tree_util.tree_leaves_with_path(variables)
    return {jax.tree_util.keystr(keys, simple=True, separator='/'): np.asarray(leaf) for keys, leaf in found}


def tree(leaves: Mapping[str, np.ndarray]) -> Tree:
    """Variables of leaves by path; 'params' and 'stats' are there even where empty."""
    result: Tree = {'params': {}, 'stats': {}}
    for path, leaf in leaves.items():
        *way, last = path.split('/')
        node = result
        for part in way:
            node = node.setdefault(part, {})
        node[last] = leaf
    return result


def name(path: str, net: str, names: Names | None) -> str:
    """What PyTorch calls the leaf at a path: 'params/layer1_0/conv1/kernel' -> 'layer1.0.conv1.weight'.

    Args:
      path: of the leaf.
      net: name of the network, 'resnet_cifar.resnet'.
      names: those of its published weights, where it says how files call them.
    """
    if names is not None:
        return names.published(path)
    *module, leaf = path.split('/')[1:]
    family = net.partition('.')[0]
    if module == ['head']:
        module = [HEADS.get(family, 'head')]
    dotted = '.'.join(_DOT.sub('.', part) for part in module)
    return '.'.join(filter(None, [dotted, LEAVES.get(leaf, leaf)]))


def laid_out(array: np.ndarray, path: str) -> np.ndarray:
    """A kernel as PyTorch has it: (H, W, I, O) -> (O, I, H, W), (I, O) -> (O, I); anything else as it is."""
    if path.endswith('kernel'):
        array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
    return np.ascontiguousarray(array)


def taken_in(array: np.ndarray, path: str) -> np.ndarray:
    """The inverse of `laid_out`."""
    if path.endswith('kernel'):
        array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
    return np.ascontiguousarray(array)
