"""Soft labels on disk: a teacher's outputs by example id and view, under an address that says what they are of."""

import functools
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.data.augment import Augment, views
from kdjax.data.lazy import seen
from kdjax.data.preprocess import Preprocess, unit
from kdjax.dataset import is_column, leaves
from kdjax.errors import UsageError, unknown
from kdjax.jit_cache import bound, compiled
from kdjax.techniques.sparse import SparseTargets
from kdjax.train import distributed, storage
from kdjax.train.teachers import PREFIX
from kdjax.types import Array, Batch, Outputs, Teacher, TermInputs, Tree

ADDRESS = 'address.json'
SPARSE = ('top_ids', 'top_log_probs')  # what is cached in the place of logits


class Address(NamedTuple):
    """What a table of teacher outputs depends on; two equal addresses have equal tables."""

    teacher: str  # hash of its variables and of how it computes with them
    data: str  # checksum of the data set
    preprocess: str  # name and arguments of the preprocessing
    augment: str  # of the augmentation
    seed: int  # of the augmentation
    views: int  # per example


def compute(
    teacher: Teacher,
    variables: Tree,
    columns: Mapping[str, Tree],
    augment: Augment,
    seed: int,
    view_count: int,
    taps: tuple[str, ...] = (),
    batch_size: int = 512,
    progress: Callable[[int], None] = lambda done: None,
    preprocess: Preprocess = unit(),
    keep: int = 0,
    ids: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """The teacher's outputs on every view of every example.

    Args:
      teacher, variables: whose outputs.
      columns: of all examples as stored, (N, ...), read a batch at a time; the teacher sees 'inputs'.
      augment, seed, view_count: which views.
      taps: features to keep beside the logits.
      batch_size: examples per forward pass.
      progress: told the number of views done.
      preprocess: from stored inputs to what the teacher sees.
      keep: classes that are kept of its logits, the most probable; 0 for the logits of all.
      ids: (N,) of the examples; their positions if left out.

    Returns:
      'teacher/logits' (N, view_count, ..., K), or 'teacher/top_ids' and 'teacher/top_log_probs' (N, view_count, ...,
      keep); and 'teacher/<tap>' (N, view_count, ...).

    Raises:
      UsageError: the teacher has no such tap, or fewer classes than are kept.
    """
    forward = compiled(bound(
        _forward, teacher=teacher, augment=augment, seed=seed, taps=taps, preprocess=preprocess, keep=keep
    ))  # fmt: skip
    places = np.arange(len(next(leaf for _, leaf in leaves(columns))), dtype=np.int32)
    ids = places if ids is None else ids.astype(np.int32)
    batches = [places[start : start + batch_size] for start in range(0, len(places), batch_size)]
    by_view = []
    for view in range(view_count):
        read = functools.partial(_read, columns, view=view, seed=seed)
        parts = [jax.device_get(forward(variables, read(part), ids[part], np.int32(view))) for part in batches]
        by_view.append({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
        progress(view + 1)
    return {name: np.stack([table[name] for table in by_view], axis=1) for name in by_view[0]}


def _read(columns: Mapping[str, Tree], places: np.ndarray, view: int, seed: int) -> Tree:
    """The examples at `places` (B,) of every column, in a view where reading makes one."""
    views_B = np.full_like(places, view)
    return jax.tree.map(lambda column: seen(column, places, views_B, seed), dict(columns), is_leaf=is_column)


def _forward(
    variables: Tree,
    columns: Batch,
    ids: Array,
    view: Array,
    *,
    teacher: Teacher,
    augment: Augment,
    seed: int,
    taps: tuple[str, ...],
    preprocess: Preprocess,
    keep: int,
) -> dict[str, Array]:
    """The outputs on one view of a batch of examples, by name."""
    seen = views(augment, seed, columns, ids, jnp.broadcast_to(view, ids.shape))
    return tables(teacher(variables, {'inputs': preprocess(seen['inputs'])}), taps, keep)


def tables(outputs: Outputs, taps: tuple[str, ...], keep: int = 0) -> dict[str, Array]:
    """What is cached of a teacher's outputs, by name.

    Raises:
      UsageError: the teacher has no such tap, or fewer classes than are kept.
    """
    # What stands for the logits is no feature of the network.
    kept = tuple(tap for tap in taps if not (keep and tap in SPARSE))
    for tap in kept:
        if tap not in outputs.features:
            raise unknown('tap', tap, outputs.features, ' of the teacher, to be cached')
    taps = kept
    return {**_logits(outputs.logits, keep), **{PREFIX + tap: outputs.features[tap] for tap in taps}}


def _logits(logits: Array, keep: int) -> dict[str, Array]:
    if not keep:
        return {PREFIX + 'logits': logits}
    if not 1 <= keep <= logits.shape[-1]:
        raise UsageError(f'classes kept of the teacher must be in 1 to {logits.shape[-1]}, its classes, got {keep}')
    log_probs, ids = jax.lax.top_k(jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1), keep)
    return {PREFIX + 'top_ids': ids.astype(jnp.int32), PREFIX + 'top_log_probs': log_probs}


def padded_axes(outputs: Outputs, taps: tuple[str, ...]) -> dict[str, int]:
    """How many padded axes each table of a teacher has, of one of its outputs: 1 is the first, 2 are the last two."""
    names = {**dict.fromkeys(('logits', 'top_ids', 'top_log_probs'), 'logits'), **{tap: tap for tap in taps}}
    return {PREFIX + name: len(outputs.masks[tap]) for name, tap in names.items() if tap in outputs.masks}


def hidden_width(outputs: Outputs, keep: int) -> float:
    """How far the divergence of a student may be from what `keep` classes show of it, in nats, the mean over `outputs`.

    It is the width of `SparseTargets.dense_range` for a student that is the teacher.
    """
    logits = outputs.logits.reshape(-1, outputs.logits.shape[-1])
    inputs = TermInputs(Outputs(logits, {}), Outputs(logits, {}), {'mask': jnp.ones(len(logits), jnp.float32)})
    term = SparseTargets(keep=keep)
    knobs = {name: jnp.asarray(value) for name, value in term.knobs().items()}
    low, high = term.dense_range(inputs, knobs)
    return float(jnp.mean(high - low))


def save(folder: Path, tables: Mapping[str, np.ndarray], address: Address, padded: Mapping[str, int] = {}) -> None:
    """Writes the tables, in float32 or their integers; the address comes last, so that a half-written cache has none.

    Args:
      folder: theirs.
      tables: by name.
      address: what they are of.
      padded: how many padded axes they have, see `padded_axes`.
    """
    distributed.by_first(lambda: _write(folder, tables, address, padded))


def _write(folder: Path, tables: Mapping[str, np.ndarray], address: Address, padded: Mapping[str, int]) -> None:
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    for k, table in enumerate(tables.values()):
        np.save(folder / f'{k}.npy', table if np.issubdtype(table.dtype, np.integer) else table.astype(np.float32))
    files = {path.name: storage.sha256(path) for path in sorted(folder.glob('*.npy'))}
    said = {**address._asdict(), 'tables': list(tables), 'padded': dict(padded), 'files': files}
    storage.write_json(folder / ADDRESS, said)


def load(folder: Path, address: Address) -> dict[str, np.ndarray]:
    """The tables, mapped into memory.

    Raises:
      UsageError: there is no whole cache here, it is not as it was written, or it is stale: of another teacher, data
        set or augmentation.
    """
    path = folder / ADDRESS
    if not path.exists():
        raise UsageError(f'no complete teacher cache in {folder}')
    advice = storage.of_stage(folder.parent)
    stored = storage.read_json(path, advice, tables=list)
    stale = [f'{name} {stored.get(name)!r}, wanted {value!r}' for name, value in address._asdict().items()
             if stored.get(name) != value]  # fmt: skip
    if stale:
        raise UsageError(f'stale teacher cache {folder}: {"; ".join(stale)}; delete it to have it made anew')
    storage.compare(folder, stored.get('files', {}), advice)  # earlier versions wrote none
    return {name: np.load(folder / f'{k}.npy', mmap_mode='r') for k, name in enumerate(stored['tables'])}


def load_padded(folder: Path) -> dict[str, int]:
    """How many padded axes the tables have that lie in `folder`, by name."""
    return storage.read_json(folder / ADDRESS, storage.of_stage(folder.parent)).get('padded', {})
