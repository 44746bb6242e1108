"""Images in folders: <folder>/<split>/<class>/<image>."""

import functools
from pathlib import Path

import numpy as np

from kdjax.data.base import divided
from kdjax.data.lazy import Lazy
from kdjax.dataset import Dataset, Split
from kdjax.errors import UsageError

SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.gif', '.ppm', '.webp')


def images(*, folder: str, size: int, validation: int | str = 0, lazy: bool = False) -> Dataset:
    """Images (N, size, size, 3) uint8; the classes are the folders of the training split, in the order of their names.

    Args:
      folder: has 'train' and 'test', and perhaps 'validation', each with a folder per class.
      size: pixels of the height and width that every image is resized to (bilinear, both sides by themselves).
      validation: where there is no folder 'validation': training examples held out, or 'test'; see `base.divided`.
      lazy: whether images are read when a step needs them, for what `data.stream=True` is to feed.

    Raises:
      UsageError: a folder is missing or has no image, an image cannot be read, or a class is new in another split.
    """
    if size < 1:
        raise UsageError(f'size of images must be >= 1, got {size}')
    root = Path(folder)
    classes = tuple(sorted(path.name for path in _folders(root / 'train')))
    train, test = (_split(root / name, classes, size, lazy) for name in ('train', 'test'))
    if (root / 'validation').is_dir():
        held = _split(root / 'validation', classes, size, lazy)
        return Dataset({'train': train, 'validation': held, 'test': test}, classes)
    return divided(train, test, classes, validation)


def _folders(path: Path) -> list[Path]:
    if not path.is_dir():
        raise UsageError(f'no folder {path}; images lie in <folder>/<split>/<class>/')
    return [inner for inner in path.iterdir() if inner.is_dir()]


def _split(path: Path, classes: tuple[str, ...], size: int, lazy: bool) -> Split:
    if unseen := sorted({inner.name for inner in _folders(path)} - set(classes)):
        raise UsageError(f'{path} has the class {unseen[0]!r}, which has no training images')
    files = [
        (file, label)
        for label, name in enumerate(classes)
        for file in sorted((path / name).glob('*'))
        if file.suffix.lower() in SUFFIXES
    ]
    if not files:
        raise UsageError(f'{path} has no images ({", ".join(SUFFIXES)})')
    pixels = Lazy([file for file, _ in files], functools.partial(_read, size=size))
    return Split(pixels if lazy else pixels[:], np.array([label for _, label in files], np.int32))


def _read(file: Path, size: int) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as image:
            return np.asarray(image.convert('RGB').resize((size, size), Image.Resampling.BILINEAR))
    except (OSError, UnidentifiedImageError) as error:
        raise UsageError(f'{file} cannot be read as an image: {error}') from error
