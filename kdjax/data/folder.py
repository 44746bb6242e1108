"""Images in folders: <folder>/<split>/<class>/<image>, or <folder>/<class>/<image>."""

import collections
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kdjax import trees
from kdjax.data.base import SPLIT_WORDS, completed
from kdjax.data.pictures import Crops, column, crops
from kdjax.dataset import Dataset, Split
from kdjax.errors import Remark, UsageError

SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.gif', '.ppm', '.pgm', '.webp', '.tif', '.tiff')
TOO = 'validation'  # as `test`: the split that is both


class Found(NamedTuple):
    """The images of a split, and what else lies there."""

    files: Sequence[Path]
    labels: np.ndarray  # (N,) int32
    left_out: Sequence[Path]


def images(
    *,
    folder: str,
    size: int,
    resize: int = 0,
    area: tuple[float, ...] = (),
    test: int | float | str = 0,
    validation: int | float | str = 0,
    lazy: bool = False,
) -> Dataset:
    """Images (N, size, size, 3) uint8; the classes are the folders of the training split, in the order of their names.

    Files and folders whose names begin with a dot do not count. Files that are no images by their name are left out,
    with a `Remark` that says how many. Grey images of 16 bits become bytes, 65535 being white.

    Args:
      folder: has 'train', and perhaps 'test' and 'validation' (or 'val', 'valid'), each with a folder per class; or has
        a folder per class itself.
      size: pixels of the height and width that every image is resized to (bilinear, both sides by themselves).
      resize: pixels of the shorter side, to which an image is resized before its middle, size x size, is cut out; in
        the literature 256 for a size of 224. 0: the whole image.
      area: shares of the area, least and most, of the piece of an image that every view but the first is, drawn anew
        and resized to `size` (`pictures.Crops`): (0.08, 1.0) in the literature. It is read for every view, so it takes
        lazy=True; `data.views` is how many there are, one for each epoch.
      test, validation: where there is no such folder: how many training examples become that split, a number or a
        share of them, drawn in proportion to the classes; or validation='test'. See `base.completed`. With
        test='validation' the folder for validation serves as test too, as in the tables of ImageNet.
      lazy: whether images are read when a step needs them, for what `data.stream=True` is to feed.

    Raises:
      UsageError: a folder is missing or has no image, an image cannot be read or has pixels of other kinds than bytes
        and 16 bits, a class has no training image, or one is new in another split.
    """
    if not isinstance(folder, str):
        raise UsageError(f'folder must be a name, got {folder!r}')
    keep = crops(size, resize, area, lazy)
    places = _places(Path(folder), bool(test))
    if test == TOO and TOO not in places:
        raise UsageError(f"test='validation' needs a folder of that name, {' or '.join(SPLIT_WORDS[TOO])}, in {folder}")
    classes = tuple(sorted(path.name for path in _folders(places['train'])))
    found = {name: _found(place, classes) for name, place in places.items()}
    trained = set(found['train'].labels.tolist())
    for label, name in enumerate(classes):
        if label not in trained:
            raise _without_images(places['train'] / name)
    for name, part in found.items():
        if not part.files:
            raise UsageError(f'{places[name]} has no images ({", ".join(SUFFIXES)}) in folders of classes')
    _remark([path for part in found.values() for path in part.left_out], Path(folder))
    splits = {name: _split(part, keep, lazy, Path(folder)) for name, part in found.items()}
    return Dataset(completed(splits, test=test, validation=validation), classes)


def _places(root: Path, divided: bool) -> dict[str, Path]:
    """The folder of every split that is there; the root itself where classes lie there."""
    names = {
        split: next((word for word in words if (root / word).is_dir()), '') for split, words in SPLIT_WORDS.items()
    }
    places = {split: root / name for split, name in names.items() if name}
    if divided and root.is_dir() and not ('train' in places and _folders(places['train'])):
        return {'train': root}
    for split in ('train',) if divided else ('train', 'test'):
        if split not in places:
            raise UsageError(
                f'no folder {root / split}; images lie in <folder>/<split>/<class>/; of those in <folder>/<class>/, '
                'or without a test split, say how many are for testing: test=0.2'
            )
    return places


def _folders(path: Path) -> list[Path]:
    return [inner for inner in path.iterdir() if inner.is_dir() and not inner.name.startswith('.')]


def _found(place: Path, classes: tuple[str, ...]) -> Found:
    """The images of a split by class, in the order of their names."""
    if unseen := sorted({inner.name for inner in _folders(place)} - set(classes)):
        raise UsageError(f'{place} has the class {unseen[0]!r}, which has no training images')
    inside = {name: _visible(place / name) if (place / name).is_dir() else [] for name in classes}
    kept = [(path, label) for label, name in enumerate(classes) for path in inside[name] if _is_image(path)]
    left = [path for paths in inside.values() for path in paths if not _is_image(path)]
    loose = [path for path in _visible(place) if _is_image(path)]
    return Found([path for path, _ in kept], np.array([label for _, label in kept], np.int32), [*left, *loose])


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith('.'))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.is_dir()


def _without_images(place: Path) -> UsageError:
    inner = [path.name for path in _folders(place)]
    hint = f'; there is a folder {inner[0]!r} in it, and folders inside those of classes are not looked into'
    return UsageError(
        f'class {place.name!r} has no training image ({", ".join(SUFFIXES)}) in {place}{hint if inner else ""}; give '
        'it some or take its folder away'
    )


def _remark(left_out: Sequence[Path], root: Path) -> None:
    """Says what is there and not used."""
    if left_out:
        kinds = collections.Counter('folders' if path.is_dir() else path.suffix or 'no suffix' for path in left_out)
        said = ', '.join(f'{count} {kind}' for kind, count in sorted(kinds.items()))
        text = f'{len(left_out)} entries in {root} are left out, as they are no images in the folder of a class: {said}'
        warnings.warn(f'{text} (the first: {left_out[0]})', Remark, stacklevel=3)


def _split(found: Found, keep: Crops, lazy: bool, root: Path) -> Split:
    # To hash a million pictures takes as long as an epoch: where they are cropped anew for every view, names and sizes
    # stand for them.
    said = [[str(path.relative_to(root)), path.stat().st_size] for path in found.files] if keep.area else ''
    pixels = column(found.files, _itself, keep, trees.digest(said))
    return Split(pixels if lazy else pixels[:], found.labels)


def _itself(file: Path) -> Path:
    return file
