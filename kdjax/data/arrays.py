"""Arrays of one's own, in files of numpy's."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kdjax.dataset import SPLITS, UNLABELLED, Dataset, Split
from kdjax.errors import UsageError, unknown

NAMES = ('classes', 'padded')  # of arrays that are neither a column nor a fact


def arrays(*, path: str) -> Dataset:
    """A data set from an .npz file, or from a folder of .npy files, which stay there and are mapped into memory.

    An array is called 'train_inputs', its split and its column; in a folder it is the file 'train_inputs.npy'. Columns
    have any name and any shape (N, ...), and all splits have the same ones:

    - 'inputs': float32, uint8 for images of a byte per channel, or int32 for tokens, 0 where they are padded;
    - 'labels', integers: (N,), or (N, L) of tokens, -1 where there is none. They may be absent, from all splits or from
      training alone, whose examples then all have the label -1;
    - whatever else a network or a task reads: 'length', (N,) real tokens; 'teacher_inputs'; ...

    Beside columns there may be 'classes', the names of the classes in the order of the labels, and 'padded', the names
    of the columns whose second axis is padded, which 'length' measures. All other arrays, single values or lists, are
    facts, which networks are told by the name of their argument: 'vocabulary', 'words', ...

    Args:
      path: the file or folder. A folder with `data.stream=True` may be larger than memory.

    Raises:
      UsageError: the file cannot be read, an array is missing, labels are no integers, or a fact is no list.
    """
    try:
        found = _mapped(Path(path)) if Path(path).is_dir() else _loaded(path)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise UsageError(f'arrays {path!r} cannot be read: {error}') from error
    columns = _columns(found, path)
    labels = [own['labels'] for own in columns.values() if 'labels' in own]
    count = 1 + max((int(own.max(initial=-1)) for own in labels), default=-1)
    facts = {name: _fact(name, value, path) for name, value in found.items() if not _is_column(name) | (name in NAMES)}
    splits = {split: Split(own.pop('inputs'), own.pop('labels', None), own) for split, own in columns.items()}
    classes = tuple(map(str, found.get('classes', range(count))))
    return Dataset(splits, classes, facts, tuple(map(str, found.get('padded', ()))))


def _columns(found: Mapping[str, np.ndarray], path: str) -> dict[str, dict[str, Any]]:
    """The columns of every split by name."""
    names = dict.fromkeys(['inputs', *(name.partition('_')[2] for name in found if _is_column(name))])
    columns: dict[str, dict[str, Any]] = {split: {} for split in SPLITS}
    for split, column in ((split, column) for column in names for split in reversed(SPLITS)):
        name = f'{split}_{column}'
        if name in found:
            columns[split][column] = _labels(name, found[name], path) if column == 'labels' else found[name]
        elif name == 'train_labels':
            like = columns['validation']['labels']
            columns[split][column] = np.full((len(columns[split]['inputs']), *like.shape[1:]), UNLABELLED, np.int32)
        else:
            raise unknown('array', name, found, f' in {path!r}')
    return columns


def _is_column(name: str) -> bool:
    return name.startswith(tuple(f'{split}_' for split in SPLITS))


def _labels(name: str, labels: np.ndarray, path: str) -> np.ndarray:
    if labels.ndim < 1 or labels.dtype.kind not in 'iu':
        raise UsageError(f'{name} in {path!r} must be (N, ...) integers, got {labels.shape} {labels.dtype}')
    return labels.astype(np.int32)


def _fact(name: str, value: np.ndarray, path: str) -> Any:
    if value.ndim > 1:
        splits = ', '.join(f'{split}_{name}' for split in SPLITS)
        raise UsageError(
            f'{name} in {path!r} must be a value or a list, got {value.shape}; a column has the names {splits}'
        )
    return tuple(value.tolist()) if value.ndim else value.item()


def _loaded(path: str) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


def _mapped(folder: Path) -> dict[str, np.ndarray]:
    return {path.stem: np.load(path, mmap_mode='r') for path in sorted(folder.glob('*.npy'))}
