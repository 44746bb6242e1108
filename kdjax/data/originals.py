"""MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100 from their original files, checked, for machines without a network.

The arrays and their order are those that TFDS gives (it shuffles each split once, by a hash of the position), so that
`'originals.mnist'` and `'tfds:mnist'` are one data set.

Sources: LeCun, Cortes, Burges, The MNIST database; Xiao, Rasul, Vollgraf, Fashion-MNIST, arXiv 1708.07747; Krizhevsky,
Learning Multiple Layers of Features from Tiny Images, 2009 (binary versions).
"""

import gzip
import hashlib
import os
import zlib
from pathlib import Path

import numpy as np

from kdjax.data.base import divided
from kdjax.dataset import Dataset, Split
from kdjax.errors import UsageError

VARIABLE = 'KDJAX_DATA'  # names the folder where a config does not
# md5 of every file, uncompressed, as others published them too.
FILES = {
    'mnist': {
        'train-images-idx3-ubyte': '6bbc9ace898e44ae57da46a324031adb',
        'train-labels-idx1-ubyte': 'a25bea736e30d166cdddb491f175f624',
        't10k-images-idx3-ubyte': '2646ac647ad5339dbf082846283269ea',
        't10k-labels-idx1-ubyte': '27ae3e4e09519cfbb04c329615203637',
    },
    'fashion_mnist': {
        'train-images-idx3-ubyte': 'f4a8712d7a061bf5bd6d2ca38dc4d50a',
        'train-labels-idx1-ubyte': '9018921c3c673c538a1fc5bad174d6f9',
        't10k-images-idx3-ubyte': '8181f5470baa50b63fa0f6fddb340f0a',
        't10k-labels-idx1-ubyte': '15d484375f8d13e6eb1aabb0c3f46965',
    },
    'cifar10': {
        'data_batch_1.bin': '5dd7e06a14cb22eb9f671a540d1b7c25',
        'data_batch_2.bin': '5ea93a67294ea407fff1d09f752e9692',
        'data_batch_3.bin': '942cd6a4bcdd0dd3c604fbe906cb4421',
        'data_batch_4.bin': 'ae636b3ba5c66a11e91e8cb52e771fcb',
        'data_batch_5.bin': '53f37980c15c3d472c316c40844f3f0d',
        'test_batch.bin': '803d5f7f4d78ea53de84dbe85f74fb6d',
    },
    'cifar100': {
        'train.bin': '6172c7755cfe09b2fe270c85cebc1b15',
        'test.bin': '4499cfba6c016c1be1438163640a0898',
    },
}
INSIDE = {'cifar10': 'cifar-10-batches-bin', 'cifar100': 'cifar-100-binary'}  # folder inside the published archive
# Names of classes, which lie beside the images of CIFAR and are not checked.
NAMES = {'cifar10': ('batches.meta.txt',), 'cifar100': ('fine_label_names.txt', 'coarse_label_names.txt')}
CLOTHES = (
    'T-shirt/top', 'Trouser', 'Pullover', 'Dress', 'Coat', 'Sandal', 'Shirt', 'Sneaker', 'Bag', 'Ankle boot',
)  # fmt: skip


def mnist(*, folder: str = '', validation: int | str = 5000) -> Dataset:
    """Handwritten digits (N, 28, 28, 1) uint8 from the four idx files, raw or as .gz.

    Args:
      folder: where the files are, or a folder that has them in 'mnist'; by default what KDJAX_DATA names.
      validation: training examples held out, or 'test'; see `base.divided`.

    Raises:
      UsageError: a file is missing, or is not the original.
    """
    return _idx('mnist', folder, tuple('0123456789'), validation)


def fashion_mnist(*, folder: str = '', validation: int | str = 5000) -> Dataset:
    """Articles of clothing (N, 28, 28, 1) uint8; arguments and errors as of `mnist`."""
    return _idx('fashion_mnist', folder, CLOTHES, validation)


def cifar10(*, folder: str = '', validation: int | str = 5000) -> Dataset:
    """Photographs of 10 classes (N, 32, 32, 3) uint8 from the binary version; arguments and errors as of `mnist`."""
    return _cifar('cifar10', folder, 1, validation)


def cifar100(*, folder: str = '', validation: int | str = 5000) -> Dataset:
    """Photographs of 100 classes (N, 32, 32, 3) uint8 from the binary version; arguments and errors as of `mnist`."""
    return _cifar('cifar100', folder, 2, validation)


def located(data: str, folder: str) -> Path:
    """The folder that has the files of a data set: `folder`, or one that they usually lie in, inside it.

    Args:
      data: key of FILES.
      folder: where to look; by default what KDJAX_DATA names.

    Raises:
      UsageError: no folder is given, or none has all the files.
    """
    if not (folder := folder or os.environ.get(VARIABLE, '')):
        raise UsageError(f'{data}: give the folder of the original files, as data.args.folder or in {VARIABLE}')
    inside = INSIDE.get(data, '')
    places = [Path(folder, *parts) for parts in ((data, inside), (data,), (inside,), ())]

    def missing(place: Path) -> list[str]:
        names = (*FILES[data], *NAMES.get(data, ()))
        return [name for name in names if not any((place / f'{name}{end}').is_file() for end in ('', '.gz'))]

    best = min(places, key=lambda place: len(missing(place)))
    if missing(best):
        raise UsageError(f'{data}: {missing(best)[0]!r} is neither in {folder} nor in {places[0]}')
    return best


def content(data: str, name: str, place: Path) -> bytes:
    """An original file, uncompressed.

    Raises:
      UsageError: it cannot be read, or is another than the published one.
    """
    path = place / name if (place / name).is_file() else place / f'{name}.gz'
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == '.gz' else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f'{path} cannot be read: {error}') from error
    found = hashlib.md5(raw, usedforsecurity=False).hexdigest()
    if found != FILES[data][name]:
        raise UsageError(f'{path} is not the original of {data}: its md5 is {found}, not {FILES[data][name]}')
    return raw


def _idx(data: str, folder: str, classes: tuple[str, ...], validation: int | str) -> Dataset:
    place = located(data, folder)

    def split(name: str, prefix: str) -> Split:
        images = np.frombuffer(content(data, f'{prefix}-images-idx3-ubyte', place), np.uint8, offset=16)
        labels = np.frombuffer(content(data, f'{prefix}-labels-idx1-ubyte', place), np.uint8, offset=8)
        return _shuffled(name, images.reshape(-1, 28, 28, 1), labels)

    return divided(split('train', 'train'), split('test', 't10k'), classes, validation)


def _cifar(data: str, folder: str, label_bytes: int, validation: int | str) -> Dataset:
    place = located(data, folder)

    def split(name: str) -> Split:
        files = [content(data, file, place) for file in FILES[data] if ('test' in file) == (name == 'test')]
        rows = np.frombuffer(b''.join(files), np.uint8).reshape(-1, label_bytes + 3 * 32 * 32)
        images = rows[:, label_bytes:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        return _shuffled(name, images, rows[:, label_bytes - 1])  # of two labels the second is the finer

    classes = tuple((place / NAMES[data][0]).read_text().split())
    return divided(split('train'), split('test'), classes, validation)


def _shuffled(name: str, images: np.ndarray, labels: np.ndarray) -> Split:
    """The order of TFDS: by the md5 of the split's name and the position in the original files."""
    keys = [hashlib.md5(f'{name}{k}'.encode(), usedforsecurity=False).digest() for k in range(len(labels))]
    order = np.array(sorted(range(len(labels)), key=keys.__getitem__))
    return Split(np.ascontiguousarray(images[order]), labels[order].astype(np.int32))
