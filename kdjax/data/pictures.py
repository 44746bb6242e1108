"""Pictures of any size made images of one size while they are read: whole, the middle of each, or a piece of it."""

import functools
import io
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kdjax.data.lazy import Lazy, Source, Viewed
from kdjax.errors import UsageError

BYTES = ('1', 'L', 'LA', 'La', 'P', 'PA', 'RGB', 'RGBA', 'RGBa', 'RGBX', 'CMYK', 'YCbCr', 'HSV')  # modes of Pillow
SIXTEEN_BITS = ('PNG', 'PPM')  # formats in which what Pillow calls I, 32 bits, has 16
TRIES = 10  # pieces that are drawn until one lies within the picture
RATIOS = (3 / 4, 4 / 3)  # of the width of a piece to its height
Box = tuple[float, float, float, float]  # left, top, right, bottom; pixels of a picture


class Crops(NamedTuple):
    """What is kept of a picture: (size, size, 3) uint8.

    Attributes:
      size: pixels of the height and width that is kept.
      resize: pixels of the shorter side that a picture is resized to before its middle is cut out, >= size; 0: the
        whole is resized to size x size, both sides by themselves.
      area: of views above 0, between which shares of the area a piece has that is drawn, of a shape between 3:4 and
        4:3; it is resized to size x size. Empty: all views are alike.

    Reference of area: Szegedy et al., Going Deeper with Convolutions, CVPR 2015, sec. 6 (0.08 to 1).
    """

    size: int
    resize: int = 0
    area: tuple[float, ...] = ()

    def middle(self, picture: Any) -> np.ndarray:
        """View 0, which is also what evaluation sees."""
        width, height = picture.size
        if not self.resize:
            return self._resized(picture, (0, 0, width, height))
        side = min(width, height) * self.size / self.resize
        left, top = (width - side) / 2, (height - side) / 2
        return self._resized(picture, (left, top, left + side, top + side))

    def drawn(self, picture: Any, random: np.random.Generator) -> np.ndarray:
        """Another view."""
        width, height = picture.size
        return self._resized(picture, piece(width, height, (self.area[0], self.area[1]), random))

    def _resized(self, picture: Any, box: Box) -> np.ndarray:
        from PIL import Image

        return np.asarray(picture.resize((self.size, self.size), Image.Resampling.BILINEAR, box))


def crops(size: int, resize: int, area: tuple[float, ...], lazy: bool) -> Crops:
    """What a source keeps of its pictures, by its arguments.

    Raises:
      UsageError: sizes or shares that cannot be, or pieces of pictures that are to be read once.
    """
    whole = all(isinstance(each, int) and not isinstance(each, bool) for each in (size, resize))
    if not whole or size < 1 or (resize and resize < size):
        raise UsageError(f'size of images must be >= 1, and resize >= size or 0, got {size!r} and {resize!r}')
    area = tuple(area)
    if area and not (len(area) == 2 and 0 < area[0] <= area[1] <= 1):
        raise UsageError(f'area must be two shares of a picture, 0 < least <= most <= 1, or (), got {area}')
    if area and not lazy:
        raise UsageError(f'area={area} draws another piece of an image for every view: set lazy=True, data.stream=True')
    return Crops(size, resize, area)


def piece(width: int, height: int, area: tuple[float, float], random: np.random.Generator) -> Box:
    """Where a drawn piece of a picture lies: its share of the area uniform, the logarithm of its shape likewise.

    Where none of some tries lies within the picture it is the middle, as large as its shape may be.
    """
    for _ in range(TRIES):
        pixels = width * height * random.uniform(*area)
        ratio = math.exp(random.uniform(math.log(RATIOS[0]), math.log(RATIOS[1])))
        wide, high = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
        if 0 < wide <= width and 0 < high <= height:
            left, top = (int(random.integers(room + 1)) for room in (width - wide, height - high))
            return left, top, left + wide, top + high
    across, down = min(width, height * RATIOS[1]), min(height, width / RATIOS[0])
    middle = (width - across) / 2, (height - down) / 2
    return *middle, middle[0] + across, middle[1] + down


def column(source: Source, what: Callable[[Any], Any], keep: Crops, identity: str) -> Lazy:
    """Pictures that stay where they are until they are asked for.

    Args:
      source: of them.
      what: of an example of the source its file, or the bytes of one.
      keep: of each.
      identity: says what the source has.
    """
    middle = functools.partial(_middle, what, keep)
    if not keep.area:
        return Lazy(source, middle)
    return Viewed(source, middle, functools.partial(_drawn, what, keep), f'{identity} {tuple(keep)}')


def _middle(what: Callable[[Any], Any], keep: Crops, example: Any) -> np.ndarray:
    return read(what(example), keep.middle)


def _drawn(what: Callable[[Any], Any], keep: Crops, example: Any, random: np.random.Generator) -> np.ndarray:
    return read(what(example), functools.partial(keep.drawn, random=random))


def read(file: Path | bytes, look: Callable[[Any], np.ndarray]) -> np.ndarray:
    """What `look` makes of a picture, in a file or its bytes, as RGB of bytes.

    Raises:
      UsageError: it cannot be read, has too many pixels, or others than of 8 or 16 bits.
    """
    from PIL import Image

    called = f'{file}' if isinstance(file, Path) else f'an image of {len(file)} bytes'
    try:
        with Image.open(file if isinstance(file, Path) else io.BytesIO(file)) as picture:
            return look(_coloured(picture, called))
    except Image.DecompressionBombError as error:
        raise UsageError(f'{called} has too many pixels; make it smaller ({error})') from error
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        struct.error,
        MemoryError,
    ) as error:  # as Pillow's plugins raise
        raise UsageError(f'{called} cannot be read as an image: {error}') from error


def _coloured(picture: Any, called: str) -> Any:
    """A picture as RGB of bytes, the white of its mode as 255."""
    from PIL import Image

    sixteen = picture.mode.startswith('I;16') or (picture.mode == 'I' and picture.format in SIXTEEN_BITS)
    if sixteen:
        picture = Image.fromarray(np.round(np.asarray(picture) / 257).astype(np.uint8))
    elif picture.mode not in BYTES:
        raise UsageError(
            f'{called} has pixels of mode {picture.mode!r}, whose white is not known; save it with 8 or 16 bits a '
            'channel'
        )
    # A palette in which several colours are transparent is made RGB by way of its alpha.
    through = picture.mode == 'P' and 'transparency' in picture.info
    return (picture.convert('RGBA') if through else picture).convert('RGB')
