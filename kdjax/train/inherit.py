"""Networks that start as others: as parts of their teacher, or as one that learned another task, but its head."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax

from kdjax import trees
from kdjax.errors import UsageError, unknown
from kdjax.train import frozen
from kdjax.types import Tree


def inherited(student: Tree, teacher: Tree, modules: Mapping[str, str], cells: bool = False) -> Tree:
    """The variables of a student in which modules have the weights of modules of the teacher.

    Args:
      student, teacher: variables of both, arrays or shapes.
      modules: paths of modules of the student and, for each, that of the teacher's: {'layer1': 'layer2'}.
      cells: whether the student's have a leading axis of cells.

    Returns:
      The student's variables; what is not named stays.

    Raises:
      UsageError: a module that is not there, or one of other shapes; names both.

    Reference: Sanh et al., DistilBERT, 2019, sec. 3 (every other layer of the teacher).
    """
    if not modules:
        return student
    result = jax.tree.map(lambda leaf: leaf, student)
    for own, other in modules.items():
        for part in ('params', 'stats'):
            if part == 'stats' and not _holds(student[part], own):
                continue
            given, place = _module(teacher[part], other, 'teacher'), own.split('/')
            parent = _module(result[part], '/'.join(place[:-1]), 'student')
            _module(result[part], own, 'student')
            parent[place[-1]] = _copied(parent[place[-1]], given, own, other, cells)
    return result


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
                             f'{"none" if other is None else other.shape}: name its module in upstream.new, to begin '
                             'anew, or take networks of one kind')  # fmt: skip
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
