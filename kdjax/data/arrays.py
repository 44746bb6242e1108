"""Arrays of one's own, in files of numpy's."""

import os
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kdjax.data.base import SPLIT_WORDS, completed
from kdjax.dataset import GROUPS, SPLITS, UNLABELLED, Dataset, Split
from kdjax.errors import UsageError, unknown

NAMES = ('classes', 'padded')  # of arrays that are neither a column nor a fact
# Other words for splits and columns, as files have them.
SPLIT_OF = {word: split for split, words in SPLIT_WORDS.items() for word in words}
WORDS = {'inputs': 'inputs', 'x': 'inputs', 'images': 'inputs', 'data': 'inputs',
         'labels': 'labels', 'y': 'labels', 'targets': 'labels', 'groups': GROUPS, 'group': GROUPS}  # fmt: skip
WORD = np.iinfo(np.int32)
READING = (OSError, ValueError, EOFError, MemoryError, RuntimeError, zlib.error, zipfile.BadZipFile)
Columns = dict[str, dict[str, Any]]  # by split and column


def arrays(*, path: str, test: int | float = 0, validation: int | float | str = 0) -> Dataset:
    """A data set from an .npz file, or from a folder of .npy files, which stay there and are mapped into memory.

    An array is called 'train_inputs', its split and its column; in a folder it is the file 'train_inputs.npy'. Columns
    have any name and any shape (N, ...), and all splits have the same ones:

    - 'inputs': float32; uint8 or uint16 for images of one or two bytes per channel; or int32 for tokens, 0 where they
      are padded (see `inputs.readable`);
    - 'labels': integers (N,), or (N, L) of tokens, -1 where there is none; of several classes at once (N, K), 0 and 1;
      of numbers that are to be told, floats. They may be absent, from all splits or from training alone, whose examples
      then all have the label -1;
    - 'groups': (N,) whom an example is of (a speaker, a user), which no two splits then share;
    - whatever else a network or a task reads: 'length', (N,) real tokens; 'teacher_inputs'; ...

    Other words are understood too: x, images, data for 'inputs'; y, targets for 'labels'; val, valid for 'validation';
    and the split may come last, as in 'x_train'. A split that is not there is drawn from training. So all are, where
    no array names a split: 'x' and 'y', and others with two axes or more, are of all examples.

    Beside columns there may be 'classes', the names of the classes in the order of the labels, and 'padded', the names
    of the columns whose second axis is padded, which 'length' measures. All other arrays, single values or lists, are
    facts, which networks are told by the name of their argument: 'vocabulary', 'words', ...

    Args:
      path: the file or folder. A folder with `data.stream=True` may be larger than memory.
      test, validation: of what has no such split: how many training examples become it, a number or a share; see
        `base.completed`.

    Raises:
      UsageError: the file cannot be read, an array is missing or given twice, labels are no integers or leave a class
        out that no name stands for, a group is in two splits, or a fact is no list.
    """
    if not isinstance(path, str):
        raise UsageError(f'path must be the name of an .npz file or of a folder of .npy files, got {path!r}')
    try:
        found = _mapped(Path(path)) if Path(path).is_dir() else _loaded(path)
    except READING as error:
        raise UsageError(f'arrays {path!r} cannot be read: {error or "the file is empty"}') from error
    named = _named(found, path)
    columns = _columns(named, found, path, (test, validation))
    classes = _classes(columns, found, path)
    facts = {name: _fact(name, value, path) for name, value in found.items() if name not in {*NAMES, *named}}
    splits = {split: Split(own.pop('inputs'), own.pop('labels', None), own) for split, own in columns.items()}
    padded = tuple(map(str, found.get('padded', ())))
    return Dataset(completed(splits, test=test, validation=validation), classes, facts, padded)


