"""Weights that are there before a run: a file of PyTorch weights, or the folder of an exported student; and whether
they, and teachers with data of their own, have the words of the data."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kdjax.dataset import Dataset
from kdjax.errors import UsageError
from kdjax.export import bundle
from kdjax.nets import torch_weights
from kdjax.study.recipe import build
from kdjax.study.recipe.inputs import CachedTeacher, TrainedStudents, TrainedTeacher, plain
from kdjax.study.recipe.recipe import DataSource
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


def other_data(inputs: TrainedTeacher | TrainedStudents) -> bool:
    """Whether the teacher of a fit has other data than its students: the same examples, otherwise written down."""
    source = inputs.source
    return source is not None and plain(source.data.args) != plain(inputs.data.args)


def other_words(ours: Dataset, theirs: Dataset) -> bool:
    """Whether two data sets have other sub-words."""
    return any(ours.facts.get(name) != theirs.facts.get(name) for name in VOCABULARIES)


def beside(
    inputs: TrainedTeacher | TrainedStudents, ours: Dataset, datasets: Callable[[DataSource], Dataset]
) -> Mapping[str, Any]:
    """Columns of what a teacher of other words reads of the examples of its students; {} of any other."""
    if not (other_data(inputs) and inputs.fit.asks and inputs.source):
        return {}
    theirs = datasets(inputs.source.data)
    if not other_words(ours, theirs):
        return {}
    return build.fitted_task(inputs.task, inputs.fit.spec.task).beside(theirs, ours)


def check_words(inputs: TrainedTeacher | TrainedStudents, ours: Dataset, theirs: Dataset) -> None:
    """Raises UsageError where a teacher that has other data than its students is to speak of examples that it does not
    know, or of words that are not its own: terms that compare answers of other sub-words are uld and gold alone."""
    assert inputs.source is not None
    who = inputs.source.name
    if isinstance(inputs.source, CachedTeacher) and not build.task(inputs.task).questions(ours):
        raise UsageError(
            f'{who!r} has data of its own, and what is cached of it answers those: leave its data_args empty, or set '
            "mode='online'"
        )
    wrong = [name for name, term in inputs.fit.objective.terms if term.TEACHER and not term.OTHER_CLASSES]
    if wrong and other_words(ours, theirs):
        facts = [each.facts for each in (ours, theirs)]
        mine, others = (f'{each["vocabulary"]} of the hash {each[VOCABULARIES[0]]}' for each in facts)
        raise UsageError(
            f'terms {wrong} read what {who!r} says of each word, and has other sub-words than its students: {others}, '
            f'and theirs are {mine}; as many are not the same. Use uld, or let them learn its translations'
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
