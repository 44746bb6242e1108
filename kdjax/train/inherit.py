"""Networks that start as others: as parts of their teacher, or as one that learned another task, but its head."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from kdjax import trees
from kdjax.errors import UsageError, unknown
from kdjax.train import frozen
from kdjax.types import Tree

LAYER = re.compile(r'layer(\d+)')
SCANNED = 'layers'  # where layers lie that are a loop, in one module with a leading axis


def inherited(student: Tree, teacher: Tree, modules: Mapping[str, str], cells: bool = False) -> Tree:
    """The variables of a student in which modules have the weights of modules of the teacher.

    Layers that are a loop ('layers/layer', with a leading axis) are named as those that are none: 'decoder/layer2'.

    Args:
      student, teacher: variables of both, arrays or shapes.
      modules: paths of modules of the student and, for each, that of the teacher's: {'layer1': 'layer2'}; or of two
        stacks of layers how they go together, a key of `RULES`: {'decoder': 'decoder:spread'}.
      cells: whether the student's have a leading axis of cells.

    Returns:
      The student's variables; what is not named stays.

    Raises:
      UsageError: a module that is not there, or one of other shapes; names both. Or a rule that there is not, or stacks
        without layers, or with more of them than the teacher's.

    Reference: Sanh et al., DistilBERT, 2019, sec. 3 (every other layer of the teacher).
    """
    if not modules:
        return student
    axis = int(cells)
    result, teacher = _apart(student, axis), _apart(teacher, 0)
    for own, other in _each(modules, result['params'], teacher['params']).items():
        for part in ('params', 'stats'):
            if part == 'stats' and not _holds(result[part], own):
                continue
            given, place = _module(teacher[part], other, 'teacher'), own.split('/')
            parent = _module(result[part], '/'.join(place[:-1]), 'student')
            _module(result[part], own, 'student')
            parent[place[-1]] = _copied(parent[place[-1]], given, own, other, cells)
    return _together(result, student, axis)


def spread(own: int, other: int) -> list[int]:
    """The first layer and the last, and between them others as far from each other as can be, from 0 on.

    Reference: Gandhi, von Platen, Rush, Distil-Whisper, 2023, sec. 3.
    """
    return [round(place) for place in np.linspace(0, other - 1, own)]


def alternate(own: int, other: int) -> list[int]:
    """The first of every two layers where there are half as many, of every three where a third (Sanh et al. 2019)."""
    return [place * (other // own) for place in range(own)]


RULES = {'spread': spread, 'alternate': alternate}


def _each(modules: Mapping[str, str], student: Tree, teacher: Tree) -> dict[str, str]:
    """The modules, of stacks each layer and all else that both have."""
    found: dict[str, str] = {}
    for own, other in modules.items():
        if not own.strip('/') or not other.partition(':')[0].strip('/'):
            raise UsageError(f'student.start names modules of the student and of the teacher by path, got {own!r}: '
                             f'{other!r}')  # fmt: skip
        path, stacked, rule = other.partition(':')
        if not stacked:
            found[own] = other
            continue
        if rule not in RULES:
            raise unknown('rule', rule, RULES, f' of layers in student.start, {other!r}')
        sides = _module(student, own, 'student'), _module(teacher, path, 'teacher')
        counts = [sum(bool(LAYER.fullmatch(name)) for name in side) for side in sides]
        if not 1 <= counts[0] <= counts[1]:
            raise UsageError(f'student.start: {own!r} has {counts[0]} layers and {path!r} of the teacher {counts[1]}; '
                             'there must be some, and no more than there')  # fmt: skip
        for place, taken in enumerate(RULES[rule](*counts)):
            found[f'{own}/layer{place + 1}'] = f'{path}/layer{taken + 1}'
        found |= {f'{own}/{name}': f'{path}/{name}' for name in sides[0]
                  if name in sides[1] and not LAYER.fullmatch(name)}  # fmt: skip
    return found


def _apart(tree: Tree, axis: int) -> Tree:
    """A copy of variables in which layers that are a loop have their names; `axis` is that of the loop."""
    if not isinstance(tree, Mapping):
        return tree
    found = {name: _apart(node, axis) for name, node in tree.items()}
    if not _looped(tree):
        return found
    layers = found.pop(SCANNED)['layer']
    for place in range(jax.tree.leaves(layers)[0].shape[axis]):
        found[f'layer{place + 1}'] = jax.tree.map(lambda leaf, place=place: _taken(leaf, place, axis), layers)
    return found


def _together(tree: Tree, like: Tree, axis: int) -> Tree:
    """The same with the structure of `like` again."""
    if not isinstance(like, Mapping):
        return tree
    if not _looped(like):
        return {name: _together(tree[name], node, axis) for name, node in like.items()}
    count = jax.tree.leaves(like[SCANNED]['layer'])[0].shape[axis]
    layers = [tree[f'layer{place + 1}'] for place in range(count)]
    rest = {name: _together(tree[name], node, axis) for name, node in like.items() if name != SCANNED}
    return {**rest, SCANNED: {'layer': jax.tree.map(lambda *leaves: _stacked(leaves, axis), *layers)}}


def _looped(tree: Mapping[str, Tree]) -> bool:
    return isinstance(tree.get(SCANNED), Mapping) and set(tree[SCANNED]) == {'layer'}


def _taken(leaf: Any, place: int, axis: int) -> Any:
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct((*leaf.shape[:axis], *leaf.shape[axis + 1 :]), leaf.dtype)
    return leaf[:, place] if axis else leaf[place]


def _stacked(leaves: Sequence[Any], axis: int) -> Any:
    if isinstance(leaves[0], jax.ShapeDtypeStruct):
        shape = leaves[0].shape
        return jax.ShapeDtypeStruct((*shape[:axis], len(leaves), *shape[axis:]), leaves[0].dtype)
    return jax.numpy.stack(leaves, axis)


def carried(initial: Tree, learned: Tree, new: Sequence[str] = (), cells: bool = False) -> Tree:
    """The variables of a network that goes on from those of another, which may have answered other questions.

    Args:
      initial: variables of the network, as it begins.
      learned: of the other.
      new: modules that stay as in `initial`, by path ('head') or pattern ('layer4_*').
      cells: whether the leaves of `initial` have a leading axis of cells that those of `learned` have not.

    Returns:
      What is in `initial`, with the weights and statistics of `learned` but for those of `new`.

    Raises:
      UsageError: a module of `new` that there is not, or weights that the two do not both have in one shape.

    Reference: Yosinski, Clune, Bengio, Lipson, How transferable are features in deep neural networks?, NIPS 2014.
    """
    frozen.check(initial['params'], new, ' that begins anew')
    return {part: _carried(initial[part], learned[part], new, cells) for part in ('params', 'stats')}


def _carried(initial: Tree, learned: Tree, new: Sequence[str], cells: bool) -> Tree:
    known = {trees.path(keys): leaf for keys, leaf in jax.tree_util.tree_leaves_with_path(learned)}

    def carry(keys: Any, leaf: Any, begins: bool) -> Any:
        if begins:
            return leaf
        own, other = leaf.shape[1:] if cells else leaf.shape, known.get(trees.path(keys))
        if other is None or other.shape != own:
            raise UsageError(f'{trees.path(keys)} has the shape {own}, and in the network that it is to start as '
                             f'{"none" if other is None else other.shape}: take networks of one kind; what '
                             'learned upstream may leave modules behind (upstream.new)')  # fmt: skip
        return jax.numpy.broadcast_to(other, leaf.shape).astype(leaf.dtype) if cells else other

    return jax.tree_util.tree_map_with_path(carry, initial, trees.under(initial, new))


def _copied(student: Tree, teacher: Tree, own: str, other: str, cells: bool) -> Tree:
    def copy(old: Any, new: Any) -> Any:
        shape = old.shape[1:] if cells else old.shape
        if shape != new.shape:
            raise UsageError(
                f'student.start: {own!r} has a weight of {shape} where {other!r} of the teacher has {new.shape}'
            )
        return jax.numpy.broadcast_to(new, old.shape).astype(old.dtype) if cells else new

    if str(jax.tree.structure(student)) != str(jax.tree.structure(teacher)):
        raise UsageError(f'student.start: {own!r} and {other!r} of the teacher are not modules of one kind')
    return jax.tree.map(copy, student, teacher)


def _module(tree: Tree, path: str, side: str) -> Tree:
    for name in filter(None, path.split('/')):
        if not isinstance(tree, Mapping) or name not in tree:
            raise unknown(
                'module', name, tree if isinstance(tree, Mapping) else (), f' of the {side}, in student.start'
            )
        tree = tree[name]
    return tree


def _holds(tree: Tree, path: str) -> bool:
    for name in path.split('/'):
        if not isinstance(tree, Mapping) or name not in tree:
            return False
        tree = tree[name]
    return True