def _named(found: Mapping[str, np.ndarray], path: str) -> dict[str, tuple[str, str]]:
    """The split and the column that each array is, by its name; all are of training where none names a split."""
    named = {name: place for name in found if (place := _place(name)) is not None}
    if not named:
        named = {name: ('train', WORDS.get(name.lower(), name)) for name, value in found.items()
                 if name not in NAMES and (name.lower() in (*WORDS, 'length') or value.ndim > 1)}  # fmt: skip
    names: dict[tuple[str, str], str] = {}
    for name, place in named.items():
        if place in names:
            raise UsageError(
                f'{names[place]!r} and {name!r} in {path!r} are both the {place[1]} of {place[0]}; give one'
            )
        names[place] = name
    return named


def _place(name: str) -> tuple[str, str] | None:
    """The split and the column that an array's name says, if it says one."""
    first, _, rest = name.partition('_')
    if rest and first.lower() in SPLIT_OF:
        return SPLIT_OF[first.lower()], WORDS.get(rest.lower(), rest)
    column, _, last = name.rpartition('_')
    if column.lower() in WORDS and last.lower() in SPLIT_OF:
        return SPLIT_OF[last.lower()], WORDS[column.lower()]
    return None


def _columns(
    named: Mapping[str, tuple[str, str]], found: Mapping[str, np.ndarray], path: str, drawn: tuple[Any, Any]
) -> Columns:
    """The columns of every split that is there."""
    given = {place: found[name] for name, place in named.items()}
    there = {split for split, _ in given}
    splits = ['train', *(split for split, wanted in zip(('test', 'validation'), drawn, strict=True)
                         if split in there or not wanted)]  # fmt: skip
    columns: Columns = {split: {} for split in SPLITS if split in splits}
    for column in dict.fromkeys(['inputs', *(column for _, column in given)]):
        for split in reversed(columns):
            if (split, column) in given:
                columns[split][column] = given[split, column]
            elif (split, column) == ('train', 'labels'):
                like = columns[next(other for other in reversed(columns) if 'labels' in columns[other])]['labels']
                none = np.float32(np.nan) if like.dtype.kind == 'f' else np.int32(UNLABELLED)
                columns[split][column] = np.full((len(columns['train']['inputs']), *like.shape[1:]), none)
            else:
                raise _missing(split, column, found, path)
    return _grouped(_labelled(columns, found, path), path)


def _missing(split: str, column: str, found: Mapping[str, np.ndarray], path: str) -> UsageError:
    advice = '' if split == 'train' or column != 'inputs' else f'; or draw it from training: {split}=0.1'
    return UsageError(f'{unknown("array", f"{split}_{column}", found, f" in {path!r}")}{advice}')


def _labelled(columns: Columns, found: Mapping[str, np.ndarray], path: str) -> Columns:
    """The columns, with labels as tasks read them: int32, or float32 where all are floats; (N, 1) as (N,)."""
    floats = all(own['labels'].dtype.kind == 'f' for own in columns.values() if 'labels' in own)
    tokens = 'labels' in found.get('padded', ())
    for split, own in columns.items():
        if 'labels' in own:
            own['labels'] = _labels(f'labels of {split!r} in {path!r}', own['labels'], floats, tokens)
    return columns


def _labels(said: str, labels: np.ndarray, floats: bool, tokens: bool) -> np.ndarray:
    if labels.ndim < 1 or (labels.dtype.kind not in 'iub' and not floats):
        raise UsageError(f'{said} must be (N, ...) integers, got {labels.shape} {labels.dtype}')
    if labels.ndim == 2 and labels.shape[1] == 1 and not tokens:
        labels = labels[:, 0]
    if floats:
        return labels.astype(np.float32)
    if labels.size and not WORD.min <= labels.min() <= labels.max() <= WORD.max:
        raise UsageError(f'{said} are {labels.min()} to {labels.max()}: classes are numbered from 0')
    return labels.astype(np.int32)


