"""Arrays of one's own, in files of numpy's."""

import zipfile
from pathlib import Path

import numpy as np

from kdjax.dataset import SPLITS, Dataset, Split
from kdjax.errors import UsageError, unknown


def arrays(*, path: str) -> Dataset:
    """A data set from an .npz file, or from a folder of .npy files, which stay there and are mapped into memory.

    Args:
      path: the file or folder. It has 'train_inputs' (N, ...), float32 or uint8, and 'train_labels' (N,) integers, the
        same for 'validation' and 'test', and, where wanted, 'classes', the names of the classes, in the order of the
        labels; in a folder each is a file, 'train_inputs.npy'. A folder with `data.stream=True` may be larger than
        memory.

    Raises:
      UsageError: the file cannot be read, an array is missing, or labels are no integers.
    """
    try:
        found = _mapped(Path(path)) if Path(path).is_dir() else _loaded(path)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise UsageError(f'arrays {path!r} cannot be read: {error}') from error
    for name in (f'{split}_{part}' for split in SPLITS for part in ('inputs', 'labels')):
        if name not in found:
            raise unknown('array', name, found, f' in {path!r}')
    labels = {split: found[f'{split}_labels'] for split in SPLITS}
    for split, own in labels.items():
        if own.ndim != 1 or own.dtype.kind not in 'iu':
            raise UsageError(f'{split}_labels in {path!r} must be (N,) integers, got {own.shape} {own.dtype}')
    count = 1 + max(int(own.max(initial=0)) for own in labels.values())
    classes = tuple(map(str, found['classes'] if 'classes' in found else range(count)))
    return Dataset(
        {name: Split(found[f'{name}_inputs'], own.astype(np.int32)) for name, own in labels.items()}, classes
    )


def _loaded(path: str) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


def _mapped(folder: Path) -> dict[str, np.ndarray]:
    return {path.stem: np.load(path, mmap_mode='r') for path in sorted(folder.glob('*.npy'))}
