"""Evaluation: a network on a whole split, cell by cell; what is measured is the task's."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kdjax import trees
from kdjax.dataset import Split, bucket_of, chosen, is_column, widths
from kdjax.jit_cache import bound, compiled
from kdjax.tasks.base import Task
from kdjax.types import Array, Batch, Column, Net, Outputs, Tree

Evaluate = Callable[[Tree], Mapping[str, np.ndarray]]  # variables with a leading axis of cells C -> metrics, each (C,)
Examine = Callable[[Tree], tuple[Mapping[str, np.ndarray], Tree]]  # the same, and what is predicted, (C, N, ...)
Preprocess = Callable[[Any], Any]
TEACHER_LOGITS = 'teacher/logits'  # a column of evaluation: what is held against the teacher
GIVEN = 'given'  # columns of evaluation: what a network answered elsewhere, 'logits' and perhaps their 'mask'


class Part(NamedTuple):
    """Examples of a split that are evaluated together: all of one width."""

    ids: np.ndarray
    width: int | None  # that padded columns are cut to


def evaluator(
    task: Task, net: Net | None, split: Split, teacher_logits: np.ndarray | None = None, **options: Any
) -> Evaluate:
    """A function from variables with a leading cell axis C to the metrics of the task, each (C,), on a whole split.

    Args:
      task, net: of all cells; None of a network whose answers are given.
      split: whose examples.
      teacher_logits: (N, ...) that the network is held against.
      options: as for `forward_pass`.
    """
    run = forward_pass(task, net, split, teacher_logits, asked='predict' if task.predicts else '', **options)
    return lambda cells: _metrics(task, split, *run(cells))


def examiner(
    task: Task, net: Net | None, split: Split, teacher_logits: np.ndarray | None = None, **options: Any
) -> Examine:
    """What `evaluator` says and what `task.predict` does of a whole split, of one pass.

    Predictions are {} of a task that has neither metrics nor statistics of them.

    Args:
      task, net, split, teacher_logits, options: as for `evaluator`.
    """
    asked = 'predict' if task.predicts or task.has_statistics else ''
    run = forward_pass(task, net, split, teacher_logits, asked=asked, **options)

    def examine(cells: Tree) -> tuple[Mapping[str, np.ndarray], Tree]:
        meters, predictions = run(cells)
        return _metrics(task, split, meters, predictions), predictions

    return examine


def answers(task: Task, net: Net | None, split: Split, **options: Any) -> Callable[[Tree], np.ndarray]:
    """A function from variables with a leading cell axis C to `task.answer` of a whole split, (C, N, ...) on the host.

    Args:
      task, net, split, options: as for `evaluator`. The split may lack what metrics need.
    """
    run = forward_pass(task, net, split, asked='answer', **options)
    return lambda cells: run(cells)[1]


def forward_pass(
    task: Task,
    net: Net | None,
    split: Split,
    teacher_logits: np.ndarray | None = None,
    *,
    asked: str,
    given: Mapping[str, np.ndarray] | None = None,
    inputs: str = 'inputs',
    padded: Sequence[str] = (),
    buckets: tuple[int, ...] = (),
    batch_size: int = 1024,
    preprocess: Preprocess = lambda inputs: inputs,
    stream: bool = False,
) -> Callable[[Tree], tuple[list[Tree], Tree]]:
    """A function from variables of cells to the meters of each of their batches, and their predictions.

    Cells are evaluated one after the other, in batches of at most `batch_size`, so memory does not grow with the grid.

    Args:
      task, net, split, teacher_logits: as for `evaluator`.
      asked: what is gathered of every batch, (C, N, ...) on the host: 'predict', 'answer' (then nothing is measured),
        or '' for nothing, {}.
      given: what was answered in the place of what `net` would: 'logits' (N, ...), and without a network their 'mask'
        (N, T) where some of them are padding.
      inputs: the column that the network reads.
      padded: columns that may be cut to the examples of a batch.
      buckets: the widths that they are cut to; one width for all if left out.
      batch_size: examples per forward pass.
      preprocess: makes of inputs, as stored, what the network sees.
      stream: whether each batch is read and put on the device when its turn comes, in every evaluation anew, for a
        split that does not fit there. If not, the whole split is put there once.
    """
    columns = {**split.columns(), 'inputs': split.column(inputs)}
    if teacher_logits is not None:
        columns[TEACHER_LOGITS] = teacher_logits
    if given is not None:
        columns[GIVEN] = dict(given)
    cut = {*padded, *((TEACHER_LOGITS, GIVEN) if task.per_token else ())} if padded else set()
    parts = _parts(split, buckets if padded else ())
    run = compiled(bound(_run, task=task, net=net, preprocess=preprocess, asked=asked))
    batches = [list(_batches(columns, part, cut, batch_size, whole=not stream)) for part in parts]
    # The split is an argument: as a constant it would be part of the compiled program.
    kept = None if stream else jax.device_put([[make() for make in part] for part in batches])

    def forward(cells: Tree) -> tuple[list[Tree], Tree]:
        meters: list[Tree] = []
        predictions = []
        for place, part in enumerate(batches):
            found = []
            for position, make in enumerate(part):
                batch = jax.device_put(make()) if kept is None else kept[place][position]
                jax.block_until_ready(meters[-1:])  # while one is computed the next is read, and no more wait there
                counted, predicted = run(cells, batch)
                meters.append(counted)
                found.append(jax.device_get(predicted))
            predictions.append(found)
        return meters, _joined(predictions, parts, task.per_token) if asked else {}

    return forward


def _run(
    cells: Tree, batches: Batch, *, task: Task, net: Net | None, preprocess: Preprocess, asked: str
) -> tuple[Tree, Tree]:
    """Meters and predictions of every cell and batch, (C, batches, ...)."""

    def one(variables: Tree, batch: Batch) -> tuple[Tree, Tree]:
        batch = task.prepare({**batch, 'inputs': preprocess(batch['inputs'])})
        outputs = _outputs(net, variables, batch)
        meters = {} if asked == 'answer' else task.sums(outputs, batch, batch.get(TEACHER_LOGITS))
        if asked == 'predict':
            return meters, task.respond(net, variables, outputs, batch)
        return meters, task.reply(net, variables, outputs, batch) if asked else {}

    return jax.lax.map(lambda variables: jax.lax.map(lambda batch: one(variables, batch), batches), cells)


def _outputs(net: Net | None, variables: Tree, batch: Batch) -> Outputs:
    """What a network answers, or has answered."""
    given = batch.get(GIVEN)
    if net is not None:
        outputs = net.apply(variables, batch['inputs'], train=False, key=None)[0]
        return outputs if given is None else outputs._replace(logits=given['logits'])
    assert given is not None
    return Outputs(given['logits'], {}, {'logits': (given['mask'],)} if 'mask' in given else {})


@jax.jit
def _computed(meters: list[Tree]) -> Mapping[str, Array]:
    """The metrics of every cell, of its meters in parts of all batches."""
    joined = jax.tree.map(lambda *leaves: jnp.concatenate(leaves, axis=1), *meters)
    totals = jax.tree.map(lambda leaf: jnp.sum(leaf, axis=1), joined)
    return jax.vmap(lambda total: {name: meter.compute() for name, meter in total.items()})(totals)


def _metrics(task: Task, split: Split, meters: list[Tree], predictions: Tree) -> dict[str, np.ndarray]:
    """All metrics of every cell, each (C,)."""
    metrics = dict(jax.device_get(_computed(meters)))
    return {**metrics, **_measured(task, predictions, split)} if task.predicts else metrics


def _measured(task: Task, predictions: Tree, split: Split) -> dict[str, np.ndarray]:
    """The metrics of the predictions of every cell, each (C,)."""
    cells = len(jax.tree.leaves(predictions)[0])
    rows = [task.measure(trees.take(predictions, cell), split) for cell in range(cells)]
    return {name: np.asarray([row[name] for row in rows]) for name in rows[0]}


def _parts(split: Split, buckets: tuple[int, ...]) -> list[Part]:
    """The examples of a split by the width of their bucket; all together where there are none."""
    if not buckets:
        return [Part(np.arange(split.size), None)]
    lengths = np.asarray(split.column('length'))
    known = widths(buckets, int(lengths.max()))
    buckets_N = bucket_of(lengths, known)
    parts = [Part(np.flatnonzero(buckets_N == place), width) for place, width in enumerate(known)]
    return [part for part in parts if len(part.ids)]


def _batches(
    columns: Mapping[str, Tree], part: Part, cut: set[str], batch_size: int, whole: bool
) -> Iterator[Callable[[], Batch]]:
    """What makes the batches of a part, (batches, size, ...): all at once, or one after the other."""
    size = min(batch_size, len(part.ids))
    step = len(part.ids) if whole else size
    for start in range(0, len(part.ids), step):
        yield functools.partial(_batched, columns, part.ids[start : start + step], part.width, cut, size)


def _batched(columns: Mapping[str, Tree], ids: np.ndarray, width: int | None, cut: set[str], size: int) -> Batch:
    """The examples `ids` as batches (batches, size, ...) with a 'mask'; the last is padded and masked."""
    padding = -len(ids) % size
    ids = np.concatenate([ids, np.repeat(ids[:1], padding)])

    def read(column: Column, narrow: bool) -> np.ndarray:
        rows = chosen(column, ids)
        rows = rows[:, :width] if narrow else rows
        return rows.reshape(-1, size, *rows.shape[1:])

    mask = np.ones(len(ids), np.float32)
    mask[len(ids) - padding :] = 0
    batch = {name: jax.tree.map(lambda leaf, name=name: read(leaf, name in cut), column, is_leaf=is_column)
             for name, column in columns.items()}  # fmt: skip
    return {**batch, 'id': ids.astype(np.int32).reshape(-1, size), 'mask': mask.reshape(-1, size)}


def _joined(predictions: Sequence[Sequence[Tree]], parts: Sequence[Part], per_token: bool) -> Tree:
    """Predictions (C, batches, size, ...) of the parts as (C, N, ...), in the order of the examples."""
    count = sum(len(part.ids) for part in parts)

    def join(*leaves: np.ndarray) -> np.ndarray:
        by_part = iter(leaves)
        result: np.ndarray | None = None
        longest = max(leaf.shape[3] for leaf in leaves) if per_token else 0
        for part, found in zip(parts, predictions, strict=True):
            rows = np.concatenate([_flat(next(by_part)) for _ in found], axis=1)[:, : len(part.ids)]
            if result is None:
                shape = (longest, *rows.shape[3:]) if per_token else rows.shape[2:]
                result = np.zeros((rows.shape[0], count, *shape), rows.dtype)
            result[(slice(None), part.ids, *((slice(rows.shape[2]),) if per_token else ()))] = rows
        assert result is not None
        return result

    return jax.tree.map(join, *(batch for part in predictions for batch in part))


def _flat(leaf: np.ndarray) -> np.ndarray:
    """(C, batches, size, ...) as (C, batches * size, ...)."""
    return leaf.reshape(leaf.shape[0], -1, *leaf.shape[3:])