def _grouped(columns: Columns, path: str) -> Columns:
    """The columns, with groups numbered over all splits."""
    if GROUPS not in columns['train']:
        return columns
    parts = {split: np.asarray(own[GROUPS]) for split, own in columns.items()}
    for split, groups in parts.items():
        if groups.ndim != 1 or groups.dtype.kind not in 'iubU':
            raise UsageError(f'groups of {split!r} in {path!r} must be (N,) integers or names, got {groups.shape} '
                             f'{groups.dtype}')  # fmt: skip
        if split != 'train' and len(both := np.intersect1d(parts['train'], groups)):
            raise UsageError(
                f"group {both[0]!s} in {path!r} has examples in 'train' and in {split!r}: a group is one side's"
            )
    names = np.unique(np.concatenate([*parts.values()]))
    for split, groups in parts.items():
        columns[split][GROUPS] = np.searchsorted(names, groups).astype(np.int32)
    return columns


def _classes(columns: Columns, found: Mapping[str, np.ndarray], path: str) -> tuple[str, ...]:
    """The names of the classes: as given, else the numbers, of which each must then have an example."""
    if 'classes' in found:
        return tuple(map(str, np.atleast_1d(found['classes'])))
    labels = [own['labels'] for own in columns.values() if 'labels' in own]
    if not labels or labels[0].dtype.kind == 'f':
        return ()
    if labels[0].ndim == 2 and 'labels' not in found.get('padded', ()):
        return _numbers(labels[0].shape[1])
    seen = np.unique(np.concatenate([np.unique(part) for part in labels]))
    seen = seen[seen != UNLABELLED]
    missing = next((k for k, label in enumerate(seen) if k != label), None)
    if missing is not None:
        raise UsageError(
            f'labels in {path!r} are {len(seen)} numbers from {seen[0]} to {seen[-1]}, and class {missing} has no '
            "example: number the classes from 0 without gaps, or name all of them in 'classes'"
        )
    return _numbers(len(seen))


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))


def _fact(name: str, value: np.ndarray, path: str) -> Any:
    if value.ndim > 1:
        splits = ', '.join(f'{split}_{name}' for split in SPLITS)
        raise UsageError(
            f'{name} in {path!r} must be a value or a list, got {value.shape}; a column has the names {splits}'
        )
    return tuple(value.tolist()) if value.ndim else value.item()


def _loaded(path: str) -> dict[str, np.ndarray]:
    with open(path, 'rb') as file:
        if file.read(6) == np.lib.format.MAGIC_PREFIX:
            raise ValueError("it holds one array; an .npz file has several, 'train_inputs', 'train_labels', ..., and "
                             'so has a folder of .npy files')  # fmt: skip
    with zipfile.ZipFile(path) as archive:
        _check_sizes(archive)
    with np.load(path) as arrays:
        return dict(arrays)


def _check_sizes(archive: zipfile.ZipFile) -> None:
    """Meets arrays that are not there, or that do not fit, before they are given room."""
    sizes = {}
    for member in archive.infolist():
        with archive.open(member) as file:
            shape, dtype = _header(file)
            start = file.tell()
        sizes[member.filename] = int(np.prod(shape, dtype=object)) * dtype.itemsize
        if not dtype.hasobject and sizes[member.filename] != member.file_size - start:
            raise ValueError(f'{member.filename} is said to be {shape} {dtype}, which is not what the file holds')
    room = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    if sum(sizes.values()) > room:
        raise ValueError(f'its arrays have {sum(sizes.values()) / 1e9:.1f} GB and this machine {room / 1e9:.1f} GB; '
                         'give a folder of .npy files, which are mapped, and data.stream=True')  # fmt: skip


def _header(file: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype


def _mapped(folder: Path) -> dict[str, np.ndarray]:
    names: Iterable[Path] = sorted(path for path in folder.glob('*.npy') if not path.name.startswith('.'))
    return {path.stem: np.load(path, mmap_mode='r') for path in names}
