"""What a fit is fed: streams of examples, the widths of their batches, and columns."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kdjax.data.buckets import Buckets
from kdjax.data.feed import TEACHER_INPUTS
from kdjax.data.lazy import check_drawn_alike, check_read_once, drawn_while_read
from kdjax.data.order import Stream
from kdjax.dataset import Dataset, Split, leaves
from kdjax.errors import UsageError, shown
from kdjax.study.config.schema import ORDERS
from kdjax.study.recipe import build
from kdjax.study.recipe.inputs import TrainedStudents, TrainedTeacher
from kdjax.study.recipe.recipe import EVERY, BucketSpec, Fit, GridCell, Recipe
from kdjax.tasks.base import Task
from kdjax.train import teachers
from kdjax.train.cache import SPARSE

Trained = TrainedTeacher | TrainedStudents
SHARED = ORDERS[-1]
SAID = tuple(teachers.PREFIX + name for name in ('logits', *SPARSE))  # what stands for a teacher's logits in a batch


def streams(
    task: Task,
    split: Split,
    cells: Sequence[GridCell],
    base_seed: int,
    classes: Sequence[int] = (),
    draw: str = 'examples',
    fit: Fit | None = None,
    order: str = 'own',
) -> list[Stream]:
    """The examples of every cell: the task's draw of its size by its seed, in the order of its seed.

    If the order is `SHARED` it is the same for every seed, and cells that draw all examples have one stream.

    Draws, of 'examples' or of 'groups', of one seed are nested: the larger transfer set holds the smaller one. Where
    `classes` names classes, the examples of others are left out after the draw. A fit may see all examples, of which
    those outside the draw have no labels; one upstream sees all there are.

    Raises:
      UsageError: a transfer set larger than the training split, a class of which it has none, or groups that the data
        do not say.
    """
    shared = order == SHARED
    if fit is not None and fit.upstream:
        seeds = dict.fromkeys(0 if shared else cell.seed for cell in cells)
        whole = {seed: Stream(np.arange(split.size), base_seed + seed) for seed in seeds}
        return [whole[0 if shared else cell.seed] for cell in cells]
    labels = split.labels if classes else None
    for label in classes:
        if labels is None or isinstance(label, bool) or label not in labels:
            known = [] if labels is None else np.unique(labels).tolist()
            raise UsageError(f'data.classes must be numbers of classes, {known}, got {label!r}')
    draws: dict[tuple[int, int], Stream] = {}
    for cell in cells:
        if not 1 <= cell.transfer_size <= split.size:
            raise UsageError(f'transfer size {cell.transfer_size} must be in 1 to {split.size}, the training examples')
        address = draw_of(cell, split.size, shared)
        if address not in draws:
            pool = task.draw(split, cell.transfer_size, base_seed + cell.seed, draw)
            seed = base_seed + (0 if shared else cell.seed)
            seen = pool if labels is None else pool[np.isin(labels[pool], classes)]
            if not len(seen):
                raise UsageError(
                    f'data.classes {shown(tuple(classes))} have no example among the {cell.transfer_size} of seed '
                    f'{cell.seed}: name more of them, or raise data.transfer_sizes'
                )
            everything = fit is not None and fit.spec.examples == EVERY
            draws[address] = Stream(np.arange(split.size), seed, seen) if everything else Stream(seen, seed)
    return [draws[draw_of(cell, split.size, shared)] for cell in cells]


def draw_of(cell: GridCell, examples: int, shared: bool) -> tuple[int, int]:
    """Equal for cells that see the same examples in the same order."""
    return cell.transfer_size, 0 if shared and cell.transfer_size == examples else cell.seed


def buckets(spec: BucketSpec, split: Split, streams: Sequence[Stream], batch_size: int, seed: int) -> Buckets | None:
    """The widths of the steps of a grid; None where all have one.

    Raises:
      UsageError: the data have no lengths, or a cell has no example of some width.
    """
    if not spec.widths:
        return None
    lengths = np.asarray(split.column('length'))
    return Buckets(spec.widths, lengths, [stream.pool for stream in streams], batch_size, spec.run, seed)


def columns(split: Split, column: str, labels: np.ndarray | None, more: Sequence[str] = ()) -> dict[str, Any]:
    """What batches are made of: the column that a network reads as 'inputs', labels, and what else is numbers.

    Args:
      split: whose examples.
      column: that the network reads.
      labels: in the place of its own.
      more: columns that a teacher reads, left out if not named here.
    """
    found = {name: value for name, value in split.more.items()
             if (not name.startswith(TEACHER_INPUTS) or name in more) and _numeric(value)}  # fmt: skip
    own = {} if labels is None else {'labels': labels}
    return {**found, **own, 'inputs': split.column(column), **{name: split.column(name) for name in more}}


def teacher_columns(inputs: Trained) -> tuple[str, ...]:
    """The columns that the teacher of a fit reads in every step and the student does not."""
    view = build.teacher_view(inputs)
    return (view.column,) if view is not None and view.column != inputs.column else ()


def padded(dataset: Dataset, inputs: Trained) -> dict[str, int]:
    """How many padded axes each column of a batch has, and what a teacher says of every token."""
    known = dict.fromkeys(dataset.padded, 1)
    known.pop('inputs', None)
    said = SAID if build.task(inputs.task).per_token and dataset.padded else ()
    return {**known, **({'inputs': 1} if inputs.column in dataset.padded else {}), **dict.fromkeys(said, 1)}


def check_drawn(dataset: Dataset, recipe: Recipe) -> None:
    """Raises UsageError where images that are cropped while they are read are not read anew for every view."""
    columns = dataset.splits['train'].columns()
    if not drawn_while_read(columns):
        return
    if not recipe.execution.stream:
        check_read_once(columns)
    check_drawn_alike(columns, recipe.views.consistent)
    for name, spec in recipe.teachers.items():
        if spec.folds:
            raise UsageError(f'{name}.folds reads the examples of a fold as they are, and these are cropped while they '
                             'are read: set folds=0, or leave out area=... of the source')  # fmt: skip


def together(task: Task) -> int:
    """How many examples of a batch in a row stay on one device, and in one micro-batch."""
    return getattr(task, task.TOGETHER) if task.TOGETHER else 1


def check_parts(task: Task, size: int, parts: int) -> None:
    """Raises UsageError where a batch in so many parts, devices times micro-batches, is cut between such examples."""
    if (count := together(task)) > 1 and size % (parts * count):
        raise UsageError(
            f'{task.TOGETHER} of {type(task).__name__} must divide each of {parts} parts (devices times accumulate) of '
            f'a batch of {size}, got {count}; use a batch_size that is a multiple of {parts * count}, a smaller '
            f"{task.TOGETHER}, or run.runner='single'"
        )


def _numeric(column: Any) -> bool:
    return all(leaf.dtype.kind in 'biuf' for _, leaf in leaves({'': column}))
