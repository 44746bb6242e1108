"""Classification data sets of TensorFlow Datasets, read as prepared on disk, without TensorFlow (extra 'tfds')."""

import functools
import operator
from collections.abc import Iterable
from typing import Any

import numpy as np

from kdjax.data.base import divided
from kdjax.data.lazy import Lazy
from kdjax.data.pictures import Crops, column, crops
from kdjax.dataset import Dataset, Split
from kdjax.errors import UsageError, nearest, unknown

CHUNK = 1000  # examples decoded at once


def prepared(
    *,
    name: str,
    data_dir: str = '',
    validation: int | str = 5000,
    test: str = 'test',
    lazy: bool = False,
    size: int = 0,
    resize: int = 0,
    area: tuple[float, ...] = (),
) -> Dataset:
    """The data set that `data.source='tfds:<name>'` means: inputs as stored (images uint8), in the order of TFDS.

    Args:
      name: of the builder, as 'mnist' or 'emnist/letters'.
      data_dir: where it was prepared; by default TFDS_DATA_DIR or ~/tensorflow_datasets.
      validation: training examples held out, see `base.divided`; or the name of a split, 'validation' where there is
        one, or the one that is also the test split.
      test: name of the test split.
      lazy: whether inputs are read when a step needs them, for what `data.stream=True` is to feed. Labels are read at
        once.
      size, resize, area: of images of any size what is kept while they are read, as of `folder.images`; it takes
        lazy=True. 0 of `size`: they are of one size already, and stay as they are.

    Raises:
      UsageError: it is not prepared here, has no such split, or is not a classification of inputs of one shape.
    """
    if (size or resize or area) and not (lazy and size):
        raise UsageError(f'images are made {size}x{size} while they are read: set size and lazy=True, got lazy={lazy}')
    keep = crops(size, resize, area, lazy) if size else None
    found = builder(name, data_dir)
    at = f' --data_dir={data_dir}' if data_dir else ''
    advice = f'prepare it with: python run.py --mode=prepare --data={name}{at}'
    if not (found.data_path / 'dataset_info.json').exists():
        raise UsageError(f'data set {name!r} is not in {found.data_path}; {advice}')
    inputs, label = _columns(name, found)

    @functools.cache
    def split(of: str) -> Split:
        if of not in found.info.splits:
            raise unknown('split', of, found.info.splits, f' of data set {name!r}')
        try:
            return _lazy(name, found, of, inputs, label, keep) if lazy else _read(name, found, of, inputs, label)
        except NotImplementedError as error:
            raise UsageError(f'data set {name!r} in {found.data_path} has no random access; {advice}') from error

    classes = tuple(found.info.features[label].names)
    if isinstance(validation, str):
        return Dataset({'train': split('train'), 'validation': split(validation), 'test': split(test)}, classes)
    return divided(split('train'), split(test), classes, validation)


def builder(name: str, data_dir: str = '', others: Iterable[str] = (), **options: Any) -> Any:
    """The TFDS builder of a data set.

    Args:
      name: with configuration and version, where wanted: 'emnist/letters', 'mnist:3.0.1'.
      data_dir: as for `prepared`.
      others: names that may have been meant and are not of TFDS.
      options: further arguments of `tfds.builder`.

    Raises:
      UsageError: TFDS is not installed, does not know the name, or cannot use this builder without TensorFlow.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise UsageError(f"data set {name!r} needs the extra 'tfds': pip install 'kdjax[tfds]' ({error})") from error
    try:
        return tfds.builder(name, data_dir=data_dir or None, **options)
    except tfds.core.DatasetNotFoundError as error:
        known = tfds.list_builders(with_community_datasets=False)
        raise unknown('data set of TFDS', name, nearest(name, (*known, *others))[:5]) from error
    except ImportError as error:
        raise UsageError(f'data set {name!r} needs more than TFDS itself: {error}') from error
    except (ValueError, AssertionError) as error:
        raise UsageError(f'data set {name!r}: {str(error).splitlines()[0]}') from error


def _columns(name: str, found: Any) -> tuple[str, str]:
    """Names of the features that are the input and the class."""
    keys, features = found.info.supervised_keys, found.info.features
    if keys is None or len(keys) != 2 or not hasattr(features[keys[1]], 'names'):
        raise UsageError(f'data set {name!r} is not a classification: its features are {", ".join(features)}')
    return keys


def _lazy(name: str, found: Any, of: str, inputs: str, label: str, keep: Crops | None) -> Split:
    """A split whose inputs stay where they are; its labels are read without decoding an input."""
    from tensorflow_datasets import decode

    def said(start: int) -> list[int]:
        return [example[label] for example in undecoded.__getitems__(list(range(start, min(start + CHUNK, count))))]

    source, undecoded = found.as_data_source(of), found.as_data_source(of, decoders={inputs: decode.SkipDecoding()})
    count = len(source)
    _checked(name, source[0][inputs])
    labels = np.concatenate([said(start) for start in range(0, count, CHUNK)]).astype(np.int32)
    if keep is None:
        return Split(Lazy(source, operator.itemgetter(inputs)), labels)
    if not isinstance(undecoded[0][inputs], bytes):
        raise UsageError(f'data set {name!r} has no encoded images, whose size could be changed; leave out size')
    identity = f'{found.info.full_name} {of} {found.info.splits[of].shard_lengths}'
    return Split(column(undecoded, operator.itemgetter(inputs), keep, identity), labels)


def _checked(name: str, first: Any) -> np.ndarray:
    array = np.asarray(first)
    if array.dtype.kind not in 'uif':
        raise UsageError(f'data set {name!r} has inputs that are no numbers: {array.dtype}')
    return array


def _read(name: str, found: Any, of: str, inputs: str, label: str) -> Split:
    source = found.as_data_source(of)
    first = _checked(name, source[0][inputs])
    images, labels = np.empty((len(source), *first.shape), first.dtype), np.empty(len(source), np.int32)
    for start in range(0, len(source), CHUNK):
        examples = source.__getitems__(list(range(start, min(start + CHUNK, len(source)))))
        for k, example in enumerate(examples, start):
            if np.shape(example[inputs]) != first.shape:
                raise UsageError(
                    f'data set {name!r} has inputs of different shapes, {first.shape} and {np.shape(example[inputs])}; '
                    'of images say what is kept (size=224, resize=256, lazy=True), of others write a source '
                    'that makes them alike (kdjax.data.lazy.Lazy, its decode)'
                )
            images[k], labels[k] = example[inputs], example[label]
    return Split(images, labels)
