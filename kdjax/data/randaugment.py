"""RandAugment: a few of fourteen operations, drawn, all at one strength.

The operations are those of the Python Imaging Library on bytes, which the paper uses, here in JAX.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.data.augment import Augment
from kdjax.errors import UsageError
from kdjax.types import Array

MOST = 10.0  # the strongest magnitude
GREY = 128  # of pixels that a geometric operation brings in

Operation = Callable[[Array, float, Array], Array]  # (image (H, W, C) int32, strength in [0, 1], sign +1.0 or -1.0)


def randaugment(*, operations: int = 2, magnitude: float = 9.0) -> Augment:
    """`operations` of the fourteen in OPERATIONS, each drawn with equal probability, at strength `magnitude`.

    Ranges are those of Cubuk et al., AutoAugment, CVPR 2019, table 6, from none at magnitude 0 to the strongest at 10;
    where the table's range runs the other way (solarize, posterize) it is turned round, and translations are the
    table's 150 of 331 pixels as a share of the side. Colour, contrast, brightness and sharpness have the factor
    0.1 + 0.18 * magnitude. Images (H, W), (H, W, 1) or (H, W, 3) uint8. Side by side, every image of a batch costs as
    much as all fourteen; so on a CPU they go one after the other, each through what it has drawn.

    Raises:
      UsageError: no operation, a magnitude outside [0, 10], or, once called, an image that is not of bytes.

    Reference: Cubuk, Zoph, Shlens, Le, RandAugment, NeurIPS 2020, sec. 3 and fig. 2.
    """
    if operations < 1 or not 0 <= magnitude <= MOST:
        raise UsageError(f'randaugment needs >= 1 operations and a magnitude in [0, 10], got {operations}, {magnitude}')
    strength = magnitude / MOST

    def drawn(key: Array, image: Array) -> Array:
        if image.dtype != jnp.uint8:
            raise UsageError(f'randaugment needs images of bytes (uint8), got {image.dtype}; store them so')
        pixels = image.astype(jnp.int32).reshape(*image.shape[:2], -1)
        branches = [lambda x, sign, own=own: own(x, strength, sign) for own in OPERATIONS.values()]
        for own in jax.random.split(key, operations):
            which, sign = jax.random.randint(own, (2,), 0, jnp.array([len(branches), 2]))
            pixels = jax.lax.switch(which, branches, pixels, 1 - 2 * sign.astype(jnp.float32))
        return pixels.astype(jnp.uint8).reshape(image.shape)

    def augment(key: Array, image: Array) -> Array:
        return (jax.custom_batching.sequential_vmap(drawn) if jax.default_backend() == 'cpu' else drawn)(key, image)

    return augment


def _identity(image: Array, strength: float, sign: Array) -> Array:
    return image


def _autocontrast(image: Array, strength: float, sign: Array) -> Array:
    """Each channel stretched to 0 ... 255."""
    low, high = (find(image, axis=(0, 1)) for find in (jnp.min, jnp.max))
    return jnp.where(high > low, (image - low) * 255 // jnp.maximum(high - low, 1), image)


def _equalize(image: Array, strength: float, sign: Array) -> Array:
    """Each channel's histogram made even."""

    def channel(values: Array) -> Array:
        counts = jnp.zeros(256, jnp.int32).at[values].add(1)
        step = (values.size - counts[jnp.max(values)]) // 255
        table = (jnp.cumsum(counts) - counts + step // 2) // jnp.maximum(step, 1)
        return jnp.where(step > 0, jnp.clip(table, 0, 255)[values], values)

    return jnp.stack([channel(image[..., k]) for k in range(image.shape[-1])], axis=-1)


def _solarize(image: Array, strength: float, sign: Array) -> Array:
    """Pixels from a threshold on are inverted."""
    return jnp.where(image < round(256 * (1 - strength)), image, 255 - image)


def _posterize(image: Array, strength: float, sign: Array) -> Array:
    """Only the highest bits stay: 8 of them down to 4."""
    return image & (256 - 2 ** round(4 * strength))


def _color(image: Array, strength: float, sign: Array) -> Array:
    return _between(_luma(image), image, strength)


def _contrast(image: Array, strength: float, sign: Array) -> Array:
    mean = jnp.floor(jnp.mean(_luma(image).astype(jnp.float32)) + 0.5).astype(jnp.int32)
    return _between(mean, image, strength)


def _brightness(image: Array, strength: float, sign: Array) -> Array:
    return _between(jnp.zeros((), jnp.int32), image, strength)


def _sharpness(image: Array, strength: float, sign: Array) -> Array:
    """Between a smoothed image and itself, or beyond; the border stays."""
    height, width = image.shape[:2]
    around = sum(image[down : height - 2 + down, right : width - 2 + right] for down in range(3) for right in range(3))
    smooth = (around + 4 * image[1:-1, 1:-1]).astype(jnp.float32) / 13
    return _between(image.at[1:-1, 1:-1].set(_bytes(smooth + 0.5)), image, strength)


def _rotate(image: Array, strength: float, sign: Array) -> Array:
    """By up to 30 degrees about the centre."""
    angle = math.radians(30 * strength)
    cosine, sine = math.cos(angle), math.sin(angle) * sign
    x, y = image.shape[1] / 2, image.shape[0] / 2
    return _moved(image, (cosine, -sine, x - cosine * x + sine * y), (sine, cosine, y - sine * x - cosine * y))


def _shear_x(image: Array, strength: float, sign: Array) -> Array:
    return _moved(image, (1, 0.3 * strength * sign, 0), (0, 1, 0))


def _shear_y(image: Array, strength: float, sign: Array) -> Array:
    return _moved(image, (1, 0, 0), (0.3 * strength * sign, 1, 0))


def _translate_x(image: Array, strength: float, sign: Array) -> Array:
    return _moved(image, (1, 0, _pixels(image.shape[1], strength) * sign), (0, 1, 0))


def _translate_y(image: Array, strength: float, sign: Array) -> Array:
    return _moved(image, (1, 0, 0), (0, 1, _pixels(image.shape[0], strength) * sign))


OPERATIONS: dict[str, Operation] = {
    'identity': _identity,
    'autocontrast': _autocontrast,
    'equalize': _equalize,
    'rotate': _rotate,
    'solarize': _solarize,
    'color': _color,
    'posterize': _posterize,
    'contrast': _contrast,
    'brightness': _brightness,
    'sharpness': _sharpness,
    'shear_x': _shear_x,
    'shear_y': _shear_y,
    'translate_x': _translate_x,
    'translate_y': _translate_y,
}


def _pixels(size: int, strength: float) -> int:
    return int(strength * 150 / 331 * size)


def _luma(image: Array) -> Array:
    """(H, W, 1), ITU-R 601 in fixed point, as the library computes it."""
    if image.shape[-1] == 1:
        return image
    weights = np.array([19595, 38470, 7471], np.int32)
    return (jnp.sum(image * weights, axis=-1, keepdims=True) + 2**15) >> 16


def _between(other: Array, image: Array, strength: float) -> Array:
    """`other` where the factor is 0, the image at 1, and beyond it above."""
    start = other.astype(jnp.float32)
    return _bytes(start + (0.1 + 1.8 * strength) * (image.astype(jnp.float32) - start))


def _bytes(values: Array) -> Array:
    """Cut off to whole numbers in 0 ... 255."""
    return jnp.clip(jnp.trunc(values), 0, 255).astype(jnp.int32)


def _moved(image: Array, to_x: tuple, to_y: tuple) -> Array:
    """The image at (a x + b y + c, d x + e y + f) of every pixel's centre, nearest pixel, grey outside."""
    height, width = image.shape[:2]
    y, x = (jnp.asarray(np.indices((height, width))[axis] + 0.5, jnp.float32) for axis in (0, 1))
    column, row = (jnp.floor(a * x + b * y + c).astype(jnp.int32) for a, b, c in (to_x, to_y))
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    found = image[jnp.clip(row, 0, height - 1), jnp.clip(column, 0, width - 1)]
    return jnp.where(inside[..., None], found, GREY)
