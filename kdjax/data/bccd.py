"""Blood cells: 364 microscope pictures of 640x480 with boxes of red cells, white cells and platelets (BCCD).

Nearly all of the 4,886 boxes are red cells, of which many pictures lack some, so that no detector can find all that is
asked and nothing else. The smallest objects are platelets, 39x39 pixels on average.

Source: Shenggan, https://github.com/Shenggan/BCCD_Dataset (MIT), with its division into 205, 87 and 72 pictures.
"""

import re
from pathlib import Path

import numpy as np

from kdjax.data import files
from kdjax.dataset import UNLABELLED, Dataset, Split
from kdjax.errors import UsageError

CLASSES = ('RBC', 'WBC', 'Platelets')
LISTS = {'train': 'train', 'validation': 'val', 'test': 'test'}
WIDTH, HEIGHT = 640, 480
MOST = 32  # boxes of a picture, of which it has 30 at most
NUMBERS = ('xmin', 'ymin', 'xmax', 'ymax')
OBJECT = re.compile(r'<object>.*?<name>(.*?)</name>.*?<bndbox>(.*?)</bndbox>.*?</object>', re.DOTALL)


def boxes(*, folder: str = '', width: int = 160, height: int = 120) -> Dataset:
    """Pictures (N, height, width, 3) uint8 with labels (N, 32), the classes of their boxes, -1 where there are no more.

    Further columns: 'boxes' (N, 32, 4), x0, y0, x1, y1 in [0, 1], without area where there are no more, and 'size'
    (N, 2), width and height of the original. Two boxes of the data set have no area and are left out. Pictures are made
    smaller by the mean over the pixels that a new one covers.

    Args:
      folder: where 'BCCD' is, or a folder that has it in 'bccd'; by default what KDJAX_DATA names.
      width, height: of the pictures as they are read, at most 640 and 480.

    Raises:
      UsageError: a file is missing or is another than the published one, a size that is no size, or Pillow is not
        installed.
    """
    if not 1 <= width <= WIDTH or not 1 <= height <= HEIGHT:
        raise UsageError(f'width and height of bccd must be in 1 to {WIDTH} and {HEIGHT}, got {width} and {height}')
    place = files.checked('bccd', 'BCCD', files.located('bccd', folder))
    return Dataset({name: _split(place, listed, (width, height)) for name, listed in LISTS.items()}, CLASSES)


def masks(*, folder: str = '', width: int = 160, height: int = 120, stride: int = 4) -> Dataset:
    """Pictures as of `boxes` with labels (N, height / stride, width / stride): 0 background, 1 ... the classes.

    The data have no outlines: a cell is taken for the ellipse that touches the sides of its box, of several that cover
    a place the smallest. Cells without a box are background, so no network can be right everywhere.

    Args:
      folder, width, height: as of `boxes`.
      stride: pixels of a place.

    Raises:
      UsageError: as `boxes`; a stride below 1.
    """
    if stride < 1:
        raise UsageError(f'stride of bccd.masks must be >= 1, got {stride}')
    found = boxes(folder=folder, width=width, height=height)
    size = -(-height // stride), -(-width // stride)
    splits = {
        name: Split(split.inputs, np.stack([
            ellipses(np.asarray(corners), kinds, size)
            for corners, kinds in zip(split.column('boxes'), np.asarray(split.labels), strict=True)
        ]))
        for name, split in found.splits.items()
    }  # fmt: skip
    return Dataset(splits, ('background', *CLASSES))


def ellipses(corners: np.ndarray, kinds: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Boxes (M, 4) in [0, 1] with classes (M,) as a map of 1 + class, 0 where there is none. (height, width) int32"""
    y, x = ((np.arange(count) + 0.5) / count for count in size)
    labels = np.zeros(size, np.int32)
    sides = corners[:, 2:] - corners[:, :2]
    for place in np.argsort(-sides.prod(axis=1), kind='stable'):
        if kinds[place] == UNLABELLED or sides[place].min() <= 0:
            continue
        apart = [(2 * (at - corners[place, :2][k]) / sides[place, k] - 1) ** 2 for k, at in enumerate((x, y))]
        labels[apart[1][:, None] + apart[0] <= 1] = 1 + kinds[place]
    return labels


def _split(place: Path, listed: str, size: tuple[int, int]) -> Split:
    names = (place / 'ImageSets' / 'Main' / f'{listed}.txt').read_text().split()
    labels = np.full((len(names), MOST), UNLABELLED, np.int32)
    corners = np.zeros((len(names), MOST, 4), np.float32)
    for row, name in enumerate(names):
        found = annotated((place / 'Annotations' / f'{name}.xml').read_text())
        for column, (label, box) in enumerate(found):
            labels[row, column], corners[row, column] = label, box
    pictures = np.stack([_picture(place / 'JPEGImages' / f'{name}.jpg', size) for name in names])
    sizes = np.broadcast_to(np.asarray([WIDTH, HEIGHT], np.int32), (len(names), 2)).copy()
    return Split(pictures, labels, {'boxes': corners, 'size': sizes})


def annotated(text: str) -> list[tuple[int, np.ndarray]]:
    """Class and box (4,) in [0, 1] of the objects of a file of annotations, without those that have no area."""
    found = []
    for name, corners in OBJECT.findall(text):
        x0, y0, x1, y1 = (int(re.search(rf'<{end}>(\d+)</{end}>', corners)[1]) for end in NUMBERS)  # type: ignore[index]
        if x1 > x0 and y1 > y0:
            box = np.asarray([x0 / WIDTH, y0 / HEIGHT, x1 / WIDTH, y1 / HEIGHT], np.float32)
            found.append((CLASSES.index(name), box.clip(0, 1)))
    return found


def _picture(path: Path, size: tuple[int, int]) -> np.ndarray:
    try:
        from PIL import Image
    except ImportError as error:
        raise UsageError(f"bccd has JPEG files and needs the extra 'detection': pip install 'kdjax[detection]' "
                         f'({error})') from error  # fmt: skip
    with Image.open(path) as image:
        return np.asarray(image.convert('RGB').resize(size, Image.Resampling.BOX))
