"""Soft labels on disk: a teacher's outputs by example id and view, under an address that says what they are of."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.data.augment import Augment, views
from kdjax.data.preprocess import Preprocess, unit
from kdjax.errors import UsageError, unknown
from kdjax.jit_cache import bound, compiled
from kdjax.train import distributed
from kdjax.train.ledger import replace
from kdjax.train.teachers import PREFIX
from kdjax.types import Array, Column, Teacher, Tree

ADDRESS = 'address.json'


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
    inputs: Column,
    augment: Augment,
    seed: int,
    view_count: int,
    taps: tuple[str, ...] = (),
    batch_size: int = 512,
    progress: Callable[[int], None] = lambda done: None,
    preprocess: Preprocess = unit(),
) -> dict[str, np.ndarray]:
    """The teacher's outputs on every view of every example.

    Args:
      teacher, variables: whose outputs.
      inputs: (N, ...) of all examples as stored, in the order of their ids; read a batch at a time.
      augment, seed, view_count: which views.
      taps: features to keep beside the logits.
      batch_size: examples per forward pass.
      progress: told the number of views done.
      preprocess: from stored inputs to what the teacher sees.

    Returns:
      'teacher/logits' (N, view_count, K) and 'teacher/<tap>' (N, view_count, ...).

    Raises:
      UsageError: the teacher has no such tap.
    """
    forward = compiled(bound(_forward, teacher=teacher, augment=augment, seed=seed, taps=taps, preprocess=preprocess))
    ids = np.arange(len(inputs), dtype=np.int32)
    batches = [ids[start : start + batch_size] for start in range(0, len(ids), batch_size)]
    by_view = []
    for view in range(view_count):
        parts = [jax.device_get(forward(variables, inputs[part], part, np.int32(view))) for part in batches]
        by_view.append({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
        progress(view + 1)
    return {name: np.stack([table[name] for table in by_view], axis=1) for name in by_view[0]}


def _forward(
    variables: Tree,
    images: Array,
    ids: Array,
    view: Array,
    *,
    teacher: Teacher,
    augment: Augment,
    seed: int,
    taps: tuple[str, ...],
    preprocess: Preprocess,
) -> dict[str, Array]:
    """The outputs on one view of a batch of examples, by name."""
    numbers = jnp.broadcast_to(view, ids.shape)
    outputs = teacher(variables, {'inputs': preprocess(views(augment, seed, images, ids, numbers))})
    for tap in taps:
        if tap not in outputs.features:
            raise unknown('tap', tap, outputs.features, ' of the teacher, to be cached')
    return {PREFIX + 'logits': outputs.logits, **{PREFIX + tap: outputs.features[tap] for tap in taps}}


def save(folder: Path, tables: Mapping[str, np.ndarray], address: Address) -> None:
    """Writes the tables, in float32; the address comes last, so that a half-written cache has none."""
    distributed.by_first(lambda: _write(folder, tables, address))


def _write(folder: Path, tables: Mapping[str, np.ndarray], address: Address) -> None:
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    for k, table in enumerate(tables.values()):
        np.save(folder / f'{k}.npy', table.astype(np.float32))
    replace(folder / ADDRESS, json.dumps({**address._asdict(), 'tables': list(tables)}))


def load(folder: Path, address: Address) -> dict[str, np.ndarray]:
    """The tables, mapped into memory.

    Raises:
      UsageError: there is no whole cache here, or it is stale: of another teacher, data set or augmentation.
    """
    path = folder / ADDRESS
    if not path.exists():
        raise UsageError(f'no complete teacher cache in {folder}')
    stored = json.loads(path.read_text())
    stale = [f'{name} {stored.get(name)!r}, wanted {value!r}' for name, value in address._asdict().items()
             if stored.get(name) != value]  # fmt: skip
    if stale:
        raise UsageError(f'stale teacher cache {folder}: {"; ".join(stale)}; delete it to have it made anew')
    return {name: np.load(folder / f'{k}.npy', mmap_mode='r') for k, name in enumerate(stored['tables'])}
