"""Feeding: which examples a step sees, as a pure function of (seed, step), and the batches made of them.

Nothing is iterated, so nothing has a position to save: a resumed run asks for the steps that it still needs.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.data.augment import Augment, OfExample, identity, views
from kdjax.data.buckets import Buckets
from kdjax.data.lazy import check_read_once
from kdjax.data.mix import Mix, blended
from kdjax.data.order import Stream, drawn, remembering
from kdjax.data.preprocess import Preprocess, unit
from kdjax.dataset import UNLABELLED, Shared, batch_axes, in_memory, is_column
from kdjax.errors import UsageError
from kdjax.jit_cache import bound, compiled
from kdjax.types import Array, Batch, Tree

TEACHER_INPUTS = 'teacher_inputs'
HOSTED = 2**31  # bytes of tables above which they stay on the host, and are looked up there


@dataclasses.dataclass(frozen=True)
class Feed:
    """What makes the batches of steps.

    Attributes:
      make: (start, stop, part) -> the batches of the steps start ... stop - 1, leaves (steps, [C,] B, ...), or of each
        that part which a process of a job holds.
      buckets: the widths of steps, where they have several.
    """

    make: Callable[[int, int, slice], Batch]
    buckets: Buckets | None = None

    def __call__(self, start: int, stop: int, part: slice = slice(None)) -> Batch:
        return self.make(start, stop, part)

    def of(self, part: slice) -> 'Feed':
        """That part of every batch alone."""
        return dataclasses.replace(self, make=lambda start, stop, _: self.make(start, stop, part))

    def reach(self, start: int, stop: int) -> int:
        """The end of the steps from `start` on, at most `stop`, that have one shape and may be asked for together."""
        return stop if self.buckets is None else min(stop, self.buckets.at(start).end)


class Prepares(Protocol):
    """A task, as far as batches need it; hashable."""

    def __hash__(self) -> int: ...

    def prepare(self, batch: Batch) -> Batch:
        """A batch (B, ...) as terms and metrics need it."""


class TeacherView(NamedTuple):
    """What a teacher sees that does not see what the student sees."""

    column: str
    preprocess: Preprocess


def feed(
    streams: Sequence[Stream],
    batch_size: int,
    columns: Mapping[str, Tree],
    augment: Augment,
    seed: int,
    view_count: int,
    tables: Mapping[str, np.ndarray] | None = None,
    *,
    preprocess: Preprocess = unit(),
    mix: Mix | None = None,
    consistent: bool = True,
    task: Prepares | None = None,
    teacher: TeacherView | None = None,
    buckets: Buckets | None = None,
    padded: Mapping[str, int] | None = None,
) -> Feed:
    """Batches for a grid: leaves (steps, B, ...) where all cells share one stream, else (steps, C, B, ...).

    With `part=slice(...)` only that part of every batch: each process of a job makes its own, and the order, a pure
    function, is the same for all.

    Args:
      streams: one for all cells, or one per cell.
      batch_size: examples per step of a cell; of the widest bucket, where there are several.
      columns: what an example has, by name, indexed by id, arrays (N, ...) or trees of them; 'inputs' is augmented.
      augment: the augmentation.
      seed: of its draws.
      view_count: views per example; an example's view in epoch e is e modulo this.
      tables: what an example's view has, by name, (N, view_count, ...): a teacher's cached outputs. Above `HOSTED`
        bytes they stay on the host.
      preprocess: from 'inputs' as stored to what networks see.
      mix: of the examples of a batch with each other (`mix.blended`).
      consistent: whether the teacher sees the pixels of the student; if not, it sees the next of the example's views:
        'teacher_inputs', or what a table says of that one.
      task: prepares each batch, last of all.
      teacher: what a teacher sees that reads another column, or the same one otherwise.
      buckets: widths of steps.
      padded: how many padded axes columns and tables have, by name, which are cut to the width of a step: 1 is the
        first of an example, 2 are its last two.

    Raises:
      UsageError: an empty pool, a batch or a number of views below 1, a table with other views, one view that is to
        differ from itself, a table of examples that are mixed, an augmentation that would leave out a column that a
        teacher reads, or a column whose views are made while it is read.
    """
    tables, padded = dict(tables or {}), dict(padded or {})
    check_read_once(columns)
    check(streams, batch_size, view_count, tables, mix, consistent, augment, columns)
    hosted = tables if sum(table.nbytes for table in tables.values()) > HOSTED else {}
    # Whole: a column may be one that is read when it is asked for.
    columns, near = jax.device_put((
        jax.tree.map(in_memory, dict(columns), is_leaf=is_column),
        {} if hosted else tables,
    ))  # fmt: skip
    axes = [tuple((name, of) for name, of in padded.items() if name in named) for named in (columns, near)]
    look = bound(shown, augment=augment, seed=seed, preprocess=preprocess, mix=mix, task=task, teacher=teacher)

    ordered = remembering(streams, 1, buckets)

    def batches(start: int, stop: int, part: slice) -> Batch:
        ids, epochs = drawn(streams, start, stop, batch_size, ordered, buckets)
        part = scaled(part, ids.shape[-1] // batch_size)
        if mix is None:
            ids, epochs = ids[..., part], epochs[..., part]
        width = buckets.widths[buckets.at(start).bucket] if buckets else None
        # Two programs, of which fits that differ in what their teacher says share the first, which is the larger.
        assemble = compiled(bound(_assemble, look=look, width=width, padded=axes[0]))
        look_up = compiled(bound(_rows, width=width, padded=axes[1]))
        other = None if consistent else (epochs + 1) % view_count
        taught = epochs % view_count if other is None else other
        far = {name: cut(np.asarray(table[ids, taught]), padded.get(name, 0), ids.ndim, width)
               for name, table in hosted.items()}  # fmt: skip
        # A table has said all that the teacher would.
        asked = None if tables else other
        numbers = (ids, epochs % view_count, asked, np.arange(start, stop, dtype=np.uint32), labelled(streams, ids))
        said = look_up(near, jax.device_put((ids, taught))) if near else {}
        batch = {**assemble(columns, *jax.device_put(numbers)), **said, **jax.device_put(far)}
        if mix is None:
            return batch
        # Partners may lie anywhere in a batch, so one that is mixed is made whole and then cut.
        return jax.tree.map(lambda leaf: leaf[(*[slice(None)] * (ids.ndim - 1), part)], batch)

    return Feed(batches, buckets)


def scaled(part: slice, rows: int) -> slice:
    """A part of a batch as that of one with `rows` times as many examples."""
    return slice(*(None if end is None else end * rows for end in (part.start, part.stop)))


def cut(leaf: Any, axes: int, lead: int, width: int | None) -> Any:
    """An array (..., *example) of which the padded axes of an example, the first or the last two, have `width` at most.

    Args:
      leaf: the array.
      axes: how many are padded: 0, 1 or 2.
      lead: how many axes come before those of an example.
      width: None for all.
    """
    if width is None or not axes:
        return leaf
    if axes == 1:
        return leaf[(*[slice(None)] * lead, slice(width))]
    return leaf[..., :width, :width]


def labelled(streams: Sequence[Stream], ids: np.ndarray) -> np.ndarray | None:
    """Which of the examples `ids` show their labels, like `ids`; None where all do."""
    if all(stream.labelled is None for stream in streams):
        return None
    by_cell = ids if len(streams) > 1 else ids[:, None]
    shown = [np.ones_like(by_cell[:, k], bool) if stream.labelled is None else np.isin(by_cell[:, k], stream.labelled)
             for k, stream in enumerate(streams)]  # fmt: skip
    return np.stack(shown, axis=1).reshape(ids.shape)


def check(
    streams: Sequence[Stream],
    batch_size: int,
    view_count: int,
    tables: Mapping[str, np.ndarray],
    mix: Mix | None,
    consistent: bool,
    augment: Augment = identity(),
    columns: Mapping[str, Tree] = {},
) -> None:
    """Raises UsageError where no batches can be made of the arguments of `feed`."""
    if batch_size < 1 or view_count < 1:
        raise UsageError(f'batch_size and views must be >= 1, got {batch_size} and {view_count}')
    if not all(len(stream.pool) for stream in streams):
        raise UsageError('a stream has no examples; give every transfer set at least one')
    for name, table in tables.items():
        if table.shape[1] != view_count:
            raise UsageError(f'table {name!r} has {table.shape[1]} views per example, the feed {view_count}')
    if not consistent and view_count < 2:
        raise UsageError('for a teacher that sees another view than the student there must be at least 2 views')
    shared = [name for name, column in columns.items() if isinstance(column, Shared)]
    if shared and (mix is not None or augment is not identity()):
        raise UsageError(f'columns {shared} have rows that examples share, which can be neither mixed nor augmented')
    if mix is not None and tables:
        raise UsageError('examples are mixed anew in every step, so what a teacher says of them cannot be looked up')
    if (
        TEACHER_INPUTS in columns
        and view_count > 1
        and augment is not identity()
        and not isinstance(augment, OfExample)
    ):
        raise UsageError(
            "the teacher reads a column of its own, 'teacher_inputs', which an augmentation of 'inputs' leaves as it "
            'is: use one of the whole example, or data.views=1'
        )


def shown(
    batch: Batch,
    ids: Array,
    view: Array,
    other: Array | None,
    steps: Array,
    seen: Array | None = None,
    *,
    augment: Augment,
    seed: int,
    preprocess: Preprocess = unit(),
    mix: Mix | None = None,
    task: Prepares | None = None,
    teacher: TeacherView | None = None,
) -> Batch:
    """Examples as networks see them.

    Args:
      batch: columns of the examples, leaves (steps, B, ...) or (steps, C, B, ...), 'inputs' as stored.
      ids, view: of every example, (steps, [C,] B).
      other: views that the teacher sees, where it sees others than the student.
      steps: (steps,) their numbers.
      seen: whether the label of an example is seen, like `ids`; None where all are.
      augment, seed, preprocess, mix, task, teacher: as for `feed`.
    """
    if seen is not None and 'labels' in batch:
        hidden = jnp.asarray(UNLABELLED, batch['labels'].dtype)
        apart = seen.reshape(*seen.shape, *[1] * (batch['labels'].ndim - seen.ndim))
        batch = {**batch, 'labels': jnp.where(apart, batch['labels'], hidden)}
    drawn: dict[str, Any] = dict(views(augment, seed, batch, ids, view))
    told = drawn if other is None else dict(views(augment, seed, batch, ids, other))
    own: Batch = {}
    if teacher is not None:
        own = {TEACHER_INPUTS: teacher.preprocess(told[teacher.column])}
    elif other is not None:
        own = {TEACHER_INPUTS: preprocess(told['inputs'])}
    drawn.pop(TEACHER_INPUTS, None)
    mask = jnp.ones(ids.shape, jnp.float32)
    whole: Batch = {**drawn, 'inputs': preprocess(drawn['inputs']), **own, 'id': ids, 'view': view, 'mask': mask}
    if mix is not None:
        whole = blended(mix, seed, whole, steps)
    if task is None:
        return whole
    prepare = task.prepare
    for _ in range(ids.ndim - 1):
        prepare = jax.vmap(prepare, in_axes=(batch_axes(whole),))
    return prepare(whole)


def _assemble(
    columns: Batch, ids: Array, view: Array, other: Array | None, steps: Array, seen: Array | None, *, look: Any,
    width: int | None, padded: tuple[tuple[str, int], ...],
) -> Batch:  # fmt: skip
    """The examples `ids` as networks see them."""
    return look(_rows(columns, ids, width=width, padded=padded), ids, view, other, steps, seen)


def _rows(named: Batch, index: Any, *, width: int | None, padded: tuple[tuple[str, int], ...]) -> Batch:
    """What columns have of the examples `index`, or tables of examples and views."""
    axes, lead = dict(padded), jax.tree.leaves(index)[0].ndim

    def of(name: str, leaf: Any) -> Any:
        return leaf.of(index) if isinstance(leaf, Shared) else cut(leaf[index], axes.get(name, 0), lead, width)

    return {name: jax.tree.map(lambda leaf, name=name: of(name, leaf), column, is_leaf=is_column)
            for name, column in named.items()}  # fmt: skip
