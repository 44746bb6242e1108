"""Classification: accuracy, likelihood, calibration, and fidelity to the teacher."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.jit_cache import bound, compiled
from kdjax.metrics import calibration, mean
from kdjax.types import Array, Column, Net, Tree

Evaluate = Callable[[Tree], Mapping[str, np.ndarray]]


def sums(logits: Array, labels: Array, mask: Array, teacher_logits: Array | None = None) -> dict[str, Any]:
    """Meters of a batch, to be added over batches and then read.

    Args:
      logits: (B, K).
      labels: (B,) integers.
      mask: (B,) 1 for real examples.
      teacher_logits: (B, K), for fidelity; None where there is no teacher.

    Returns:
      'accuracy', 'nll' (nats), 'ece'; with a teacher 'agreement' (of the predicted classes) and 'kl', KL(teacher ||
      student) in nats at temperature 1.
    """
    log_probabilities = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    predicted = jnp.argmax(logits, axis=-1)
    nll = -jnp.take_along_axis(log_probabilities, labels[:, None], axis=-1)[:, 0]
    found = {
        'accuracy': mean((predicted == labels).astype(jnp.float32), mask),
        'nll': mean(nll, mask),
        'ece': calibration(jnp.exp(log_probabilities), labels, mask),
    }
    if teacher_logits is not None:
        log_teacher = jax.nn.log_softmax(teacher_logits.astype(jnp.float32), axis=-1)
        kl = jnp.sum(jnp.exp(log_teacher) * (log_teacher - log_probabilities), axis=-1)
        agree = (predicted == jnp.argmax(teacher_logits, axis=-1)).astype(jnp.float32)
        found |= {'agreement': mean(agree, mask), 'kl': mean(kl, mask)}
    return found


def evaluator(
    net: Net,
    inputs: Column,
    labels: np.ndarray,
    teacher_logits: np.ndarray | None = None,
    batch_size: int = 1024,
    preprocess: Callable[[Array], Array] = lambda inputs: inputs,
    stream: bool = False,
) -> Evaluate:
    """A function from variables with a leading cell axis C to the metrics of `sums`, each (C,), on a whole split.

    Cells are evaluated one after the other, in batches of at most `batch_size`, so memory does not grow with the grid.

    Args:
      net: of all cells.
      inputs, labels, teacher_logits: of the split.
      batch_size: examples per forward pass.
      preprocess: makes of `inputs`, as stored, what the network sees.
      stream: whether each batch is read and put on the device when its turn comes, in every evaluation anew, for a
        split that does not fit there. If not, the whole split is put there once.
    """
    columns, size = (inputs, labels, teacher_logits), min(batch_size, len(labels))
    if stream:
        parts = [slice(start, start + size) for start in range(0, len(labels), size)]
        add = compiled(bound(_by_batch, net=net, preprocess=preprocess))
        return lambda cells: jax.device_get(_total(_streamed(add, cells, columns, parts, size)))
    batches = _batched(*columns, size)
    # The split is an argument: as a constant it would be part of the compiled program.
    measure = compiled(bound(_measure, net=net, preprocess=preprocess))
    return lambda cells: jax.device_get(measure(cells, batches))


def _measure(
    cells: Tree, batches: tuple[Any, ...], *, net: Net, preprocess: Callable[[Array], Array]
) -> Mapping[str, Array]:
    """The metrics of every cell over all batches."""
    return jax.lax.map(lambda variables: _read(_meters(variables, batches, net, preprocess)), cells)


def _by_batch(
    cells: Tree, batches: tuple[Any, ...], *, net: Net, preprocess: Callable[[Array], Array]
) -> Mapping[str, Any]:
    """The meters of every cell and batch."""
    return jax.lax.map(lambda variables: _meters(variables, batches, net, preprocess), cells)


def _meters(
    variables: Tree, batches: tuple[Any, ...], net: Net, preprocess: Callable[[Array], Array]
) -> Mapping[str, Any]:
    """The meters of every batch."""

    def one(batch: tuple[Any, ...]) -> dict[str, Any]:
        return sums(net.apply(variables, preprocess(batch[0]), train=False, key=None)[0].logits, *batch[1:])

    return jax.lax.map(one, batches)


def _read(by_batch: Mapping[str, Any]) -> Mapping[str, Array]:
    """The metrics over all batches."""
    totals = jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), by_batch)
    return {name: meter.compute() for name, meter in totals.items()}


@jax.jit
def _total(parts: list[Mapping[str, Any]]) -> Mapping[str, Array]:
    """The metrics of every cell, of its meters in parts of all batches."""
    return jax.vmap(_read)(jax.tree.map(lambda *leaves: jnp.concatenate(leaves, axis=1), *parts))


def _streamed(
    add: Callable[..., Mapping[str, Any]], cells: Tree, columns: tuple[Any, ...], parts: list[slice], size: int
) -> list[Mapping[str, Any]]:
    """The meters of every part of a split. While one is computed the next is read, and no more wait on the device."""
    found: list[Mapping[str, Any]] = []
    for part in parts:
        inputs, labels, teacher_logits = (None if column is None else column[part] for column in columns)
        batch = _batched(inputs, labels, teacher_logits, size)
        jax.block_until_ready(found[-1:])
        found.append(add(cells, batch))
    return found


def _batched(inputs: Any, labels: Any, teacher_logits: Any, size: int) -> tuple[Any, ...]:
    """(inputs, labels, mask, teacher_logits) with a leading axis of batches; the last is padded and masked."""
    count = len(labels)
    padding = -count % size

    def cut(column: Any) -> Any:
        padded = np.concatenate([column[:], np.repeat(column[:1], padding, axis=0)])
        return padded.reshape(-1, size, *column.shape[1:])

    mask = np.ones(count + padding, np.float32)
    mask[count:] = 0
    return jax.device_put((
        cut(inputs), cut(labels), mask.reshape(-1, size), None if teacher_logits is None else cut(teacher_logits),
    ))  # fmt: skip
