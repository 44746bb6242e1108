"""Images in ArrayRecord files, each record a `tf.train.Example`, read without TensorFlow (extra 'stream')."""

import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kdjax import trees
from kdjax.data.base import SPLIT_WORDS, completed
from kdjax.data.pictures import column, crops
from kdjax.dataset import Dataset, Split
from kdjax.errors import UsageError, unknown

FILES = ('.array_record', '.arrayrecord')
SHARD = re.compile(r'-(\d+)-of-(\d+)$')  # how the name of one of several files ends
WORD = re.compile(r'[^a-z0-9]+')
CHUNK = 1000  # records whose labels are read at once
KINDS = {'bytes_list': 12, 'float_list': 2, 'int64_list': 3}  # of a feature, with protobuf's number of what it lists
Label = int | str


class Feature(NamedTuple):
    """One feature of a record."""

    kind: str  # key of KINDS
    values: Sequence[Any]


def images(
    *,
    folder: str,
    size: int,
    resize: int = 0,
    area: tuple[float, ...] = (),
    image: str = 'image',
    label: str = 'label',
    test: int | float | str = 0,
    validation: int | float | str = 0,
    lazy: bool = False,
) -> Dataset:
    """Images (N, size, size, 3) uint8 from `tf.train.Example`s, in the order of the files' names and of their records.

    A file is of the split whose word, 'train', 'test' or 'validation' ('val', 'valid'), is in its name or that of its
    folder: 'pets-train.array_record-00000-of-00004', 'train/0.array_record'. Of a file that says it is one of several
    all must be there. Classes are named by '<label>.labels.txt', a line for each, where that lies in `folder` as TFDS
    writes it; else labels that are texts name them, and numbers are their own names.

    Args:
      folder: has the files, in itself or in its folders.
      size, resize, area, lazy: what is kept of an image and when it is read, as of `folder.images`.
      image: feature with the bytes of an image in a file's format: JPEG, PNG, ...
      label: feature with the class, a number from 0 on or a text.
      test, validation: where there is no such file, as of `folder.images`.

    Raises:
      UsageError: a file is missing, cannot be read, or is of no split or of two; a record has no such feature, or
        another one than an image or a class; or an image cannot be read.
    """
    if not isinstance(folder, str):
        raise UsageError(f'folder must be a name, got {folder!r}')
    keep, root = crops(size, resize, area, lazy), Path(folder)
    found = _files(root)
    if not found:
        raise UsageError(f'no files of ArrayRecord ({", ".join(f"*{end}*" for end in FILES)}) in {root}')
    for name in ('train',) if test else ('train', 'test'):
        if name not in found:
            raise UsageError(f'no file of ArrayRecord in {root} has {name!r} in its name or that of its folder; of '
                             'files without a test split say how many are for testing: test=0.2')  # fmt: skip
    sources = {name: _Records(files) for name, files in found.items()}
    said = {name: _labels(source, label) for name, source in sources.items()}
    classes = _classes(root / f'{label}.labels.txt', said['train'])
    splits = {}
    for name, source in sources.items():
        pixels = column(source, functools.partial(_encoded, image), keep, source.identity(root))
        numbers = _numbered(said[name], classes, f'{root}, split {name!r}')
        splits[name] = Split(pixels if lazy else pixels[:], numbers)
    return Dataset(completed(splits, test=test, validation=validation), classes)


def _files(root: Path) -> dict[str, list[Path]]:
    """The files of every split that is there, in the order of their names."""
    found: dict[str, list[Path]] = {}
    for path in sorted(path for pattern in ('*', '*/*') for path in root.glob(pattern) if _is_records(path)):
        words = {word for part in path.relative_to(root).parts for word in WORD.split(part.lower())}
        of = [split for split, names in SPLIT_WORDS.items() if words & {*names}]
        if len(of) != 1:
            which = ' and of '.join(map(repr, of)) or 'none'
            raise UsageError(f'{path} must be of one split by its name or that of its folder ({", ".join(SPLIT_WORDS)})'
                             f', and is of {which}')  # fmt: skip
        found.setdefault(of[0], []).append(path)
    for paths in found.values():
        _check_shards(paths)
    return found


def _is_records(path: Path) -> bool:
    return any(end in path.name for end in FILES) and not path.name.startswith('.') and path.is_file()


def _check_shards(paths: Sequence[Path]) -> None:
    """Of files that are numbered none may be missing."""
    parts: dict[tuple[str, int], set[int]] = {}
    for path in paths:
        if match := SHARD.search(path.name):
            number, count = map(int, match.groups())
            parts.setdefault((str(path)[: -len(match.group())], count), set()).add(number)
    for (name, count), numbers in parts.items():
        if missing := sorted({*range(count)} - numbers):
            raise UsageError(f'{name} is in {count} files, of which {len(missing)} are missing: the first is number '
                             f'{missing[0]}')  # fmt: skip


