"""RandAugment's operations are those of the Python Imaging Library, which the paper uses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from kdjax.data.randaugment import OPERATIONS, randaugment
from kdjax.errors import UsageError

RANDOM = np.random.default_rng(0)
SMOOTH = np.add.outer(np.arange(24) * 3, np.arange(20) * 5)[..., None] + np.array([0, 40, 9])
IMAGES = [
    RANDOM.integers(0, 256, (24, 20, 3), np.uint8),
    SMOOTH.astype(np.uint8),
    np.full((24, 20, 3), 77, np.uint8),
    RANDOM.integers(100, 130, (24, 20, 3), np.uint8),
]


def affine(image, *coefficients):
    """The image at (a x + b y + c, d x + e y + f) of each pixel."""
    return image.transform(image.size, Image.Transform.AFFINE, coefficients, Image.Resampling.NEAREST,
                           fillcolor=(128,) * 3)  # fmt: skip


def shifted(image, right, down):
    """By whole pixels, grey coming in."""
    found = Image.new('RGB', image.size, (128,) * 3)
    found.paste(image, (-right, -down))
    return found


ORACLES = {
    'identity': lambda image, m, sign: image,
    'autocontrast': lambda image, m, sign: ImageOps.autocontrast(image),
    'equalize': lambda image, m, sign: ImageOps.equalize(image),
    'rotate': lambda image, m, sign: image.rotate(30 * m * sign, fillcolor=(128,) * 3),
    'solarize': lambda image, m, sign: ImageOps.solarize(image, round(256 - 256 * m)),
    'color': lambda image, m, sign: ImageEnhance.Color(image).enhance(0.1 + 1.8 * m),
    'posterize': lambda image, m, sign: ImageOps.posterize(image, 8 - round(4 * m)),
    'contrast': lambda image, m, sign: ImageEnhance.Contrast(image).enhance(0.1 + 1.8 * m),
    'brightness': lambda image, m, sign: ImageEnhance.Brightness(image).enhance(0.1 + 1.8 * m),
    'sharpness': lambda image, m, sign: ImageEnhance.Sharpness(image).enhance(0.1 + 1.8 * m),
    'shear_x': lambda image, m, sign: affine(image, 1, 0.3 * m * sign, 0, 0, 1, 0),
    'shear_y': lambda image, m, sign: affine(image, 1, 0, 0, 0.3 * m * sign, 1, 0),
    'translate_x': lambda image, m, sign: shifted(image, int(150 / 331 * m * 20) * sign, 0),
    'translate_y': lambda image, m, sign: shifted(image, 0, int(150 / 331 * m * 24) * sign),
}


ROUNDED = ('autocontrast', 'color', 'contrast', 'brightness', 'sharpness')


@functools.cache
def compiled(name, strength):
    return jax.jit(lambda image, sign: OPERATIONS[name](image, strength, sign))


@pytest.mark.parametrize('name', OPERATIONS)
def test_an_operation_is_that_of_the_library(name):
    """To the bit; a pixel on the border between two may fall to either, and a rounding may differ by one."""
    for strength in (0.25, 0.9):
        for image in IMAGES:
            for sign in (1, -1):
                found = compiled(name, strength)(image.astype(np.int32), np.float32(sign))
                wanted = np.asarray(ORACLES[name](Image.fromarray(image), strength, sign)).astype(int)
                apart = np.abs(np.asarray(found) - wanted)
                if name in ('rotate', 'shear_x', 'shear_y'):
                    assert (apart.max(axis=-1) > 0).mean() <= 0.02
                else:
                    assert apart.max() <= (1 if name in ROUNDED else 0)
                    assert (apart > 0).mean() <= 0.05


def test_a_grey_image_is_treated_as_one_of_equal_channels():
    grey = IMAGES[0][..., :1].astype(np.int32)
    for name in OPERATIONS:
        colour = compiled(name, 0.9)(np.repeat(grey, 3, axis=-1), np.float32(-1))
        np.testing.assert_array_equal(compiled(name, 0.9)(grey, np.float32(-1))[..., 0], colour[..., 0], err_msg=name)


@functools.cache
def drawn(operations, shape=(24, 20, 3)):
    """256 draws on one image."""
    image = IMAGES[0][..., 0] if len(shape) == 2 else IMAGES[0]
    keys = jax.random.split(jax.random.key(0), 256)
    return np.asarray(jax.jit(jax.vmap(randaugment(operations=operations, magnitude=9.0), (0, None)))(keys, image))


def test_each_operation_is_drawn_in_both_directions_about_equally_often():
    made = {
        (name, sign): np.asarray(compiled(name, 0.9)(IMAGES[0].astype(np.int32), np.float32(sign)))
        for name in OPERATIONS for sign in (1.0, -1.0)
    }  # fmt: skip
    counts = dict.fromkeys(OPERATIONS, 0)
    variants = {}
    for image in drawn(1):
        # All in one program, where a rounding or the border between two pixels may fall to the other side.
        apart = {place: np.mean(other != image) for place, other in made.items()}
        name, sign = min(apart, key=apart.__getitem__)
        assert apart[name, sign] < 0.05
        counts[name] += 1
        variants.setdefault(name, set()).add(image.tobytes())
    expected = 256 / 14
    assert (
        sum((count - expected) ** 2 / expected for count in counts.values()) < 35
    )  # 13 degrees of freedom: p > 0.0008
    for name in ('rotate', 'shear_x', 'shear_y', 'translate_x', 'translate_y'):
        assert len(variants[name]) == 2


def test_two_operations_differ_from_one_and_shape_and_bytes_stay():
    one, two = drawn(1), drawn(2)
    assert two.dtype == np.uint8
    assert two.shape == one.shape
    assert len({image.tobytes() for image in two}) > 2 * len({image.tobytes() for image in one})
    assert drawn(2, (24, 20)).shape == (256, 24, 20)


def test_side_by_side_or_one_after_the_other_makes_no_difference(monkeypatch):
    monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
    drawn.cache_clear()
    side_by_side = drawn(2)
    monkeypatch.undo()
    drawn.cache_clear()
    np.testing.assert_array_equal(drawn(2), side_by_side)


def test_what_it_cannot_do_is_refused():
    with pytest.raises(UsageError, match=r'randaugment needs >= 1 operations and a magnitude in \[0, 10\], got 0, 9'):
        randaugment(operations=0)
    with pytest.raises(UsageError, match=r'got 2, 11'):
        randaugment(magnitude=11)
    with pytest.raises(UsageError, match=r'randaugment needs images of bytes \(uint8\), got float32'):
        randaugment()(jax.random.key(0), jnp.zeros((8, 8, 3)))