class _Records:
    """The records of files, one after the other."""

    def __init__(self, paths: Sequence[Path]) -> None:
        try:
            from array_record.python.array_record_data_source import ArrayRecordDataSource
        except ImportError as error:
            raise UsageError(f"files of ArrayRecord need the extra 'stream': pip install 'kdjax[stream]' ({error})"
                             ) from error  # fmt: skip
        self._paths = paths
        for path in paths:  # one by one, so that what is said names the file
            try:
                ArrayRecordDataSource(str(path))
            except (ValueError, RuntimeError, OSError) as error:
                raise UsageError(f'{path} cannot be read as ArrayRecord: {_first_line(error)}') from error
        self._source = ArrayRecordDataSource([str(path) for path in paths])
        if not len(self._source):
            raise UsageError(f'{paths[0]} and the files after it have no records')

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, position: int, /) -> bytes:
        return self.__getitems__([position])[0]

    def __getitems__(self, positions: Sequence[int]) -> Sequence[bytes]:
        try:
            return self._source.__getitems__(positions)
        except (ValueError, RuntimeError, OSError, IndexError) as error:
            raise UsageError(f'records of {self._paths[0]} and the files after it cannot be read: '
                             f'{_first_line(error)}') from error  # fmt: skip

    def identity(self, root: Path) -> str:
        """What the files are, by their names and sizes."""
        return trees.digest([[str(path.relative_to(root)), path.stat().st_size] for path in self._paths])


def features(record: bytes) -> Mapping[str, Feature]:
    """The features of a `tf.train.Example`, by name.

    Raises:
      UsageError: the record is none.
    """
    from google.protobuf.message import DecodeError

    example = _example()()
    try:
        example.ParseFromString(record)
    except DecodeError as error:
        raise UsageError(f'a record of {len(record)} bytes is no tf.train.Example: {_first_line(error)}') from error
    found = {}
    for name, feature in example.features.feature.items():
        if kind := feature.WhichOneof('kind'):
            found[name] = Feature(kind, getattr(feature, kind).value)
    return found


@functools.cache
def _example() -> Any:
    """The message `tf.train.Example`, as tensorflow/core/example/{example,feature}.proto declare it."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    single, repeated, message, text = 1, 3, 11, 9  # numbers of protobuf's labels and types
    file = descriptor_pb2.FileDescriptorProto(name='kdjax/example.proto', package='kdjax', syntax='proto3')

    def declared(parent: Any, name: str, *fields: tuple[str, int, int, str]) -> Any:
        made = (parent.nested_type if parent is not file else file.message_type).add(name=name)
        for number, (called, many, kind, of) in enumerate(fields, start=1):
            made.field.add(name=called, number=number, label=many, type=kind, type_name=of or None)
        return made

    for kind, listed in KINDS.items():
        declared(file, kind, ('value', repeated, listed, ''))
    feature = declared(file, 'Feature', *((kind, single, message, f'.kdjax.{kind}') for kind in KINDS))
    feature.oneof_decl.add(name='kind')
    for field in feature.field:
        field.oneof_index = 0
    features = declared(file, 'Features', ('feature', repeated, message, '.kdjax.Features.FeatureEntry'))
    entry = declared(features, 'FeatureEntry', ('key', single, text, ''), ('value', single, message, '.kdjax.Feature'))
    entry.options.map_entry = True
    declared(file, 'Example', ('features', single, message, '.kdjax.Features'))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName('kdjax.Example'))


def _labels(source: _Records, label: str) -> list[Label]:
    """Of all records, which are read for it and not decoded."""
    count = len(source)
    return [
        _class(record, label)
        for start in range(0, count, CHUNK)
        for record in source.__getitems__(list(range(start, min(start + CHUNK, count))))
    ]


def _class(record: bytes, label: str) -> Label:
    kind, values = _feature(record, label)
    if kind == 'float_list' or len(values) != 1:
        raise UsageError(f'feature {label!r} of a record must be one number of a class or its name, got '
                         f'{len(values)} of {kind}')  # fmt: skip
    return values[0].decode(errors='replace') if kind == 'bytes_list' else int(values[0])


def _encoded(image: str, record: bytes) -> bytes:
    kind, values = _feature(record, image)
    if kind != 'bytes_list' or len(values) != 1:
        raise UsageError(f'feature {image!r} of a record must be the bytes of one image, got {len(values)} of {kind}')
    return values[0]


def _feature(record: bytes, name: str) -> Feature:
    found = features(record)
    if name not in found:
        raise unknown('feature', name, found, ' of a record')
    return found[name]


def _classes(names: Path, train: Sequence[Label]) -> tuple[str, ...]:
    """Names of the classes, in the order of their numbers."""
    if names.is_file():
        return tuple(names.read_text().splitlines())
    texts = {label for label in train if isinstance(label, str)}
    if texts:
        return tuple(sorted(texts))
    most = max(int(label) for label in train)
    if most >= len(train):
        raise UsageError(f'{len(train)} records for training cannot have {most + 1} classes, as their largest label '
                         f'says: count them from 0, or name them in {names}')  # fmt: skip
    return tuple(str(number) for number in range(1 + most))


def _numbered(labels: Sequence[Label], classes: Sequence[str], where: str) -> np.ndarray:
    """Labels as numbers. (N,)"""
    number = {name: place for place, name in enumerate(classes)}
    for label in labels:
        if label not in number if isinstance(label, str) else not 0 <= label < len(classes):
            raise unknown('class', label, classes, f' of a record in {where}')
    return np.asarray([number[label] if isinstance(label, str) else label for label in labels], np.int32)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
